"""How well meshes cover the hands of unlabelled real frames: silhouettes and depth.

    python -m experiments.sr305_fit --frames='../shared/data/frames/sr305/*.png' \
        --saved_model=saved_models/dgn --json=runs/sr305.json --pictures=runs/sr305

A measurement of frames that nothing is trained on or chosen by. What counts as the hand's pixels is
said in `dgn_tf.evaluation.silhouette`: the forearm does not, and the network has no say in it but
for where the wrist is. Pictures: hand's pixels that the mesh leaves out in red, pixels of the mesh
off the hand in blue.
"""

import glob
import os
import pathlib
from typing import TYPE_CHECKING

from absl import flags

from dgn_tf import errors
from dgn_tf.errors import InputError
from dgn_tf.writing import output_file

if TYPE_CHECKING:
    import numpy as np

_FRAMES = flags.DEFINE_string(
    "frames", "../shared/data/frames/sr305/*.png", "Depth images: a PNG file or a pattern."
)
_INTRINSICS = flags.DEFINE_string(
    "intrinsics", "476.007,476.007,313.683,242.755", "fx,fy,cx,cy, pixels."
)
_DEPTH_UNIT = flags.DEFINE_float("depth_unit", 0.125, "mm for one step of the images.")
_HAND = flags.DEFINE_enum("hand", "right", ["right", "left"], "Which hand the frames show.")
_SAVED_MODEL = flags.DEFINE_string("saved_model", "saved_models/dgn", "Exported model.")
_LEAST_IOU = flags.DEFINE_float("least_iou", 0.85, "Frames with less are counted as failing.")
_MOST_DEPTH = flags.DEFINE_float("most_depth_mm", 6.0, "Frames with more count as failing, mm.")
_JSON = flags.DEFINE_string("json", "", "File for the figures; empty: they are printed alone.")
_PICTURES = flags.DEFINE_string("pictures", "", "Folder for a picture a frame; empty: none.")

_MISSED, _BEYOND = (230, 60, 50), (60, 110, 250)  # RGB


def main(_):
    from dgn_tf.depth_io import read_depth
    from dgn_tf.evaluation.prediction_files import parse_intrinsics
    from dgn_tf.json_file import write_json
    from dgn_tf.model_folder import TEMPLATE, find_model_folder
    from dgn_tf.output_files import refuse_inputs
    from dgn_tf.predictor import HandMeshPredictor, NoHandError
    from dgn_tf.template import HandTemplate

    files = sorted(glob.glob(_FRAMES.value))
    if not files:
        raise InputError(f"--frames={_FRAMES.value}: no such file; wanted depth images (.png).")
    if _PICTURES.value:
        written = [
            pathlib.Path(_PICTURES.value, f"{pathlib.Path(file).stem}.png") for file in files
        ]
        refuse_inputs({"pictures": written}, {"frames": files})
    intrinsics = parse_intrinsics(_INTRINSICS.value)
    predictor = HandMeshPredictor(_SAVED_MODEL.value, intrinsics, _HAND.value)
    template = HandTemplate.load(find_model_folder(_SAVED_MODEL.value) / TEMPLATE)
    rows = []
    for file in files:
        depth = read_depth(file, "u16", _DEPTH_UNIT.value)
        row: dict = {"frame": pathlib.Path(file).name, "iou": 0.0, "depth_mm": None}
        try:
            mesh = predictor(depth, name=file)
        except NoHandError:
            rows.append(row)  # fails, as it is to
            continue
        fit = _fit(depth, intrinsics, mesh, template)
        rows.append({**row, "iou": fit.iou, "depth_mm": _number(fit.depth_mm)})
        if _PICTURES.value:
            title = f"{row['frame']}: IoU {fit.iou:.3f}, depth {fit.depth_mm:.1f} mm"
            _write_picture(depth, intrinsics, mesh, fit, pathlib.Path(file).stem, title)
    print(report(rows, _LEAST_IOU.value, _MOST_DEPTH.value))
    if _JSON.value:
        write_json({"frames": rows}, _JSON.value)


def _fit(depth, intrinsics, mesh, template):
    import numpy as np

    from dgn_tf.evaluation.silhouette import fit_to_frame
    from dgn_tf.geometry.upright import palm_axis_weights

    root = int(np.flatnonzero(template.parents == np.arange(len(template.parents)))[0])
    joint = np.linalg.inv(np.asarray(template.bone_from_template[root], np.float64))[:, 3]
    if mesh.hand == "left":
        joint[0] = -joint[0]  # transforms are of the mirrored template
    wrist = (mesh.transforms[root] @ joint)[:3]
    axis = palm_axis_weights(template) @ mesh.vertices
    return fit_to_frame(
        depth, intrinsics, mesh.centre, mesh.cube_mm, mesh.vertices, mesh.faces, wrist, axis
    )


def report(rows: list[dict], least_iou: float, most_depth_mm: float) -> str:
    """A markdown table of frame, iou and depth_mm (None where there is none), and how many pass."""
    lines = ["| frame | silhouette IoU | median depth difference, mm | |", "|---|---|---|---|"]
    passed = 0
    for row in rows:
        deep = row["depth_mm"]
        good = row["iou"] >= least_iou and deep is not None and deep <= most_depth_mm
        passed += good
        text = "no hand found" if deep is None and not row["iou"] else ("" if good else "fails")
        lines.append(
            f"| {row['frame']} | {row['iou']:.3f} | {'-' if deep is None else f'{deep:.1f}'} | "
            f"{text} |"
        )
    lines.append(
        f"\n{passed} of {len(rows)} frames have IoU >= {least_iou:g} and depth <= "
        f"{most_depth_mm:g} mm"
    )
    return "\n".join(lines)


def _number(value):
    import numpy as np

    return float(value) if np.isfinite(value) else None


def _write_picture(depth, intrinsics, mesh, fit, stem, title):
    """Depth, the mesh over it, and where the silhouettes differ, around the hand."""
    import numpy as np
    from PIL import Image

    from dgn_tf.visualize import panels, tiles

    def cut(image: "np.ndarray"):
        return tiles.window(image, intrinsics, mesh.centre, mesh.cube_mm, panels.TILE)

    window, camera = cut(depth)
    grey = tiles.depth_tile(window, mesh.centre[2], mesh.cube_mm / 2)
    hand, silhouette = (cut(mask.astype(np.float32))[0] > 0 for mask in (fit.hand, fit.mesh))
    differs = (0.75 * grey).astype(np.uint8)
    differs[hand & silhouette] = grey[hand & silhouette]
    differs[hand & ~silhouette] = _MISSED
    differs[~hand & silhouette] = _BEYOND
    over = tiles.mesh_tile(mesh.vertices, mesh.faces, camera, panels.TILE, grey, 0.7)
    pictures = [("depth", grey), ("mesh over depth", over), ("left out, beyond", differs)]
    folder = pathlib.Path(_PICTURES.value)
    with output_file(folder / f"{stem}.png") as beside:
        Image.fromarray(panels.compose(pictures, columns=3, title=title)).save(beside)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    errors.run(main)
