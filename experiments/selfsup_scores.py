"""Scores of the rows of `selfsup_table`: errors on the test split, and energy against error."""

import csv
import json
import pathlib

import numpy as np
import tensorflow as tf

from dgn_tf.evaluate import evaluated_names
from dgn_tf.evaluation.frame_errors import frame_errors
from dgn_tf.evaluation.joints import mean_mm
from dgn_tf.evaluation.mesh_truth import MeshTruth
from dgn_tf.evaluation.predictions import NetworkPredictions
from dgn_tf.evaluation.report import report
from dgn_tf.evaluation.view_records import ViewFrames
from dgn_tf.losses.energy import Energy, EnergyConfig
from dgn_tf.model_folder import load_network, load_weights
from dgn_tf.records.batches import Batching
from dgn_tf.records.views import StepChoice, view_dataset
from dgn_tf.training.unlabelled import HeldOutEnergy, UnlabelledViews
from dgn_tf.writing import output_file, write_output

CENTRES = ("found", "true")  # where crops are centred: what the rows learn from, and an oracle
HELD_OUT = 0.1
SEEN_MM = 60.0  # a centre farther from the joints' mean than this is no crop of the hand


class Scorer:
    """Measures weights on camera 1 of the test split, with one traced network for all of them.

    Args:
        weights: a model folder of the rows' kind.
        records: folder of the conversions, see `selfsup_table.convert`.
        truth: folder with test_vertices.npz, template.npz and test_frames.csv.

    Attributes:
        seen: [N] bool: the test frames whose found crop has the hand.
    """

    def __init__(self, weights, records: pathlib.Path, truth: pathlib.Path):
        self._network = load_network(weights)
        self._template = self._network.template
        self._predict = NetworkPredictions(self._network)
        mesh = MeshTruth(str(truth / "test_vertices.npz"), str(truth / "template.npz"))
        self._mesh = (mesh.faces, mesh.wrist_loop)
        with open(truth / "test_frames.csv", newline="") as lines:
            self._subject1 = sum(row["subject"] == "1" for row in csv.DictReader(lines))
        size = self._network.config.image_size
        self._test = {
            centre: list(
                ViewFrames(
                    records / centre / "test",
                    1,
                    self._template,
                    mesh if centre == "true" else None,
                ).batches(60, size)
            )
            for centre in CENTRES
        }
        self.seen = np.concatenate([self._has_hand(batch) for batch in self._test[CENTRES[0]]])
        unlabelled = UnlabelledViews(str(records / "unlabelled" / "train"), held_out=HELD_OUT)
        self._views = unlabelled.held_out_batches(10_000)
        # One yardstick for all rows, whatever terms they learn from.
        self._energy = HeldOutEnergy(self._network, Energy(self._template, EnergyConfig()))
        labelled = view_dataset(
            str(records / CENTRES[0] / "train"),
            size=size,
            batching=Batching(batch_size=60, shuffle=False, repeat=False),
            choice=StepChoice(part="held_out", held_out=HELD_OUT),
        )
        self._labelled = [{k: v.numpy() for k, v in batch.items()} for batch in labelled]

    def score(self, weights: pathlib.Path, out: pathlib.Path) -> None:
        """Writes scores.json and frames.npz (joint errors [N, 14] mm) to `out`, once."""
        if (out / "scores.json").is_file():
            return
        load_weights(self._network, weights)
        found, frames = {}, {}
        for centre, batches in self._test.items():
            mesh = self._mesh if centre == "true" else None
            errors = frame_errors(self._predict, batches, self._template, 0, centre == "true", mesh)
            found[centre] = report(errors, evaluated_names(self._template), self._subject1)
            frames[centre] = errors["joints"]
        found["held_out"] = {"energy": self._energy(self._views), "mean_mm": self._held_out_mm()}
        with output_file(out / "frames.npz") as beside:
            np.savez(beside, **frames)
        write_output(out / "scores.json", json.dumps(found, indent=1))

    def _held_out_mm(self) -> float:
        """Mean error of the 14 joints on held-out views whose crop has the hand, mm."""
        evaluated = self._template.evaluated
        distances = []
        for batch in self._labelled:
            points, seen = batch["keypoints"][:, evaluated], self._has_hand(batch)
            off = np.linalg.norm(self._predict(batch)["keypoints"][:, evaluated] - points, axis=-1)
            distances.append(off[seen])
        return mean_mm(np.concatenate(distances))

    def _has_hand(self, batch) -> np.ndarray:
        """[B] whether the crops are near the labelled joints: a few miss the hand altogether."""
        middle = batch["keypoints"][:, self._template.evaluated].mean(axis=1)
        return np.linalg.norm(middle - batch["centre"], axis=-1) < SEEN_MM


def ranking(scores: list[dict]) -> str:
    """A sentence: how the held-out energy ranks the models against their true errors."""
    from scipy import stats

    energy = [score["held_out"]["energy"]["energy"] for score in scores]
    if len(energy) < 3:
        return "too few models to rank."
    words = []
    for what, values in {
        "held-out views": [score["held_out"]["mean_mm"] for score in scores],
        "test frames, found centres": [score["found"]["mean_mm"] for score in scores],
        "test frames, true centres": [score["true"]["mean_mm"] for score in scores],
    }.items():
        words.append(f"{stats.spearmanr(energy, values).statistic:.2f} on the {what}")
    return (
        f"held-out energy against true error, rank correlation over {len(energy)} models: "
        + ", ".join(words)
        + "."
    )


tf.get_logger().setLevel("ERROR")
