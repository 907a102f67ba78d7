"""Plots of evaluation: the success curve and the error of each joint."""

import pathlib

import numpy as np

from dgn_tf.errors import InputError
from dgn_tf.evaluation.joints import mean_mm, success_curve
from dgn_tf.writing import output_file

MAX_MM = 80.0


def check_plot_file(file, flag: str = "--plot") -> None:
    """Raises InputError where matplotlib has no writer for the file's ending."""
    if pathlib.Path(file).suffix.lower() not in (".png", ".pdf", ".svg"):
        raise InputError(f"{flag}={file}: the name is to end in .png, .pdf or .svg.")


def plot_errors(errors: dict[str, np.ndarray], joint_names, file) -> None:
    """Writes one picture: success curves on the left, mean errors by joint on the right.

    Args:
        errors: label -> [N, J] mm joint errors of the evaluated key points, NaN where there is no
            truth; one curve and one colour a label.
        joint_names: [J].
        file: .png, .pdf or .svg; written beside, then renamed.
    """
    figure = new_figure(file)
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.2])
    places = np.arange(len(joint_names))
    width = 0.8 / len(errors)
    for number, (label, values) in enumerate(errors.items()):
        shift = (number - (len(errors) - 1) / 2) * width
        means = [mean_mm(column) for column in values.T]
        right.bar(places + shift, np.nan_to_num(means, posinf=0.0), width, label=label)
    _draw_success(left, errors)
    right.set(ylabel="mean error (mm)")
    right.set_xticks(places, joint_names, rotation=60, ha="right")
    right.grid(axis="y", alpha=0.3)
    right.set_axisbelow(True)
    save_figure(figure, file)


def plot_success(panels: dict[str, dict[str, np.ndarray]], file) -> None:
    """Writes success curves side by side.

    Args:
        panels: title -> label -> [N, J] mm joint errors, as in `plot_errors`.
        file: .png, .pdf or .svg; written beside, then renamed.
    """
    figure = new_figure(file)
    for title, axes in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True):
        _draw_success(axes, panels[title])
        axes.set_title(title)
    save_figure(figure, file)


def plot_calibration(curves: dict[str, dict[str, np.ndarray]], file) -> None:
    """Writes how often points are right against how probable that was said to be.

    Args:
        curves: title -> label -> [N, 3] of `confidence.fitting.reliability`.
        file: .png, .pdf or .svg; written beside, then renamed.
    """
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure = new_figure(file, height=3.6 * rows + 0.6)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for title, axes in zip(curves, panels, strict=False):
        axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
        for label, points in curves[title].items():
            axes.plot(points[:, 0], points[:, 1], marker="o", markersize=3, label=label)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="within 10 mm", title=title)
        axes.set_aspect("equal")
        axes.grid(alpha=0.3)
    for axes in panels[len(curves) :]:
        axes.set_axis_off()
    # One legend for all: in a panel it would lie on the curves.
    lines = {line.get_label(): line for axes in panels[: len(curves)] for line in axes.lines[1:]}
    figure.legend(lines.values(), lines, loc="outside lower center", ncols=len(lines))
    save_figure(figure, file)


def plot_budget(orders: dict[str, list[dict]], file) -> None:
    """Writes how much of P_r's error each step takes away, a panel for each order of the steps.

    Args:
        orders: title -> rungs of `experiments.error_budget`: step, vertices_pr_mm,
            vertices_pr_mm_less and its interval; the first is the network as it is.
        file: .png, .pdf or .svg; written beside, then renamed.
    """
    figure = new_figure(file)
    panels = figure.subplots(1, len(orders), squeeze=False, sharey=True)[0]
    for title, axes in zip(orders, panels, strict=True):
        rows = orders[title]
        places = np.arange(len(rows))
        level = np.array([row["vertices_pr_mm"] for row in rows])
        less = np.array([row["vertices_pr_mm_less"] for row in rows])
        axes.bar(places[:1], level[:1], color="grey")
        # Falling bars: each from the level before it to its own.
        colours = np.where(less[1:] >= 0, "tab:blue", "tab:red")
        axes.bar(places[1:], less[1:], bottom=level[1:], color=colours)
        ends = np.array([row["vertices_pr_mm_less_interval"] for row in rows])
        spread = np.abs(ends.T - less)[:, 1:]
        axes.errorbar(places[1:], level[1:], spread, fmt="none", ecolor="black", capsize=3)
        for place, top, value in zip(places, np.maximum(level, level + less), less, strict=True):
            text = f"{level[0]:.2f}" if place == 0 else f"{-value:+.2f}"
            axes.annotate(
                text,
                (place, top),
                (0, 3),
                textcoords="offset points",
                ha="center",
                fontsize="small",
            )
        axes.set_xticks(places, [row["step"] for row in rows], rotation=40, ha="right")
        axes.set(title=title, ylabel="P_r (mm)")
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
    save_figure(figure, file)


def new_figure(file, height: float = 4.2):
    """An empty figure for that file, `height` inches high.

    Raises InputError where the file's ending has no writer.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no display, no global state
    from matplotlib.figure import Figure

    check_plot_file(file)
    figure = Figure(figsize=(11, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _draw_success(axes, errors):
    thresholds = np.linspace(0.0, MAX_MM, 321)
    for label, values in errors.items():
        curve = success_curve(values, thresholds)
        axes.plot(thresholds, curve, label=f"{label}: {mean_mm(values):.2f} mm")
    axes.set(
        xlim=(0, MAX_MM),
        ylim=(0, 100),
        xlabel="largest joint error of a frame at most (mm)",
        ylabel="frames (%)",
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize="small")


def save_figure(figure, file) -> None:
    """Writes a picture; raises InputError where the file can't be written."""
    with output_file(file) as beside:
        figure.savefig(beside, dpi=120)
