"""Z-buffer rasteriser for triangle meshes on the CPU, compiled by numba, one mesh a call.

Samples are taken along given rays, one per column and row, so that an image which another step
resampled (nearest neighbour) is rendered directly at its final size, ray by ray.
"""

import numpy as np

from dgn_tf.compiled import kernel
from dgn_tf.geometry.faces import checked_faces


@kernel
def rasterize(
    vertices, faces, intrinsics, columns, rows, snap, near, scratch, depth, face, barycentric
):
    """Renders the front faces nearest to the camera into buffers that the caller has cleared.

    A face is front facing if its corners run clockwise as seen in the image (x right, y down), that
    is, if (p1 - p0) x (p2 - p0) points to the camera. Faces with a corner nearer than `near` are
    left out. Barycentrics are those of the surface point (perspective correct).

    Args:
        vertices: [N, 3] mm, camera frame.
        faces: [M, 3] uint32 (unsigned indices need no check for negative ones).
        intrinsics: 4 floats fx, fy, cx, cy of the image.
        columns: [W] image column of each pixel's ray, ascending, within `snap` of its index.
        rows: [H] image row of each pixel's ray, ascending, within `snap` of its index.
        snap: the largest |columns[i] - i| and |rows[j] - j|.
        near: mm, positive.
        scratch: [N, 3] float64, overwritten.
        depth: [H, W] float64, z in mm; holds inf, or the depth of something rendered before.
        face: [H, W] int32, set to the face where this mesh is nearest.
        barycentric: [H, W, 2] float64, weights of corners 1 and 2 there.
    """
    height, width = depth.shape
    fx, fy, cx, cy = intrinsics
    low_u, high_u, low_v, high_v = -snap, width - 1 + snap, -snap, height - 1 + snap
    for i in range(vertices.shape[0]):
        z = vertices[i, 2]
        inverse = 1.0 / z if z > near else -1.0
        scratch[i, 0] = fx * vertices[i, 0] * inverse + cx
        scratch[i, 1] = fy * vertices[i, 1] * inverse + cy
        scratch[i, 2] = inverse
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        za, zb, zc = scratch[a, 2], scratch[b, 2], scratch[c, 2]
        if za < 0.0 or zb < 0.0 or zc < 0.0:
            continue
        ua, va = scratch[a, 0], scratch[a, 1]
        ub, vb = scratch[b, 0], scratch[b, 1]
        uc, vc = scratch[c, 0], scratch[c, 1]
        area = (ub - ua) * (vc - va) - (vb - va) * (uc - ua)
        if not area < 0.0:  # Back facing, or edge on: y points down. Or a corner that is NaN.
            continue
        # Most triangles of a hand in a crop are smaller than a pixel and hold no ray: leave early.
        low, high = min(ua, min(ub, uc)), max(ua, max(ub, uc))
        if high < low_u or low > high_u:
            continue
        first_column = int(max(low - snap, 0.0))
        last_column = int(min(high + snap, width - 1.0))
        while first_column <= last_column and columns[first_column] < low:
            first_column += 1
        while first_column <= last_column and columns[last_column] > high:
            last_column -= 1
        if first_column > last_column:
            continue
        low, high = min(va, min(vb, vc)), max(va, max(vb, vc))
        if high < low_v or low > high_v:
            continue
        first_row = int(max(low - snap, 0.0))
        last_row = int(min(high + snap, height - 1.0))
        while first_row <= last_row and rows[first_row] < low:
            first_row += 1
        while first_row <= last_row and rows[last_row] > high:
            last_row -= 1
        scale = 1.0 / area
        for j in range(first_row, last_row + 1):
            v = rows[j]
            for i in range(first_column, last_column + 1):
                u = columns[i]
                weight_b = ((uc - u) * (va - v) - (vc - v) * (ua - u)) * scale
                weight_c = ((ua - u) * (vb - v) - (va - v) * (ub - u)) * scale
                weight_a = 1.0 - weight_b - weight_c
                if weight_a < -1e-9 or weight_b < -1e-9 or weight_c < -1e-9:
                    continue
                z = 1.0 / (weight_a * za + weight_b * zb + weight_c * zc)
                if z < depth[j, i]:
                    depth[j, i] = z
                    face[j, i] = f
                    barycentric[j, i, 0] = weight_b * zb * z
                    barycentric[j, i, 1] = weight_c * zc * z


def render_mesh(vertices, faces, intrinsics, width, height, near=10.0):
    """Renders one mesh at the pixel centres of an image; see `rasterize`.

    Args:
        vertices: [N, 3] mm, camera frame. Faces with a corner that is NaN are left out.
        faces: [M, 3] int; ValueError where one is no vertex.
        intrinsics: fx, fy, cx, cy in pixels.
        width: columns of the image.
        height: rows of the image.
        near: mm; faces that come nearer are left out.

    Returns:
        depth [height, width] float64 mm, inf where there is nothing; face [height, width] int32, -1
        where there is nothing; barycentric [height, width, 2] of corners 1 and 2.
    """
    vertices = np.ascontiguousarray(vertices, np.float64)
    depth = np.full([height, width], np.inf)
    face = np.full([height, width], -1, np.int32)
    barycentric = np.zeros([height, width, 2])
    rasterize(
        vertices,
        np.ascontiguousarray(checked_faces(faces, len(vertices)), np.uint32),
        tuple(float(value) for value in intrinsics),
        np.arange(width, dtype=np.float64),
        np.arange(height, dtype=np.float64),
        0.0,
        near,
        np.empty_like(vertices),
        depth,
        face,
        barycentric,
    )
    return depth, face, barycentric
