"""Latency and throughput of exported forms, in turn on the same frames; and one against another."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks import machine, timing
from benchmarks.forms import CROP
from benchmarks.inputs import Inputs

_FRAMES_A_ROUND = 32  # small batches are repeated: single calls are short against the clock's noise


class _Work(NamedTuple):
    """One form on one batch."""

    form: str
    kind: str
    size: int
    job: Callable[[], np.ndarray]

    @property
    def repeats(self) -> int:
        """Runs in a round."""
        return max(1, _FRAMES_A_ROUND // self.size)


def measure_forms(forms: dict[str, Any], inputs: Inputs, sizes, rounds: int, frames: int) -> dict:
    """Every form at every batch size, whole frames and crops, all in alternation.

    Args:
        forms: name -> of `forms.load_form`.
        inputs: at least the largest batch.
        sizes: batch sizes.
        rounds: of the throughput.
        frames: single calls of the latency, which is batch 1's.

    Returns:
        The machine's rates, and form -> {`megabytes`, `crop`: {`batch_1`: ...}, `frame`: ...}, of
        each batch size `ms_per_frame`, `frames_per_s`, and batch 1's `ms_p50` and `ms_p99`.
    """
    work = {
        f"{name} {kind} {size}": _work(name, form, kind, size, inputs)
        for name, form in forms.items()
        for kind in form.kinds
        for size in sizes
        if form.batches or size == 1
    }
    probes = machine.Probes()
    jobs = {key: timing.repeated(one.job, one.repeats) for key, one in work.items()}
    seconds = timing.alternate({**probes.jobs, **jobs}, rounds)
    rates = probes.rates(seconds)
    alone = timing.alternate({key: one.job for key, one in work.items() if one.size == 1}, frames)
    result: dict = machine.rate_figures(rates)
    for name, form in forms.items():
        result[name] = {"megabytes": form.megabytes, **{kind: {} for kind in form.kinds}}
    for key, one in work.items():
        taken = seconds[key] / one.repeats
        figures = {
            "ms_per_frame": 1e3 * float(np.median(taken)) / one.size,
            "frames_per_s": one.size / float(np.median(taken)),
        }
        if key in alone:
            figures |= timing.quantiles_ms(alone[key])
        result[one.form][one.kind][f"batch_{one.size}"] = figures
    return result


def compare(first, second, inputs: Inputs, sizes, rounds: int) -> dict:
    """Two forms in turn on the same frames: how much longer the second takes, and what differs.

    Returns:
        kind -> {`batch_1`: {`first_ms`, `second_ms` of a frame, `second_to_first`:
        `timing.spread` of the rounds' ratios, `vertices_apart_mm`: the largest distance of a
        vertex between them}, ...}, kinds and sizes that both take.
    """
    result: dict = {}
    for kind in [kind for kind in first.kinds if kind in second.kinds]:
        for size in [size for size in sizes if size == 1 or first.batches and second.batches]:
            work = {
                name: _work(name, form, kind, size, inputs)
                for name, form in (("first", first), ("second", second))
            }
            apart = np.linalg.norm(work["first"].job() - work["second"].job(), axis=-1)
            seconds = timing.alternate(
                {name: timing.repeated(one.job, one.repeats) for name, one in work.items()}, rounds
            )
            a_frame = {
                name: taken / one.repeats / size
                for (name, taken), one in zip(seconds.items(), work.values(), strict=True)
            }
            result.setdefault(kind, {})[f"batch_{size}"] = {
                **{f"{name}_ms": 1e3 * float(np.median(taken)) for name, taken in a_frame.items()},
                "second_to_first": timing.spread(seconds["second"], seconds["first"]),
                "vertices_apart_mm": float(apart.max()),
            }
    return result


def _work(name, form, kind, size, inputs) -> _Work:
    batch = inputs.crop_batch(size) if kind == CROP else inputs.frame_batch(size)
    return _Work(name, kind, size, form.job(kind, batch))
