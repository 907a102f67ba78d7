"""weights.h5: written with its hash, and looked over before anything of it is believed.

HDF5 is a language more than a format: a data set may be another file's bytes, a link, a filter's
output, or of a shape that no memory holds. Of all this the weights of a network have nothing.
"""

import hashlib
import io
import pathlib

import h5py
import numpy as np

from dgn_tf.errors import InputError

SHA256 = "weights_sha256"  # key of config.json
_MOST_OBJECTS = 20_000
_MOST_ATTRIBUTE_BYTES = 1 << 20
_DEEPEST = 16


class _Refused(Exception):
    """What a file has that no weights have, in words."""


def save_weights(network, file: pathlib.Path) -> str:
    """Writes a network's weights; returns the file's sha256 (hex).

    Raises:
        OSError: it can't be written.
    """
    from keras.src.saving.legacy.hdf5_format import save_weights_to_hdf5_group

    # What `network.save_weights` does, but in memory: HDF5 can end the process by a signal where a
    # disk is full when it closes its file.
    content = io.BytesIO()
    with h5py.File(content, "w") as group:
        save_weights_to_hdf5_group(group, network)
    file.write_bytes(content.getvalue())
    return sha256_of(file)


def sha256_of(file: pathlib.Path) -> str:
    """sha256 (hex) of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def load_weights(network, file: pathlib.Path, sha256: str | None = None) -> None:
    """Loads weights into a built network.

    Args:
        network: built.
        file: weights.h5.
        sha256: hex, that the file must have; None: not known.

    Raises:
        InputError: the file is not the one of that hash, holds what weights don't, does not fit,
            or has values that are not finite.
    """
    try:
        if sha256 is not None and sha256_of(file) != sha256:
            raise InputError(
                f"{file} is not the file that its config.json tells of (sha256 differs): damaged "
                "or of another model; copy the folder again."
            )
        _look_over(file, sum(int(np.prod(weight.shape)) for weight in network.weights))
        network.load_weights(str(file))
    except _Refused as error:
        raise InputError(f"{file} does not fit this network's sizes: {error}") from None
    except InputError:
        raise
    except Exception as error:  # h5py and Keras raise a dozen kinds on damaged files
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{file} does not fit this network's sizes: {first}") from None
    for weight in network.weights:
        if not np.isfinite(weight.numpy()).all():
            raise InputError(f"{file}: {weight.name} is not finite; take weights of another step.")


def _look_over(file, numbers):
    """Raises _Refused unless the file is groups of `numbers` real numbers at most."""
    with h5py.File(file, "r") as opened:
        seen: set = set()
        total = 0
        waiting = [("/", opened["/"], 0)]
        while waiting:
            name, item, depth = waiting.pop()
            address = h5py.h5o.get_info(item.id).addr
            if address in seen or depth > _DEEPEST or len(seen) >= _MOST_OBJECTS:
                raise _Refused(f"{name} is met twice, or lies too deep")
            seen.add(address)
            _check_attributes(name, item)
            if isinstance(item, h5py.Dataset):
                total += _numbers_of(name, item)
                if total > numbers:
                    raise _Refused(f"it holds more than the network's {numbers} numbers")
                continue
            if not isinstance(item, h5py.Group):
                raise _Refused(f"{name} is neither a group nor numbers")
            for key in item:
                if not isinstance(item.get(key, getlink=True), h5py.HardLink):
                    raise _Refused(f"{name}: {key} is a link to another place or file")
                waiting.append((f"{name}{key}/", item[key], depth + 1))


def _check_attributes(name, item):
    for number in range(h5py.h5a.get_num_attrs(item.id)):
        attribute = h5py.h5a.open(item.id, index=number)
        space = attribute.get_space().get_simple_extent_npoints()
        if attribute.get_type().get_size() * space > _MOST_ATTRIBUTE_BYTES:
            raise _Refused(f"{name} has an attribute of more than {_MOST_ATTRIBUTE_BYTES} bytes")


def _numbers_of(name, data):
    """How many numbers a data set holds, all of them in this very file and as they are."""
    if data.dtype.kind != "f" or data.dtype.itemsize > 8:
        raise _Refused(f"{name} holds {data.dtype}, wanted real numbers")
    layout = data.id.get_create_plist()
    if layout.get_nfilters() or data.is_virtual or data.external:
        raise _Refused(f"{name} is compressed, or its numbers lie in another file")
    count = int(data.id.get_space().get_simple_extent_npoints())
    if count and data.id.get_storage_size() < count * data.dtype.itemsize:
        raise _Refused(f"{name} has {count} numbers by its shape, but not in the file")
    return count
