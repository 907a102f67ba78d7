"""A view in the browser, by `viser`: depth points and hands that move, a time line, a recording."""

import collections
import pathlib
import threading
import time
from typing import NamedTuple

import numpy as np

from dgn_tf.errors import InputError, reason
from dgn_tf.writing import output_file

RECORDINGS = (".html", ".viser")
_KEPT = 1800  # frames that the time line holds, the newest: about 65 KB each
_POINTS = 4000  # of a frame's depth that are drawn
_METRES = 1e-3
_REACH_MM = 350.0  # around hands: points there are drawn first
_SLOWEST_S, _FASTEST_S = 0.5, 1 / 60
_HIDDEN = np.full([1, 3], 1e4, np.float32)  # metres: nobody looks there


class Drawn(NamedTuple):
    """What one frame shows: points [N, 3], and of each hand in a slot its parts, metres."""

    time_s: float
    points: np.ndarray
    hands: tuple["DrawnHand | None", ...]
    frustum: tuple[float, float]  # vertical field of view, rad, and aspect


class DrawnHand(NamedTuple):
    """A hand: vertices [V, 3] and key points [J, 3] in metres, faces [F, 3] of its side, colours.

    The mesh has one colour, uint8 RGB [3], of its mean confidence; key points [J, 3] have theirs.
    """

    vertices: np.ndarray
    faces: np.ndarray
    keypoints: np.ndarray
    colour: np.ndarray
    keypoint_colours: np.ndarray


def drawn(frame, hands, slots: int = 2) -> Drawn:
    """What is drawn of a `LiveFrame` and the `TrackedHand`s in it.

    Points are spread evenly over the frame, more densely where hands are. Valid hands are coloured
    by confidence, red to green; others are not drawn.
    """
    shown = [hand for hand in hands if hand.valid]
    fy, width, height = float(frame.intrinsics[1]), frame.depth.shape[1], frame.depth.shape[0]
    parts: list[DrawnHand | None] = [None] * slots
    for hand in shown:
        slot = hand.identity % slots
        slot = slot if parts[slot] is None else parts.index(None)
        mesh = hand.mesh
        parts[slot] = DrawnHand(
            mesh.vertices * np.float32(_METRES),
            mesh.faces,
            mesh.keypoints * np.float32(_METRES),
            confidence_colours(mesh.confidence.mean()),
            confidence_colours(mesh.keypoint_confidence),
        )
    frustum = (2 * np.arctan(height / 2 / fy), width / height)
    points = _points(frame, [hand.mesh.centre for hand in shown])
    return Drawn(frame.time_s, points, tuple(parts), frustum)


def confidence_colours(confidence) -> np.ndarray:
    """uint8 RGB [..., 3] of confidences [...]: red at 0, yellow at 0.5, green at 1."""
    share = np.clip(np.asarray(confidence, np.float32), 0, 1)
    rgb = np.stack([2 - 2 * share, 2 * share, np.full_like(share, 0.25)], axis=-1)
    return (255 * rgb.clip(0, 1)).astype(np.uint8)


def _points(frame, centres) -> np.ndarray:
    """[_POINTS, 3] float16 metres, the last ones out of sight where there are fewer."""
    step = max(1, round((frame.depth.size / (4 * _POINTS)) ** 0.5))
    depth = frame.depth[::step, ::step]
    rows, columns = np.nonzero((depth > 0) & (depth < np.inf))  # NaN is neither
    z = depth[rows, columns].astype(np.float32) * np.float32(frame.unit)
    fx, fy, cx, cy = frame.intrinsics
    x, y = (columns * step - cx) / fx * z, (rows * step - cy) / fy * z
    points = np.stack([x, y, z], axis=1).astype(np.float32)
    if len(points) > _POINTS:
        near = np.zeros(len(points), bool)
        for centre in centres:
            near |= (np.abs(points - centre) < _REACH_MM / 2).all(axis=1)
        order = np.argsort(~near, kind="stable")
        first = min(int(near.sum()), _POINTS * 3 // 4)
        rest = order[first:]
        points = points[
            np.concatenate(
                [order[:first], rest[np.linspace(0, len(rest) - 1, _POINTS - first).astype(int)]]
            )
        ]
    out = np.repeat(_HIDDEN, _POINTS, axis=0)
    out[: len(points)] = points * np.float32(_METRES)
    return out.astype(np.float16)  # half a millimetre


def import_viser():
    """The library; InputError that names the extra where it is missing."""
    try:
        import viser
    except ImportError:
        raise InputError(
            "--viewer=viser wants viser: install the extra `live`, or give --viewer=none."
        ) from None
    return viser


class Viewer:
    """A page at http://HOST:PORT. A thread of its own draws: `show` never waits.

    Args:
        host: that is listened on.
        port: likewise; taken ones are passed over.
        record: an .html or .viser file for `close` to write, or "".

    Raises:
        InputError: no viser, the address can't be listened on, or another ending.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 8080, record: str = ""):
        viser = import_viser()
        check_recording(record)
        try:
            self._server = viser.ViserServer(host=host, port=port, verbose=False)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"--host={host} --port={port} can't be listened on: {reason(error)}; name another."
            ) from None
        self.address = f"http://{host}:{self._server.get_port()}"
        self._record = record
        self._history: collections.deque[Drawn] = collections.deque(maxlen=_KEPT)
        self._change = threading.Condition()
        self._fresh, self._closed, self.drawn = False, False, 0
        self._written_s: float | None = None
        self._build()
        self._serializer = self._server.get_scene_serializer() if record else None
        self._thread = threading.Thread(target=self._draw_all, daemon=True, name="viewer")
        self._thread.start()

    def _build(self) -> None:
        """The scene and the controls, empty."""
        server, scene, gui = self._server, self._server.scene, self._server.gui
        scene.set_up_direction("-y")
        server.initial_camera.position = (0.15, -0.15, -0.1)
        server.initial_camera.look_at = (0.0, 0.0, 0.6)
        points = np.repeat(_HIDDEN, _POINTS, axis=0)
        self._cloud = scene.add_point_cloud(
            "/points", points.astype(np.float16), (120, 130, 150), point_size=0.002
        )
        self._frustum = scene.add_camera_frustum("/camera", 0.9, 4 / 3, scale=0.03, thickness=0.002)
        self._seen_by: tuple[float, float] | None = None
        self._hands: dict[int, tuple] = {}
        self._play = gui.add_checkbox("Play", True)
        self._slider = gui.add_slider("Frame", 0, 1, 1, 0)
        self._said = gui.add_html("no frame yet")
        self._play.on_update(lambda _: self._wake())
        self._slider.on_update(self._slid)

    def _slid(self, event) -> None:
        if event.client is not None:  # by hand: hold still there
            self._play.value = False
            self._wake()

    def _wake(self) -> None:
        with self._change:
            self._fresh = True
            self._change.notify()

    def show(self, frame, hands) -> None:
        """Hands a `LiveFrame` and its `TrackedHand`s to the thread that draws."""
        one = drawn(frame, hands)
        with self._change:
            self._history.append(one)
            self._fresh = True
            self._change.notify()

    def _draw_all(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._fresh or self._closed, _SLOWEST_S)
                if self._closed:
                    return
                fresh, self._fresh = self._fresh, False
                count = len(self._history)
                playing = self._play.value
                place = count - 1 if playing else min(int(self._slider.value), count - 1)
                one = self._history[place] if fresh and count else None
            if one is None:
                continue
            if playing:
                self._slider.max = max(count - 1, 1)
                self._slider.value = place
            self._draw(one)
            time.sleep(_FASTEST_S)

    def _draw(self, one: Drawn) -> None:
        with self._server.atomic():
            self._cloud.points = one.points
            if one.frustum != self._seen_by:  # the page builds it anew each time
                self._seen_by = one.frustum
                self._frustum.fov, self._frustum.aspect = one.frustum
            for slot, hand in enumerate(one.hands):
                self._draw_hand(slot, hand)
        shown = sum(hand is not None for hand in one.hands)
        self._said.content = f"{one.time_s:.2f} s, {shown} hands"
        if self._serializer is not None:
            gap = 0.0 if self._written_s is None else one.time_s - self._written_s
            self._serializer.insert_sleep(min(max(gap, 0.0), 1.0))
            self._written_s = one.time_s
        self.drawn += 1

    def _draw_hand(self, slot: int, hand: DrawnHand | None) -> None:
        handles = self._hands.get(slot)
        if hand is None:
            for handle in handles[:2] if handles else ():
                handle.visible = False
            return
        if handles is None or not np.array_equal(handles[2], hand.faces):  # a hand, or its side
            scene = self._server.scene
            colour = tuple(hand.colour.tolist())
            mesh = scene.add_mesh_simple(
                *(f"/hand_{slot}", hand.vertices, hand.faces),
                color=colour,
                cast_shadow=False,
                receive_shadow=False,
            )
            joints = scene.add_point_cloud(
                *(f"/keypoints_{slot}", hand.keypoints, hand.keypoint_colours),
                point_size=0.005,
                precision="float32",
            )
            self._hands[slot] = (mesh, joints, hand.faces)
            return
        mesh, joints, _ = handles
        mesh.vertices, mesh.color = hand.vertices, tuple(hand.colour.tolist())
        joints.points, joints.colors = hand.keypoints, hand.keypoint_colours
        mesh.visible = joints.visible = True

    def close(self) -> None:
        """Writes the recording, if one is wanted, and stops; InputError: it can't be written."""
        with self._change:
            self._closed = True
            self._change.notify()
        self._thread.join(_SLOWEST_S * 4)
        try:
            if self._serializer is not None:
                self._write(self._serializer)
        finally:
            self._server.stop()

    def _write(self, scene) -> None:
        scene.insert_sleep(1.0)  # the last frame stays a while before it begins again
        with output_file(self._record, "--record") as beside:
            if pathlib.Path(self._record).suffix == ".html":
                beside.write_text(scene.as_html())
            else:
                beside.write_bytes(scene.serialize())


def check_recording(record: str) -> None:
    """InputError unless --record is empty or of an ending that can be written."""
    if record and pathlib.Path(record).suffix not in RECORDINGS:
        raise InputError(f"--record={record}: wanted a name that ends in {', '.join(RECORDINGS)}.")
