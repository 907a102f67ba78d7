"""A hand over time as a UsdSkel animation (extra `usd`): metres, y up.

USD stores scales of joints as 16-bit floats, so that a vertex may be off by a tenth of a mm.
"""

import importlib.util

import numpy as np

from dgn_tf.animation.sequence import HandSequence, rest_mesh, skeleton, taken_apart
from dgn_tf.errors import InputError

_MM_PER_METRE = 1000.0


def check_usd(file: str) -> None:
    """InputError where `pxr` is missing, of which the extra `usd` is."""
    if importlib.util.find_spec("pxr") is None:
        raise InputError(
            f"--output={file}: USD wants usd-core: install the extra `usd`, or write .glb."
        )


def write_usd(sequence: HandSequence, file) -> None:
    """Writes the stage; the ending (.usda, .usdc, .usd) names its form.

    Raises:
        OSError: it can't be written.
    """
    from pxr import Tf, Usd

    stage = Usd.Stage.CreateInMemory()
    _fill(stage, sequence)
    try:
        stage.GetRootLayer().Export(str(file))
    except Tf.ErrorException as error:
        raise OSError("USD can't write there") from error


def _fill(stage, sequence) -> None:
    from pxr import Gf, UsdGeom, UsdSkel, Vt

    template = sequence.template
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    stage.SetTimeCodesPerSecond(sequence.fps)
    stage.SetStartTimeCode(0)
    stage.SetEndTimeCode(float(sequence.times[-1] * sequence.fps))
    root = UsdSkel.Root.Define(stage, "/hand")
    stage.SetDefaultPrim(root.GetPrim())
    root.GetPrim().SetCustomDataByKey("lostFrames", Vt.StringArray(sequence.lost))
    joints = skeleton(sequence, _MM_PER_METRE)
    paths = _joint_paths(template)
    bones = UsdSkel.Skeleton.Define(stage, "/hand/skeleton")
    bones.CreateJointsAttr(paths)
    matrix = lambda transform: Gf.Matrix4d(transform.T.tolist())  # noqa: E731  rows are USD's
    bones.CreateBindTransformsAttr([matrix(np.linalg.inv(bind)) for bind in joints.bind])
    bones.CreateRestTransformsAttr([matrix(local) for local in joints.local[0]])
    animation = UsdSkel.Animation.Define(stage, "/hand/animation")
    animation.CreateJointsAttr(paths)
    moves = taken_apart(joints.local)
    attributes = (
        animation.CreateTranslationsAttr(),
        animation.CreateRotationsAttr(),
        animation.CreateScalesAttr(),
    )
    for time, place, turn, scale in zip(sequence.times * sequence.fps, *moves, strict=True):
        values = (
            Vt.Vec3fArray.FromNumpy(place.astype(np.float32)),
            Vt.QuatfArray(
                [Gf.Quatf(float(w), float(x), float(y), float(z)) for x, y, z, w in turn]
            ),
            Vt.Vec3hArray([Gf.Vec3h(float(size)) for size in scale]),
        )
        for attribute, value in zip(attributes, values, strict=True):
            attribute.Set(value, float(time))
    for prim in (bones.GetPrim(), _mesh(stage, sequence)):
        binding = UsdSkel.BindingAPI.Apply(prim)
        binding.CreateAnimationSourceRel().SetTargets([animation.GetPath()])
        binding.CreateSkeletonRel().SetTargets([bones.GetPath()])


def _mesh(stage, sequence):
    """The prim of the skinned mesh at rest."""
    from pxr import Gf, UsdGeom, UsdSkel, Vt

    vertices, faces = rest_mesh(sequence, _MM_PER_METRE)
    mesh = UsdGeom.Mesh.Define(stage, "/hand/mesh")
    mesh.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(vertices.astype(np.float32)))
    mesh.CreateFaceVertexCountsAttr([3] * len(faces))
    mesh.CreateFaceVertexIndicesAttr(faces.reshape(-1).tolist())
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    mesh.CreateExtentAttr(
        [Gf.Vec3f(*corner.tolist()) for corner in (vertices.min(0), vertices.max(0))]
    )
    weights = np.asarray(sequence.template.skinning_weights, np.float32)
    slots = int((weights > 0).sum(axis=1).max())
    order = np.argsort(-weights, axis=1, kind="stable")[:, :slots]
    chosen = np.take_along_axis(weights, order, axis=1)
    binding = UsdSkel.BindingAPI.Apply(mesh.GetPrim())
    binding.CreateJointIndicesPrimvar(False, slots).Set(order.reshape(-1).tolist())
    binding.CreateJointWeightsPrimvar(False, slots).Set(chosen.reshape(-1).tolist())
    binding.CreateGeomBindTransformAttr().Set(Gf.Matrix4d(1.0))
    return mesh.GetPrim()


def _joint_paths(template) -> list[str]:
    """ "palm/index1/index2" for each part."""
    paths: list[str] = []
    for part, parent in enumerate(template.parents):
        name = template.part_names[part]
        paths.append(f"{paths[parent]}/{name}" if part else name)
    return paths
