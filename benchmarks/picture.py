"""A picture of the benchmark's figures: stages against their bounds, throughput, memory."""

from benchmarks.forms import CROP, FRAME
from benchmarks.stages import WHOLE
from dgn_tf.plots import new_figure, save_figure

_STYLES = {CROP: "-", FRAME: "--"}


def plot_speed(result: dict, file) -> None:
    """Draws what `dgn_tf.benchmark` found, one panel for each part that it measured.

    Args:
        result: its figures: of `stages` the smallest batch is drawn, of each device the first.
        file: .png, .pdf or .svg; written beside, then renamed.
    """
    panels = [(draw, result[part]) for part, draw in _PANELS.items() if part in result]
    figure = new_figure(file)
    for axes, (draw, figures) in zip(
        figure.subplots(1, max(1, len(panels)), squeeze=False)[0], panels, strict=False
    ):
        draw(axes, figures)
    save_figure(figure, file)


def _stages(axes, figures):
    device, by_size = next(iter(figures.items()))
    size, found = next(iter(by_size.items()))
    names = [
        name
        for name, values in found.items()
        if isinstance(values, dict) and "bound_ms" in values and name != WHOLE
    ]
    places = range(len(names))
    axes.barh(places, [found[name]["ms"] for name in names], color="tab:blue", label="measured")
    axes.barh(
        places,
        [found[name]["bound_ms"] for name in names],
        height=0.35,
        color="tab:orange",
        label="bound",
    )
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set(xlabel="ms a frame", title=f"Stages, {device}, {size.replace('_', ' ')}")
    axes.legend(loc="lower right", fontsize="small")


def _exported(axes, figures):
    for device, forms in figures.items():
        for name, form in forms.items():
            if not isinstance(form, dict):
                continue
            for kind in (CROP, FRAME):
                sizes = {
                    int(key.removeprefix("batch_")): values["frames_per_s"]
                    for key, values in form.get(kind, {}).items()
                }
                if sizes:
                    axes.plot(
                        sizes.keys(),
                        sizes.values(),
                        _STYLES[kind],
                        marker="o",
                        label=f"{name}, {kind}, {device}",
                    )
    axes.set(xlabel="batch size", ylabel="frames/s", title="Throughput", ylim=(0, None))
    axes.legend(loc="best", fontsize="small")
    axes.grid(alpha=0.3)


def _memory(axes, figures):
    bars = {
        f"serving,\n{how}": (values["resident_mb"], values["peak_mb"])
        for how, values in figures["serving"].items()
        if isinstance(values, dict)
    }
    bars |= {
        name.replace("_", "\n"): (values["start_mb"], values["peak_mb"])
        for name, values in figures["work"].items()
    }
    places = range(len(bars))
    axes.bar(places, [peak for _, peak in bars.values()], color="tab:gray", label="peak")
    axes.bar(
        places,
        [now for now, _ in bars.values()],
        color="tab:blue",
        width=0.5,
        label="serving: at the end; others: at the start",
    )
    axes.axhline(figures["serving"]["bar_mb"], color="tab:red", linewidth=1, label="bar of serving")
    axes.set_xticks(places, bars, fontsize="x-small", rotation=60)
    highest = max(figures["serving"]["bar_mb"], *(peak for _, peak in bars.values()))
    axes.set(ylabel="resident MB", title="Memory of a process", ylim=(0, 1.3 * highest))
    axes.legend(loc="upper left", fontsize="x-small")


_PANELS = {"stages": _stages, "exported": _exported, "memory": _memory}
