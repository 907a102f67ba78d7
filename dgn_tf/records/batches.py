"""What training makes of a batch of frames: the targets, and the share of each process."""

import dataclasses

import tensorflow as tf

from dgn_tf.geometry.upright import palm_axis_weights


def targets(example: dict[str, tf.Tensor], template) -> dict[str, tf.Tensor]:
    """Adds the per-pixel targets of one embedding, and the palm's axis, to rendered hands.

    Records and synthesis store the surface point that a pixel shows (face and barycentrics), which
    no embedding changes; the mesh coordinates are interpolated here.

    Args:
        example: batch with depth [B, S, S] mm, face [B, S, S] int (-1 = no hand), barycentric
            [B, S, S, 2], weights of the face's corners 1 and 2, and vertices [B, V, 3] mm.
        template: HandTemplate with the embedding in use.

    Returns:
        `example` and mesh_coords [B, S, S, 2] float32 (cells; 0 where there is no hand), mesh_layer
        [B, S, S] int32 (0 where there is no hand), part [B, S, S] int32 (-1 = no hand),
        correspondence_mask [B, S, S] bool: a hand pixel with depth, off the embedding's seams, and
        palm_axis [B, 3], from the wrist to the fingers, camera frame, of unit length but for shape.
    """
    face = tf.cast(example["face"], tf.int32)
    is_hand = face >= 0
    face = tf.maximum(face, 0)
    # One gather of a [F, 8] table: corner 0, the edges to corners 1 and 2, layer and seam.
    corners = tf.constant(template.face_coords, tf.float32)  # [F, 3, 2]
    table = tf.concat(
        [
            corners[:, 0],
            corners[:, 1] - corners[:, 0],
            corners[:, 2] - corners[:, 0],
            tf.cast(template.face_layer, tf.float32)[:, tf.newaxis],
            tf.cast(template.face_is_seam, tf.float32)[:, tf.newaxis],
            tf.cast(template.face_part, tf.float32)[:, tf.newaxis],
        ],
        axis=1,
    )  # [F, 9]
    row = tf.gather(table, face)  # [B, S, S, 9]
    weights = example["barycentric"]
    coords = row[..., 0:2] + weights[..., :1] * row[..., 2:4] + weights[..., 1:] * row[..., 4:6]
    axis_weights = tf.constant(palm_axis_weights(template))
    return {
        **example,
        "palm_axis": tf.einsum("v,bvc->bc", axis_weights, example["vertices"]),
        "mesh_coords": tf.where(is_hand[..., tf.newaxis], coords, tf.zeros_like(coords)),
        "mesh_layer": tf.where(is_hand, tf.cast(row[..., 6], tf.int32), 0),
        "part": tf.where(is_hand, tf.cast(row[..., 8], tf.int32), -1),
        "correspondence_mask": is_hand & (example["depth"] > 0.0) & (row[..., 7] < 0.5),
    }


# Which frames of every batch a process makes, where several train together.


@dataclasses.dataclass(frozen=True)
class Share:
    """One of `parts` equal runs of neighbouring frames, the same of every batch.

    The parts of a batch have no frame in common and are together the batch that a single process
    makes.

    Attributes:
        part: number of this one, from 0.
        parts: of how many.
    """

    part: int = 0
    parts: int = 1

    def rows(self, batch_size: int) -> range:
        """Places in the batch of this part's frames.

        Raises:
            ValueError: the batch can't be cut in equal parts.
        """
        if batch_size % self.parts:
            raise ValueError(f"{batch_size} frames can't be cut in {self.parts} equal parts.")
        count = batch_size // self.parts
        return range(self.part * count, (self.part + 1) * count)


WHOLE = Share()


@dataclasses.dataclass(frozen=True)
class Batching:
    """Which batches a dataset gives, and how it makes them.

    Batch k is the same whether the run began at 0 or resumed at k, and no state needs saving: a
    pass over records is a permutation drawn from (seed, pass) alone, and what is drawn for an
    example depends on (seed, its number in the run).

    Attributes:
        batch_size: B, of all processes together.
        shuffle: permute each pass over records; else their order.
        seed: of the order, and of what is drawn for each example.
        start_step: number of the first batch.
        repeat: go on for ever, batches running over the ends of passes; else one pass, the last
            batch may be smaller. Synthesis has no end.
        prefetch: batches kept ready.
        threads: examples made at once; None for one after the other, or the default of synthesis.
        share: the part of each batch that is made; without `repeat` the whole alone.
    """

    batch_size: int
    shuffle: bool = True
    seed: int = 0
    start_step: int = 0
    repeat: bool = True
    prefetch: int = 4
    threads: int | None = None
    share: Share = WHOLE

    @property
    def rows(self) -> range:
        """Numbers of this process's examples in every batch."""
        return self.share.rows(self.batch_size)
