"""What `predict` and `serving_client` share: the flags of frames, reading them, writing results."""

import contextlib
import json
import pathlib
from typing import TYPE_CHECKING, NamedTuple

from absl import flags

from dgn_tf.errors import InputError
from dgn_tf.frame_files import check_size, find_frames, parse_numbers
from dgn_tf.output_files import refuse_inputs
from dgn_tf.writing import reason_of, scratch_folder

if TYPE_CHECKING:
    import numpy as np

_DEPTH = flags.DEFINE_string(
    "depth", None, "Depth images: a PNG file or a pattern such as 'frames/*.png'.", required=True
)
_INTRINSICS = flags.DEFINE_list(
    "intrinsics", None, "fx,fy,cx,cy of the depth camera in pixels of these images.", required=True
)
_DEPTH_UNIT = flags.DEFINE_float(
    "depth_unit",
    None,
    "mm for one step of a 16-bit image: 1 for most cameras, 0.125 for an Intel "
    "SR305. Wanted with --encoding=u16; nyu is in mm.",
)
_ENCODING = flags.DEFINE_enum(
    "encoding", "u16", ["u16", "nyu"], "u16: 16-bit grey; nyu: NYU's 8-bit RGB, G * 256 + B mm."
)
_CENTRE = flags.DEFINE_list(
    "center_mm", None, "x,y,z of the hand's centre, mm, camera frame; empty: find the hand."
)
_HAND = flags.DEFINE_enum(
    "hand",
    "right",
    ["right", "left", "auto"],
    "Which hand the frames show; auto: the one whose mesh lies nearer to the points of all frames "
    "together (of 64, evenly spread, where there are more), for the whole recording.",
)
_FORMAT = flags.DEFINE_enum(
    "format",
    "ply",
    ["ply", "obj", "glb"],
    "Of the mesh: ply and obj are in mm, camera frame; glb is in metres, y up (glTF).",
)
_SKIP_WITHOUT_HAND = flags.DEFINE_bool(
    "skip_without_hand",
    False,
    "Leave out frames in which no hand is found, and name them; otherwise the first is an error.",
)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Folder for the results; made where missing.", required=True
)


LOW_CONFIDENCE = 0.5  # mean over the vertices; below it a mesh is not to be trusted
_SIDE_FRAMES = 64  # of a recording, that --hand=auto asks
_SURE = 0.95


class Frames(NamedTuple):
    """The frames that the flags name, all of them readable.

    Attributes:
        files: depth images.
        intrinsics: [4] fx, fy, cx, cy, pixels.
        centre: [3] mm, or None where the hand is to be found.
    """

    files: list[pathlib.Path]
    intrinsics: "np.ndarray"
    centre: list[float] | None

    def read(self, file) -> "np.ndarray":
        """One frame [H, W] float32 mm; InputError where no hand can be seen in it."""
        from dgn_tf import depth_io, predictor

        depth = depth_io.read_depth(file, _ENCODING.value, _DEPTH_UNIT.value)
        check_size(depth, self.intrinsics, file)
        return predictor.check_depth(depth, self.intrinsics, str(file))


def frames_of_flags(**read: str) -> Frames:
    """Checks the flags and every frame before anything is predicted; raises InputError.

    Args:
        read: flag to what the program reads beside the frames, which it won't overwrite.
    """
    from dgn_tf import depth_io

    depth_io.check_encoding(_ENCODING.value, _DEPTH_UNIT.value)
    numbers = parse_numbers("intrinsics", _INTRINSICS.value, "fx,fy,cx,cy")
    centre = None
    if _CENTRE.value:
        centre = parse_numbers("center_mm", _CENTRE.value, "x,y,z")
    files = _written_apart(find_frames(_DEPTH.value))
    output = pathlib.Path(_OUTPUT_DIR.value)
    if output.exists() and not output.is_dir():
        raise InputError(f"--output_dir={output} is a file; name a folder.")
    written = [output / f"{file.stem}.{end}" for file in files for end in _endings()]
    refuse_inputs({"output_dir": written}, {"depth": files, **read})

    from dgn_tf import predictor

    if centre is not None:
        predictor.check_centre(centre)
    frames = Frames(files, predictor.check_intrinsics(numbers), centre)
    for file in files:
        frames.read(file)
    return frames


def hand_of(predict, frames: Frames) -> str:
    """The hand that the frames show: --hand, or with auto what they say together, and print so.

    Args:
        predict: a `FrameToMesh`.
        frames: of one recording, of one hand.
    """
    if _HAND.value != "auto":
        return _HAND.value
    from dgn_tf.hand_side import decide
    from dgn_tf.predictor import NoHandError

    evidence, count = [], len(frames.files)
    for k in range(min(count, _SIDE_FRAMES)):
        file = frames.files[k * count // min(count, _SIDE_FRAMES)]
        with contextlib.suppress(NoHandError):  # said when the frame is predicted
            evidence.append(
                predict.side_evidence(
                    frames.read(file), frames.intrinsics, frames.centre, name=str(file)
                )
            )
    if not evidence:
        return "right"  # no frame shows a hand, which is the error that follows
    side = decide(evidence)
    print(f"--hand=auto: {side}")
    if side.probability < _SURE:
        print("  not sure: name the hand by --hand=right or --hand=left where you know it")
    return side.hand


def predict_frames(predict, frames: Frames, title: str, hand: str) -> None:
    """Predicts the frames and writes the three files of each; after an error, none.

    A line a frame says where the hand is and how sure the model is of it. Frames without a hand
    are an error, or left out and named with --skip_without_hand.

    Args:
        predict: a `FrameToMesh`.
        frames: what to predict.
        title: of the progress bar.
        hand: "right" or "left", see `hand_of`.
    """
    import tqdm

    from dgn_tf.predictor import NoHandError

    output, empty, unsure = pathlib.Path(_OUTPUT_DIR.value), [], 0
    with staged(output) as stage:
        for file in tqdm.tqdm(frames.files, desc=title, unit="frame", disable=None):
            depth = frames.read(file)
            try:
                mesh = predict(depth, frames.intrinsics, frames.centre, hand, name=str(file))
            except NoHandError as error:
                if not _SKIP_WITHOUT_HAND.value:
                    raise InputError(f"{error} --skip_without_hand leaves it out.") from None
                empty.append(file)
                continue
            results = frame_results(mesh, depth, frames.intrinsics, file.stem, _FORMAT.value)
            for ending, content in results.items():
                (stage / f"{file.stem}.{ending}").write_bytes(content)
            tqdm.tqdm.write(frame_line(file, mesh))
            unsure += mesh.confidence.mean() < LOW_CONFIDENCE
        if len(empty) == len(frames.files):
            raise InputError(
                f"no hand was found in any of the {len(empty)} frames; check "
                "--depth_unit and --intrinsics, or give --center_mm."
            )
    count = len(frames.files) - len(empty)
    print(f"{output}: {count} frames, each .{_FORMAT.value}, .json and .png")
    if unsure:
        print(
            f"  low confidence (below {LOW_CONFIDENCE:g}) in {unsure} of {count}: look at their "
            "pictures before you use them"
        )
    for file in empty:
        print(f"  left out, no hand found: {file}")


def frame_line(file, mesh) -> str:
    """What is said of one predicted frame."""
    confidence = float(mesh.confidence.mean())
    line = f"{file}: {mesh.hand} hand at {mesh.centre[2]:.0f} mm, confidence {confidence:.2f}"
    if mesh.confidence_is.startswith("uncalibrated"):
        line += " (uncalibrated)"
    return line + (", LOW" if confidence < LOW_CONFIDENCE else "")


def depth_unit() -> float:
    """mm for one step of the images."""
    return _DEPTH_UNIT.value or 1.0


def _endings() -> tuple[str, str, str]:
    """Of the three files of a frame."""
    return _FORMAT.value, "json", "png"


def _written_apart(files: list[pathlib.Path]) -> list[pathlib.Path]:
    """The files; InputError where two share a stem."""
    stems: dict[str, pathlib.Path] = {}
    for file in files:
        other = stems.setdefault(file.stem, file)
        if other != file:
            raise InputError(
                f"--depth: {other} and {file} would both be written as {file.stem}.*; "
                "predict them into two --output_dir."
            )
    return files


@contextlib.contextmanager
def staged(folder: pathlib.Path):
    """A hidden folder in `folder` whose files move there when all went well, and vanish if not."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with scratch_folder(folder) as stage:
            yield stage
            files = sorted(stage.iterdir())
            for file in files:  # all of them before the first is moved
                if (folder / file.name).is_dir():
                    raise InputError(
                        f"--output_dir: {folder / file.name} is a folder, where a file is to be "
                        "written; move it away."
                    )
            for file in files:
                file.replace(folder / file.name)
        made = []
    except OSError as error:
        raise InputError(
            f"--output_dir={folder} can't be written: {reason_of(error)}; free space "
            "or choose another folder."
        ) from None
    finally:
        for path in made:  # innermost first
            with contextlib.suppress(OSError):
                path.rmdir()


def frame_results(mesh, depth, intrinsics, name: str, format: str) -> dict[str, bytes]:
    """The three files of a frame: ending to content."""
    from dgn_tf import mesh_io

    description = {"frame_name": name, **mesh.to_json()}
    confidence = f"mean confidence {mesh.confidence.mean():.2f}"
    if mesh.confidence_is.startswith("uncalibrated"):
        confidence += " (uncalibrated)"
    title = f"{name}   {mesh.hand} hand, {confidence}"
    return {
        format: mesh_io.mesh_bytes(mesh.vertices, mesh.faces, format),
        "json": encode_json(description),
        "png": encode_png(mesh.panel(depth, intrinsics, title)),
    }


def encode_json(description: dict) -> bytes:
    """JSON with one line for each key, and for each key of a dict inside: to read and to diff."""

    def text(value, depth=1):
        if not isinstance(value, dict):
            return json.dumps(value, allow_nan=False)
        pad = " " * depth
        lines = [f"{pad}{json.dumps(key)}: {text(of, depth + 1)}" for key, of in value.items()]
        return "{\n" + ",\n".join(lines) + "\n" + " " * (depth - 1) + "}"

    return (text(description) + "\n").encode()


def encode_png(picture) -> bytes:
    """Encodes uint8 RGB [H, W, 3]."""
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
