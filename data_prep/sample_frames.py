"""Writes the frames that ship in samples/: what a depth camera would see, by the sensor model.

python -m data_prep.sample_frames --output_dir=samples
python -m data_prep.sample_frames --rig --output_dir=samples/rig
"""

import dataclasses
import pathlib

import numpy as np
from absl import flags
from PIL import Image

from dgn_tf import errors
from dgn_tf.errors import InputError
from dgn_tf.json_file import write_json
from dgn_tf.synthesis.placing import PlaceSettings
from dgn_tf.synthesis.posing import GESTURES
from dgn_tf.synthesis.settings import SynthesisConfig
from dgn_tf.synthesis.whole_frames import render_frame
from dgn_tf.template import load_template
from dgn_tf.writing import whole_file

SHOWN = ("flat", "count", "relaxed", "pinch", "fist", "grasp")
_SIZE = (640, 480)
_INTRINSICS = (475.0, 475.0, 319.5, 239.5)
_NEAREST_BY_MM = 15.0
_SEARCHED = 400

_OUTPUT_DIR = flags.DEFINE_string("output_dir", "samples", "Folder for the frames.")
_SEED = flags.DEFINE_integer(
    "seed", 7, "Seed of all random draws.", lower_bound=0, upper_bound=2**32 - 1
)
_RIG = flags.DEFINE_boolean(
    "rig", False, "Write the frames of three cameras around the hands, and their calibration."
)


def sample_config(gesture: str) -> SynthesisConfig:
    """A hand with that gesture, held towards a camera at arm's length."""
    config = SynthesisConfig.version_1()  # the samples keep their bytes
    shares = tuple(float(name == gesture) for name in GESTURES)
    return dataclasses.replace(
        config,
        salt=1003,
        pose=config.pose._replace(uniform_share=0.0, gesture_shares=shares, collision_draws=8),
        place=PlaceSettings(
            uniform_rotation_share=0.0,
            elbow_shares=(0.5, 0.2, 0.1, 0.2),
            wrist_flexion_degrees=35.0,
            wrist_deviation_degrees=15.0,
            forearm_share=1.0,
            sleeve_share=0.0,
            distance_mm=(400.0, 600.0),
            whole_in_frame_share=1.0,
        ),
        sensor=config.sensor._replace(
            clean_share=0.0,
            shadow_share=1.0,
            step_at_1m_mm=(0.3, 1.5),
            correlated_at_1m_mm=(0.3, 1.2),
            axial_mm=(0.1, 0.5),
            axial_at_1m_mm=(0.3, 1.5),
            edge_missing=(0.1, 0.5),
            edge_flying=(0.0, 0.1),
            smooth_share=1.0,
            blobs=(0.0, 2.0),
            blob_radius=(0.004, 0.012),
            patch_threshold=(3.0, 3.5),
            speckle=(0.0, 0.004),
            range_mm=(1400.0, 1600.0),
        ),
    )


def is_clear(frame: dict[str, np.ndarray], faces: np.ndarray) -> bool:
    """Whether the hand is whole in the frame, turned to the camera and nearer than all else."""
    fx, fy, cx, cy = frame["intrinsics"]
    x, y, z = frame["vertices"].T
    u, v = fx * x / z + cx, fy * y / z + cy
    height, width = frame["clean"].shape
    if min(u.min(), v.min()) < 12 or u.max() > width - 13 or v.max() > height - 13:
        return False
    hand = frame["clean_face"] >= 0
    if not hand.any() or (frame["clean"][~hand].min() < z.min() + _NEAREST_BY_MM):
        return False
    # Seen from the side a hand shows too little to be worth a place among a few samples.
    corners = frame["vertices"][faces]
    area = (
        0.25
        * np.linalg.norm(
            np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
        ).sum()
    )
    seen = hand.sum() * z.mean() ** 2 / (fx * fy)
    return seen > 0.47 * area


def main(_):
    folder = pathlib.Path(_OUTPUT_DIR.value)
    if _RIG.value:
        from data_prep.sample_rig import write_rig

        write_rig(folder, {gesture: sample_config(gesture) for gesture in SHOWN}, _SEED.value)
        print(f"{len(SHOWN)} steps of three cameras in {folder}")
        return
    template = load_template()
    frames = []
    for number, gesture in enumerate(SHOWN):
        config = sample_config(gesture)
        for index in range(_SEARCHED):
            frame = render_frame(
                template, config, _SEED.value, 1000 * number + index, *_SIZE, _INTRINSICS
            )
            if is_clear(frame, template.faces):
                break
        else:
            raise InputError(f"no clear view of gesture {gesture!r}; try another --seed.")
        frames.append((f"{number:02d}_{gesture}", frame))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, frame in frames:
            with whole_file(folder / f"{name}.png") as beside:
                Image.fromarray(frame["depth"]).save(beside, "PNG", optimize=True)
        described = {
            "intrinsics": dict(zip(("fx", "fy", "cx", "cy"), _INTRINSICS, strict=True)),
            "depth_unit_mm": 1.0,
            "width": _SIZE[0],
            "height": _SIZE[1],
            "frames": {
                name: {
                    "keypoints_mm": dict(
                        zip(
                            template.keypoint_names,
                            np.round(frame["keypoints"], 2).tolist(),
                            strict=True,
                        )
                    )
                }
                for name, frame in frames
            },
        }
        write_json(described, folder / "intrinsics.json", "--output_dir")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}).") from error
    print(f"{len(frames)} frames in {folder}")


if __name__ == "__main__":
    errors.run(main)
