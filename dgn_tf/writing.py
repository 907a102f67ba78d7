"""How files are written: whole or not at all, together or not at all, by one run alone.

A run may be killed at any moment and a disk be full at any byte. So a file is written beside its
place, brought to the disk, and then renamed; the files of a folder that belong together are
finished in a folder of their own first, and whoever comes next finishes their move.
"""

import contextlib
import errno
import fcntl
import os
import pathlib
import secrets
import shutil
from collections.abc import Iterable, Iterator

from dgn_tf.errors import InputError

_FINISHED = ".finished"  # a folder of files that are whole and on their way to their places
_ABSENT = ".absent"  # ending of an empty file there that stands for one that goes


@contextlib.contextmanager
def whole_file(file: str | os.PathLike) -> Iterator[pathlib.Path]:
    """A path beside `file`, of the same ending; what is written there takes its place at the end.

    Args:
        file: its folder is made.

    Raises:
        OSError: it can't be written; nothing is left beside it then, `file` is what it was.
    """
    file = pathlib.Path(file)
    beside = file.with_name(f".{file.stem}.writing{file.suffix}")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield beside
        _to_disk(beside)
        os.replace(beside, file)
    finally:
        with contextlib.suppress(OSError):  # there only after an error
            beside.unlink()


@contextlib.contextmanager
def output_file(file: str | os.PathLike, flag: str = "") -> Iterator[pathlib.Path]:
    """`whole_file` for what a user named: that it can't be written is an InputError.

    Args:
        file: its folder is made.
        flag: such as "--output", for the message.
    """
    try:
        with whole_file(file) as beside:
            yield beside
    except OSError as error:
        place = f"{flag}={file}" if flag else str(file)
        raise InputError(
            f"{place}: can't be written ({reason_of(error)}); make room or name another."
        ) from None


def write_output(file: str | os.PathLike, content: bytes | str, flag: str = "") -> None:
    """Writes `content`, text as UTF-8; see `output_file`."""
    with output_file(file, flag) as beside:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)


def reason_of(error: OSError) -> str:
    """Why a file can't be written, in the system's words."""
    return error.strerror or str(error).strip().splitlines()[0]


@contextlib.contextmanager
def os_errors() -> Iterator[None]:
    """TensorFlow's errors of writing become OSErrors, as everybody's are."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        # "path; No space left on device": the system's words come last.
        for code in errno.errorcode:
            if str(error.message).rstrip().endswith(f"; {os.strerror(code)}"):
                raise OSError(code, os.strerror(code)) from error
        raise


@contextlib.contextmanager
def scratch_folder(parent: str | os.PathLike, prefix: str = ".writing-") -> Iterator[pathlib.Path]:
    """A hidden folder in `parent`, which is made, for the time of the block.

    Those that killed runs have left there are removed: nobody holds their locks.
    """
    parent = pathlib.Path(parent)
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f"{prefix}*"):
        with contextlib.suppress(OSError), _locked(left, fcntl.LOCK_NB):
            shutil.rmtree(left, ignore_errors=True)
    while True:
        folder = parent / f"{prefix}{secrets.token_hex(4)}"
        folder.mkdir()
        with contextlib.ExitStack() as held:
            with contextlib.suppress(OSError):  # a file system without locks
                held.enter_context(_locked(folder))
            if not folder.exists():  # taken for a dead run's before it was locked
                continue
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return


@contextlib.contextmanager
def files_together(
    folder: str | os.PathLike, instead_of: Iterable[str] = ()
) -> Iterator[pathlib.Path]:
    """A hidden folder whose files take their places in `folder`, all of them or none.

    Other files of `folder` stay. A run that is killed while they move leaves it to `settle`.

    Args:
        folder: made if need be.
        instead_of: names that belong to the set: where it has no such file, `folder`'s goes.

    Raises:
        OSError: they can't be written; `folder` is as it was.
    """
    folder = pathlib.Path(folder)
    with scratch_folder(folder) as scratch:
        settle(folder)
        yield scratch
        for name in instead_of:
            if not (scratch / name).exists():
                (scratch / (name + _ABSENT)).touch()
        for file in scratch.iterdir():
            _to_disk(file)
        os.rename(scratch, folder / _FINISHED)
        _take_places(folder)


def settle(folder: str | os.PathLike) -> None:
    """Moves what `files_together` had finished in `folder` when it was killed to its place.

    A folder that can't be written stays as it is.
    """
    with contextlib.suppress(OSError):
        _take_places(pathlib.Path(folder))


def _take_places(folder):
    finished = folder / _FINISHED
    if not finished.is_dir():
        return
    for file in sorted(finished.iterdir()):
        with contextlib.suppress(FileNotFoundError):  # another process moves them too
            if file.suffix == _ABSENT:
                (folder / file.stem).unlink(missing_ok=True)
                file.unlink()
            else:
                os.replace(file, folder / file.name)
    with contextlib.suppress(FileNotFoundError):
        finished.rmdir()


@contextlib.contextmanager
def _locked(folder, how=0):
    """Holds the lock of a folder; OSError: it can't be locked or, with LOCK_NB, another does."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | how)
        yield
    finally:
        os.close(handle)


def _to_disk(file):
    with open(file, "rb") as written:
        os.fsync(written.fileno())


def restore_folder(place: str | os.PathLike) -> None:
    """Brings back what `replace_folder` had moved out of the way when it was killed."""
    before = _before(place)
    if before.is_dir():
        if pathlib.Path(place).exists():
            shutil.rmtree(before, ignore_errors=True)
        else:
            before.rename(place)


def replace_folder(new: str | os.PathLike, place: str | os.PathLike) -> None:
    """Puts the folder `new`, whole, in the place of another or of none."""
    restore_folder(place)
    if pathlib.Path(place).exists():
        os.rename(place, _before(place))
    os.rename(new, place)
    shutil.rmtree(_before(place), ignore_errors=True)


def _before(place):
    place = pathlib.Path(place)
    return place.with_name(f".{place.name}.before")


@contextlib.contextmanager
def alone(folder: str | os.PathLike) -> Iterator[None]:
    """Keeps a second run out of the folder; the lock goes with the process, however it ends.

    Raises:
        InputError: another run is writing there.
    """
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(_locked(folder, fcntl.LOCK_NB))
        except BlockingIOError:
            raise InputError(
                f"{folder}: another run is writing there; wait for it or choose another "
                "--output_dir."
            ) from None
        except OSError:
            pass  # A file system without locks.
        yield
