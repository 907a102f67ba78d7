"""How well a model does on real frames of several sensors, whose scores choose what ships.

    python -m experiments.real_frames --saved_model=saved_models/dgn --json=runs/real.json \
        --pictures=runs/real

reads every folder of --data with a `frames.json`: sensor, `depth_unit`, `intrinsics` (or one a
frame), `hand`, and per frame optionally `centre_mm` and 21 labelled `joints_mm`. A frame passes
where the silhouettes' IoU is at least 0.85 and the median depth difference at most 6 mm, both on
the fingers' side of the wrist (`experiments.silhouette`); one in which no hand is found
counts 0. Joints are compared without the wrist, which label sets place elsewhere. `located`: the
hand found without being told where lies within 50 mm of the joints' mean. The score is the mean
over the sets of their joints' max(0, 1 - error / 30 mm), where they are labelled (100 mm in d4xx),
of the IoU (kinect2), or of the share of passes.

Frames that choose are no evaluation. Pictures: the hand's pixels that the mesh leaves out in red,
pixels of the mesh off the hand in blue; only those of a set with a licence may be passed on.
"""

import pathlib
from typing import NamedTuple

import numpy as np
from absl import flags

from dgn_tf import errors
from dgn_tf.errors import InputError
from dgn_tf.writing import output_file

_SAVED_MODEL = flags.DEFINE_string("saved_model", "saved_models/dgn", "Exported model.")
_DATA = flags.DEFINE_string(
    "data", "../shared/data/frames", "Folder of the sets, one folder with a frames.json each."
)
_SETS = flags.DEFINE_list("sets", None, "Names of the sets to measure; empty: all of them.")
_JSON = flags.DEFINE_string("json", "", "File for the figures; empty: they are printed alone.")
_PICTURES = flags.DEFINE_string("pictures", "", "Folder for a picture a frame; empty: none.")

LEAST_IOU, MOST_DEPTH_MM, LOCATED_MM = 0.85, 6.0, 50.0
_FAR_MM, _SURE = 30.0, 0.5  # no frame with joints so far off may be surer than that
_SCALE_MM = {"d4xx": 100.0}  # of the joints' part of the score; 30 mm elsewhere
# Part of the finger's first bone, and key point at its tip.
_FINGERS = {
    "thumb": "TH_KNU3_A",
    "index": "F4_KNU3_A",
    "middle": "F3_KNU3_A",
    "ring": "F2_KNU3_A",
    "little": "F1_KNU3_A",
}
_KNUCKLES = [5, 9, 13, 17]
_MISSED, _BEYOND = (230, 60, 50), (60, 110, 250)  # RGB


class RealFrame(NamedTuple):
    """One frame of a set: depth [H, W] mm, intrinsics [4], hand, and what is known of it."""

    name: str
    depth: np.ndarray
    intrinsics: list[float]
    hand: str
    centre: list[float] | None
    joints: np.ndarray | None  # [21, 3] mm, NaN where not labelled


def read_set(folder: pathlib.Path) -> list[RealFrame]:
    """The frames of a set, by name; InputError names what is missing or wrong."""
    from dgn_tf.depth_io import read_depth
    from dgn_tf.json_file import read_json

    about, frames = read_json(folder / "frames.json"), []
    try:
        for stem, one in sorted(about["frames"].items()):
            depth = read_depth(folder / f"{stem}.png", "u16", about["depth_unit"])
            joints = one.get("joints_mm")
            frames.append(
                RealFrame(
                    stem,
                    depth,
                    one.get("intrinsics") or about["intrinsics"],
                    about["hand"],
                    one.get("centre_mm"),
                    None if joints is None else np.array(joints, float),
                )
            )
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{folder / 'frames.json'}: a setting is missing or of the wrong kind ({error!r})."
        ) from None
    return frames


def joints21(hand, template) -> np.ndarray:
    """[21, 3] mm of a `HandMesh`: wrist; thumb to little finger, three joints and the tip each."""
    origins = np.linalg.inv(np.asarray(template.bone_from_template, float))[:, :, 3]
    if hand.hand == "left":
        origins = origins * [-1, 1, 1, 1]  # transforms are of the mirrored template
    joints = np.einsum("pij,pj->pi", np.asarray(hand.transforms, float), origins)[:, :3]
    named, names = hand.keypoints_by_name(), list(hand.part_names)
    rows = [joints[0]]
    for finger, tip in _FINGERS.items():
        rows += [joints[names.index(f"{finger}{k}")] for k in (1, 2, 3)] + [np.array(named[tip])]
    return np.array(rows)


def measure(predict, frame: RealFrame, template):
    """Figures of one frame, the `HandMesh` and its `SilhouetteFit` (None where none is found)."""
    from dgn_tf.predictor import NoHandError
    from experiments.silhouette import fit_to_frame

    def answer(centre):
        try:
            return predict(frame.depth, frame.intrinsics, centre, frame.hand, frame.name)
        except NoHandError:
            return None

    found = answer(None)
    hand = answer(frame.centre) if frame.centre else found
    row = {"found": float(found is not None), "passes": 0.0, "iou": 0.0}
    if frame.joints is not None:
        middle = np.nanmean(frame.joints, axis=0)
        near = found is not None and np.linalg.norm(found.centre - middle) <= LOCATED_MM
        row |= {"located": float(near), "within": 0.0}
    if hand is None:
        return row, None, None
    points = joints21(hand, template)
    axis = points[_KNUCKLES].mean(axis=0) - points[0]
    surface = (hand.vertices, hand.faces)
    fit = fit_to_frame(
        frame.depth, frame.intrinsics, hand.centre, hand.cube_mm, *surface, points[0], axis
    )
    deep = fit.depth_mm if np.isfinite(fit.depth_mm) else 1e3
    row |= {
        "iou": fit.iou,
        "depth_mm": deep,
        "passes": float(fit.iou >= LEAST_IOU and deep <= MOST_DEPTH_MM),
        "confidence": float(np.mean(hand.confidence)),
    }
    if frame.joints is not None:
        error = np.linalg.norm(points - frame.joints, axis=1)[1:]
        row |= {"joints_mm": float(np.nanmean(error)), "tips_mm": float(np.nanmean(error[3::4]))}
    return row, hand, fit


def score_of(name: str, rows: list[dict]) -> float:
    """A set's part of the score, 0..1; see the head of this file."""
    if "within" in rows[0]:
        scale = _SCALE_MM.get(name, 30.0)
        return float(np.mean([max(0.0, 1 - row.get("joints_mm", np.inf) / scale) for row in rows]))
    return float(np.mean([row["iou" if name.startswith("kinect2") else "passes"] for row in rows]))


def honesty(rows: list[dict]) -> dict:
    """Rank correlation of confidence and joints' error, and frames that are far off but sure."""
    from scipy.stats import spearmanr

    labelled = [row for row in rows if "joints_mm" in row]
    errors_mm = [row["joints_mm"] for row in labelled]
    confidence = [row["confidence"] for row in labelled]
    sure = [e > _FAR_MM and c > _SURE for e, c in zip(errors_mm, confidence, strict=True)]
    rank = float(spearmanr(errors_mm, confidence).statistic) if len(labelled) > 2 else None
    return {"rank_correlation": rank, "far_but_sure": int(sum(sure)), "labelled": len(labelled)}


def line(name: str, rows: list[dict]) -> str:
    """A row of the table: means over the frames."""

    def mean(key):
        values = [row[key] for row in rows if key in row]
        return float(np.mean(values)) if values else None

    def text(key, form, count=False):
        value = mean(key)
        if value is None:
            return ""
        return f"{value * len(rows):.0f}" if count else format(value, form)

    cells = [
        name,
        f"{len(rows)}",
        text("found", "", True),
        text("located", "", True),
        text("passes", "", True),
        text("iou", ".3f"),
        text("depth_mm", ".1f"),
        text("joints_mm", ".1f"),
        text("confidence", ".2f"),
    ]
    return "| " + " | ".join(cells) + " |"


def main(_):
    from dgn_tf.json_file import write_json
    from dgn_tf.model_folder import TEMPLATE, find_model_folder
    from dgn_tf.predictor import HandMeshPredictor
    from dgn_tf.template import HandTemplate

    described = pathlib.Path(_DATA.value).glob("*/frames.json")
    folders = {path.parent.name: path.parent for path in described}
    chosen = _SETS.value or sorted(folders)
    missing = [name for name in chosen if name not in folders]
    if missing or not chosen:
        raise InputError(
            f"--data={_DATA.value} has no set {', '.join(missing) or 'at all'}; it has "
            f"{', '.join(sorted(folders)) or 'no folder with a frames.json'}."
        )
    predictor = HandMeshPredictor(_SAVED_MODEL.value)
    template = HandTemplate.load(find_model_folder(_SAVED_MODEL.value) / TEMPLATE)
    print("| set | frames | found | located | pass | IoU | depth, mm | joints, mm | confidence |")
    print("|---|---|---|---|---|---|---|---|---|")
    report: dict = {}
    for name in chosen:
        rows = {}
        for frame in read_set(folders[name]):
            rows[frame.name], hand, fit = measure(predictor, frame, template)
            if _PICTURES.value and fit is not None:
                _write_picture(frame, hand, fit, f"{name}_{frame.name}")
        report[name] = {"score": score_of(name, list(rows.values())), "frames": rows}
        print(line(name, list(rows.values())), flush=True)
        lost = [stem for stem, row in rows.items() if not row["found"]]
        if lost:
            print(f"  no hand found: {name} {', '.join(lost)}")
    score = float(np.mean([one["score"] for one in report.values()]))
    sure = honesty([row for one in report.values() for row in one["frames"].values()])
    print(
        f"score {score:.4f}; {sure['labelled']} labelled frames: rank correlation of confidence "
        f"and error {sure['rank_correlation']}, {sure['far_but_sure']} over {_FAR_MM:g} mm with a "
        f"confidence of more than {_SURE:g}"
    )
    if _JSON.value:
        write_json({"score": score, "honesty": sure, "sets": report}, _JSON.value)


def _write_picture(frame, mesh, fit, stem):
    """Depth, the mesh over it, and where the silhouettes differ, around the hand."""
    from PIL import Image

    from dgn_tf.visualize import panels, tiles

    def cut(image):
        return tiles.window(image, frame.intrinsics, mesh.centre, mesh.cube_mm, panels.TILE)

    window, camera = cut(frame.depth)
    grey = tiles.depth_tile(window, mesh.centre[2], mesh.cube_mm / 2)
    hand, silhouette = (cut(mask.astype(np.float32))[0] > 0 for mask in (fit.hand, fit.mesh))
    differs = (0.75 * grey).astype(np.uint8)
    differs[hand & silhouette] = grey[hand & silhouette]
    differs[hand & ~silhouette] = _MISSED
    differs[~hand & silhouette] = _BEYOND
    over = tiles.mesh_tile(mesh.vertices, mesh.faces, camera, panels.TILE, grey, 0.7)
    pictures = [("depth", grey), ("mesh over depth", over), ("left out, beyond", differs)]
    title = f"{stem}: IoU {fit.iou:.3f}, depth {fit.depth_mm:.1f} mm"
    with output_file(pathlib.Path(_PICTURES.value) / f"{stem}.png") as beside:
        Image.fromarray(panels.compose(pictures, columns=3, title=title)).save(beside)


if __name__ == "__main__":
    errors.run(main)
