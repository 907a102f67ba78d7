"""Sizes and choices of `DualGridNet`, and the two sets of them that have a name."""

import dataclasses

from dgn_tf.errors import InputError

# Of a crop, by name; `DualGridNet` says what each is.
NETWORK_INPUTS = ("depth", "intrinsics", "centre", "cube")


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Sizes and choices of `DualGridNet`; the mesh grid's size belongs to the template.

    Attributes:
        image_size: side of the square depth crop, pixels.
        shuffle: factor of the pixel shuffle on both grids (Sec. 3.6).
        image_channels: channels of the image hourglass, finest level first.
        mesh_channels: likewise of the mesh hourglass.
        blocks: residual blocks at each level on the way down.
        block: `plain` (3x3, 3x3) or `bottleneck` (1x1, 3x3, 1x1) residual blocks.
        norm: `batch` or `none`, of the image hourglass.
        mesh_norm: likewise of the mesh hourglass, whose inputs vary most in size.
        activation: `relu`, or `leaky_relu`, which has no dead zone (a tenth below 0).
        features: channels of the feature map I_f.
        kernel: cells on a side of the window of extension and sampling.
        sigma: of Eq. 2, per squared cell.
        normalise_extension: divide the extended features by their total weight, and add
            its logarithm as a channel; Eq. 1 as it stands otherwise.
        extension_stride: 1 extends every pixel; 2 extends of each 2x2 block the pixel
            nearest to the camera, a quarter of the work.
        points: extend each pixel's own x, y, z beside its features, and give the image
            network x, y, z and the mask; otherwise it sees the depth alone.
        normals: give the image network every pixel's surface normal.
        upright: let the networks see every hand straight on and its palm upright, see
            `dgn_tf.geometry.upright`; the palm's direction is found first.
        rest_map: give the mesh network the template's own coordinate map at rest.
        scale: how SimilarityFit finds the scale, see `dgn_tf.geometry.similarity`.
    """

    image_size: int = 64
    shuffle: int = 2
    image_channels: tuple[int, ...] = (32, 64, 96, 128)
    mesh_channels: tuple[int, ...] = (96, 128)
    blocks: int = 1
    block: str = "plain"
    norm: str = "none"
    mesh_norm: str = "batch"
    activation: str = "relu"
    features: int = 32
    kernel: int = 8
    sigma: float = 0.5
    normalise_extension: bool = True
    extension_stride: int = 2
    points: bool = True
    normals: bool = True
    upright: bool = True
    rest_map: bool = True
    scale: str = "umeyama"

    def __post_init__(self):
        for name in ("image_channels", "mesh_channels"):
            object.__setattr__(self, name, tuple(int(c) for c in getattr(self, name)))
        smallest = self.shuffle * 2 ** (len(self.image_channels) - 1)
        if self.image_size < 1 or self.image_size % smallest:
            raise InputError(
                f"image_size {self.image_size} is not a multiple of {smallest}, which "
                f"shuffle {self.shuffle} and {len(self.image_channels)} levels ask for."
            )
        if self.extension_stride not in (1, 2):
            raise InputError(f"extension_stride is 1 or 2, not {self.extension_stride}.")


# Without a norm Muon's steps let activations grow to 1e5 and more, and ReLUs shut for good. Both
# choices learn faster from random weights (experiments/README.md), and cost a model nothing.
_DEFAULT = NetworkConfig(norm="batch", activation="leaky_relu")

PRESETS = {
    "default": _DEFAULT,
    # Sec. 3.6 as far as the paper says; what it leaves open (channels, blocks) is the default's.
    "paper": dataclasses.replace(
        _DEFAULT,
        normalise_extension=False,
        extension_stride=1,
        points=False,
        normals=False,
        upright=False,
        rest_map=False,
    ),
}
