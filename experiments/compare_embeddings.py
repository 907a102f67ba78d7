"""Default against `paper`, and the three embeddings against each other: one table.

    python -m experiments.compare_embeddings --output_dir=runs/compare --records=data/synthetic_test

Trains each row for the same number of frames with the same seed, one after the other, at the
held learning rate (no fall: rows differ in nothing but the row), and scores the averaged
weights on the fixed synthetic test split. Run it again to go on where it was stopped: finished
rows are read, a row under way resumes from its checkpoint. Unfinished rows are marked so.
"""

import json
import pathlib
import subprocess
import sys

from absl import flags

from dgn_tf import errors
from dgn_tf.errors import InputError
from dgn_tf.writing import write_output

FLAGS = flags.FLAGS
flags.DEFINE_string("output_dir", "runs/compare", "Folder of the rows' runs and the table.")
flags.DEFINE_string("records", "data/synthetic_test", "Records of the fixed test split.")
flags.DEFINE_integer("frames", 100_000, "Training frames of each row.", lower_bound=1)
flags.DEFINE_integer("seed", 1, "Of every row.", lower_bound=0)
flags.DEFINE_list("rows", None, "Rows to train, by name; empty: all.")
flags.DEFINE_bool("bfloat16", False, "Train every row with dgn_tf.train --bfloat16.")
flags.DEFINE_bool("table_only", False, "Write the table of what is there; train nothing.")

BATCH_SIZE, EPOCHS, EASY_STEPS = 32, 5, 500
ROWS = {
    "layered": ["--flagfile=configs/synthetic.flags", "--embedding=layered"],
    "mds": ["--flagfile=configs/synthetic.flags", "--embedding=mds"],
    "atlas": ["--flagfile=configs/synthetic.flags", "--embedding=atlas"],
    "paper": ["--flagfile=configs/paper.flags"],
}
FIGURES = {
    "mean_mm": "key points (14)",
    "vertices_ps_mm": "P_s",
    "vertices_pr_mm": "P_r",
    "correspondence_mm": "correspondence",
    "success_20": "% <= 20 mm",
}


def main(_):
    rows = FLAGS.rows or list(ROWS)
    unknown = sorted(set(rows) - set(ROWS))
    if unknown:
        raise InputError(f"--rows={','.join(unknown)}: known are {', '.join(ROWS)}.")
    folder = pathlib.Path(FLAGS.output_dir)
    if not FLAGS.table_only:
        for name in rows:
            train_row(name, folder / name)
            score_row(folder / name)
    print(write_table(folder))


def train_row(name: str, folder: pathlib.Path) -> None:
    """Trains or resumes one row; the trainer itself knows where it stopped."""
    steps = -(-FLAGS.frames // BATCH_SIZE)
    per_epoch = -(-steps // EPOCHS)
    run(
        "dgn_tf.train",
        *ROWS[name],
        f"--output_dir={folder}",
        f"--seed={FLAGS.seed}",
        f"--batch_size={BATCH_SIZE}",
        f"--easy_steps={EASY_STEPS}",
        f"--steps={per_epoch * EPOCHS}",
        f"--steps_per_epoch={per_epoch}",
        f"--decay_start={per_epoch * EPOCHS}",
        "--nosummaries",
        f"--bfloat16={'true' if FLAGS.bfloat16 else 'false'}",
    )


def score_row(folder: pathlib.Path) -> None:
    """Scores a finished row's averaged weights on the test split, once."""
    if not (folder / "test.json").is_file():
        run(
            "dgn_tf.evaluate",
            f"--records={FLAGS.records}",
            f"--weights={folder / 'last'}",
            f"--json={folder / 'test.json'}",
        )


def run(module: str, *arguments: str) -> None:
    command = [sys.executable, "-m", module, *arguments]
    if subprocess.run(command, check=False).returncode:
        raise InputError(f"{' '.join(command)} failed; mend what it says and run this again.")


def write_table(folder: pathlib.Path) -> str:
    """The table of all rows as Markdown, also written to `table.md`; mm unless said."""
    lines = [
        "| row | frames | " + " | ".join(FIGURES.values()) + " |",
        "|---" * (len(FIGURES) + 2) + "|",
    ]
    for name in ROWS:
        scores = folder / name / "test.json"
        if scores.is_file():
            found = json.loads(scores.read_text())
            step = json.loads((folder / name / "last" / "config.json").read_text())["step"]
            cells = [f"{step * BATCH_SIZE:,}"]
            cells += [f"{found[key]:.2f}" for key in FIGURES]
        else:
            cells = ["not finished"] + ["-"] * len(FIGURES)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    table = "\n".join(lines) + "\n"
    write_output(folder / "table.md", table)
    return table


if __name__ == "__main__":
    errors.run(main)
