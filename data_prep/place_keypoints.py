"""Derives `makehuman_keypoints.json`: NYU's 36 key points, carried over from LibHand's mesh.

    python -m data_prep.place_keypoints --libhand=right_hand.pkl --markers=nyu_markers.json

build_template reads the table alone, so that the template is rebuilt without LibHand's mesh.
"""

import json

import numpy as np
from absl import flags

from data_prep import libhand
from data_prep.hand_parts import PART_NAMES
from data_prep.keypoint_placement import TABLE, describe_hand, normalise
from dgn_tf.errors import run
from dgn_tf.writing import write_output

_LIBHAND = flags.DEFINE_string("libhand", None, "LibHand's mesh, right_hand.pkl.", required=True)
_MARKERS = flags.DEFINE_string(
    "markers", None, "Where the key points lie on that mesh (JSON).", required=True
)
_OUTPUT = flags.DEFINE_string("output", str(TABLE), "The table to write.")


def derive_table(libhand_path, markers_path) -> dict:
    """Returns name to {part, coordinates}; see `keypoint_placement`."""
    hand, markers = libhand.read_libhand(libhand_path), libhand.read_markers(markers_path)
    posed = describe_hand(
        hand.vertices, hand.weights, hand.joints, dorsal=np.array([0.0, 0.0, 1.0])
    )
    return {
        name: {
            "part": part,
            "coordinates": [
                round(value, 4) for value in normalise(posed, PART_NAMES.index(part), point)
            ],
        }
        for name, (part, point) in markers.items()
    }


def main(_):
    table = derive_table(_LIBHAND.value, _MARKERS.value)
    rows = ",\n".join(f'  "{name}": {json.dumps(row)}' for name, row in table.items())
    text = (
        '{\n "origin": "NYU key points on LibHand\'s right hand, in coordinates of '
        'data_prep/keypoint_placement.py",\n "keypoints": {\n' + rows + "\n }\n}\n"
    )
    write_output(_OUTPUT.value, text, "--output")
    print(f"{_OUTPUT.value}: {len(table)} key points")


if __name__ == "__main__":
    run(main)
