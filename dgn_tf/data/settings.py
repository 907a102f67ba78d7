"""SynthesisConfig: every range and share that synthesis samples from, as one JSON-able object."""

import dataclasses
import json
import os

from dgn_tf.data.placing import PlaceSettings
from dgn_tf.data.posing import PoseSettings
from dgn_tf.data.scene import SceneSettings
from dgn_tf.data.sensor import SensorSettings
from dgn_tf.errors import InputError
from dgn_tf.json_file import read_json

_SECTIONS = {
    "pose": PoseSettings,
    "place": PlaceSettings,
    "scene": SceneSettings,
    "sensor": SensorSettings,
}


@dataclasses.dataclass(frozen=True)
class SynthesisConfig:
    """What synthetic frames are drawn from; the defaults are the training distribution.

    Distances are in mm. `centre_jitter_mm` and `large_jitter_mm` are deviations per axis, cut off
    at twice their value, of the crop's centre from the centroid of the visible hand pixels.
    """

    note: str = ""  # for the reader of the file
    salt: int = 0  # kept apart by it: splits never share samples, whatever their seeds
    size: int = 64  # pixels of the crop's side
    cube_mm: float = 300.0
    centre_jitter_mm: float = 10.0
    large_jitter_mm: float = 18.0
    large_jitter_share: float = 0.25  # of frames
    min_hand_pixels: int = 100  # fewer visible ones: the frame is drawn again
    max_draws: int = 40  # after so many, the last one stands
    pose: PoseSettings = PoseSettings(scale_sigma=0.04)
    place: PlaceSettings = PlaceSettings()
    scene: SceneSettings = SceneSettings()
    sensor: SensorSettings = SensorSettings()

    def to_dict(self) -> dict:
        """A JSON-able dict; `from_dict` reads it back."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {k: v._asdict() if k in _SECTIONS else v for k, v in plain.items()}

    def to_json(self) -> str:
        """The config as text, a field per line; the same config gives the same text."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def from_dict(cls, values: dict, name: str = "synthesis config") -> "SynthesisConfig":
        """Reads a dict in which fields may be left out (default) but not misspelt.

        Raises:
            InputError: an unknown field or one of the wrong type, by `name` and field.
        """
        return cls(**_checked(values, cls(), name))

    @classmethod
    def load(cls, path: str | os.PathLike) -> "SynthesisConfig":
        """Reads a JSON file; InputError names the file and the field at fault."""
        try:
            values = read_json(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
        except ValueError as error:
            raise InputError(f"{path}: not JSON ({error}); mend or restore the file.") from error
        return cls.from_dict(values, str(path))


def _checked(values, defaults, name):
    """`values` as keyword arguments of the type of `defaults`, coerced to its fields' types."""
    if not isinstance(values, dict):
        raise InputError(f"{name}: wanted an object of settings, got {type(values).__name__}.")
    known = (
        defaults._asdict()
        if hasattr(defaults, "_asdict")
        else {f.name: getattr(defaults, f.name) for f in dataclasses.fields(defaults)}
    )
    result = {}
    for key, value in values.items():
        if key not in known:
            raise InputError(f"{name}: unknown setting {key!r}; known: {', '.join(known)}.")
        default = known[key]
        if key in _SECTIONS:
            result[key] = _SECTIONS[key](**_checked(value, _SECTIONS[key](), f"{name}: {key}"))
            continue
        numbers = value if isinstance(default, tuple) and isinstance(value, list) else [value]
        if isinstance(default, tuple) != isinstance(value, list | tuple) or not all(
            isinstance(v, str if isinstance(default, str) else int | float)
            and not isinstance(v, bool)
            for v in numbers
        ):
            raise InputError(f"{name}: {key} wants the form of {default!r}, got {value!r}.")
        if isinstance(default, tuple):
            kind = type(default[0])
            if len(value) != len(default) and key != "image_widths":
                raise InputError(f"{name}: {key} wants {len(default)} numbers, got {value!r}.")
            result[key] = tuple(kind(v) for v in value)
        else:
            result[key] = type(default)(value)
    return result
