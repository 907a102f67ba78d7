"""One predictor and eight threads: the same bits, and no memory that stays."""

import concurrent.futures
import os

import numpy as np
import pytest

import dgn_tf
from dgn_tf.errors import InputError
from tests.exported_model import INTRINSICS, blob_frame, exported_model

THREADS = 8


@pytest.fixture(scope="module")
def predictor():
    return dgn_tf.HandMeshPredictor(exported_model(), INTRINSICS)


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("calls", [100, pytest.param(2000, marks=pytest.mark.long)])
def test_eight_threads_get_the_same_bits_and_keep_no_memory(calls, predictor):
    frames = [blob_frame(u=150 + 5 * index) for index in range(4)]
    hands = ["right", "left", "right", "right"]
    wanted = [
        predictor(frame, hand=hand).vertices for frame, hand in zip(frames, hands, strict=True)
    ]

    def call(number):
        mesh = predictor(frames[number % 4], hand=hands[number % 4])
        return np.array_equal(mesh.vertices, wanted[number % 4])

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        assert all(pool.map(call, range(calls // 4)))  # arenas and caches fill
        before = resident()
        assert all(pool.map(call, range(calls)))
    assert resident() - before < 30 * 2**20


def test_after_a_fork_it_says_so_instead_of_hanging(predictor):
    predictor(blob_frame())
    child = os.fork()
    if not child:
        code = 1
        try:
            predictor(blob_frame())
        except InputError as error:
            code = 0 if "forked" in str(error) else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_numpy_mask_is_missing_depth(predictor):
    frame = blob_frame()
    hidden = np.zeros(frame.shape, bool)
    hidden[:100] = True
    masked = predictor(np.ma.masked_array(frame, hidden), centre_mm=(0, 0, 600))
    plain = predictor(np.where(hidden, 0, frame), centre_mm=(0, 0, 600))
    np.testing.assert_array_equal(masked.vertices, plain.vertices)
    with pytest.raises(InputError, match="fx, fy, cx, cy"):
        predictor(frame, np.ma.masked_array(INTRINSICS, [True, False, False, False]))
