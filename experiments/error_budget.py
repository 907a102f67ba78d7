"""Where the millimetres go: true values in place of one stage of the network after another.

    python -m experiments.error_budget --records=data/synthetic_test --weights=saved_models/dgn \
        --json=runs/budget.json --plot=runs/budget.png

The steps (`experiments.oracles`) are taken in the network's order and, so that it shows what
they have in common, in the reversed one, each on top of those before it; and each alone. Frames are
drawn with replacement for the 95 % intervals, those of a difference in pairs.
"""

from typing import TYPE_CHECKING

from absl import flags

from dgn_tf import errors
from dgn_tf.errors import InputError

if TYPE_CHECKING:
    import numpy as np

_RECORDS = flags.DEFINE_string("records", "data/synthetic_test", "Folder of synthetic records.")
_WEIGHTS = flags.DEFINE_string("weights", "saved_models/dgn", "Model folder to measure.")
_LIMIT = flags.DEFINE_integer(
    "limit", 0, "Frames at most, from the first on; 0: all.", lower_bound=0
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Frames at once.", lower_bound=1)
_JSON = flags.DEFINE_string("json", "", "File for the figures; empty: they are printed alone.")
_PLOT = flags.DEFINE_string("plot", "", "File (.png, .pdf, .svg) for the picture; empty: none.")

Ladder = list[tuple[str, frozenset]]  # name of the step, all steps taken by then


def main(_):
    from dgn_tf import plots
    from dgn_tf.json_file import write_json
    from dgn_tf.model_folder import load_network
    from experiments.oracles import OF_IMAGE, STEPS, Oracles

    if _PLOT.value:
        plots.check_plot_file(_PLOT.value)
    network = load_network(_WEIGHTS.value)
    steps = [name for name in STEPS if name != "direction" or network.config.upright]
    orders = {"network": ladder(steps), "reversed": ladder(steps[::-1])}
    inputs = [name for name in steps if name in OF_IMAGE]
    alone: Ladder = [(name, frozenset([name])) for name in steps]
    wanted = {chosen for rungs in (*orders.values(), alone) for _, chosen in rungs}
    found = _measure(Oracles(network), network.template, wanted)
    figures: dict = {
        "frames": len(next(iter(found[frozenset()].values()))),
        "orders": {order: rung_figures(rungs, found) for order, rungs in orders.items()},
        "alone": rung_figures([("as it is", frozenset()), *alone], found, alone=True),
        "vertices": {
            "as it is": vertex_figures(found[frozenset()]),
            f"with {', '.join(inputs)}": vertex_figures(found[frozenset(inputs)]),
        },
    }
    print(report(figures))
    if _JSON.value:
        write_json(figures, _JSON.value)
    if _PLOT.value:
        plots.plot_budget(figures["orders"], _PLOT.value)


def ladder(steps: list[str]) -> Ladder:
    """The rungs of an order: nothing, the first step, the first two, ..."""
    rungs = [("as it is", frozenset[str]())]
    return rungs + [(name, frozenset(steps[: n + 1])) for n, name in enumerate(steps)]


def rung_figures(rungs: Ladder, found: dict, alone: bool = False) -> list[dict]:
    """Figures of each rung.

    Args:
        rungs: of `ladder`.
        found: steps taken -> measure -> [N] mm.
        alone: each rung is compared with the first, not with the one before.

    Returns:
        For each rung its `step` and, for each measure, its mean in mm, `<measure>_interval`, and
        the mm by which the step lowers it, `<measure>_less` and `<measure>_less_interval`.
    """
    from experiments.oracles import MEASURES

    result = []
    for number, (name, chosen) in enumerate(rungs):
        row: dict = {"step": name}
        before = found[rungs[0 if alone else max(number - 1, 0)][1]]
        for measure in MEASURES:
            values = found[chosen][measure]
            row[measure] = float(values.mean())
            row[f"{measure}_interval"] = _interval(values)
            less = before[measure] - values
            row[f"{measure}_less"] = float(less.mean())
            row[f"{measure}_less_interval"] = _interval(less)
        result.append(row)
    return result


def vertex_figures(measured: dict) -> dict[str, dict[str, float]]:
    """What hidden, behind and seen vertices add to P_s's error: of `Oracles.errors`, one set's.

    Returns:
        Name of `KINDS` -> share of the vertices, their mean error and what they add, mm.
    """
    from experiments.oracles import KINDS

    result = {}
    for name in KINDS:
        share = float(measured[f"{name}_share"].mean())
        adds = float(measured[f"{name}_ps_mm"].mean())
        result[name] = {"share": share, "mean_mm": adds / max(share, 1e-9), "adds_mm": adds}
    return result


def _interval(values: "np.ndarray") -> list[float]:
    from dgn_tf.evaluation.joints import mean_interval_mm

    return list(mean_interval_mm(values[:, None]))


def _measure(oracles, template, wanted):
    """Steps taken -> measure -> [N] mm."""
    import numpy as np
    import tqdm

    from dgn_tf.records.batches import Batching
    from dgn_tf.records.reader import record_dataset

    dataset = record_dataset(
        _RECORDS.value,
        template,
        batching=Batching(batch_size=_BATCH_SIZE.value, shuffle=False, repeat=False),
    )
    gathered: dict[frozenset, list[dict]] = {chosen: [] for chosen in wanted}
    frames = 0
    for batch in tqdm.tqdm(dataset, desc="budget", unit="batch", disable=None):
        if _LIMIT.value:
            batch = {name: value[: _LIMIT.value - frames] for name, value in batch.items()}
        for chosen, measured in oracles.errors(batch, wanted).items():
            gathered[chosen].append(measured)
        frames += len(batch["cube"])
        if frames == _LIMIT.value:
            break
    if not frames:
        raise InputError(f"--records={_RECORDS.value} hold no frame; write them again.")
    return {
        chosen: {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        for chosen, parts in gathered.items()
    }


def report(figures: dict) -> str:
    """The figures as markdown tables, and the step that is worth most in each order."""
    titles = {
        "keypoints14_mm": "14 key points",
        "keypoints36_mm": "36",
        "vertices_ps_mm": "P_s",
        "vertices_pr_mm": "P_r",
    }
    tables = {f"order: {order}": rows for order, rows in figures["orders"].items()}
    tables["each alone"] = figures["alone"]
    lines = [f"{figures['frames']} frames; mm, 95 % intervals over frames"]
    for title, rows in tables.items():
        lines += ["", title, "", f"| step | {' | '.join(titles.values())} | P_r less by |"]
        lines.append("|---" * (len(titles) + 2) + "|")
        for row in rows:
            cells = [row["step"]]
            for measure in titles:
                low, high = row[f"{measure}_interval"]
                cells.append(f"{row[measure]:.2f} ({low:.2f} .. {high:.2f})")
            low, high = row["vertices_pr_mm_less_interval"]
            cells.append(f"{row['vertices_pr_mm_less']:.2f} ({low:.2f} .. {high:.2f})")
            lines.append(f"| {' | '.join(cells)} |")
        most = max(rows, key=lambda row: row["vertices_pr_mm_less"])
        lines += ["", f"largest: {most['step']}, {most['vertices_pr_mm_less']:.2f} mm of P_r"]
    for title, kinds in figures["vertices"].items():
        lines += ["", f"P_s by what a frame shows, {title}", ""]
        lines += ["| vertices | share | mean | add to P_s |", "|---|---|---|---|"]
        lines += [
            f"| {name} | {100 * kind['share']:.1f} % | {kind['mean_mm']:.2f} | "
            f"{kind['adds_mm']:.2f} |"
            for name, kind in kinds.items()
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    errors.run(main)
