"""What predict writes is what its schemas say, and arrays are shared without copies."""

import json

import numpy as np
import pytest

from dgn_tf import frame_results
from dgn_tf.parameter_file import FRAME, HEADER
from tests import json_schema
from tests.exported_model import INTRINSICS, blob_frame, exported_model
from tests.test_parameter_file import write


@pytest.fixture(scope="module")
def hands():
    from dgn_tf import HandMeshPredictor

    predictor = HandMeshPredictor(exported_model(), INTRINSICS)
    return [predictor(blob_frame(), hand=side) for side in ("right", "left")]


def test_predicted_hands_are_as_their_schema_says(hands):
    rules = json_schema.schema("hand")
    for hand in hands:
        written = frame_results.mesh_files(hand, "frame_1", "ply", ["a warning"])["json"]
        assert json_schema.faults(json.loads(written), rules) == []
    assert set(rules["properties"]) == set(rules["required"]) == set(json.loads(written))


@pytest.mark.parametrize(
    "change, fault",
    [
        (lambda told: told.pop("unit"), "required"),
        (lambda told: told.update(format_version=2), "/format_version: const 1"),
        (lambda told: told.update(hand="both"), "/hand: enum"),
        (lambda told: told.update(extra=1), "/extra: not in the schema"),
        (lambda told: told["transforms"]["palm"].pop(), "/transforms/palm: minItems 4"),
        (lambda told: told.update(confidence=1.5), "/confidence: maximum 1"),
        (lambda told: told["centre_mm"].__setitem__(0, "x"), "/centre_mm/0: type number"),
    ],
)
def test_what_differs_from_the_schema_is_found(hands, change, fault):
    told = json.loads(frame_results.mesh_files(hands[0], "f", "ply", [])["json"])
    change(told)
    (found,) = json_schema.faults(told, json_schema.schema("hand"))
    assert fault in found


def test_parameter_files_are_as_their_schema_says(tmp_path):
    names = ["1305031102.16.png", "1305031102.19.png", "1305031102.23.png"]
    told = json.loads(write(tmp_path / "a.json", ("right", "", "left"), names).read_text())
    rules = json_schema.schema("parameters")
    assert json_schema.faults(told, rules) == []
    assert set(rules["properties"]) == {*HEADER, "frames"}
    assert set(rules["$defs"]["frame"]["properties"]) == set(FRAME)
    told["frames"][0]["local"][3].pop()
    assert json_schema.faults(told, rules) == [
        "/frames/0/local/3: minItems 4, got " + str(told["frames"][0]["local"][3])[:40]
    ]


def test_arrays_are_taken_by_dlpack_without_a_copy(hands):
    for name in ("vertices", "keypoints", "transforms", "confidence"):
        array = getattr(hands[0], name)
        try:
            shared = np.from_dlpack(array)
        except BufferError as error:
            pytest.fail(f"{name}: {error}")
        assert np.shares_memory(shared, array), name
        assert np.asarray(array) is array
