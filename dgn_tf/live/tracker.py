"""From frames to hands that keep their identity: crops that follow, sides and losses decided."""

import collections
import concurrent.futures
import dataclasses
import math

import numpy as np

from dgn_tf.errors import InputError, reason
from dgn_tf.hand_side import Side, decide
from dgn_tf.live.looking import NEAR_MM, Crop, Frame, Looker, Seen, frame_of
from dgn_tf.live.steadiness import FILTERS, PosedTemplate, SteadyHand
from dgn_tf.predictor import HANDS, HandMesh, HandMeshPredictor, check_intrinsics

_HOLD_MM = 6.0  # a crop's centre stays while the hand's is so near: still hands see still crops
_REACH_MM = 200.0  # of a hand that was just lost, from where it went
_SAME_MM = 60.0  # two hands' middles are no nearer
_HELD = (0.2, 0.6)  # confidence and fit below which a hand is lost
_FOUND = (0.6, 0.85)  # from which it is found,
_AGAIN = (0.3, 0.7)  # and where it was lost a moment ago
_BREAK_S = 0.5  # between frames: motion before says nothing
_SEARCH_S = 1.0  # between looks for a further hand; so long after a change at every frame
_VELOCITY_S = 0.1  # over which a hand's velocity is taken
_COAST_S = 1.0  # a hidden hand goes on as it went, ever slower
_SURE, _ASK_S = 0.99, 0.5  # of the side: probability; seconds between frames asked once it is
_LEAST = 5  # frames that say anything of the side
_WHOLE = 0.6  # of the surface, seen: less says nothing of the side
_REMEMBERED = 48  # frames' evidence of the side


@dataclasses.dataclass(frozen=True, eq=False)
class TrackedHand:
    """A hand in a frame.

    Attributes:
        identity: 0, 1, ...: the same hand has the same one as long as it is known.
        valid: whether the pose is this frame's; else it is the last that was seen.
        mesh: `HandMesh`, filtered, of the side decided so far.
        fit: share of the surface before which nothing is but the depth's own, 0..1.
        seen: share of the surface towards the camera that the depth shows, 0..1.
        side_sure: probability of `mesh.hand`, 0.5..1.
        seen_s: time stamp of the frame that the pose is of.
    """

    identity: int
    valid: bool
    mesh: HandMesh
    fit: float
    seen: float
    side_sure: float
    seen_s: float

    @property
    def confidence(self) -> float:
        """Mean over the vertices, 0..1."""
        return float(self.mesh.confidence.mean())


class _Track:
    """One hand through time; `steady` filters it, or is None."""

    def __init__(self, identity: int, seen: Seen, steady: SteadyHand | None):
        self.identity, self._steady = identity, steady
        self.hand = seen.mesh.hand  # as which it is looked at now
        self.known = ""  # the side that is sure
        self.valid, self.met = False, False
        self.found_anew = False  # and not yet sure that it is the hand that was lost
        self.evidence: collections.deque[float] = collections.deque(maxlen=_REMEMBERED)
        self.velocity = np.zeros(3)  # mm/s
        self.middle = seen.middle
        self.seen_s, self.asked_s, self.found_s = -math.inf, -math.inf, -math.inf

    def take(self, seen: Seen, time_s: float) -> None:
        """The frame's pose becomes the track's."""
        gap = time_s - self.seen_s
        if not self.valid:
            self.found_s = time_s
        if 0 < gap <= _BREAK_S:
            if seen.seen >= _WHOLE:  # of a hand that is half hidden it says less than before
                share = 1 - math.exp(-gap / _VELOCITY_S)
                self.velocity += share * ((seen.middle - self.middle) / gap - self.velocity)
        else:
            self.velocity = np.zeros(3)
        if self._steady is not None and seen.mesh.hand != self.hand:
            self._steady.restart()
        self.hand, self.last, self.middle = seen.mesh.hand, seen, seen.middle
        self.seen_s, self.valid = time_s, True
        self.mesh = seen.mesh if self._steady is None else self._steady(seen.mesh, time_s)
        if seen.evidence is not None and seen.seen >= _WHOLE:
            self.asked_s = time_s
            self.evidence.append(seen.evidence)

    def begin_anew(self, time_s: float) -> None:
        """Time jumped: the motion says nothing, and nothing was seen later than now."""
        self.velocity = np.zeros(3)
        self.seen_s, self.asked_s = min(self.seen_s, time_s), min(self.asked_s, time_s)
        self.found_s = min(self.found_s, time_s)

    def ask_anew(self) -> None:
        """Its side is asked again: it may be another hand."""
        self.evidence.clear()
        self.asked_s = -math.inf

    def says(self) -> Side | None:
        """The side that the frames say since it was asked anew; None: they are too few."""
        return decide(self.evidence) if len(self.evidence) >= _LEAST else None

    def turn(self, hand: str) -> None:
        """It is looked at as the other side's hand."""
        if hand != self.hand and self._steady is not None:
            self._steady.restart()
        self.hand = hand

    def moved(self, time_s: float) -> np.ndarray:
        """[3] mm by which the hand has gone on since it was seen, as far as is known."""
        gap = time_s - self.seen_s
        if not 0 < gap:
            return np.zeros(3)
        return self.velocity * _COAST_S * (1 - math.exp(-gap / _COAST_S))

    def outline(self) -> tuple[np.ndarray, str]:
        """Vertices [V, 3] mm as last seen, and the hand whose faces they have."""
        return self.last.mesh.vertices, self.hand

    def shown(self) -> TrackedHand:
        sure = decide(self.evidence).probability if self.evidence else 0.5
        return TrackedHand(
            *(self.identity, self.valid, self.mesh, self.last.fit, self.last.seen),
            *(sure, self.seen_s),
        )


class HandTracker:
    """Follows hands through the frames of a depth camera.

        tracker = dgn_tf.HandTracker(intrinsics=(475, 475, 319.5, 239.5))
        for depth_mm, time_s in frames:
            for hand in tracker(depth_mm, time_s):
                print(hand.identity, hand.valid, hand.mesh.keypoints_by_name())

    A crop follows each hand; the whole frame is searched where one is lost and, for a further one,
    every second.

    Args:
        saved_model: folder of an exported model, or a `HandMeshPredictor`; None: the shipped one.
        intrinsics: default fx, fy, cx, cy of the frames, pixels.
        max_hands: 1 or 2.
        hand: "right" or "left" where all are; "auto": decided over time, each.
        filter: "one_euro" or "none", see `SteadyHand`.
        background: while a hand is held, a thread searches for a further one, which is looked at
            in a later frame: none waits. Which frame that is depends on the machine.

    Attributes:
        model: the `HandMeshPredictor` whose signatures are run.
        template: its `HandTemplate`.

    Raises:
        InputError: no such model, or it has no signatures `crop` and `locate`; a wrong argument.
    """

    def __init__(
        self,
        saved_model=None,
        intrinsics=None,
        max_hands: int = 2,
        hand: str = "auto",
        filter: str = "one_euro",
        background: bool = False,
    ):
        if max_hands not in (1, 2):
            raise InputError(f"max_hands is {max_hands!r}; wanted 1 or 2.")
        if hand not in HANDS or filter not in FILTERS:
            raise InputError(
                f"hand {hand!r} and filter {filter!r}: wanted one of {', '.join(HANDS)} and of "
                f"{', '.join(FILTERS)}."
            )
        given = isinstance(saved_model, HandMeshPredictor)
        self.model = saved_model if given else HandMeshPredictor(saved_model)
        for signature in ("crop", "locate"):
            self.model.check_signature(signature)
        self._intrinsics = None if intrinsics is None else check_intrinsics(intrinsics)
        self._most, self._hand = max_hands, hand
        info = self.model.description.info
        if "image_size" not in info:  # exported before it was told
            raise InputError(f"--saved_model {self.model.folder}: export it anew to track hands.")
        self._look = Looker(self.model, float(info["cube_mm"]), int(info["image_size"]))
        self.template = self.model.template
        self._posed = PosedTemplate(self.template) if filter != "none" else None
        self._tracks: list[_Track] = []
        self._made, self._searched_s, self._time_s = 0, -math.inf, -math.inf
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "search") if background else None
        self._searching: concurrent.futures.Future | None = None

    @property
    def localised(self) -> int:
        """How often the whole frame was searched."""
        return self._look.located

    def __call__(
        self, depth, time_s: float, intrinsics=None, unit: float = 1.0
    ) -> list[TrackedHand]:
        """The hands known so far, in the order of their identities.

        Args:
            depth: [H, W] integers or floats, `unit` mm a step; 0, negative, NaN, inf = missing.
            time_s: when the frame was taken; seconds, larger than the frame's before.
            intrinsics: fx, fy, cx, cy in pixels; the constructor's where None.
            unit: mm.

        Raises:
            InputError: an argument is of the wrong kind, intrinsics are missing, or the search in
                the background failed.
        """
        intrinsics = self._intrinsics if intrinsics is None else check_intrinsics(intrinsics)
        frame = frame_of(depth, intrinsics, unit)
        if not 0 < time_s - self._time_s <= _BREAK_S:
            for track in self._tracks:
                track.begin_anew(time_s)
            self._searched_s = -math.inf
        self._time_s = time_s
        self._follow(frame, time_s)
        self._search(frame, time_s)
        return [track.shown() for track in sorted(self._tracks, key=lambda one: one.identity)]

    def _follow(self, frame: Frame, time_s: float) -> None:
        """Looks for each hand where it was going to be."""
        tracks = [track for track in self._tracks if time_s - track.seen_s <= _BREAK_S]
        moved = [track.moved(time_s) for track in tracks]
        for track in self._tracks:
            if track not in tracks:
                track.valid = False
        if not tracks:
            return
        crops = [
            self._look.cut(frame, self._centre(track, step))
            for track, step in zip(tracks, moved, strict=True)
        ]
        self._share_out(tracks, moved, crops)
        jobs = []
        for track, crop in zip(tracks, crops, strict=True):
            jobs.append((crop, track.hand, self._asks(track, time_s)))
        found = self._look.see(frame, jobs)
        for seen, track in zip(self._apart(found, tracks, moved), tracks, strict=True):
            if seen is None or not seen.good(_HELD):
                track.valid = False
                continue
            track.take(seen, time_s)
            if seen.evidence is not None:
                self._decide_side(track)
        self._note_meetings()

    def _centre(self, track: _Track, step) -> np.ndarray:
        """Of the crop: the one before where the hand has hardly moved from it."""
        middle = track.middle + step
        centre = track.last.mesh.centre
        if np.linalg.norm(middle - centre) > _HOLD_MM:
            centre = middle
        return np.array([centre[0], centre[1], max(centre[2], 50.0)])

    def _asks(self, track: _Track, time_s: float) -> bool:
        """Whether the frame is asked for the hand's side."""
        if self._hand != "auto":
            return False
        sure = (side := track.says()) is not None and side.probability >= _SURE
        return not sure or time_s - track.asked_s >= _ASK_S

    def _share_out(self, tracks, moved, crops) -> None:
        """Takes out of each crop the pixels that are another hand's, as it will have moved."""
        for own, crop in enumerate(crops):
            for other, track in enumerate(tracks):
                away = track.middle + moved[other] - crop.centre
                # Where a hidden hand is by now is a guess: it takes no pixel from one that is seen.
                if other == own or not track.valid or np.abs(away).max() > self._look.cube_mm:
                    continue
                to_theirs, to_ours = (
                    np.abs(crop.depth - self._surface(tracks[one], moved[one], crop))
                    for one in (other, own)
                )
                # Around both there are pixels that only the motion's error puts beside them.
                crop.depth[(to_theirs < 2 * NEAR_MM) & (to_theirs < to_ours)] = 0.0

    def _surface(self, track: _Track, step, crop: Crop) -> np.ndarray:
        """[S, S] mm where a crop is to show a hand that went on by `step`; inf elsewhere."""
        vertices = track.last.mesh.vertices + step.astype(np.float32)
        return self._look.surface(vertices, track.hand, crop.depth, crop.intrinsics)

    def _apart(self, found, tracks, moved):
        """What was found; of two that show the same hand, the one that went on as it went."""
        seen = list(found)
        if len(seen) == 2 and all(one is not None and one.good(_HELD) for one in seen):
            if np.linalg.norm(seen[0].middle - seen[1].middle) < _SAME_MM:
                away = [
                    np.linalg.norm(one.middle - track.middle - step)
                    for one, track, step in zip(seen, tracks, moved, strict=True)
                ]
                seen[int(np.argmax(away))] = None
        return seen

    def _note_meetings(self) -> None:
        """Hands that have been close are asked anew which side they are of: they may be swapped."""
        if len(self._tracks) < 2:
            return
        first, second = self._tracks
        away = np.linalg.norm(first.middle - second.middle)
        for track in self._tracks:
            if away < self._look.cube_mm / 2 or not track.valid:
                track.met = True
            elif track.met:
                track.met = False
                track.ask_anew()

    def _decide_side(self, track: _Track) -> None:
        """What the frames asked so far say; a hand that was lost or met another may be another."""
        side = track.says()
        if side is None or side.probability < _SURE:
            if side is not None and (track.found_anew or not track.known):
                track.turn(side.hand)
            return
        anew, track.found_anew = track.found_anew, False
        if track.known in ("", side.hand):
            track.known = side.hand
        elif anew:
            track.identity, track.known = self._new_identity(), side.hand
        elif len(track.evidence) == _REMEMBERED:  # what was sure before was wrong
            track.known = side.hand
        else:
            self._swap_back(track)
        track.turn(track.known)

    def _swap_back(self, track: _Track) -> None:
        """Two hands that met and now each look like the other took each other's place."""
        for other in self._tracks:
            side = other.says()
            if other is track or side is None or side.probability < _SURE:
                continue
            if side.hand == track.known and other.known != track.known:
                track.identity, other.identity = other.identity, track.identity
                track.known, other.known = other.known, track.known
                other.turn(other.known)

    def _new_identity(self) -> int:
        self._made += 1
        return self._made - 1

    def _search_is_due(self, time_s: float) -> bool:
        valid = sum(track.valid for track in self._tracks)
        if valid == self._most:
            return False
        if not valid:
            return True
        # Just after one was lost, or the first was found: hands come and go together.
        changed = max(track.found_s if track.valid else track.seen_s for track in self._tracks)
        return time_s - min(changed, time_s) < _SEARCH_S or (
            time_s - self._searched_s >= _SEARCH_S - 1e-6
        )

    def _search(self, frame: Frame, time_s: float) -> None:
        """Looks for hands in the whole frame where it is time to, and at what a thread found."""
        held = [track.outline() for track in self._tracks if track.valid]
        if self._searching is not None:
            # Without a hand there is nothing to keep up with. Never two searches at once: not
            # every runtime bears that.
            if held and not self._searching.done():
                return
            searching, self._searching = self._searching, None
            self._look_at(_found_by(searching), frame, time_s)
            held = [track.outline() for track in self._tracks if track.valid]
        if not self._search_is_due(time_s):
            return
        self._searched_s = time_s
        locate, inputs = self._look.locate, (frame.millimetres(), frame.intrinsics, held)
        if held and self._thread is not None:
            self._searching = self._thread.submit(locate, *inputs)
        else:
            self._look_at(locate(*inputs), frame, time_s)

    def _look_at(self, places, frame: Frame, time_s: float) -> None:
        """Begins the hands that are at the likeliest of the places, as many as are missing."""
        missing = self._most - sum(track.valid for track in self._tracks)
        for centre in places[:missing]:
            gone = self._just_lost(centre, time_s)
            hand = self._hand if self._hand != "auto" else gone.hand if gone else ""
            seen = self._found(frame, centre, hand, _AGAIN if gone else _FOUND)
            # What lies where the hand can't have got is not it: a hidden hand's like, in clothes.
            if seen is not None and (gone is None or self._just_lost(seen.middle, time_s) is gone):
                self._begin(seen, gone, time_s)

    def _just_lost(self, place, time_s: float) -> _Track | None:
        """The hand that was lost a moment ago and can be at a place by now."""
        for track in self._tracks:
            if not track.valid and time_s - track.seen_s <= _SEARCH_S:
                if np.linalg.norm(track.middle + track.moved(time_s) - place) < _REACH_MM:
                    return track
        return None

    def _found(self, frame: Frame, centre, hand: str, least) -> Seen | None:
        """The hand at a place of the localiser's, of a side or of the likelier, if one is there."""
        held = [track for track in self._tracks if track.valid]
        for _ in range(2):  # the mesh tells better than the votes where the hand's middle is
            if any(np.linalg.norm(track.middle - centre) < _SAME_MM for track in held):
                return None
            crop = self._look.cut(frame, centre)
            for track in held:
                self._look.take_out(*track.outline(), crop.depth, crop.intrinsics)
            seen = self._look.see(frame, [(crop, hand, False)])[0]
            if seen is None:
                return None
            centre = seen.middle
            if seen.good(least):
                if least is _FOUND and not self._look.believed(seen, crop):
                    return None
                alone = all(np.linalg.norm(track.middle - centre) >= _SAME_MM for track in held)
                return seen if alone else None
        return None

    def _begin(self, seen: Seen, gone: _Track | None, time_s: float) -> None:
        """A hand that was found is one that was just lost, one lost before, or a further one."""
        if gone is not None:
            gone.take(seen, time_s)
            return
        lost = [track for track in self._tracks if not track.valid]
        if lost:
            track = min(lost, key=lambda one: self._strangeness(one, seen))
            if len(self._tracks) == self._most or track.known in ("", seen.mesh.hand):
                track.ask_anew()
                track.found_anew = True
                track.take(seen, time_s)
                return
        steady = None if self._posed is None else SteadyHand(self._posed)
        track = _Track(self._new_identity(), seen, steady)
        track.take(seen, time_s)
        self._tracks.append(track)

    def _strangeness(self, track: _Track, seen: Seen) -> float:
        """mm: how far a hand that was found is from one that was lost; another side counts."""
        other = 0.0 if track.known in ("", seen.mesh.hand) else 400.0
        return float(np.linalg.norm(track.middle - seen.middle)) + other


def _found_by(searching: concurrent.futures.Future) -> list[np.ndarray]:
    """Places that a search in the background found, once it has ended."""
    try:
        return searching.result()
    except InputError:
        raise
    except Exception as error:  # of a thread, where nobody sees it
        told = f"the search for a further hand failed: {reason(error)}"
        raise InputError(f"{told}; track without background=True to see where.") from error
