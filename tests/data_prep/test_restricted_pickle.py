"""Pickles: arrays come back whole, and nothing that a file asks for reaches numpy or runs."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from data_prep import restricted_pickle
from dgn_tf.errors import InputError

# numpy.ndarray((1,), "O", b"AAAAAAAA"): an array of one pointer, to where the file says.
POINTERS = b"\x80\x03cnumpy\nndarray\n(K\x01\x85X\x01\0\0\0OC\x08AAAAAAAAtR."
ARRAYS = [
    np.arange(6, dtype=">i4").reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.array([True, False]),
    np.array(["ab", "c"]),
    np.array([b"ab", b"c"]),
    np.zeros([0, 3]),
    np.array(7, np.uint8),
    np.float32([1.5]),
    np.array(["\u20ac"], ">U3"),
]


class _Hostile:
    def __reduce__(self):
        return os.getenv, ("HOME",)


def test_pickles_of_anything_but_arrays_are_refused_unrun(tmp_path):
    good = {"a": np.arange(3.0), "b": [1, "x", (np.float32(2),)]}
    (tmp_path / "good.pkl").write_bytes(pickle.dumps(good, protocol=2))
    np.testing.assert_array_equal(restricted_pickle.load(tmp_path / "good.pkl")["a"], good["a"])
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(_Hostile()))
    with pytest.raises(InputError, match="bad.pkl: refused.*getenv"):
        restricted_pickle.load(tmp_path / "bad.pkl")
    (tmp_path / "cut.pkl").write_bytes(pickle.dumps(good)[:20])
    with pytest.raises(InputError, match="cut.pkl: refused"):
        restricted_pickle.load(tmp_path / "cut.pkl")


def read(tmp_path, content, **settings):
    (tmp_path / "a.pkl").write_bytes(content)
    return restricted_pickle.load(tmp_path / "a.pkl", **settings)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype.str}{array.shape}")
def test_arrays_come_back_with_dtype_and_layout(array, protocol, tmp_path):
    found = read(tmp_path, pickle.dumps(array, protocol))
    assert type(found) is np.ndarray and found.dtype == array.dtype
    assert found.flags.f_contiguous == array.flags.f_contiguous
    np.testing.assert_array_equal(found, array)


def test_arrays_are_found_wherever_containers_hold_them(tmp_path):
    array, scalar = np.arange(3), np.float64(0.5)
    inner = [array, (array, {"x": array}), scalar]
    inner.append(inner)
    found = read(tmp_path, pickle.dumps({"inner": inner, 3: (inner,)}, 2))
    assert found["inner"] is found[3][0] is found["inner"][3]
    first, (second, third), number, _ = found["inner"]
    assert first is second is third["x"]
    np.testing.assert_array_equal(first, array)
    assert type(number) is np.float64 and number == scalar
    twice = [array]
    for _ in range(60):  # 2^60 paths lead to the array.
        twice = (twice, twice)
    assert isinstance(read(tmp_path, pickle.dumps(twice, 2)), tuple)


def test_the_papers_mesh_reads_as_pickle_itself_reads_it(shared_data):
    path = shared_data / "libhand1721" / "right_hand.pkl"
    if not path.is_file():
        pytest.skip("no LibHand mesh among the shared data")
    wanted = pickle.loads(path.read_bytes(), encoding="latin1")  # noqa: S301 - a file of our own
    found = restricted_pickle.load(path)
    assert found.keys() == wanted.keys() and len(found["bones"]) == len(wanted["bones"])
    pairs = [(found, wanted), *zip(found["bones"], wanted["bones"], strict=True)]
    for own, other in pairs:
        assert own.keys() == other.keys()
        for name in own.keys() - {"bones"}:
            np.testing.assert_array_equal(own[name], other[name])
            assert getattr(own[name], "dtype", None) == getattr(other[name], "dtype", None)


def test_an_array_of_pointers_is_refused_before_it_is_one(tmp_path):
    """In a process of its own: what reads such an array dies of it."""
    (tmp_path / "a.pkl").write_bytes(POINTERS)
    program = (
        "import sys, numpy; from data_prep import restricted_pickle; "
        "numpy.asarray(restricted_pickle.load(sys.argv[1]), float)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a.pkl")],
        timeout=120,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "InputError" in done.stderr.splitlines()[-1]
    assert "a.pkl: refused, not a pickle of numpy arrays" in done.stderr.splitlines()[-1]


class Call:
    """Pickles as `function(*arguments)`, with `state` set on what comes of it."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments, *([state] if state is not None else []))

    def __reduce__(self):
        return self.reduced


def array_of(dtype, data, shape=(1,)):
    make = np.zeros(1).__reduce__()[0]
    return Call(make, np.ndarray, (0,), b"b", state=(1, shape, dtype, False, data))


F8 = Call(np.dtype, "f8", False, True, state=(3, "<", None, None, None, -1, -1, 0))
HOSTILE = {
    "object code": (array_of(Call(np.dtype, "O8", False, True), b"A" * 8), "dtype 'O8'"),
    "record code": (array_of(Call(np.dtype, "V8", False, True), b"A" * 8), "dtype 'V8'"),
    "code of several": (array_of(Call(np.dtype, "O,O"), b"A" * 16), "dtype 'O,O'"),
    "list of objects": (array_of(F8, [1]), "fills an array with a list"),
    "too few bytes": (array_of(F8, b"A" * 7), "7 bytes are no float64"),
    "too many rows": (array_of(F8, b"A" * 8, (2**61 + 1,)), "8 bytes are no float64"),
    "negative sides": (array_of(F8, b"A" * 8, (-1, -1)), "shape .-1, -1."),
    "no dtype": (array_of("O", b"A" * 8), "'O' for a dtype"),
    "no character": (array_of(Call(np.dtype, "U1"), b"\xff" * 4), "invalid maximum character"),
    "byte order": (array_of(Call(np.dtype, "f8", state=(3, "O")), b"A" * 8), "byte order 'O'"),
    "another kind": (Call(np.zeros(1).__reduce__()[0], "numpy.ndarray", (0,), b"b"), "array of"),
    "scalar": (Call(np.float64(0).__reduce__()[0], Call(np.dtype, "O"), b"A" * 8), "dtype 'O'"),
    "no content": ([Call(np.zeros(1).__reduce__()[0], np.ndarray, (3,), b"O")], "without content"),
}


@pytest.mark.parametrize(("made", "message"), HOSTILE.values(), ids=HOSTILE)
def test_arrays_of_anything_but_numbers_and_text_are_refused(made, message, tmp_path):
    with pytest.raises(InputError, match=f"a.pkl: refused.*{message}"):
        read(tmp_path, pickle.dumps(made, 3))


def test_a_dtypes_fields_and_flags_are_not_taken(tmp_path):
    """State of a dtype of objects, set on one of numbers, changes nothing but the byte order."""
    state = (3, ">", None, ("a",), {"a": (Call(np.dtype, "f8"), 0)}, 8, 1, 63)
    found = read(
        tmp_path,
        pickle.dumps(
            array_of(Call(np.dtype, "f8", state=state), np.array([2.5], ">f8").tobytes()), 2
        ),
    )
    assert found.dtype == np.dtype(">f8") and found.dtype.fields is None
    assert not found.dtype.hasobject and found == [2.5]


def test_a_pickle_changes_nothing_of_what_it_calls(tmp_path):
    content = (
        b"\x80\x02cnumpy.core.multiarray\nscalar\nN}X\x0c\x00\x00\x00__defaults__"
        b"(I1\nI2\ntsX\x01\x00\x00\x00aI1\ns\x86b."
    )
    read(tmp_path, content)
    assert restricted_pickle._scalar.__defaults__ is None
    assert restricted_pickle._scalar.__dict__ == {}
