"""What `predict` and `serving_client` share: the flags of frames, reading them, writing results."""

import contextlib
import pathlib
from typing import TYPE_CHECKING, NamedTuple

from absl import flags

from dgn_tf.cameras.known import SENSORS
from dgn_tf.errors import InputError
from dgn_tf.frame_files import find_frames, parse_numbers
from dgn_tf.frame_report import Seen, picture_title
from dgn_tf.frame_results import staged
from dgn_tf.frame_table import NO_HAND, UNREADABLE, FrameTable
from dgn_tf.output_files import Paths, refuse_inputs

if TYPE_CHECKING:
    from dgn_tf.frame_source import Frame, FrameSource

_DEPTH = flags.DEFINE_string(
    "depth",
    None,
    "Depth frames: files, folders or patterns such as 'frames/*.png', with commas between. PNG, "
    "TIFF and NPY/NPZ of 16-bit steps or 32-bit floats, EXR, ROS compressedDepth, MSRA .bin.",
    required=True,
)
_INTRINSICS = flags.DEFINE_list(
    "intrinsics",
    None,
    "fx,fy,cx,cy of the depth camera in pixels of these images, or a calibration file: of "
    "librealsense (JSON), ROS (camera_info), OpenCV (YAML, XML, 3x3 numbers), our "
    "calibration.json; FILE:NAME or FILE:NUMBER where it holds several cameras. Empty: --camera's.",
)
_CAMERA = flags.DEFINE_enum(
    "camera",
    None,
    sorted(SENSORS),
    "The sensor: its usual depth unit and, without --intrinsics, its usual intrinsics, which are "
    "approximate.",
)
_DEPTH_UNIT = flags.DEFINE_float(
    "depth_unit",
    None,
    "mm for one step of integers: 1 for most cameras, 0.125 for an Intel SR305. Empty: the "
    "--camera's, or the file's own: mm for nyu, MSRA and ROS, metres or mm for floats.",
)
_ENCODING = flags.DEFINE_enum(
    "encoding",
    "u16",
    ["u16", "nyu"],
    "u16: a depth in each pixel; nyu: NYU's 8-bit RGB, G * 256 + B mm.",
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
_SKIP_BAD = flags.DEFINE_bool(
    "skip_bad_frames",
    False,
    "Leave out frames that can't be read or show no depth, and name them; otherwise the first is "
    "an error.",
)
_MIN_CONFIDENCE = flags.DEFINE_float(
    "min_confidence",
    0.0,
    "Frames whose mean confidence is below are left out (the table says so); 0: none.",
    lower_bound=0,
    upper_bound=1,
)
_PICTURES = flags.DEFINE_string(
    "pictures", "all", "Of the results: all, none, or of how many frames, evenly spread."
)
_TABLE = flags.DEFINE_string(
    "table",
    "",
    "A file for all frames together, a row each, of the ending .csv, .npz or .parquet; empty: "
    "none.",
)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Folder for the results; made where missing.", required=True
)


_SIDE_FRAMES = 64  # of a recording, that --hand=auto asks
_SURE = 0.95
_CHECKED_FRAMES, _CERTAIN = 8, 0.99  # of a recording, that are asked whether --hand is right


class Frames(NamedTuple):
    """The frames that the flags name.

    Attributes:
        files: depth frames.
        source: how they are read.
        centre: [3] mm, or None where the hand is to be found.
        table: of all frames, or None.
        pictures: which files get one.
        hands: of a frame, at most.
    """

    files: list[pathlib.Path]
    source: "FrameSource"
    centre: list[float] | None = None
    table: FrameTable | None = None
    pictures: frozenset[pathlib.Path] = frozenset()
    hands: int = 1

    def read(self, file) -> "Frame":
        """One frame; InputError where it can't be read or no hand can be seen in it."""
        return self.source.read(file)


def frames_of_flags(hands: int = 1, **read: str) -> Frames:
    """Checks the flags and every frame before anything is predicted; raises InputError.

    With --skip_bad_frames frames are looked at when their turn comes.

    Args:
        hands: of a frame, at most.
        read: flag to what the program reads beside the frames, which it won't overwrite.
    """
    source = _source()
    centre = None
    if _CENTRE.value:
        centre = parse_numbers("center_mm", _CENTRE.value, "x,y,z")
    files = _written_apart(find_frames(_DEPTH.value), hands)
    pictures = _pictured(files)
    table = FrameTable(_TABLE.value) if _TABLE.value else None
    output = pathlib.Path(_OUTPUT_DIR.value)
    if output.exists() and not output.is_dir():
        raise InputError(f"--output_dir={output} is a file; name a folder.")
    endings = (_FORMAT.value, "json", *(["png"] if pictures else []))
    frames = Frames(files, source, centre, table, pictures, hands)
    written = [
        output / f"{name}.{end}"
        for file in files
        for name in _names(file, frames.hands)
        for end in endings
    ]
    inputs: dict[str, Paths] = {"depth": files, **read}
    if source.camera is not None and source.camera.file:
        inputs["intrinsics"] = source.camera.file
    refuse_inputs({"output_dir": written, "table": _TABLE.value}, inputs)

    from dgn_tf import predictor

    if centre is not None:
        predictor.check_centre(centre)
    if not _SKIP_BAD.value:
        for place, file in enumerate(files):
            if (wrong := _unreadable(frames, file)) is None:
                continue
            # Where its neighbour is bad too, the flags are to blame.
            alone = len(files) > 1 and _unreadable(frames, files[place - 1]) is None
            raise InputError(wrong + (" --skip_bad_frames leaves it out." if alone else ""))
    return frames


def _unreadable(frames: Frames, file) -> str | None:
    """Why a frame can't be read; None where it can."""
    try:
        frames.read(file)
    except InputError as error:
        return str(error)
    return None


def _source() -> "FrameSource":
    """How the flags say that frames are read."""
    from dgn_tf.frame_source import named_source

    return named_source(
        _ENCODING.value, _DEPTH_UNIT.value, ",".join(_INTRINSICS.value or ()), _CAMERA.value or ""
    )


def _pictured(files) -> frozenset[pathlib.Path]:
    """The files that get a picture."""
    value = _PICTURES.value
    if value in ("all", "none"):
        return frozenset(files if value == "all" else ())
    if not value.isdecimal():
        raise InputError(f"--pictures={value}: wanted all, none or a number.")
    count = min(int(value), len(files))
    return frozenset(files[k * len(files) // count] for k in range(count))


def hand_of(predict, frames: Frames) -> str:
    """The hand that the frames show: --hand, or with auto what they say together, and print so.

    Args:
        predict: a `FrameToMesh`.
        frames: of one recording, of one hand.
    """
    if _HAND.value != "auto":
        return _HAND.value
    from dgn_tf.hand_side import decide

    evidence = _side_evidence(predict, frames, _SIDE_FRAMES)
    if not evidence:
        return "right"  # no frame shows a hand, which is the error that follows
    side = decide(evidence)
    print(f"--hand=auto: {side}")
    if side.probability < _SURE:
        print("  not sure: name the hand by --hand=right or --hand=left where you know it")
    return side.hand


def check_side(predict, frames: Frames, hand: str) -> tuple[str, ...]:
    """Warns where the frames look like the other hand's than --hand says, as mirrored ones do.

    Returns:
        The warning, which is printed too, or none.
    """
    if _HAND.value == "auto":
        return ()
    from dgn_tf.hand_side import decide

    evidence = _side_evidence(predict, frames, _CHECKED_FRAMES)
    side = decide(evidence) if evidence else None
    if side is None or side.hand == hand or side.probability < _CERTAIN:
        return ()
    warning = (
        f"--hand={hand}, but the frames look like a {side}: say --hand={side.hand}, or is the "
        "image mirrored?"
    )
    print(f"WARNING: {warning}")
    return (warning,)


def _side_evidence(predict, frames: Frames, most: int) -> list[float]:
    """`FrameToMesh.side_evidence` of `most` frames, evenly spread, that show a hand."""
    from dgn_tf.predictor import NoHandError

    evidence, count = [], len(frames.files)
    skipped = InputError if _SKIP_BAD.value else NoHandError
    for k in range(min(count, most)):
        file = frames.files[k * count // min(count, most)]
        with contextlib.suppress(skipped):  # said when the frame is predicted
            frame = frames.read(file)
            evidence.append(
                predict.side_evidence(frame.depth, frame.intrinsics, frames.centre, name=str(file))
            )
    return evidence


def predict_frames(
    predict, frames: Frames, title: str, hand: str, warnings: tuple[str, ...] = (), parameters=None
) -> None:
    """Predicts the frames and writes the files of each; after an error, none.

    A line a frame says where the hand is, how sure the model is of it and what hardly can be.
    Frames without a hand are an error, or left out and named with --skip_without_hand; so are
    those that can't be read, with --skip_bad_frames.

    Args:
        predict: a `FrameToMesh`.
        frames: what to predict.
        title: of the progress bar.
        hand: "right" or "left", see `hand_of`.
        warnings: of the whole recording, for the files of each frame.
        parameters: `ParameterTable` of all frames, or None.
    """
    import tqdm

    from dgn_tf.frame_results import mesh_files
    from dgn_tf.picture_workers import PictureWorkers

    output = pathlib.Path(_OUTPUT_DIR.value)
    tables = [table for table in (frames.table, parameters) if table is not None]
    seen = Seen(tables, _MIN_CONFIDENCE.value, warnings)
    with staged(output) as stage:
        with PictureWorkers(len(frames.pictures)) as pictures:
            for file in tqdm.tqdm(frames.files, desc=title, unit="frame", disable=None):
                found = _predicted(predict, frames, file, hand, seen)
                if found is None:
                    continue
                frame, meshes = found
                for name, mesh in zip(_names(file, frames.hands), meshes, strict=False):
                    told = seen.add(file.with_name(name + file.suffix), frame, mesh)
                    if told is None:
                        continue
                    for ending, content in mesh_files(mesh, name, _FORMAT.value, told).items():
                        (stage / f"{name}.{ending}").write_bytes(content)
                    if file in frames.pictures:
                        place, line = stage / f"{name}.png", picture_title(name, mesh)
                        pictures.draw(place, mesh, frame.depth, frame.intrinsics, line)
        seen.check()
        for table in tables:
            table.write()
    seen.summarise(output, _FORMAT.value, bool(frames.pictures))


def _predicted(predict, frames: Frames, file, hand: str, seen: Seen):
    """A frame and its meshes; None where it is left out."""
    from dgn_tf.predictor import NoHandError

    try:
        frame = frames.read(file)
    except InputError as error:
        if not _SKIP_BAD.value:
            raise
        return seen.leave_out(file, UNREADABLE, str(error))
    try:
        if frames.hands > 1:
            return frame, predict.all_hands(frame.depth, frame.intrinsics, hand, name=str(file))
        mesh = predict(frame.depth, frame.intrinsics, frames.centre, hand, name=str(file))
        return frame, [mesh]
    except NoHandError as error:
        if not _SKIP_WITHOUT_HAND.value:
            raise InputError(f"{error} --skip_without_hand leaves it out.") from None
        return seen.leave_out(file, NO_HAND, "no hand found", frame)


def depth_unit() -> float:
    """mm for one step of the images, as far as it is known before they are read."""
    return _DEPTH_UNIT.value or (SENSORS[_CAMERA.value].unit if _CAMERA.value else 1.0)


def _names(file: pathlib.Path, hands: int) -> list[str]:
    """Of the files that are written of a frame: its stem, or with _0, _1 of several hands."""
    return [file.stem] if hands == 1 else [f"{file.stem}_{number}" for number in range(hands)]


def _written_apart(files: list[pathlib.Path], hands: int) -> list[pathlib.Path]:
    """The files; InputError where two share a stem, or one's is another's of several hands."""
    stems: dict[str, pathlib.Path] = {}
    for file in files:
        for name in _names(file, hands):
            other = stems.setdefault(name, file)
            if other != file:
                raise InputError(
                    f"--depth: {other} and {file} would both be written as {name}.*; "
                    "predict them into two --output_dir."
                )
    return files
