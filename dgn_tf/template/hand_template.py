"""The hand model: mesh, skinning, bone frames, key points, shapes and mesh coordinates."""

import base64
import binascii
import dataclasses
import functools
import io
import pathlib
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from dgn_tf.errors import InputError
from dgn_tf.geometry import mirror
from dgn_tf.template import archive, checks
from dgn_tf.template.checks import HANDS
from dgn_tf.writing import write_output

DEFAULT_TEMPLATE_PATH = pathlib.Path(__file__).parent / "assets" / "makehuman_right.npz"
EMBEDDINGS = ("layered", "atlas", "mds")


def nyu_keypoint_names() -> tuple[str, ...]:
    """Returns the names of NYU's 36 key points in NYU's order; F1 is the little finger."""
    knuckles = ("KNU3_A", "KNU3_B", "KNU2_A", "KNU2_B", "KNU1_A", "KNU1_B")
    fingers = [
        f"{finger}_{knuckle}" for finger in ("F1", "F2", "F3", "F4", "TH") for knuckle in knuckles
    ]
    return (*fingers, *(f"PALM_{i}" for i in range(1, 7)))


EVALUATED = (0, 3, 6, 9, 12, 15, 18, 21, 24, 25, 27, 30, 31, 32)
"""The 14 of NYU's 36 key points over which the field reports its mean error."""


@dataclasses.dataclass(frozen=True, eq=False)
class Embedding:
    """Mesh coordinates: where the mesh lies on the mesh grid (Sec. 3.1).

    Attributes:
        mesh_coords: [V, 2] float32 column, row of each vertex in cells, cell centres at 0 .. G-1.
        vertex_layer: [V] int32, which of a cell's points the vertex reads: 0 palm side, 1 back.
        face_coords: [F, 3, 2] float32 corners to interpolate over a face. Those of a face that
            straddles a chart seam are all the same, so that no pixel gets a point between charts.
        face_layer: [F] int32.
        face_is_seam: [F] bool, the face straddles a chart seam: no loss or error counts its pixels.
    """

    mesh_coords: np.ndarray
    vertex_layer: np.ndarray
    face_coords: np.ndarray
    face_layer: np.ndarray
    face_is_seam: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class HandTemplate:
    """A right hand at rest, and how it moves. Arrays are read-only; lengths in mm, angles in rad.

    A left hand's template holds its mirror image, a right hand: networks, records and synthesis
    know right hands alone. `rest_mesh` gives the hand as it was.

    The template frame of the shipped hand is its palm's bone frame: origin at the wrist joint,
    x to the thumb, y to the back of the hand, z to the fingers.

    Attributes:
        name: short name of the hand.
        licence, source: of the geometry.
        embedding: the selected one of `embeddings`: 'layered', 'atlas' or 'mds'.
        grid_size: G, cells of the mesh grid on each axis.
        vertices: [V, 3] float32 mm, rest pose.
        faces: [F, 3] int32, counter-clockwise seen from outside; one component, a surface but
            for a few edges.
        wrist_loop: [N] int32 the vertices of the edges at which the hand ends, in order: its
            border, where it is open there.
        skinning_weights: [V, P] float32, rows sum to 1.
        part_names: P names; parents: [P] int32, the root's is itself, others precede their child.
        bone_from_template: [P, 4, 4] float32, B of Eq. 12: template mm to the bone's frame. Origin
            at the joint, z along the parent bone to the fingertip, x the flexion axis (a positive
            angle curls the finger into the palm), y the abduction axis.
        joint_limits: [P, 3, 2] float32 rad, lowest and highest angle about the bone frame's x, y, z
            from the rest pose, R = Rx Ry Rz; zero width where a joint has no such freedom.
        keypoints: [J, 3] float32 mm, rest pose; keypoint_weights: [J, P] float32, rows sum to 1.
        keypoint_names: J names; evaluated: int32 indices of those over which errors are reported.
        shape_names: K names; shape_basis [K, V, 3], shape_joints [K, P, 3], shape_keypoints
            [K, J, 3] float32 mm: offsets of vertices, joint origins and key points for one standard
            deviation.
        face_part: [F] int32, the part that moves the face most.
        stub_vertices: [Vs, 3] float32 mm, a forearm for rendering only; stub_faces: [Fs, 3] int32
            into concat(vertices, stub_vertices); stub_ring: [Vs] int32, ring of each stub vertex,
            1 next to the wrist loop. It follows the palm.
        embeddings: name to Embedding.
        handedness: "right" or "left", of the hand that the template was made of.
    """

    name: str
    licence: str
    source: str
    embedding: str
    grid_size: int
    vertices: np.ndarray
    faces: np.ndarray
    wrist_loop: np.ndarray
    skinning_weights: np.ndarray
    part_names: tuple[str, ...]
    parents: np.ndarray
    bone_from_template: np.ndarray
    joint_limits: np.ndarray
    keypoints: np.ndarray
    keypoint_weights: np.ndarray
    keypoint_names: tuple[str, ...]
    evaluated: np.ndarray
    shape_names: tuple[str, ...]
    shape_basis: np.ndarray
    shape_joints: np.ndarray
    shape_keypoints: np.ndarray
    face_part: np.ndarray
    stub_vertices: np.ndarray
    stub_faces: np.ndarray
    stub_ring: np.ndarray
    embeddings: Mapping[str, Embedding]
    handedness: str = "right"

    def __post_init__(self):
        for field, dtype in archive.ARRAYS.items():
            object.__setattr__(self, field, _frozen(getattr(self, field), dtype))
        for field in archive.NAME_LISTS:
            object.__setattr__(self, field, tuple(str(name) for name in getattr(self, field)))
        embeddings = {
            name: Embedding(
                **{
                    field: _frozen(getattr(embedding, field), dtype)
                    for field, dtype in archive.EMBEDDING_ARRAYS.items()
                }
            )
            for name, embedding in self.embeddings.items()
        }
        object.__setattr__(self, "embeddings", MappingProxyType(embeddings))
        object.__setattr__(self, "grid_size", int(self.grid_size))
        if self.embedding not in embeddings:
            raise InputError(
                f"template '{self.name}' has no embedding '{self.embedding}'; "
                f"choose one of {', '.join(embeddings)} (--embedding)."
            )

    @property
    def mesh_coords(self) -> np.ndarray:
        """[V, 2] of the selected embedding; see `Embedding`."""
        return self.embeddings[self.embedding].mesh_coords

    @property
    def vertex_layer(self) -> np.ndarray:
        """[V] of the selected embedding; see `Embedding`."""
        return self.embeddings[self.embedding].vertex_layer

    @property
    def face_coords(self) -> np.ndarray:
        """[F, 3, 2] of the selected embedding; see `Embedding`."""
        return self.embeddings[self.embedding].face_coords

    @property
    def face_layer(self) -> np.ndarray:
        """[F] of the selected embedding; see `Embedding`."""
        return self.embeddings[self.embedding].face_layer

    @property
    def face_is_seam(self) -> np.ndarray:
        """[F] of the selected embedding; see `Embedding`."""
        return self.embeddings[self.embedding].face_is_seam

    @property
    def num_layers(self) -> int:
        """Points that a cell of the mesh grid holds: 2 for 'layered', 1 else."""
        return 2 if self.embedding == "layered" else 1

    @functools.cached_property
    def hash(self) -> str:
        """sha256 (hex) of all names and arrays, all embeddings; not of which one is selected."""
        return archive.content_hash(self)

    @classmethod
    def load(cls, path, embedding: str | None = None) -> "HandTemplate":
        """Reads and validates a template.

        Args:
            path: of an .npz that `save` wrote.
            embedding: the one to select; None for the one that was selected when it was saved.

        Raises:
            InputError: the file is unreadable, of another format, or not a valid template.
        """
        try:
            data = pathlib.Path(path).read_bytes()
        except OSError as error:
            raise InputError(
                f"{path}: cannot read the hand template ({error.strerror}); pass the "
                "path of one that data_prep.build_template wrote."
            ) from None
        return cls.from_bytes(data, embedding, where=str(path))

    @classmethod
    def from_bytes(
        cls, data: bytes, embedding: str | None = None, where: str = "template"
    ) -> "HandTemplate":
        """Reads a template from the bytes of its .npz; `where` names them in errors."""
        fields = archive.read(io.BytesIO(data), where)
        fields["embedding"] = embedding or fields["embedding"]
        try:
            fields["embeddings"] = {
                name: Embedding(**arrays) for name, arrays in fields["embeddings"].items()
            }
            template = cls(**fields)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        except (OverflowError, TypeError, ValueError) as error:
            raise InputError(
                f"{where}: incomplete hand template ({error}); rebuild it with "
                "data_prep.build_template."
            ) from None
        template.validate(where)
        return template

    def to_bytes(self) -> bytes:
        """Returns the bytes of the .npz; the same content gives the same bytes."""
        buffer = io.BytesIO()
        archive.write(self, buffer)
        return buffer.getvalue()

    def save(self, path) -> None:
        """Writes the template; InputError where it can't be written."""
        write_output(path, self.to_bytes())

    def rest_mesh(self, hand: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The hand at rest as a mesh with outward normals.

        Args:
            hand: "right" or "left"; None: `handedness`. A left hand's x is that of the template
                negated.

        Returns:
            vertices [V, 3] mm, template frame, and faces [F, 3].

        Raises:
            ValueError: no such hand.
        """
        hand = self.handedness if hand is None else hand
        if hand not in HANDS:
            raise ValueError(f"rest_mesh wants one of {', '.join(HANDS)}, got {hand!r}.")
        if hand == "right":
            return self.vertices, self.faces
        return mirror.mirror_points(self.vertices), mirror.mirror_faces(self.faces)

    def with_embedding(self, name: str) -> "HandTemplate":
        """Returns the same hand with another embedding selected."""
        return self if name == self.embedding else dataclasses.replace(self, embedding=name)

    def validate(self, where: str = "template") -> None:
        """Raises InputError, naming the field, where the template contradicts itself."""
        checks.validate(self, where)

    def to_config(self) -> dict:
        """Returns a dict that goes into JSON and that `from_config` restores."""
        return {
            "npz": base64.b64encode(self.to_bytes()).decode("ascii"),
            "embedding": self.embedding,
        }

    @classmethod
    def from_config(cls, config: "HandTemplate | dict") -> "HandTemplate":
        """Restores what `to_config` returned; a HandTemplate passes through."""
        if isinstance(config, HandTemplate):
            return config
        try:
            data = base64.b64decode(config["npz"], validate=True)
            embedding = config["embedding"]
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise InputError(
                f"config of a HandTemplate wants 'npz' (base64) and 'embedding', got "
                f"{type(config).__name__} ({error!r})."
            ) from None
        return cls.from_bytes(data, embedding, where="template in the config")


def load_template(path=None, embedding: str | None = None) -> HandTemplate:
    """Loads a template, by default the one that ships; see `HandTemplate.load`."""
    return HandTemplate.load(path or DEFAULT_TEMPLATE_PATH, embedding)


def _frozen(array, dtype) -> np.ndarray:
    result = np.array(array, dtype)  # A copy: the caller's array stays writable.
    result.setflags(write=False)
    return result
