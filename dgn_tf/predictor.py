"""From a depth frame in memory to a hand mesh, through an exported model."""

import dataclasses
import functools
import os

import numpy as np

from dgn_tf.errors import InputError, reason
from dgn_tf.hand_description import (
    HandDescription,
    check_shapes,
    check_values,
    describe,
    read_description,
)
from dgn_tf.json_file import parse_json
from dgn_tf.plausibility import FARTHEST_MM, NEAREST_MM
from dgn_tf.serving import allow_list
from dgn_tf.serving.runtimes import open_runtime
from dgn_tf.shipped import shipped_model

HANDS = ("right", "left", "auto")
_SIGNATURES = {
    "serving_default": {"depth", "intrinsics", "left"},
    "centred": {"depth", "intrinsics", "centre", "left"},
}
_NEEDED = {"vertices", "keypoint_confidence"}  # the latter: of a model exported since it is there
_MAX_INTRINSICS, _MAX_CENTRE_MM = 1e6, 1e5  # the served model's own, see `serving.checks`
LEAST_SCORE = 0.3  # of a place of the signature `locate`, to be a hand's
_FAR_MM = 15.0  # a point that far from the mesh is not its own: a forearm's, a background's


class NoHandError(InputError):
    """The frame is good, but no hand was found in it."""


@dataclasses.dataclass(frozen=True, eq=False)
class HandMesh:
    """One hand. Everything in mm in the camera frame (x right, y down, z forward).

    Attributes:
        vertices: [V, 3] refined mesh P_r.
        faces: [F, 3] corners, anticlockwise as seen from outside (also for left hands).
        keypoints: [J, 3].
        keypoint_names: J names, NYU's.
        transforms: [P, 4, 4] camera_from_template of each part; for a left hand the template is
            mirrored, x negated.
        part_names: P names.
        joint_angles: [P, 3] rad about the bone frame's x, y, z.
        confidence: [V] 0..1, of each vertex; `confidence_is` says what it means.
        keypoint_confidence: [J] likewise.
        confidence_is: "probability that ..." or "uncalibrated: ...".
        vertices_sampled: [V, 3] P_s, before the refit.
        mesh_coords: [S, S, 2] column and row of the mesh grid for each pixel of the crop.
        mesh_layer: [S, S] probability of the second layer.
        valid: [S, S] bool, pixels of the crop with depth inside the cube.
        centre: [3] centre of the cube around the hand.
        crop_intrinsics: [4] fx, fy, cx, cy of the crop.
        cube_mm: side of the cube.
        grid_size: cells on a side of the mesh grid.
        num_layers: points that a cell of the mesh grid holds.
        hand: "right" or "left".
    """

    vertices: np.ndarray
    faces: np.ndarray
    keypoints: np.ndarray
    keypoint_names: tuple[str, ...]
    transforms: np.ndarray
    part_names: tuple[str, ...]
    joint_angles: np.ndarray
    confidence: np.ndarray
    keypoint_confidence: np.ndarray
    confidence_is: str
    vertices_sampled: np.ndarray
    mesh_coords: np.ndarray
    mesh_layer: np.ndarray
    valid: np.ndarray
    centre: np.ndarray
    crop_intrinsics: np.ndarray
    cube_mm: float
    grid_size: int
    num_layers: int
    hand: str

    def keypoints_by_name(self) -> dict[str, list[float]]:
        """Key point name to [x, y, z], mm."""
        return dict(zip(self.keypoint_names, _rounded(self.keypoints, 3), strict=True))

    def parameters(self, template):
        """Rotations, scales and bone lengths, see `dgn_tf.parameters.HandParameters`.

        Args:
            template: `HandMeshPredictor.template` of the predictor that found the hand.
        """
        from dgn_tf.parameters import hand_parameters

        return hand_parameters(self, template)

    def to_trimesh(self):
        """The mesh as a `trimesh.Trimesh`, mm, its vertices in the same order."""
        import trimesh

        return trimesh.Trimesh(self.vertices, self.faces, process=False)

    def to_json(self) -> dict:
        """What `predict` writes, see `schemas/hand.schema.json`: JSON-able, mm, camera frame."""
        return {
            "format_version": 1,
            "unit": "mm",
            "frame": "camera: x right, y down, z forward",
            "hand": self.hand,
            "centre_mm": _rounded(self.centre, 3),
            "keypoints_mm": self.keypoints_by_name(),
            "transforms": dict(zip(self.part_names, _rounded(self.transforms, 6), strict=True)),
            "joint_angles_rad": dict(
                zip(self.part_names, _rounded(self.joint_angles, 5), strict=True)
            ),
            "confidence": round(float(self.confidence.mean()), 4),
            "confidence_vertices": _rounded(self.confidence, 4),
            "confidence_keypoints": dict(
                zip(self.keypoint_names, _rounded(self.keypoint_confidence, 4), strict=True)
            ),
            "confidence_is": self.confidence_is,
        }

    def panel(self, depth_mm, intrinsics, title: str = "") -> np.ndarray:
        """A picture of the result over its frame: depth, correspondence, mesh, overlay.

        Args:
            depth_mm: [H, W] the frame that was given to the predictor.
            intrinsics: its fx, fy, cx, cy.
            title: a line above.

        Returns:
            uint8 RGB [H, W, 3].
        """
        from dgn_tf.visualize import panels, tiles

        depth, camera = tiles.window(
            np.asarray(depth_mm, np.float32), intrinsics, self.centre, self.cube_mm, panels.TILE
        )
        return panels.render_panel(depth, camera, self, title=title)


def hand_mesh(outputs: dict, description: HandDescription, hand: str) -> HandMesh:
    """The `HandMesh` of one hand's outputs of a model.

    Args:
        outputs: by name, without a batch axis; a model may have more of them than a mesh fields.
        description: of the model.
        hand: "right" or "left", as which the model was asked.
    """
    info, fields = description.info, HandMesh.__dataclass_fields__
    return HandMesh(
        faces=description.faces[hand],
        keypoint_names=tuple(info["keypoint_names"]),
        part_names=tuple(info["part_names"]),
        cube_mm=float(info["cube_mm"]),
        grid_size=int(info["grid_size"]),
        num_layers=int(info["num_layers"]),
        hand=hand,
        confidence_is=str(info["confidence"]),
        **{name: value for name, value in outputs.items() if name in fields},
    )


def _rounded(values, decimals):
    return np.round(np.asarray(values, np.float64), decimals).tolist()


class FrameToMesh:
    """What whoever turns frames into meshes shares: defaults, checks, and the call.

    Subclasses have `_run`, which runs a signature on a batch of one.

    Args:
        intrinsics: default fx, fy, cx, cy of the frames, pixels.
        hand: default, "right", "left" or "auto": the one whose mesh lies nearer to the points, at
            twice the cost.
    """

    def __init__(self, intrinsics=None, hand: str = "right"):
        self.intrinsics = None if intrinsics is None else check_intrinsics(intrinsics)
        self.hand = _check_hand(hand)
        self._process = os.getpid()

    def _run(self, signature: str, inputs: dict, name: str) -> tuple[dict, HandDescription]:
        """Outputs of a signature by name, numpy [1, ...], and the description of its model."""
        raise NotImplementedError

    def __call__(
        self, depth_mm, intrinsics=None, centre_mm=None, hand=None, name: str = "depth_mm"
    ) -> HandMesh:
        """Finds the hand in a frame and returns its mesh.

        Args:
            depth_mm: [H, W] real numbers, mm, 0 = missing; so is what a numpy mask hides.
            intrinsics: fx, fy, cx, cy in pixels; the constructor's where None.
            centre_mm: [3] the hand's centre, mm, camera frame; found where None.
            hand: "right", "left" or "auto"; the constructor's where None.
            name: of the frame, for error messages.

        Raises:
            InputError: an argument is of the wrong kind; NoHandError, which is one: no hand was
                found.
        """
        hand = self.hand if hand is None else _check_hand(hand)
        inputs, centre_mm = self._checked(depth_mm, intrinsics, centre_mm, name)
        if hand == "auto":
            meshes, description, nearer = self._both_hands(inputs, centre_mm, name)
            hand = "left" if nearer < 0 else "right"
            outputs = meshes[hand]
        else:
            outputs, description = self._predict(inputs, centre_mm, hand, name)
        return hand_mesh(outputs, description, hand)

    def side_evidence(
        self, depth_mm, intrinsics=None, centre_mm=None, name: str = "depth_mm"
    ) -> float:
        """By how many mm a right hand's mesh lies nearer to the frame's points than a left one's.

        Arguments and errors are those of a call. Below 0 the frame looks like a left hand's;
        `dgn_tf.hand_side.decide` says what several frames together do.
        """
        inputs, centre_mm = self._checked(depth_mm, intrinsics, centre_mm, name)
        return self._both_hands(inputs, centre_mm, name)[2]

    def _checked(self, depth_mm, intrinsics, centre_mm, name) -> tuple[dict, np.ndarray | None]:
        """A signature's inputs of one frame, and the centre; InputError where one is wrong."""
        if os.getpid() != self._process:  # where TensorFlow's and gRPC's threads are not
            raise InputError(
                f"this {type(self).__name__} was made before the process forked and would hang; "
                "make one in each process, or start processes with the method 'spawn'."
            )
        intrinsics = self.intrinsics if intrinsics is None else check_intrinsics(intrinsics)
        if intrinsics is None:
            raise InputError("intrinsics are missing: fx, fy, cx, cy of the depth camera, pixels.")
        depth = check_depth(depth_mm, intrinsics, name)
        centre_mm = None if centre_mm is None else check_centre(centre_mm)
        return {"depth": depth[np.newaxis], "intrinsics": intrinsics[np.newaxis]}, centre_mm

    def _both_hands(self, inputs, centre_mm, name):
        """Outputs as a right and as a left hand by name, the description, and `side_evidence`."""
        depth, intrinsics = inputs["depth"][0], inputs["intrinsics"][0]
        right, description = self._predict(inputs, centre_mm, "right", name)
        left, _ = self._predict(inputs, right["centre"], "left", name)
        away = [
            residual(outputs["vertices"], _crop_points(outputs, depth, intrinsics))
            for outputs in (left, right)
        ]
        return {"right": right, "left": left}, description, away[0] - away[1]

    def _predict(self, inputs, centre_mm, hand, name) -> tuple[dict, HandDescription]:
        """One frame's outputs as the hand that is named; InputError where none is there."""
        inputs = {**inputs, "left": np.array([hand == "left"])}
        signature = "serving_default"
        if centre_mm is not None:
            signature = "centred"
            inputs["centre"] = centre_mm[np.newaxis]
        outputs, description = self._run(signature, inputs, name)
        try:
            check_shapes(outputs, description)
            found = outputs["found"][0]
            if found:
                check_values(outputs)
        except ValueError as error:
            raise InputError(
                f"{name}: the model's answer can't be used: {error}; it is damaged or no hand "
                "model, export it anew."
            ) from None
        if not found:
            raise NoHandError(_not_found(name, centre_mm, description.info["cube_mm"]))
        return {key: value[0] for key, value in outputs.items()}, description


class HandMeshPredictor(FrameToMesh):
    """Predicts the hand's mesh from depth frames.

        predictor = dgn_tf.HandMeshPredictor(intrinsics=(475, 475, 320, 240))
        mesh = predictor(depth_mm)

    A process that never trains is faster by a sixth with `serving.inference_only`.

    Args:
        saved_model: folder of an exported model, or of one version of it; None: the shipped one.
        intrinsics: default fx, fy, cx, cy of the frames, pixels.
        hand: default, "right", "left" or "auto".
        backend: "tensorflow"; "onnxruntime" or "openvino" run the model's ONNX files, which
            `export --onnx` writes, and load no TensorFlow.

    Raises:
        InputError: no model, a damaged or foreign one, or one with ops that are not allowed.
    """

    def __init__(
        self, saved_model=None, intrinsics=None, hand: str = "right", backend: str = "tensorflow"
    ):
        self.folder = allow_list.find_version(saved_model or shipped_model())
        proto = None
        if backend == "tensorflow":
            proto = allow_list.read_saved_model(self.folder)
            _check_signatures(proto, self.folder)
        self.description = read_description(self.folder)
        super().__init__(intrinsics, hand)
        self._runtime = open_runtime(backend, self.folder, proto)
        if proto is not None:
            _check_told(self._runtime, self.description, self.folder)

    @functools.cached_property
    def template(self):
        """The `HandTemplate` of the model's folder; InputError where it has none beside it."""
        from dgn_tf.model_folder import load_template_of

        return load_template_of(self.folder)

    def all_hands(
        self, depth_mm, intrinsics=None, hand: str = "auto", name: str = "depth_mm"
    ) -> list[HandMesh]:
        """The hands of a frame, at most two, the likelier first.

        Args:
            depth_mm, intrinsics, name: as of a call.
            hand: of all of them, "right" or "left"; "auto": of each the one whose mesh lies nearer.

        Raises:
            InputError: an argument is of the wrong kind; NoHandError, which is one: no hand was
                found.
        """
        self.check_signature("locate")
        inputs, _ = self._checked(depth_mm, intrinsics, None, name)
        places = self.run("locate", inputs, name)
        found = places["centre"][0][places["score"][0] >= LEAST_SCORE]
        if not len(found):
            raise NoHandError(_not_found(name, None, self.description.info["cube_mm"]))
        return [self(depth_mm, intrinsics, centre, hand, name) for centre in found]

    def check_signature(self, signature: str) -> None:
        """InputError where the model has no such signature."""
        if signature not in self._runtime.signatures:
            raise InputError(
                f"--saved_model {self.folder} has no signature {signature!r}; export it anew by "
                "python -m dgn_tf.export."
            )

    def run(self, signature: str, inputs: dict, name: str = "the frame") -> dict:
        """Outputs of a signature, see `serving.module`, by name, numpy with a batch axis.

        Raises:
            InputError: the model refused the inputs; it begins with `name`.
        """
        return self._run(signature, inputs, name)[0]

    def _run(self, signature, inputs, name):
        try:
            return self._runtime.run(signature, inputs), self.description
        except InputError:  # of a file, not of the inputs
            raise
        except ValueError as error:
            raise InputError(f"{name}: the model refused it: {error}") from None


def _check_told(model, description, folder):
    """Compares the assets with what the model's own signature `hand` says, where it has one."""
    if "hand" not in model.signatures:  # exported before there was one
        return
    try:
        told = model.run("hand", {"left": np.array([False, True])})
        same = describe(parse_json(told["description"][0]), *told["faces"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"--saved_model {folder}: its signature `hand` is damaged ({reason(error)}); export it "
            "anew."
        ) from None
    if same.info != description.info or not np.array_equal(
        same.faces["right"], description.faces["right"]
    ):
        raise InputError(
            f"--saved_model {folder}: assets/ and the model's own description of its hand differ: "
            "one is damaged; export it anew."
        )


def check_depth(depth_mm, intrinsics, name: str = "depth_mm") -> np.ndarray:
    """Checks a frame and returns it as float32 [H, W] mm; raises InputError that begins `name`."""
    masked = np.ma.isMaskedArray(depth_mm)
    depth = np.ma.filled(depth_mm, 0) if masked else np.asarray(depth_mm)  # masked: missing
    if depth.ndim != 2 or 0 in depth.shape:
        raise InputError(f"{name} has shape {list(depth.shape)}; one depth frame [H, W] is wanted.")
    if depth.dtype.kind not in "iuf":
        raise InputError(f"{name} has dtype {depth.dtype}; numbers in mm are wanted.")
    depth = depth.astype(np.float32)
    # One pass over the frame: the sum is finite where all of its terms are.
    if not np.isfinite(depth.sum()):
        raise InputError(f"{name} has NaN or infinite pixels; mark missing depth with 0.")
    if depth.min() < 0:
        raise InputError(f"{name} has negative depth; it is in mm, 0 = missing.")
    if not depth.max() > 0:
        raise InputError(f"{name} has no pixel with depth; leave the frame out.")
    height, width = depth.shape
    if not (0 < intrinsics[2] < width and 0 < intrinsics[3] < height):
        raise InputError(
            f"{name} has {width} x {height} pixels, but the principal point cx, cy = "
            f"{intrinsics[2]:g}, {intrinsics[3]:g} lies outside; intrinsics must be of this size."
        )
    return depth


def check_intrinsics(intrinsics) -> np.ndarray:
    """Checks fx, fy, cx, cy and returns them as float32 [4]; raises InputError."""
    try:
        values = np.ma.filled(np.ma.asarray(intrinsics, np.float32), np.nan)
    except (TypeError, ValueError):
        values = np.zeros(0, np.float32)
    finite = values.shape == (4,) and bool((np.abs(values) <= _MAX_INTRINSICS).all())
    if not finite or not (values[:2] > 0).all():
        raise InputError(
            f"intrinsics {intrinsics!r} must be four numbers fx, fy, cx, cy in "
            "pixels, fx and fy positive."
        )
    return values


def check_centre(centre_mm) -> np.ndarray:
    """Checks a centre and returns it as float32 [3] mm; raises InputError."""
    try:
        values = np.ma.filled(np.ma.asarray(centre_mm, np.float32), np.nan)
    except (TypeError, ValueError):
        values = np.zeros(0, np.float32)
    finite = values.shape == (3,) and bool((np.abs(values) <= _MAX_CENTRE_MM).all())
    if not finite or values[2] < 10:
        raise InputError(
            f"centre_mm {centre_mm!r} must be x, y, z in mm in the camera frame, z at least 10."
        )
    return values


def _check_hand(hand):
    if hand not in HANDS:
        raise InputError(f"hand {hand!r} is not one of {', '.join(HANDS)}.")
    return hand


def residual(vertices, points) -> float:
    """How far points [N, 3] lie from a mesh's vertices, mm: the mean, each at most `_FAR_MM`."""
    from scipy.spatial import cKDTree

    if not len(points):
        return _FAR_MM
    away, _ = cKDTree(vertices).query(points, distance_upper_bound=_FAR_MM)
    return float(np.minimum(away, _FAR_MM).mean())


def _crop_points(outputs, depth, intrinsics):
    """Points [N, 3] mm of the frame's pixels that the crop's valid pixels show."""
    rows, columns = np.nonzero(outputs["valid"])
    fx, fy, cx, cy = outputs["crop_intrinsics"]
    x, y = (columns - cx) / fx, (rows - cy) / fy
    height, width = depth.shape
    u = np.clip(np.rint(x * intrinsics[0] + intrinsics[2]).astype(int), 0, width - 1)
    v = np.clip(np.rint(y * intrinsics[1] + intrinsics[3]).astype(int), 0, height - 1)
    z = depth[v, u]
    return np.stack([x * z, y * z, z], axis=1)[z > 0]


def _not_found(name, centre_mm, cube):
    if centre_mm is None:
        return (
            f"{name}: no hand was found; the model is made for {NEAREST_MM:.0f} to "
            f"{FARTHEST_MM:.0f} mm from the camera, check --depth_unit and --intrinsics, or give "
            "--center_mm."
        )
    return (
        f"{name}: no depth within {cube / 2:g} mm of the given centre; check --center_mm "
        "(x, y, z in mm, camera frame) and --depth_unit."
    )


def _check_signatures(proto, folder):
    graph = proto.meta_graphs[0]
    for name, inputs in _SIGNATURES.items():
        found = graph.signature_def.get(name) if name in graph.signature_def else None
        if found is None or set(found.inputs) != inputs or not _NEEDED <= set(found.outputs):
            raise InputError(
                f"--saved_model {folder} is not a hand model: its signature {name!r} is missing or "
                "differs; use one that python -m dgn_tf.export made."
            )
