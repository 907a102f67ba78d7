"""From depth images on disk to hand meshes, predicted by TensorFlow Serving.

    python -m dgn_tf.serving_client --grpc=localhost:8500 --depth='samples/*.png' \\
        --intrinsics=475,475,319.5,239.5 --depth_unit=1 --output_dir=OUT

writes what `dgn_tf.predict` writes. From Python: `dgn_tf.HandMeshClient`.
"""

from absl import flags

from dgn_tf import errors, frame_command
from dgn_tf.serving.client import HandMeshClient

flags.adopt_module_key_flags(frame_command)  # for --help
_GRPC = flags.DEFINE_string("grpc", "", "host:port of the server's gRPC service.")
_REST = flags.DEFINE_string("rest", "", "URL of the server's REST API: http://host:port.")
_MODEL_NAME = flags.DEFINE_string("model_name", "dgn", "The server's name of the model.")
_VERSION = flags.DEFINE_integer(
    "version", None, "Version of the model; empty: the newest.", lower_bound=0
)
_LABEL = flags.DEFINE_string("label", "", "Label of a version, such as stable; empty: none.")
_TIMEOUT = flags.DEFINE_float(
    "timeout_s",
    10,
    "Deadline of a frame's request in seconds, its retries included.",
    lower_bound=0.001,
)
_RETRIES = flags.DEFINE_integer(
    "retries",
    5,
    "How often a request is repeated while the server is unavailable (gRPC "
    "UNAVAILABLE; HTTP 503, connection refused); 0: never.",
    lower_bound=0,
)
_ASSETS = flags.DEFINE_string(
    "assets", "", "Folder of the exported model, for names and faces; empty: the server tells them."
)


def main(_):
    with HandMeshClient(
        _GRPC.value,
        _REST.value,
        model_name=_MODEL_NAME.value,
        version=_VERSION.value,
        label=_LABEL.value,
        timeout_s=_TIMEOUT.value,
        retries=_RETRIES.value,
        depth_unit=frame_command.depth_unit(),
        assets=_ASSETS.value,
    ) as client:
        frames = frame_command.frames_of_flags(assets=_ASSETS.value)
        hand = frame_command.hand_of(client, frames)
        frame_command.predict_frames(client, frames, "serving_client", hand)


if __name__ == "__main__":
    errors.run(main)
