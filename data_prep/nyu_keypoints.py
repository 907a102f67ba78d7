"""NYU's 36 key points on a hand: where LibHand's markers say, or at the analogous places."""

from collections.abc import Mapping

import numpy as np

from data_prep import hand_parts, keypoint_placement
from data_prep.rest_hand import Keypoints, RestHand
from dgn_tf.template import EVALUATED


def place_keypoints(hand: RestHand, markers: Mapping | None = None) -> Keypoints:
    """Returns the key points of a hand in the template's frame.

    Args:
        hand: any hand.
        markers: name to (canonical part, [3] mm) where their places are known; None: each lies
            where it does on LibHand's hand, in widths, thicknesses and lengths of its part.
    """
    posed = keypoint_placement.describe_hand(
        hand.vertices,
        hand_parts.merged_weights(hand.weights, hand.part_names),
        hand_parts.of_merged(hand.joints, hand.part_names),
        dorsal=np.array([0.0, 1.0, 0.0]),
    )
    if markers is None:
        table = keypoint_placement.load_table()
        markers = {
            name: (
                part,
                keypoint_placement.place(posed, hand_parts.PART_NAMES.index(part), coordinates),
            )
            for name, (part, coordinates) in table.items()
        }
    points, weights, carriers = [], [], []
    for part, point in markers.values():
        points.append(point)
        weights.append(np.eye(len(hand.part_names))[hand.part_names.index(part)])
        carriers.append(
            keypoint_placement.carriers(posed, hand_parts.PART_NAMES.index(part), point)
        )
    return Keypoints(
        tuple(markers), np.stack(points), np.stack(weights), np.stack(carriers), EVALUATED
    )
