"""Errors of frames from predictions whose error is known."""

import numpy as np

from dgn_tf.evaluation.frame_errors import frame_errors
from dgn_tf.template import load_template
from tests.tiny_template import tiny_template

SIZE = 8


def truth_batch(template, count, seed=0):
    """Frames whose pixels see random points of random faces."""
    rng = np.random.default_rng(seed)
    kept = np.flatnonzero(~template.face_is_seam)
    face = rng.choice(kept, size=[count, SIZE, SIZE])
    weights = rng.dirichlet([1.0, 1.0, 1.0], size=[count, SIZE, SIZE])
    shift = rng.normal(size=[count, 1, 3]) * 100 + [0, 0, 600]
    mask = np.ones(face.shape, bool)
    mask[:, 0] = False
    coords = np.einsum("...c,...cd->...d", weights, template.face_coords[face])
    return {
        "keypoints": template.keypoints + shift,
        "vertices": template.vertices + shift,
        "face": face,
        "barycentric": weights[..., 1:],
        "correspondence_mask": mask,
        "mesh_coords": coords,
        "mesh_layer": template.face_layer[face],
    }


def exact(batch):
    return {
        "keypoints": batch["keypoints"],
        "vertices": batch["vertices"],
        "vertices_sampled": batch["vertices"],
        "mesh_coords": batch["mesh_coords"],
        "mesh_layer": batch["mesh_layer"].astype(np.float32),
    }


def test_exact_predictions_have_no_error():
    template = tiny_template()
    errors = frame_errors(exact, [truth_batch(template, 3)], template)
    assert errors["joints"].shape == (3, 14)
    for name in ("keypoints36_mm", "vertices_ps_mm", "vertices_pr_mm", "surface_mm"):
        np.testing.assert_allclose(errors[name], 0, atol=1e-4)
    # The nearest sample of the surface: faces of the tube are 20 mm wide, in pieces of a third.
    assert np.all(errors["correspondence_mm"] < 6.0)


def test_exact_coordinates_of_the_shipped_hand_err_by_less_than_the_sampling():
    for embedding, bound_mm in (("layered", 1.0), ("atlas", 1.0)):
        template = load_template(embedding=embedding)
        errors = frame_errors(exact, [truth_batch(template, 3)], template, surface=False)
        assert np.all(errors["correspondence_mm"] < bound_mm), embedding


def test_a_known_displacement_is_found_in_each_figure():
    template = tiny_template()

    def predict(batch):
        outputs = exact(batch)
        outputs["keypoints"] = batch["keypoints"] + [3.0, 4.0, 0.0]
        outputs["vertices_sampled"] = batch["vertices"] + [0.0, 0.0, 7.0]
        outputs["vertices"] = batch["vertices"] + [2.0, 0.0, 0.0]
        outputs["mesh_layer"] = 1.0 - outputs["mesh_layer"]
        return outputs

    errors = frame_errors(predict, [truth_batch(template, 2)], template)
    np.testing.assert_allclose(errors["joints"], 5.0, rtol=1e-6)
    np.testing.assert_allclose(errors["vertices_ps_mm"], 7.0, rtol=1e-6)
    np.testing.assert_allclose(errors["vertices_pr_mm"], 2.0, rtol=1e-6)
    assert np.all((errors["surface_mm"] > 0.3) & (errors["surface_mm"] <= 2.0))
    # The other side of a tube 50 mm by 24 mm.
    assert np.all(errors["correspondence_mm"] > 10.0)


def test_truth_that_is_not_known_is_left_out():
    template = tiny_template()
    batch = truth_batch(template, 2)
    only_keypoints = {"keypoints": batch["keypoints"]}

    def predict(_):
        return {"keypoints": batch["keypoints"], "vertices": batch["vertices"]}

    assert set(frame_errors(predict, [only_keypoints], template)) == {"joints", "keypoints36_mm"}
    assert "surface_mm" not in frame_errors(exact, [batch], template, surface=False)


def test_limit_cuts_within_a_batch_and_batches_do_not_matter():
    template = tiny_template()
    whole = truth_batch(template, 6)
    parts = [{name: value[i : i + 2] for name, value in whole.items()} for i in (0, 2, 4)]

    def predict(batch):
        outputs = exact(batch)
        outputs["keypoints"] = batch["keypoints"] * 1.01
        return outputs

    all_at_once = frame_errors(predict, [whole], template, surface=False)
    limited = frame_errors(predict, parts, template, limit=3, surface=False)
    for name, values in all_at_once.items():
        np.testing.assert_allclose(limited[name], values[:3])


def test_no_batch_gives_nothing():
    assert frame_errors(exact, [], tiny_template()) == {}
