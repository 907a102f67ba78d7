"""SynthesisConfig: every range and share that synthesis samples from, as one JSON-able object."""

import dataclasses
import json
import os

from dgn_tf.errors import InputError
from dgn_tf.json_file import read_json
from dgn_tf.shipped import config_file
from dgn_tf.synthesis.placing import PlaceSettings
from dgn_tf.synthesis.posing import PoseSettings
from dgn_tf.synthesis.scene import SceneSettings
from dgn_tf.synthesis.sensor import STEREO, STRUCTURED_LIGHT, TIME_OF_FLIGHT, SensorSettings

_SECTIONS = {
    "pose": PoseSettings,
    "place": PlaceSettings,
    "scene": SceneSettings,
    "sensor": SensorSettings,
    "structured_light": SensorSettings,
    "stereo": SensorSettings,
    "time_of_flight": SensorSettings,
}
# What a file of version 1 does not have, by section; "" are the config's own.
_SINCE_VERSION_2 = {
    "": ("version", "sensor_shares", "structured_light", "stereo", "time_of_flight"),
    "pose": ("measures_spread", "tucked_share"),
    "place": ("wrist_bend_mm",),
    "scene": ("table_share", "table_tilt_degrees", "table_gap_mm"),
    "sensor": (
        "widen_share",
        "widen_mm",
        "complete_share",
        "window_px",
        "window_mm",
        "window_reach_mm",
    ),
}


@dataclasses.dataclass(frozen=True)
class SynthesisConfig:
    """What synthetic frames are drawn from; the defaults are the training distribution.

    Version 2 draws hands as large and broad as people's, bent at the wrist's joint, on tables too,
    as several kinds of sensors see them. Version 1, that of files without a version, has none of
    that and gives the bytes that it always gave.

    Distances are in mm. `centre_jitter_mm` and `large_jitter_mm` are deviations per axis, cut off
    at twice their value, of the crop's centre from the centroid of the visible hand pixels.
    """

    version: int = 2
    note: str = ""  # for the reader of the file
    salt: int = 0  # kept apart by it: splits never share samples, whatever their seeds
    size: int = 64  # pixels of the crop's side
    cube_mm: float = 300.0
    centre_jitter_mm: float = 10.0
    large_jitter_mm: float = 18.0
    large_jitter_share: float = 0.25  # of frames
    min_hand_pixels: int = 100  # fewer visible ones: the frame is drawn again
    max_draws: int = 40  # after so many, the last one stands
    pose: PoseSettings = PoseSettings(
        uniform_share=0.2,
        gesture_shares=(0.16, 0.18, 0.2, 0.14, 0.1, 0.1, 0.06, 0.06),
        shape_clip=2.5,
        measures_spread=2.0,
        tucked_share=0.6,
    )
    place: PlaceSettings = PlaceSettings(
        uniform_rotation_share=0.7,
        wrist_straight_share=0.1,
        distance_mm=(280.0, 1100.0),
        wrist_bend_mm=15.0,
    )
    scene: SceneSettings = SceneSettings(background_gap_mm=(3.0, 700.0), table_share=0.4)
    sensor: SensorSettings = SensorSettings(
        clean_share=0.0,
        correlated_at_1m_mm=(0.1, 4.0),
        axial_mm=(0.03, 1.0),
        axial_at_1m_mm=(0.1, 4.0),
        smooth_share=0.45,
        widen_share=0.3,
        widen_mm=(0.0, 2.0),
        complete_share=0.4,
    )
    # How often each of `sensors` is drawn.
    sensor_shares: tuple[float, ...] = (0.25, 0.3, 0.27, 0.18)
    structured_light: SensorSettings = STRUCTURED_LIGHT
    stereo: SensorSettings = STEREO
    time_of_flight: SensorSettings = TIME_OF_FLIGHT

    @classmethod
    def version_1(cls) -> "SynthesisConfig":
        """The training distribution of version 1."""
        return cls(
            version=1,
            pose=PoseSettings(scale_sigma=0.04),
            place=PlaceSettings(),
            scene=SceneSettings(),
            sensor=SensorSettings(),
            sensor_shares=(1.0, 0.0, 0.0, 0.0),
        )

    @property
    def sensors(self) -> tuple[SensorSettings, ...]:
        """The kinds of sensors, in the order of `dgn_tf.synthesis.sensor.SENSORS`."""
        kinds = (self.sensor, self.structured_light, self.stereo, self.time_of_flight)
        # One type for all of them, whatever numbers they were made of: a kernel picks one.
        return tuple(
            SensorSettings._make(
                tuple(map(float, v)) if isinstance(v, tuple) else float(v) for v in kind
            )
            for kind in kinds
        )

    def to_dict(self) -> dict:
        """A JSON-able dict; `from_dict` reads it back."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain = {k: v._asdict() if k in _SECTIONS else v for k, v in plain.items()}
        if self.version == 1:  # as files of version 1 have always been
            for name in _SINCE_VERSION_2[""]:
                del plain[name]
            for section, names in _SINCE_VERSION_2.items():
                for name in names if section else ():
                    del plain[section][name]
        return plain

    def to_json(self) -> str:
        """The config as text, a field per line; the same config gives the same text."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def from_dict(cls, values: dict, name: str = "synthesis config") -> "SynthesisConfig":
        """Reads a dict in which fields may be left out (default) but not misspelt.

        Raises:
            InputError: an unknown field or one of the wrong type, by `name` and field.
        """
        if not isinstance(values, dict):
            raise InputError(f"{name}: wanted an object of settings, got {type(values).__name__}.")
        version = values.get("version", 1)
        if version not in (1, 2) or isinstance(version, bool):
            raise InputError(f"{name}: version is 1 or 2 here, got {version!r}.")
        if version == 1:
            _refuse_newer(values, name)
        config = cls() if version == 2 else cls.version_1()
        config = dataclasses.replace(config, **_checked(values, config, name))
        if min(config.sensor_shares) < 0 or not sum(config.sensor_shares) > 0:
            raise InputError(f"{name}: sensor_shares wants shares of 0 and more, not all 0.")
        return config

    @classmethod
    def load(cls, path: str | os.PathLike) -> "SynthesisConfig":
        """Reads a JSON file; InputError names the file and the field at fault."""
        path = config_file(str(path))
        try:
            values = read_json(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
        except ValueError as error:
            raise InputError(f"{path}: not JSON ({error}); mend or restore the file.") from error
        return cls.from_dict(values, str(path))


def _refuse_newer(values, name):
    """InputError where a dict of version 1 sets what version 2 brought."""
    for section, newer in _SINCE_VERSION_2.items():
        found = values.get(section, {}) if section else values
        for key in found if isinstance(found, dict) else ():
            if key in newer and key != "version":
                where = f"{section}: {key}" if section else key
                raise InputError(f'{name}: {where} wants "version": 2 in the file.')


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
            # A section of version 1 that is there at all begins with plain defaults.
            section = _SECTIONS[key]() if defaults.version == 1 else getattr(defaults, key)
            result[key] = section._replace(**_checked(value, section, f"{name}: {key}"))
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
