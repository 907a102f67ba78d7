import io
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from dgn_tf.geometry import mirror
from dgn_tf.serving import checks
from dgn_tf.serving.allow_list import read_saved_model
from dgn_tf.serving.module import LOCATED, OUTPUTS
from dgn_tf.serving.saving import example_crops
from tests.exported_model import INTRINSICS, SIZE, blob_frame, exported_model, network, signatures

MIRROR = np.float32([-1, 1, 1])


def call(name, **inputs):
    outputs = signatures()[name](**{key: tf.constant(value) for key, value in inputs.items()})
    return {key: value.numpy() for key, value in outputs.items()}


def locate(*frames, left=False, intrinsics=INTRINSICS):
    batch = len(frames)
    return call(
        "serving_default",
        depth=np.stack(frames),
        intrinsics=np.tile(intrinsics, [batch, 1]),
        left=np.full(batch, left),
    )


def png_bytes(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def png(*images, unit=1.0, intrinsics=INTRINSICS):
    batch = len(images)
    return call(
        "png",
        png=np.array(images, object),
        intrinsics=np.tile(intrinsics, [batch, 1]),
        depth_unit=np.full(batch, unit, np.float32),
        left=np.zeros(batch, bool),
    )


def assert_same(actual, expected, atol=2e-2):
    assert actual.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(actual[name], expected[name], atol=atol, err_msg=name)


def test_signatures_have_the_documented_inputs_and_outputs():
    wanted = {
        "serving_default": {"depth", "intrinsics", "left"},
        "centred": {"depth", "intrinsics", "centre", "left"},
        "crop": {"depth", "intrinsics", "centre", "cube", "left"},
        "png": {"png", "intrinsics", "depth_unit", "left"},
    }
    for name, inputs in wanted.items():
        signature = signatures()[name]
        assert set(signature.structured_input_signature[1]) == inputs
        assert set(signature.structured_outputs) == set(OUTPUTS)
    assert set(signatures()["locate"].structured_input_signature[1]) == {"depth", "intrinsics"}
    assert set(signatures()["locate"].structured_outputs) == set(LOCATED)


def test_locate_names_the_place_that_serving_default_crops_at():
    frames = np.stack([blob_frame(), np.zeros([240, 320], np.float32)])
    places = call("locate", depth=frames, intrinsics=np.tile(INTRINSICS, [2, 1]))
    np.testing.assert_allclose(places["centre"][0, 0], locate(frames[0])["centre"][0], atol=1e-2)
    np.testing.assert_array_equal(places["score"] > 0, [[True, False], [False, False]])


@pytest.mark.parametrize("batch", [1, 3])
def test_crop_agrees_with_the_network(batch):
    inputs = example_crops(SIZE, batch)
    expected = network()({key: tf.constant(value) for key, value in inputs.items()})
    actual = call("crop", left=np.zeros(batch, bool), **inputs)
    for name in ("vertices", "vertices_sampled", "keypoints", "mesh_coords", "mesh_layer"):
        np.testing.assert_allclose(actual[name], expected[name], atol=1e-2, err_msg=name)
    np.testing.assert_allclose(actual["confidence"], expected["confidence"], atol=1e-3)
    np.testing.assert_allclose(actual["transforms"], expected["transforms"], atol=1e-2)


def test_frames_of_a_request_do_not_mix():
    frames = [blob_frame(), blob_frame(u=100, z=450), blob_frame(v=90, z=800)]
    together = locate(*frames)
    for index, frame in enumerate(frames):
        alone = locate(frame)
        for name in ("vertices", "centre", "confidence"):
            np.testing.assert_allclose(together[name][index], alone[name][0], atol=2e-2)


@pytest.mark.parametrize(("width", "height"), [(320, 240), (200, 300), (640, 480)])
def test_finds_the_hand_in_frames_of_any_size(width, height):
    intrinsics = np.float32([300, 300, width / 2, height / 2])
    outputs = locate(blob_frame(width, height, 110, 130), intrinsics=intrinsics)
    x, y, z = outputs["centre"][0]
    np.testing.assert_allclose(
        [x / z * 300 + width / 2, y / z * 300 + height / 2], (110, 130), atol=3
    )
    assert outputs["found"].all()


def test_centred_at_what_was_found_agrees_with_finding_it():
    frame = blob_frame()
    found = locate(frame)
    given = call(
        "centred",
        depth=frame[None],
        intrinsics=INTRINSICS[None],
        centre=found["centre"],
        left=np.array([False]),
    )
    assert_same(given, found)


def test_png_agrees_with_the_decoded_frame():
    steps = (blob_frame() * 8).astype(np.uint16)
    assert_same(png(png_bytes(steps), unit=0.125), locate(steps.astype(np.float32) / 8))


def test_png_reads_nyu_with_its_missing_values():
    frame = np.round(blob_frame())
    coded = np.where(frame > 0, frame, 2001).astype(int)
    coded[:20] = 0
    coded[-20:] = 2500
    pixels = np.stack([0 * coded, coded // 256, coded % 256], -1).astype(np.uint8)
    assert_same(png(png_bytes(pixels), unit=0.0), locate(frame))


def test_png_takes_both_encodings_in_one_request():
    frame = np.round(blob_frame())
    grey = png_bytes(frame.astype(np.uint16))
    coded = frame.astype(int)
    rgb = png_bytes(np.stack([0 * coded, coded // 256, coded % 256], -1).astype(np.uint8))
    outputs = call(
        "png",
        png=np.array([grey, rgb], object),
        intrinsics=np.tile(INTRINSICS, [2, 1]),
        depth_unit=np.float32([1, 0]),
        left=np.zeros(2, bool),
    )
    np.testing.assert_allclose(outputs["vertices"][0], outputs["vertices"][1], atol=1e-2)


def test_a_mirrored_left_hand_is_the_mirrored_right_hand():
    inputs = example_crops(SIZE, 2)
    inputs["centre"] += np.float32([20, 0, 0])
    inputs["intrinsics"][:, 2] += 3
    right = call("crop", left=np.zeros(2, bool), **inputs)
    mirrored = {
        **inputs,
        "depth": inputs["depth"][:, :, ::-1],
        "centre": inputs["centre"] * MIRROR,
        "intrinsics": inputs["intrinsics"].copy(),
    }
    mirrored["intrinsics"][:, 2] = SIZE - 1 - inputs["intrinsics"][:, 2]
    left = call("crop", left=np.ones(2, bool), **mirrored)
    for name in ("vertices", "vertices_sampled", "keypoints"):
        np.testing.assert_allclose(left[name], right[name] * MIRROR, atol=1e-3, err_msg=name)
    for name in ("mesh_coords", "mesh_layer", "valid"):
        np.testing.assert_allclose(left[name], right[name][:, :, ::-1], atol=1e-4, err_msg=name)
    np.testing.assert_allclose(left["joint_angles"], right["joint_angles"], atol=1e-4)
    np.testing.assert_allclose(left["confidence"], right["confidence"], atol=1e-4)


def test_a_left_hand_is_bit_for_bit_the_mirrored_answer_to_the_mirrored_crop():
    inputs = example_crops(SIZE, 2)
    intrinsics = mirror.mirror_intrinsics(inputs["intrinsics"], SIZE)
    mirrored = {**mirror.mirror_named(inputs), "intrinsics": intrinsics}
    left = call("crop", left=np.ones(2, bool), **inputs)
    expected = mirror.mirror_named(call("crop", left=np.zeros(2, bool), **mirrored))
    assert left.pop("left").all() and not expected.pop("left").any()
    np.testing.assert_array_equal(left.pop("crop_intrinsics"), inputs["intrinsics"])
    for name in left:
        np.testing.assert_array_equal(left[name], expected[name], err_msg=name)


def test_a_left_hands_transforms_pose_the_mirrored_template():
    left = call("crop", left=np.ones(2, bool), **example_crops(SIZE, 2))
    template = network().template
    rest = np.pad(template.vertices * MIRROR, [(0, 0), (0, 1)], constant_values=1)
    weighted = np.einsum("vp,bpij->bvij", template.skinning_weights, left["transforms"])
    posed = np.einsum("bvij,vj->bvi", weighted, rest)[..., :3]
    np.testing.assert_allclose(posed, left["vertices"], atol=2e-2)


def test_left_and_right_in_one_request_do_not_mix():
    inputs = example_crops(SIZE, 2)
    mixed = call("crop", left=np.array([True, False]), **inputs)
    left = call("crop", left=np.ones(2, bool), **inputs)
    right = call("crop", left=np.zeros(2, bool), **inputs)
    for name in mixed:
        np.testing.assert_allclose(mixed[name][0], left[name][0], atol=1e-2, err_msg=name)
        np.testing.assert_allclose(mixed[name][1], right[name][1], atol=1e-2, err_msg=name)


def test_a_mirrored_frame_gives_a_mirrored_mesh():
    frame = blob_frame()
    right = locate(frame)
    mirrored = INTRINSICS * np.float32([1, 1, 0, 1]) + np.float32([0, 0, 319 - 160, 0])
    frames = {"depth": frame[None, :, ::-1], "intrinsics": mirrored[None], "left": np.array([True])}
    expected = mirror.mirror_named(right) | {"left": np.array([True])}
    camera = expected.pop("crop_intrinsics")
    for left in (
        call("serving_default", **frames),
        call("centred", **frames, centre=right["centre"] * MIRROR),
    ):
        np.testing.assert_allclose(
            left.pop("crop_intrinsics"), mirror.mirror_intrinsics(camera, SIZE), atol=1e-4
        )
        for name in expected:
            np.testing.assert_array_equal(left[name], expected[name], err_msg=name)


def test_a_frame_without_depth_is_not_found_has_no_confidence_and_is_finite():
    outputs = locate(np.zeros([240, 320], np.float32), blob_frame())
    assert list(outputs["found"]) == [False, True]
    assert not outputs["confidence"][0].any()
    for name, value in outputs.items():
        assert np.isfinite(value).all(), name


FRAME = blob_frame()[None]
GOOD = {"depth": FRAME, "intrinsics": INTRINSICS[None], "left": np.array([False])}
CENTRED = {**GOOD, "centre": np.float32([[0, 0, 600]])}


@pytest.mark.parametrize(
    ("signature", "change", "message"),
    [
        ("serving_default", {"depth": FRAME * np.nan}, "NaN or infinite"),
        ("serving_default", {"depth": FRAME - 1}, "negative values"),
        ("serving_default", {"depth": np.zeros([1, 0, 320], np.float32)}, "height and width"),
        ("serving_default", {"intrinsics": np.float32([[0, 300, 160, 120]])}, "must be positive"),
        ("serving_default", {"intrinsics": np.float32([[300, np.nan, 1, 1]])}, "intrinsics: NaN"),
        ("serving_default", {"intrinsics": np.float32([[300, 300, 400, 120]])}, "in the image"),
        ("serving_default", {"intrinsics": np.tile(INTRINSICS, [2, 1])}, "intrinsics: first dim"),
        ("serving_default", {"left": np.zeros(2, bool)}, "left: first dimension"),
        (
            "serving_default",
            {"depth": FRAME[:0], "intrinsics": INTRINSICS[None][:0], "left": np.zeros(0, bool)},
            "batch is empty",
        ),
        ("centred", {"centre": np.float32([[0, 0, -5]])}, "centre: z must"),
        ("centred", {"centre": np.float32([[np.inf, 0, 500]])}, "centre: NaN"),
        ("centred", {"centre": np.float32([[0, 0, 500]] * 2)}, "centre: first dimension"),
    ],
)
def test_bad_frames_are_refused_in_words(signature, change, message):
    inputs = {**(CENTRED if signature == "centred" else GOOD), **change}
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        call(signature, **inputs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cube": np.float32([0])}, "cube: the side"),
        ({"cube": np.float32([np.nan])}, "cube: the side"),
        ({"depth": np.full([1, SIZE, SIZE], np.inf, np.float32)}, "NaN or infinite"),
        ({"intrinsics": np.float32([[-1, 1, 1, 1]])}, "must be positive"),
    ],
)
def test_bad_crops_are_refused_in_words(change, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        call("crop", left=np.array([False]), **{**example_crops(SIZE, 1), **change})


def hostile_header(width, height):
    """A PNG that claims a size and has nothing to show for it."""
    whole = bytearray(png_bytes(np.ones([4, 4], np.uint16)))
    whole[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return bytes(whole)


GREY = png_bytes(blob_frame().astype(np.uint16))


@pytest.mark.parametrize(
    ("images", "unit", "message"),
    [
        ([b""], 1, "not a PNG"),
        ([b"GIF89a" + bytes(50)], 1, "not a PNG"),
        ([GREY[:1000]], 1, "PNG"),
        ([GREY[:20]], 1, "width and height"),
        ([hostile_header(8000, 8000)], 1, "product at most"),
        ([hostile_header(2**31, 1)], 1, "width and height"),
        ([GREY, png_bytes(np.ones([4, 4], np.uint16))], 1, "one size"),
        ([GREY], 0, "8-bit RGB"),
        ([png_bytes(np.ones([240, 320], np.uint8))], 1, "16-bit grey"),
        ([png_bytes(np.ones([240, 320, 3], np.uint8))], 1, "16-bit grey"),
        ([GREY], -1, "depth_unit: must"),
        ([GREY], np.nan, "depth_unit: must"),
        ([], 1, "batch is empty"),
    ],
)
def test_bad_pngs_are_refused_in_words(images, unit, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        png(*images, unit=unit)


def test_a_png_is_refused_by_its_header_before_it_is_decoded():
    assert 8000 * 8000 > checks.MAX_PIXELS and 8000 < checks.MAX_SIDE
    with pytest.raises(tf.errors.InvalidArgumentError, match="product at most"):
        png(GREY, hostile_header(8000, 8000))


def test_graph_has_no_python_no_svd_and_its_constants_once():
    folder = exported_model() / "1"
    functions = read_saved_model(folder).meta_graphs[0].graph_def.library.function
    ops = {node.op for function in functions for node in function.node_def}
    assert not ops & {"PyFunc", "EagerPyFunc", "Svd", "SelfAdjointEigV2", "MatrixDeterminant"}
    weights = sum(4 * int(tf.size(weight)) for weight in network().weights)
    assert (folder / "saved_model.pb").stat().st_size < weights + 3 * 2**20


def test_loads_where_dgn_tf_cannot_be_imported(tmp_path):
    script = """
import sys
sys.modules["dgn_tf"] = None  # an import of it raises
import json, numpy as np, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
frame = np.load(sys.argv[2])
outputs = model.signatures["serving_default"](
    depth=tf.constant(frame[None]), intrinsics=tf.constant([[300.0, 300.0, 160.0, 120.0]]),
    left=tf.constant([False]))
np.save(sys.argv[3], outputs["vertices"])
hand = json.load(open(sys.argv[1] + "/assets/hand.json"))
assert len(hand["keypoint_names"]) == outputs["keypoints"].shape[1] and hand["template_licence"]
faces = np.load(sys.argv[1] + "/assets/mesh.npz")["faces"]
assert faces.max() < outputs["vertices"].shape[1]
assert not any(name.startswith("dgn_tf.") for name in sys.modules)
"""
    np.save(tmp_path / "frame.npy", blob_frame())
    subprocess.run(
        [
            sys.executable,
            "-c",
            script,
            exported_model() / "1",
            tmp_path / "frame.npy",
            tmp_path / "out.npy",
        ],
        check=True,
        cwd=tmp_path,
        capture_output=True,
    )
    expected = locate(blob_frame())["vertices"]
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-2)
