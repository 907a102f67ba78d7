"""From depth images on disk to hand meshes, key points and pictures.

    python -m dgn_tf.predict --saved_model=saved_models/dgn --depth='samples/*.png' \\
        --intrinsics=475,475,320,240 --depth_unit=1 --output_dir=OUT

writes for each frame `<stem>.ply` (the mesh, mm, camera frame), `<stem>.json` (key points by
NYU's names, transforms, joint angles, confidence) and `<stem>.png` (depth, correspondence, mesh,
overlay).
The results appear together once all frames are done, or, after an error, not at all.
"""

import contextlib
import glob
import json
import os
import pathlib
import shutil

from absl import flags

from dgn_tf import errors
from dgn_tf.errors import InputError

_SAVED_MODEL = flags.DEFINE_string(
    "saved_model", None, "Folder of an exported model (saved_models/dgn) or of one version of it.",
    required=True,
)
_DEPTH = flags.DEFINE_string(
    "depth", None, "Depth images: a PNG file or a pattern such as 'frames/*.png'.", required=True
)
_INTRINSICS = flags.DEFINE_list(
    "intrinsics", None, "fx,fy,cx,cy of the depth camera in pixels of these images.", required=True
)
_DEPTH_UNIT = flags.DEFINE_float(
    "depth_unit", None, "mm for one step of a 16-bit image: 1 for most cameras, 0.125 for an Intel "
    "SR305. Wanted with --encoding=u16; nyu is in mm.",
)
_ENCODING = flags.DEFINE_enum(
    "encoding", "u16", ["u16", "nyu"], "u16: 16-bit grey; nyu: NYU's 8-bit RGB, G * 256 + B mm."
)
_CENTRE = flags.DEFINE_list(
    "center_mm", None, "x,y,z of the hand's centre, mm, camera frame; empty: find the hand."
)
_HAND = flags.DEFINE_enum(
    "hand", "right", ["right", "left", "auto"], "Which hand the frames show; auto: for "
    "each frame the one whose mesh lies nearer to the points, at twice the cost.",
)
_FORMAT = flags.DEFINE_enum(
    "format", "ply", ["ply", "obj", "glb"], "Of the mesh: ply and obj are in mm, camera frame; glb "
    "is in metres, y up (glTF).",
)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Folder for the results; made where missing.", required=True
)


def find_frames(pattern: str) -> list[pathlib.Path]:
    """Files that match `pattern`, sorted; InputError where none does or two share a stem."""
    files = sorted(pathlib.Path(name) for name in glob.glob(pattern, recursive=True))
    files = [file for file in files if not file.is_dir()]
    if not files:
        raise InputError(f"--depth={pattern} matches no file; quote the pattern and check the "
                         "folder.")
    stems: dict[str, pathlib.Path] = {}
    for file in files:
        other = stems.setdefault(file.stem, file)
        if other != file:
            raise InputError(f"--depth: {other} and {file} would both be written as {file.stem}.*; "
                             "predict them into two --output_dir.")
    return files


def parse_numbers(flag: str, values, wanted: str) -> list[float]:
    """Numbers of a comma-separated flag; InputError that says what is `wanted`."""
    names = wanted.split(",")
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        numbers = []
    if len(numbers) != len(names):
        raise InputError(f"--{flag}={','.join(values)} must be {len(names)} numbers, {wanted}.")
    return numbers


def check_size(depth, intrinsics, file):
    """Refuses intrinsics of another image size: the principal point is near a frame's middle."""
    height, width = depth.shape
    across, down = intrinsics[2] / width, intrinsics[3] / height
    if not (0.25 < across < 0.75 and 0.25 < down < 0.75):
        raise InputError(
            f"{file} has {width} x {height} pixels, but --intrinsics puts the principal point at "
            f"{intrinsics[2]:g}, {intrinsics[3]:g}, not near the middle; give the intrinsics of "
            "this size."
        )


@contextlib.contextmanager
def staged(folder: pathlib.Path):
    """A hidden folder in `folder` whose files move there when all went well, and vanish if not."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    stage = folder / f".writing-{os.getpid()}"
    try:
        stage.mkdir(parents=True)
        yield stage
        for file in sorted(stage.iterdir()):
            file.replace(folder / file.name)
        made = []
    except OSError as error:
        raise InputError(f"--output_dir={folder} can't be written: {error.strerror}; free space "
                         "or choose another folder.") from None
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        for path in made:  # innermost first
            with contextlib.suppress(OSError):
                path.rmdir()


def frame_results(mesh, depth, intrinsics, name: str, format: str) -> dict[str, bytes]:
    """The three files of a frame: ending to content."""
    from dgn_tf import mesh_io

    description = {"frame_name": name, **mesh.to_json()}
    confidence = f"mean confidence {mesh.confidence.mean():.2f} (uncalibrated)"
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


def main(_):
    from dgn_tf import depth_io

    depth_io.check_encoding(_ENCODING.value, _DEPTH_UNIT.value)
    numbers = parse_numbers("intrinsics", _INTRINSICS.value, "fx,fy,cx,cy")
    centre = None
    if _CENTRE.value:
        centre = parse_numbers("center_mm", _CENTRE.value, "x,y,z")
    files = find_frames(_DEPTH.value)
    output = pathlib.Path(_OUTPUT_DIR.value)
    if output.exists() and not output.is_dir():
        raise InputError(f"--output_dir={output} is a file; name a folder.")

    import tqdm

    from dgn_tf import predictor  # late: --help and wrong flags answer at once

    intrinsics = predictor.check_intrinsics(numbers)
    if centre is not None:
        predictor.check_centre(centre)

    def read(file):
        depth = depth_io.read_depth(file, _ENCODING.value, _DEPTH_UNIT.value)
        check_size(depth, intrinsics, file)
        return predictor.check_depth(depth, intrinsics, str(file))

    for file in files:
        read(file)  # every frame is checked before the first result is written
    predict = predictor.HandMeshPredictor(_SAVED_MODEL.value, intrinsics, _HAND.value)
    with staged(output) as stage:
        for file in tqdm.tqdm(files, desc="predict", unit="frame", disable=None):
            depth = read(file)
            mesh = predict(depth, centre_mm=centre, name=str(file))
            results = frame_results(mesh, depth, intrinsics, file.stem, _FORMAT.value)
            for ending, content in results.items():
                (stage / f"{file.stem}.{ending}").write_bytes(content)
    print(f"{output}: {len(files)} frames, each .{_FORMAT.value}, .json and .png")


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    errors.run(main)
