"""A model's errors by view, occlusion, noise, distance, hand shape and pose; and its worst frames.

    python -m experiments.error_by_condition --records=data/synthetic_test \
        --weights=saved_models/dgn --json=runs/conditions.json --worst=docs/worst_frames.png

Prints the table of the model's card. The worst frames are chosen by a rule, the 1 % of largest mean
error over the 14 key points, and drawn worst first: depth, true mesh, predicted mesh.
"""

import os
import pathlib
from typing import TYPE_CHECKING

from absl import flags

from dgn_tf import errors
from dgn_tf.errors import InputError
from dgn_tf.writing import output_file

if TYPE_CHECKING:
    import numpy as np

_RECORDS = flags.DEFINE_string("records", "data/synthetic_test", "Folder of synthetic records.")
_WEIGHTS = flags.DEFINE_string("weights", "saved_models/dgn", "Model folder to measure.")
_LIMIT = flags.DEFINE_integer(
    "limit", 0, "Frames at most, from the first on; 0: all.", lower_bound=0
)
_JSON = flags.DEFINE_string("json", "", "File for the figures; empty: they are printed alone.")
_WORST = flags.DEFINE_string("worst", "", "File (.png) for the worst frames; empty: none.")

_TILE = 140  # pixels
_FRAMES_A_ROW = 3


def main(_):
    from dgn_tf.evaluation.predictions import NetworkPredictions
    from dgn_tf.json_file import known as known_figures
    from dgn_tf.json_file import write_json
    from dgn_tf.model_folder import load_network
    from experiments import conditions

    if _WORST.value and pathlib.Path(_WORST.value).suffix.lower() != ".png":
        raise InputError(f"--worst={_WORST.value}: the name is to end in .png.")
    network = load_network(_WEIGHTS.value)
    measured = _Measured(NetworkPredictions(network), network.template)
    found = measured.run(_RECORDS.value, _LIMIT.value)
    known = measured.conditions() | _drawn(_RECORDS.value, network.template, measured.truth)
    joints = found["joints"]
    means = {name: found[name] for name in ("keypoints36_mm", "vertices_ps_mm", "vertices_pr_mm")}
    rows = conditions.breakdown(known, joints, means)
    print(conditions.markdown(rows))
    worst = conditions.worst_frames(joints)
    index = measured.joined("index")
    print(
        f"\nworst {len(worst)} of {len(joints)} frames, by number:",
        ", ".join(f"{index[row]} ({joints[row].mean():.0f} mm)" for row in worst),
    )
    if _JSON.value:
        frames = [
            {
                "index": int(index[row]),
                "mean_mm": float(joints[row].mean()),
                **{name: float(values[row]) for name, values in known.items()},
            }
            for row in worst
        ]
        report = {"frames": len(joints), "conditions": rows, "worst": frames}
        write_json(known_figures(report), _JSON.value)
    if _WORST.value:
        _write_sheet(measured, worst, joints.mean(axis=1), network.template)


class _Measured:
    """Errors of every frame, with what the conditions and the pictures need of it."""

    def __init__(self, predict, template):
        self._predict, self._template = predict, template
        self.truth: list[dict] = []
        self._conditions: list[dict] = []
        self._predicted: list = []

    def run(self, records, limit):
        from dgn_tf.evaluation.frame_errors import frame_errors

        return frame_errors(
            self._outputs, self._batches(records, limit), self._template, surface=False
        )

    def _batches(self, records, limit):
        import numpy as np
        import tqdm

        from dgn_tf.records.batches import Batching
        from dgn_tf.records.reader import record_dataset
        from experiments.conditions import frame_conditions

        dataset = record_dataset(
            records, self._template, batching=Batching(batch_size=32, shuffle=False, repeat=False)
        )
        frames = 0
        for batch in tqdm.tqdm(dataset, desc="evaluate", unit="batch", disable=None):
            if limit:
                batch = {name: value[: limit - frames] for name, value in batch.items()}
            self._conditions.append(frame_conditions(batch, self._template))
            kept = ("index", "depth", "intrinsics", "centre", "vertices", "keypoints")
            self.truth.append({name: np.asarray(batch[name]) for name in kept})
            yield batch
            frames += len(batch["cube"])
            if frames == limit:
                return

    def _outputs(self, batch):
        outputs = self._predict(batch)
        self._predicted.append(outputs["vertices"])
        return outputs

    def conditions(self):
        import numpy as np

        names = self._conditions[0]
        return {name: np.concatenate([part[name] for part in self._conditions]) for name in names}

    def joined(self, name):
        """[N, ...] of all frames; `predicted` is P_r."""
        import numpy as np

        if name == "predicted":
            return np.concatenate(self._predicted)
        return np.concatenate([part[name] for part in self.truth])


def _drawn(records, template, truth):
    """shape_mm and uniform_angles of each frame, drawn again from its number."""
    import numpy as np

    from dgn_tf.records.reader import read_description, record_files
    from dgn_tf.synthesis.settings import SynthesisConfig
    from experiments.replay import replay

    folder = os.path.dirname(record_files(records)[0])
    description = read_description(folder or ".")
    config = SynthesisConfig.from_dict(description["config"], "description.json: config")
    shape, uniform = [], []
    for part in truth:
        for index, keypoints in zip(part["index"], part["keypoints"], strict=True):
            draws = replay(template, config, description["seed"], int(index), keypoints)
            shape.append(np.nan if draws is None else draws.shape_mm)
            drawn = None if draws is None else draws.uniform_angles
            uniform.append(np.nan if drawn is None else float(drawn))
    return {"shape_mm": np.array(shape), "uniform_angles": np.array(uniform)}


def _write_sheet(measured, worst, means, template):
    from PIL import Image

    index = measured.joined("index")
    names = ("depth", "intrinsics", "centre", "vertices", "predicted")
    depth, intrinsics, centre, true, predicted = (measured.joined(name)[worst] for name in names)
    captions = [f"{index[row]}: {means[row]:.0f} mm" for row in worst]
    sheet = contact_sheet(captions, depth, intrinsics, centre, true, predicted, template.faces)
    with output_file(_WORST.value) as beside:
        # 64 colours: a third of the size, and noise hides the steps.
        Image.fromarray(sheet).quantize(64).save(beside, optimize=True)


def contact_sheet(captions, depth, intrinsics, centre, true, predicted, faces) -> "np.ndarray":
    """Depth, true and predicted mesh of frames, three frames a row.

    Args:
        captions: N texts, above a frame's depth.
        depth: [N, S, S] mm; intrinsics [N, 4] of these crops; centre [N, 3] mm.
        true, predicted: [N, V, 3] mm, camera frame; faces [F, 3].

    Returns:
        uint8 RGB.
    """
    from dgn_tf.visualize import panels, tiles

    pictures = []
    for row, caption in enumerate(captions):
        camera = tiles.enlarged_intrinsics(intrinsics[row], depth.shape[1], _TILE)
        grey = tiles.depth_tile(tiles.enlarge(depth[row], _TILE), centre[row, 2])
        pictures.append((caption, grey))
        for label, vertices in (("true", true[row]), ("predicted", predicted[row])):
            pictures.append((label, tiles.mesh_tile(vertices, faces, camera, _TILE, grey // 2)))
    return panels.compose(pictures, columns=3 * _FRAMES_A_ROW)


if __name__ == "__main__":
    errors.run(main)
