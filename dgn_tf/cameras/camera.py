"""A depth camera as its frames want it: pinhole intrinsics of a size, and the lens's distortion."""

import dataclasses

from dgn_tf.errors import InputError

_SAME_SHAPE = 0.01  # relative difference of the scales across and down


@dataclasses.dataclass(frozen=True)
class Distortion:
    """Of a lens.

    Attributes:
        model: "brown_conrady" (OpenCV's order: k1, k2, p1, p2, k3, ...), "kannala_brandt" (k1 ..
            k4; fisheye, equidistant) or "inverse_brown_conrady" (librealsense: the same polynomial
            takes a pixel's ray to the pinhole's).
        coefficients: as many as the model is given.
    """

    model: str
    coefficients: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Camera:
    """Intrinsics and where they come from.

    Attributes:
        intrinsics: fx, fy, cx, cy in pixels; the middle of the first pixel is 0, 0.
        source: for messages, such as "camera_info.yaml" or "--intrinsics".
        size: width, height that they belong to; None: not known.
        distortion: None: a pinhole.
        file: the calibration that it was read of, or "".
    """

    intrinsics: tuple[float, float, float, float]
    source: str
    size: tuple[int, int] | None = None
    distortion: Distortion | None = None
    file: str = ""

    def of_size(self, width: int, height: int, file="the frame") -> "Camera":
        """The camera of frames of another size, of the same proportions.

        Raises:
            InputError: the frame has other proportions: it was cut, and nobody knows where.
        """
        if self.size in (None, (width, height)):
            return self
        across, down = width / self.size[0], height / self.size[1]
        if abs(across / down - 1) > _SAME_SHAPE:
            raise InputError(
                f"{file} has {width} x {height} pixels, but {self.source} is of "
                f"{self.size[0]} x {self.size[1]}, of other proportions; give the intrinsics of "
                "this size."
            )
        fx, fy, cx, cy = self.intrinsics
        scaled = (
            *(fx * across, fy * down),
            *((cx + 0.5) * across - 0.5, (cy + 0.5) * down - 0.5),
        )
        source = f"{self.source}, scaled from {self.size[0]} x {self.size[1]}"
        return dataclasses.replace(self, intrinsics=scaled, size=(width, height), source=source)
