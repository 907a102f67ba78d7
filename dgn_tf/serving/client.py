"""`HandMeshClient`: the predictor's call, answered by a server."""

import io

import numpy as np

from dgn_tf.errors import InputError
from dgn_tf.hand_description import (
    OUTPUT_NAMES,
    HandDescription,
    check_shapes,
    describe,
    read_description,
)
from dgn_tf.json_file import parse_json
from dgn_tf.predictor import FrameToMesh
from dgn_tf.serving.allow_list import find_version
from dgn_tf.serving.client_deadline import Refused, RequestError


class HandMeshClient(FrameToMesh):
    """Has hand meshes predicted by TensorFlow Serving; called as `HandMeshPredictor` is.

        client = dgn_tf.HandMeshClient(grpc="localhost:8500", intrinsics=(475, 475, 320, 240))
        mesh = client(depth_mm)

    Names and faces come from the server too (signature `hand`), once for each version that
    answers: nothing but the address is needed. `assets` is for models exported without it.

    Over gRPC frames go as raw float32. Over REST a frame whose pixels are whole steps of
    `depth_unit` goes as a PNG, which loses nothing; another, or one with a centre given, as JSON
    numbers, some ten times as long.

    Args:
        grpc: host:port of the gRPC service; or
        rest: URL of the REST API, such as http://localhost:8501.
        intrinsics: default fx, fy, cx, cy of the frames, pixels.
        hand: default, "right", "left" or "auto".
        model_name: the server's name of the model.
        version: of the model, or
        label: of a version, such as "stable"; neither: the newest version.
        timeout_s: deadline of a request in seconds, its retries included.
        retries: how often a request is repeated while the server is unavailable.
        depth_unit: mm for one step of the camera; matters to REST alone.
        assets: folder of the exported model, read for names and faces in the server's stead.

    Raises:
        InputError: the arguments contradict each other. A call besides: the server can't be
            reached, refuses or is late.
    """

    def __init__(
        self,
        grpc: str | None = None,
        rest: str | None = None,
        intrinsics=None,
        hand: str = "right",
        *,
        model_name: str = "dgn",
        version: int | None = None,
        label: str | None = None,
        timeout_s: float = 10,
        retries: int = 5,
        depth_unit: float = 1.0,
        assets=None,
    ):
        super().__init__(intrinsics, hand)
        if bool(grpc) == bool(rest):
            raise InputError("give one of --grpc=host:port and --rest=http://host:port.")
        if version is not None and label:
            raise InputError("give --version or --label, not both: a label stands for a version.")
        self._given = read_description(find_version(assets)) if assets else None
        self._descriptions: dict[int | None, HandDescription] = {}
        self._depth_unit = depth_unit
        self._transport = self._open(grpc, rest, model_name, version, label, timeout_s, retries)

    def close(self) -> None:
        """Closes the connection."""
        self._transport.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @staticmethod
    def _open(grpc, rest, *options):
        if grpc:
            from dgn_tf.serving.client_grpc import GrpcTransport

            return GrpcTransport(grpc, *options)
        from dgn_tf.serving.client_rest import RestTransport

        return RestTransport(rest, *options)

    def _run(self, signature, inputs, name):
        if self._transport.prefers_png and signature == "serving_default":
            signature, inputs = self._as_png(signature, inputs)
        try:
            outputs, version = self._transport.predict(signature, inputs)
            _check_outputs(outputs)
            return outputs, self._describe(outputs, version)
        except RequestError as error:
            raise InputError(f"{name}: {error}.") from None

    def _as_png(self, signature, inputs):
        """The same request for the signature `png`, where the frame survives it unchanged."""
        depth = inputs["depth"][0]
        image = encode_frame(depth, self._depth_unit)
        if image is None:
            return signature, inputs
        rest = {name: value for name, value in inputs.items() if name != "depth"}
        unit = np.array([self._depth_unit], np.float32)
        return "png", {**rest, "png": [image], "depth_unit": unit}

    def _describe(self, outputs, version):
        """The description of the version that gave `outputs`; asked for where it is new."""
        found = self._given or self._descriptions.get(version)
        # Over REST no version is told: another hand shows in the outputs' shapes alone.
        if found is None or (found is not self._given and _misfit(found, outputs)):
            found = self._descriptions[version] = self._ask(version)
        misfit = _misfit(found, outputs)
        if misfit:
            raise RequestError(
                "the server's model has another hand than its description (or --assets) tells: "
                f"{misfit}; give --assets of the model that is served"
            )
        return found

    def _ask(self, version):
        try:
            reply, _ = self._transport.predict("hand", {"left": np.array([False, True])}, version)
            return describe(parse_json(reply["description"][0]), *reply["faces"])
        except (Refused, LookupError, TypeError, ValueError) as error:
            raise RequestError(
                f"the server's model does not describe its hand ({error}); export "
                "it anew, or give its folder by --assets"
            ) from None


def encode_frame(depth, unit: float) -> bytes | None:
    """A frame [H, W] mm as a 16-bit PNG in steps of `unit` mm; None where that would change it."""
    steps = np.rint(depth / np.float32(unit))
    if steps.max() > 65535:
        return None
    steps = steps.astype(np.uint16)
    if (steps.astype(np.float32) * np.float32(unit) != depth).any():
        return None
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(steps).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _check_outputs(outputs):
    """Keeps the outputs of `HandMesh`; a model may have more, never less."""
    missing = OUTPUT_NAMES - outputs.keys()
    if missing:
        raise RequestError(f"the server's model is no hand model: it gave no {min(missing)}")
    for name in outputs.keys() - OUTPUT_NAMES:
        del outputs[name]


def _misfit(description, outputs) -> str:
    """How outputs differ from the hand that is described; empty where they don't."""
    try:
        check_shapes(outputs, description)
    except ValueError as error:
        return str(error)
    return ""
