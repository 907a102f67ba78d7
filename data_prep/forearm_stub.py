"""A forearm behind the wrist, for rendering only."""

import numpy as np

LENGTH_MM, RINGS, WIDENING = 250.0, 10, 1.5


def forearm_stub(vertices, wrist_loop, elbow):
    """Sweeps the wrist loop to the elbow, widening smoothly, and closes the end.

    Args:
        vertices: [V, 3] mm; wrist_loop: [N] in the direction of its faces; elbow: [3] mm.

    Returns:
        stub vertices [RINGS * N + 1, 3] mm, faces [Fs, 3] into concat(vertices, stub), ring of
        each stub vertex (1 .. RINGS; the cap's centre belongs to the last).
    """
    loop = vertices[wrist_loop]
    centre, size, count = loop.mean(axis=0), len(vertices), len(wrist_loop)
    axis = (elbow - centre) / np.linalg.norm(elbow - centre)
    offsets = loop - centre
    along = np.arange(1, RINGS + 1) / RINGS
    widths = 1 + (WIDENING - 1) * along**2 * (3 - 2 * along)
    rings = centre + along[:, None, None] * LENGTH_MM * axis + widths[:, None, None] * offsets
    stub = np.concatenate([rings.reshape(-1, 3), centre[None] + (LENGTH_MM + 8.0) * axis])
    ring = np.append(np.repeat(np.arange(1, RINGS + 1), count), RINGS)
    indices = np.concatenate([[wrist_loop], size + np.arange(RINGS * count).reshape(RINGS, count)])
    here, there = indices[:-1], indices[1:]
    ahead, there_ahead = np.roll(here, -1, axis=1), np.roll(there, -1, axis=1)
    # The hand's faces run along the loop; the stub's run against it.
    sides = np.stack(
        [np.stack([ahead, here, there], axis=-1), np.stack([ahead, there, there_ahead], axis=-1)],
        axis=2,
    ).reshape(-1, 3)
    cap = np.full([count], size + RINGS * count)
    last = np.stack([np.roll(indices[-1], -1), indices[-1], cap], axis=1)
    return stub, np.concatenate([sides, last]), ring
