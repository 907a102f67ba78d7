"""How many frames a second `dgn_tf.predict` takes on a recording, as a user runs it.

    python -m experiments.recording_speed --saved_model=saved_models/dgn

makes a recording of the sample frames, shifted so that no two are equal, runs the program on it in
a process of its own without pictures and with all, and takes the time between its lines: after the
first frame, which waits for TensorFlow and compiles, to the last.
"""

import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
from absl import flags

from dgn_tf import errors
from dgn_tf.json_file import write_json

_SAVED_MODEL = flags.DEFINE_string("saved_model", "saved_models/dgn", "The exported model.")
_SAMPLES = flags.DEFINE_string("samples", "samples", "Folder of 16-bit PNGs in mm.")
_INTRINSICS = flags.DEFINE_string("intrinsics", "475,475,319.5,239.5", "Of the samples.")
_FRAMES = flags.DEFINE_integer("frames", 200, "Of the recording.", lower_bound=2)
_PICTURES = flags.DEFINE_list("kinds", ["none", "all"], "Values of --pictures that are timed.")
_JSON = flags.DEFINE_string("json", "", "File for the figures; empty: none.")


def main(_):
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        recording = pathlib.Path(folder, "recording")
        make_recording(recording, _SAMPLES.value, _FRAMES.value)
        for pictures in _PICTURES.value:
            seconds = time_frames(recording, pathlib.Path(folder, pictures), pictures)
            figures[pictures] = round((_FRAMES.value - 1) / seconds, 2)
            print(f"--pictures={pictures}: {figures[pictures]} frames/s after the first")
    if _JSON.value:
        write_json({"frames": _FRAMES.value, "frames_per_s": figures}, _JSON.value)


def make_recording(folder: pathlib.Path, samples: str, count: int) -> None:
    """`count` PNGs: the samples in turn, each time moved by another pixel."""
    from PIL import Image

    files = sorted(pathlib.Path(samples).glob("*.png"))
    if not files:
        raise errors.InputError(f"--samples={samples} has no PNG.")
    folder.mkdir()
    for number in range(count):
        with Image.open(files[number % len(files)]) as image:
            moved = np.roll(np.asarray(image), number // len(files), axis=1)
        Image.fromarray(moved.astype(np.uint16)).save(
            folder / f"{number:05d}.png", compress_level=1
        )


def time_frames(recording: pathlib.Path, output: pathlib.Path, pictures: str) -> float:
    """Seconds from the first frame's line to the end of all work."""
    command = [
        *(sys.executable, "-u", "-m", "dgn_tf.predict", f"--saved_model={_SAVED_MODEL.value}"),
        *(f"--depth={recording}", f"--intrinsics={_INTRINSICS.value}", "--depth_unit=1"),
        *(f"--output_dir={output}", f"--pictures={pictures}", "--skip_without_hand"),
    ]
    first = last = None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        for line in run.stdout or ():
            if line.startswith(str(recording)):
                first = first or time.monotonic()
            last = time.monotonic()  # the summary: all pictures are drawn
    if run.returncode or first is None or last is None:
        raise errors.InputError("dgn_tf.predict failed, see above.")
    return last - first


if __name__ == "__main__":
    errors.run(main)
