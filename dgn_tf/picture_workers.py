"""Pictures of results, drawn and encoded by other processes while the next frames are predicted.

A picture costs ten times what its frame's inference does. Processes are started anew (`spawn`):
TensorFlow's threads don't survive a fork. Each ends when its pipe does, also where this process
was killed.
"""

import io
import multiprocessing
import os
import pathlib
import signal
from multiprocessing.connection import Connection

from dgn_tf.errors import InputError

_INLINE = 3  # so few pictures are drawn before a process has started
_MOST_WORKERS = 8
_WAITING = 2  # pictures on their way to each process: they hold memory


class PictureWorkers:
    """Draws pictures into files; a context that ends when all are drawn.

    Args:
        count: pictures that will be asked for; up to `_INLINE` are drawn at once, here.
        workers: processes; None: as many as there are processors, of which the prediction wants
            little while pictures are drawn.

    Raises:
        OSError: in `draw` or at the end, a picture can't be written.
    """

    def __init__(self, count: int, workers: int | None = None):
        if workers is None:
            workers = min(len(os.sched_getaffinity(0)), _MOST_WORKERS)
        self._count = workers if count > _INLINE else 0
        self._workers: list = []
        self._pipes: list[Connection] = []
        self._waiting: list[int] = []
        self._next = 0

    def __enter__(self):
        context = multiprocessing.get_context("spawn")
        for _ in range(self._count):
            here, there = context.Pipe()
            worker = context.Process(target=_work, args=(there,), daemon=True)
            worker.start()
            there.close()
            self._workers.append(worker)
            self._pipes.append(here)
            self._waiting.append(0)
        return self

    def __exit__(self, kind, error, trace):
        if kind is None:
            for place in range(len(self._pipes)):
                while self._waiting[place]:
                    self._answer(place)
        for pipe in self._pipes:
            pipe.close()
        for worker in self._workers:
            if kind is not None:
                worker.terminate()
            worker.join()

    def draw(self, file: pathlib.Path, mesh, depth, intrinsics, title: str) -> None:
        """Draws `mesh.panel` into a PNG file, now or soon."""
        if not self._pipes:
            file.write_bytes(_picture(mesh, depth, intrinsics, title))
            return
        place = self._next = (self._next + 1) % len(self._pipes)
        if self._waiting[place] >= _WAITING:
            self._answer(place)
        try:
            self._pipes[place].send((str(file), mesh, depth, intrinsics, title))
        except BrokenPipeError:
            raise _ended() from None
        self._waiting[place] += 1

    def _answer(self, place: int) -> None:
        try:
            failed = self._pipes[place].recv()
        except (EOFError, ConnectionResetError):
            raise _ended() from None
        self._waiting[place] -= 1
        if failed is not None:
            raise OSError(*failed)


def _ended() -> InputError:
    return InputError(
        "a process that draws pictures has ended (killed, or no memory left); --pictures=none does "
        "without."
    )


def _work(pipe: Connection) -> None:
    """A process's life: pictures until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's, which ends the pipe
    while True:
        try:
            file, *what = pipe.recv()
        except EOFError:
            return
        try:
            pathlib.Path(file).write_bytes(_picture(*what))
            failed = None
        except OSError as error:
            failed = (error.errno, error.strerror)
        try:
            pipe.send(failed)
        except BrokenPipeError:
            return


def _picture(mesh, depth, intrinsics, title: str) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(mesh.panel(depth, intrinsics, title)).save(buffer, "PNG")
    return buffer.getvalue()
