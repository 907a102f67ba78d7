"""weights.h5 of other hands: nothing of other files, no absurd sizes, no loops, no NaN."""

import json
import random
import resource

import h5py
import numpy as np
import pytest

from dgn_tf import model_folder, weights_file
from dgn_tf.errors import InputError
from dgn_tf.localize.network import Localiser, load_localiser, save_localiser
from tests.faults.mutations import HOW_MANY, mutated


@pytest.fixture(scope="module")
def network():
    network = Localiser((4, 4))
    network(network.example_inputs())
    return network


@pytest.fixture
def folder(network, tmp_path):
    save_localiser(network, tmp_path / "model")
    return tmp_path / "model"


def without_hash(folder):
    file = folder / "config.json"
    described = json.loads(file.read_text())
    assert len(described.pop(weights_file.SHA256)) == 64
    file.write_text(json.dumps(described))
    return folder / "weights.h5"


def first_numbers(group):
    """Path of the first data set below a group of weights."""
    found = []
    group.visititems(
        lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None
    )
    return found[0]


def external(file, name, secret):
    count = file[name].size
    shape = file[name].shape
    del file[name]
    file.create_dataset(name, shape, "f4", external=[(str(secret), 0, 4 * count)])


def virtual(file, name, secret):
    shape = file[name].shape
    del file[name]
    layout = h5py.VirtualLayout(shape, "f4")
    layout[:] = h5py.VirtualSource(str(secret), "x", shape)
    file.create_virtual_dataset(name, layout)


def external_link(file, name, secret):
    del file[name]
    file[name] = h5py.ExternalLink(str(secret), "/x")


def soft_link(file, name, _):
    del file[name]
    file[name] = h5py.SoftLink("/elsewhere")


def loop(file, name, _):
    group = file[name].parent
    group["again"] = group


def absurd(file, name, _):
    del file[name]
    file.create_dataset(name, (1 << 20, 1 << 12), "f4", chunks=(1 << 10, 1 << 10))


def compressed(file, name, _):
    value = file[name][()]
    del file[name]
    file.create_dataset(name, data=value, compression="gzip", chunks=value.shape)


def text(file, name, _):
    del file[name]
    file.create_dataset(name, data=["words"], dtype=h5py.string_dtype())


def not_finite(file, name, _):
    value = file[name][()]
    value.reshape(-1)[0] = np.nan
    file[name][...] = value


HOSTILE = [external, virtual, external_link, soft_link, loop, absurd, compressed, text, not_finite]


@pytest.mark.parametrize("change", HOSTILE, ids=lambda change: change.__name__)
def test_what_weights_do_not_have_is_refused_before_it_is_read(change, folder, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"\1\2\3\4" * 10_000)
    weights = without_hash(folder)
    load_localiser(folder)  # a folder of before there was a hash
    with h5py.File(weights, "r+") as file:
        change(file, first_numbers(file), secret)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="weights.h5") as error:
        load_localiser(folder)
    assert "\n" not in str(error.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 500_000  # kB


def test_weights_are_held_to_the_hash_beside_them(folder, network):
    weights = folder / "weights.h5"
    good = weights.read_bytes()
    flipped = bytearray(good)
    flipped[-1] ^= 1
    weights.write_bytes(flipped)
    with pytest.raises(InputError, match="sha256 differs"):
        load_localiser(folder)
    weights.write_bytes(good)
    for loaded, saved in zip(load_localiser(folder).weights, network.weights, strict=True):
        np.testing.assert_array_equal(loaded, saved)


def test_the_networks_weights_are_held_to_their_hash_in_every_way_of_loading(tmp_path):
    from tests.exported_model import network as hand_network

    model = hand_network()
    model_folder.save_model_folder(model, tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    assert described[weights_file.SHA256] == model_folder.weights_sha256(tmp_path)
    model_folder.load_weights(model, tmp_path)
    content = bytearray((tmp_path / "weights.h5").read_bytes())
    content[-1] ^= 1
    (tmp_path / "weights.h5").write_bytes(content)
    for load in (
        lambda: model_folder.load_network(tmp_path),
        lambda: model_folder.load_weights(model, tmp_path / "weights.h5"),
        lambda: model_folder.load_weights(model, tmp_path, other_template=True),
    ):
        with pytest.raises(InputError, match="sha256 differs"):
            load()


@pytest.mark.parametrize("count", HOW_MANY)
def test_no_damage_of_bytes_passes_where_there_is_a_hash(count, folder, network):
    weights, rng = folder / "weights.h5", random.Random(5)
    good = weights.read_bytes()
    sha256 = json.loads((folder / "config.json").read_text())[weights_file.SHA256]
    weights_file.load_weights(network, weights, sha256)
    for _ in range(count):
        weights.write_bytes(mutated(good, rng))
        with pytest.raises(InputError, match="sha256 differs"):
            weights_file.load_weights(network, weights, sha256)


def test_weights_may_lie_there_in_half_the_bits(network, folder):
    """As those of saved_models/dgn_large do."""
    file = without_hash(folder)
    with h5py.File(file, "r+") as opened:
        names = []
        opened.visititems(
            lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None
        )
        for name in names:
            values = opened[name][()]
            del opened[name]
            opened[name] = values.astype(np.float16)
    for found, stored in zip(load_localiser(folder).weights, network.weights, strict=True):
        assert found.dtype == "float32"
        np.testing.assert_array_equal(found, stored.numpy().astype(np.float16))
