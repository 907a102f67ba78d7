"""What makes a dataclass's field a setting of a program; `dgn_tf.config` has the settings."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple


class Setting(NamedTuple):
    """What a field says of itself beside its type and default.

    Attributes:
        help: full sentences: the meaning, the unit, and what 0 or empty means.
        low, high: smallest and largest value, both allowed; None: no bound.
        choices: the values that there are; empty: any.
        may_change: a run that is resumed may have another value.
        of_run: it is a fact of the run, in `run.json` and `flags.txt`.
    """

    help: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    may_change: bool
    of_run: bool


def setting(
    default: Any,
    help: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    may_change: bool = False,
    of_run: bool = True,
) -> Any:
    """A field of a topic, see `Setting`; its type is the annotation's."""
    described = Setting(help, low, high, choices, may_change, of_run)
    return dataclasses.field(default=default, metadata={"setting": described})


def settings_of(topic) -> Iterator[tuple[dataclasses.Field, Setting]]:
    """The fields of a topic, or of several in one class, that are settings."""
    for field in dataclasses.fields(topic):
        if "setting" in field.metadata:
            yield field, field.metadata["setting"]


def again(topic, name: str, default: Any) -> Any:
    """The setting `name` of a topic with another default, for another class."""
    field = next(field for field, _ in settings_of(topic) if field.name == name)
    return dataclasses.field(default=default, metadata=field.metadata)


def values_of(settings) -> dict:
    """Name -> value of the settings that are facts of a run, as `run.json` has them."""
    found = settings_of(settings)
    return {field.name: getattr(settings, field.name) for field, said in found if said.of_run}


def may_change(topic) -> frozenset[str]:
    """Names of the settings that a resumed run may have other values of."""
    return frozenset(field.name for field, said in settings_of(topic) if said.may_change)
