"""The paper's Table 1 on multi-view frames: what self-supervision, its data and its terms give.

    python -m experiments.selfsup_table --nyu_dir=../shared/data/nyu_like --output_dir=runs/selfsup

Finds the crops' centres without labels (the localiser that ships, which learnt from synthesis
alone, then the starting weights' fused estimates) and
converts the frames there without labels, for the energy, with labels, for the key-point row and
for scoring, and once more at the labelled palm, for scoring alone. Then it trains each row from
the same weights with each seed, 24 views and 16 synthetic frames a step, and writes `table.md`,
`scores.json`, `curves_found.png` and `curves_true.png`. The energy that ranks models is the paper's
for all rows, whatever terms they learnt from, on views that no row learnt from. Run it again to go
on where it was stopped: a row under way resumes, finished ones are read; a row without all its
seeds is marked so. Models of nyu_like are experiments: its poses are labels of NYU's test set.
"""

import concurrent.futures
import csv
import dataclasses
import hashlib
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
from absl import flags

from dgn_tf import errors
from dgn_tf.errors import InputError
from dgn_tf.evaluation.joints import mean_mm
from dgn_tf.model_folder import WEIGHTS, find_model_folder
from dgn_tf.records.record_folder import claim
from dgn_tf.records.views import view_description
from dgn_tf.writing import write_output
from experiments.selfsup_scores import CENTRES, Scorer, ranking

FLAGS = flags.FLAGS
flags.DEFINE_string("nyu_dir", None, "Folder in NYU's layout, with truth/ beside.", required=True)
flags.DEFINE_string("records_dir", "data/selfsup_records", "Folder for its conversions.")
flags.DEFINE_string("output_dir", "runs/selfsup", "Folder of the rows' runs and the table.")
flags.DEFINE_string("init_weights", "saved_models/dgn", "Weights that every row starts from.")
flags.DEFINE_integer("steps", 125, "Training steps of each row.", lower_bound=2)
flags.DEFINE_enum("optimizer", "muon", ["adamw", "muon"], "Of every row.")
flags.DEFINE_float("learning_rate", 2e-3, "Of every row.", lower_bound=0)
flags.DEFINE_list("seeds", ["1", "2", "3"], "Of each row.")
flags.DEFINE_list("rows", None, "Rows to train, by name; empty: all.")
flags.DEFINE_integer("workers", 2, "Rows trained side by side, sharing the cores.", lower_bound=1)
flags.DEFINE_bool("table_only", False, "Write the table of what is there; train nothing.")

EPOCHS = 5  # checkpoints of a row
SPLITS = ("train", "test")
VIEWS_A_STEP, FRAMES_A_STEP = 24, 16  # unlabelled or labelled views, synthetic frames
START = "synthetic only"
MULTI_VIEW = "multi-view"


@dataclasses.dataclass(frozen=True)
class Row:
    """A row: its flags, and what the paper has for it, mm."""

    flags: tuple[str, ...]
    paper: float | None
    labelled: bool = False
    split: str = "train"


def _selfsup(*changes: str, config: str = "selfsup", **kwargs) -> Row:
    """The paper's energy but for `changes`: the flag files have a term that the paper lacks."""
    return Row((f"--flagfile=configs/{config}.flags", "--free_space=0", *changes), **kwargs)


def _with_free_space(*changes: str) -> Row:
    return Row(("--flagfile=configs/selfsup.flags", *changes), paper=None)


ROWS = {
    MULTI_VIEW: _selfsup(paper=13.09),
    "single view": _selfsup(config="selfsup_single", paper=16.96),
    "key points": Row(
        (
            "--flagfile=configs/keypoint.flags",
            f"--batch_size={VIEWS_A_STEP + FRAMES_A_STEP}",
            f"--real_fraction={VIEWS_A_STEP / (VIEWS_A_STEP + FRAMES_A_STEP)}",
        ),
        paper=8.5,
        labelled=True,
    ),
    "test frames": _selfsup(config="selfsup_test_frames", paper=14.50, split="test"),
    "30 % of the frames": _selfsup("--unlabelled_fraction=0.3", paper=None),
    "10 % of the frames": _selfsup("--unlabelled_fraction=0.1", paper=None),
    "with free space": _with_free_space(),
    "with free space and 30 % of the frames": _with_free_space("--unlabelled_fraction=0.3"),
    "with free space and 10 % of the frames": _with_free_space("--unlabelled_fraction=0.1"),
    "without lifting": _selfsup(config="selfsup_without_lifting", paper=14.50),
    "without collision": _selfsup(config="selfsup_without_collision", paper=13.85),
    "without arap": _selfsup(config="selfsup_without_arap", paper=14.06),
    "without offset": _selfsup(config="selfsup_without_offset", paper=14.12),
    "without augmentation": _selfsup(config="selfsup_without_augmentation", paper=14.52),
}
PAPER_START = 23.21
CURVES = {
    "data": (
        START,
        "10 % of the frames",
        "30 % of the frames",
        "single view",
        "test frames",
        MULTI_VIEW,
        "key points",
    ),
    "terms": (
        START,
        MULTI_VIEW,
        *(name for name in ROWS if name.startswith("with") and "%" not in name),
    ),
}


def main(_):
    rows = FLAGS.rows or list(ROWS)
    unknown = sorted(set(rows) - set(ROWS))
    if unknown:
        raise InputError(f"--rows={','.join(unknown)}: known are {', '.join(ROWS)}.")
    seeds = _seeds()
    if FLAGS.steps % EPOCHS:
        raise InputError(f"--steps={FLAGS.steps} is no multiple of {EPOCHS}, the checkpoints.")
    folder = pathlib.Path(FLAGS.output_dir)
    records = pathlib.Path(FLAGS.records_dir)
    convert(pathlib.Path(FLAGS.nyu_dir), records)
    folder.mkdir(parents=True, exist_ok=True)
    claim(folder, _plan(records))
    scorer = Scorer(FLAGS.init_weights, records, pathlib.Path(FLAGS.nyu_dir) / "truth")
    scorer.score(pathlib.Path(FLAGS.init_weights), folder / "start")
    if not FLAGS.table_only:
        train_all([(name, seed) for seed in seeds for name in rows], folder, records, scorer)
    print(write_table(folder, seeds, scorer.seen))
    plot_curves(folder, seeds)


def _seeds() -> list[int]:
    try:
        return [int(seed) for seed in FLAGS.seeds]
    except ValueError:
        raise InputError(f"--seeds={','.join(FLAGS.seeds)}: wanted whole numbers.") from None


def _plan(records: pathlib.Path) -> dict:
    """What all rows of a table have in common: another folder holds another table."""
    hashes = {
        f"{name}/{split}": view_description(str(records / name / split))["content_hash"]
        for name in ("unlabelled", *CENTRES)
        for split in SPLITS
    }
    weights = (find_model_folder(FLAGS.init_weights) / WEIGHTS).read_bytes()
    return {
        "steps": FLAGS.steps,
        "optimizer": FLAGS.optimizer,
        "learning_rate": FLAGS.learning_rate,
        "records": hashes,
        "views_a_step": VIEWS_A_STEP,
        "frames_a_step": FRAMES_A_STEP,
        "init_weights_sha256": hashlib.sha256(weights).hexdigest(),
    }


def train_all(runs, folder: pathlib.Path, records: pathlib.Path, scorer: Scorer) -> None:
    """Trains and scores what is missing of [(row, seed)]; the first failure ends it."""
    with concurrent.futures.ThreadPoolExecutor(FLAGS.workers) as pool:
        trained = {
            pool.submit(train, name, seed, folder, records): (name, seed) for name, seed in runs
        }
        try:
            for done in concurrent.futures.as_completed(trained):
                done.result()
                name, seed = trained[done]
                place = run_folder(folder, name, seed)
                scorer.score(place / "run" / "last", place)
                for kept in (place / "run" / "epochs").glob("*"):
                    scorer.score(kept, place / "epochs" / kept.name)
                print(f"{name}, seed {seed}: finished", flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def convert(nyu_dir: pathlib.Path, records: pathlib.Path) -> None:
    """Writes or completes the conversions that rows learn from and are scored on.

    The starting weights fuse each time step's views, without labels, and the crops move to where
    the hand is then.
    """
    coarse, annotated = records / "localised", records / "annotated"
    _convert(nyu_dir, coarse, "--labels=none", "--center=localiser")
    for split in SPLITS:
        if not (annotated / split / "centres_1.txt").is_file():
            run(
                "dgn_tf.annotate",
                f"--records={coarse / split}",
                f"--weights={FLAGS.init_weights}",
                f"--output_dir={annotated / split}",
                "--passes=3",
            )
    centres = ("--center=file", f"--center_file={annotated}/{{split}}/centres_{{camera}}.txt")
    _convert(nyu_dir, records / "unlabelled", "--labels=none", *centres)
    _convert(nyu_dir, records / CENTRES[0], *centres)
    _convert(nyu_dir, records / CENTRES[1], "--center=joint")


def _convert(nyu_dir, folder, *how) -> None:
    if all((folder / split / "description.json").is_file() for split in SPLITS):
        return
    calibration = f"--calibration={nyu_dir / 'truth' / 'rig.json'}"
    run(
        "data_prep.nyu_to_tfrecord",
        f"--nyu_dir={nyu_dir}",
        f"--output_dir={folder}",
        calibration,
        *how,
    )


def train(name: str, seed: int, folder: pathlib.Path, records: pathlib.Path) -> None:
    """Trains or resumes a row; the trainer itself knows where it stopped."""
    row, out = ROWS[name], run_folder(folder, name, seed)
    if (out / "scores.json").is_file():
        return
    learn_from = (
        f"--real_records={records / CENTRES[0] / row.split}"
        if row.labelled
        else f"--unlabelled_records={records / 'unlabelled' / row.split}"
    )
    own = () if row.labelled else (f"--batch_size={FRAMES_A_STEP}",)
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "train.log", "a") as log:
        run(
            "dgn_tf.train",
            *row.flags,
            *own,
            learn_from,
            f"--output_dir={out / 'run'}",
            f"--init_weights={FLAGS.init_weights}",
            f"--seed={seed}",
            f"--steps={FLAGS.steps}",
            f"--steps_per_epoch={FLAGS.steps // EPOCHS}",
            f"--optimizer={FLAGS.optimizer}",
            f"--learning_rate={FLAGS.learning_rate}",
            f"--keep_weights={name == MULTI_VIEW}",  # the checkpoints that the energy is to rank
            "--warmup_steps=20",
            f"--decay_start={FLAGS.steps // 2}",
            "--ema_momentum=0.98",
            "--validation_frames=48",
            "--real_validation_frames=60",
            "--nosummaries",
            log=log,
        )


def seconds_a_step(run: pathlib.Path) -> float | None:
    """Of a row's training, from its log; None where there is none yet."""
    file = run / "run" / "log.csv"
    if not file.is_file():
        return None
    with open(file, newline="") as lines:
        rates = [float(row["steps_per_second"]) for row in csv.DictReader(lines)]
    return float(np.mean([1 / rate for rate in rates])) if rates else None


def run_folder(folder: pathlib.Path, name: str, seed) -> pathlib.Path:
    return folder / name.replace(" % of the frames", "_percent").replace(" ", "_") / f"seed{seed}"


def run(module: str, *arguments: str, log=None) -> None:
    command = [sys.executable, "-m", module, *arguments]
    threads = str(max(1, len(os.sched_getaffinity(0)) // FLAGS.workers))
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "NUMBA_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, threads)
    done = subprocess.run(command, check=False, stdout=log, stderr=log, env=environment)
    if done.returncode:
        where = f"; see {log.name}" if log else ""
        raise InputError(f"{' '.join(command)} failed{where}; mend what it says, run this again.")


def write_table(folder: pathlib.Path, seeds: list[int], seen: np.ndarray) -> str:
    """The table of all rows as Markdown, also written to `table.md`; mm unless said.

    `seen` [N] are the test frames whose crop at the found centre has the hand.
    """
    lines = [
        f"{FLAGS.steps} steps of {VIEWS_A_STEP} views and {FRAMES_A_STEP} synthetic frames, rate "
        f"{FLAGS.learning_rate:g} ({FLAGS.optimizer}); mean +- deviation over the seeds; camera 1 "
        "of the test split.",
        "",
        f"| row | seeds | found centres, the {seen.sum()} of {len(seen)} crops that have the hand "
        "| all found centres | % <= 20 | % <= 30 | true centres | % <= 20 | % <= 30 | surface | "
        "s a step | paper |",
        "|---" * 12 + "|",
    ]
    scores = {}
    start = _scores(folder / "start", seen)
    lines.append(_line(START, "", [start] if start else [], [], PAPER_START))
    for name, row in ROWS.items():
        found = [_scores(run_folder(folder, name, seed), seen) for seed in seeds]
        took = [seconds_a_step(run_folder(folder, name, seed)) for seed in seeds]
        done = [one for one in found if one]
        scores[name] = done
        mark = f"{len(done)}" if len(done) == len(seeds) else f"{len(done)}, NOT FINISHED"
        lines.append(_line(name, mark, done, [one for one in took if one], row.paper))
    unlabelled = [one for name, done in scores.items() if not ROWS[name].labelled for one in done]
    for what, ranked in {
        "All rows": [one for done in scores.values() for one in done],
        "Those that learn without labels": unlabelled,
        f"Checkpoints of {MULTI_VIEW}": _kept(folder, seeds),
    }.items():
        lines += ["", f"{what}: {ranking([start, *ranked] if start else ranked)}"]
    table = "\n".join(lines) + "\n"
    write_output(folder / "table.md", table)
    write_output(folder / "scores.json", json.dumps({START: [start], **scores}, indent=1))
    return table


def _kept(folder: pathlib.Path, seeds: list[int]) -> list[dict]:
    """The scores of all checkpoints of the multi-view rows."""
    return [
        json.loads(file.read_text())
        for seed in seeds
        for file in run_folder(folder, MULTI_VIEW, seed).glob("epochs/*/scores.json")
    ]


def _scores(place: pathlib.Path, seen: np.ndarray) -> dict | None:
    """A row's scores.json, with the mean over the frames `seen`; None: not finished."""
    if not (place / "scores.json").is_file():
        return None
    frames = np.load(place / "frames.npz")[CENTRES[0]]
    scores = json.loads((place / "scores.json").read_text())
    return {**scores, "seen": {"mean_mm": mean_mm(frames[seen])}}


def _line(name, mark, scores, seconds, paper) -> str:
    def cell(centre, key, digits):
        values = [score[centre][key] for score in scores]
        if not values:
            return "-"
        spread = f" +- {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
        return f"{np.mean(values):.{digits}f}{spread}"

    cells = [name, mark, cell("seen", "mean_mm", 2)]
    for centre in CENTRES:
        cells += [
            cell(centre, "mean_mm", 2),
            cell(centre, "success_20", 1),
            cell(centre, "success_30", 1),
        ]
    cells.append(cell(CENTRES[1], "surface_mm", 2))
    cells.append(f"{np.mean(seconds):.2f}" if seconds else "-")
    cells.append("-" if paper is None else f"{paper:.2f}")
    return "| " + " | ".join(cells) + " |"


def plot_curves(folder: pathlib.Path, seeds: list[int]) -> None:
    """Success curves of the rows, all seeds' frames together, as the paper's Fig. 6a and 6b."""
    from dgn_tf import plots

    def frames(name, centre):
        places = (
            [folder / "start"]
            if name == START
            else [run_folder(folder, name, seed) for seed in seeds]
        )
        found = [
            np.load(place / "frames.npz")[centre]
            for place in places
            if (place / "frames.npz").is_file()
        ]
        return np.concatenate(found) if found else None

    for centre in CENTRES:
        panels = {
            title: {name: values for name in names if (values := frames(name, centre)) is not None}
            for title, names in CURVES.items()
        }
        plots.plot_success(panels, folder / f"curves_{centre}.png")


if __name__ == "__main__":
    errors.run(main)
