"""What a camera sees most of the time: nobody, somebody who does nothing, or something else that moves."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import msgspec
import numpy as np

from hard.types import F32, U8, Clip
from tools import compose
from tools.cutout import Person


class Props(msgspec.Struct, frozen=True):
    """What a studio composes clips of; nobody writes to the arrays."""

    people: list[Person]
    stills: U8  # (n, h, w, 3) RGB photographs, of people mostly
    films: list[tuple[U8, float]]  # people who do other things: frames (n, h, w, 3) RGB, rate in Hz
    rooms: list[U8]  # empty scenes


class Studio:
    """Draws training clips without end. Owner: one thread."""

    def __init__(self, props: Props, labels: Sequence[str], clip: Clip, other: float, seed: int) -> None:
        self.props, self.labels, self.clip, self.other = props, list(labels), clip, other
        self.rng = np.random.default_rng(seed)
        self._others = (
            (0.28, self._other_film),
            (0.12, self._statue),
            (0.08, self._unfinished),
            (0.10, self._passer_by),
            (0.10, self._photograph),
            (0.12, self._rubber),
            (0.12, self._thing),
            (0.06, self._nobody),
        )

    def draw(self) -> tuple[U8, int]:
        """(frames, size, size, 3) uint8 RGB, and the index of its label; the last label is `other`."""
        rng = self.rng
        if rng.random() < self.other:
            chances = np.array([chance for chance, _ in self._others])
            kind = int(rng.choice(len(chances), p=chances / chances.sum()))
            return self._others[kind][1](), len(self.labels) - 1
        person = compose.cast(self.props.people, rng)
        return compose.acting(person, self.background(), self.clip, rng), self.labels.index(person.label)

    def background(self) -> U8:
        kind, rng = self.rng.random(), self.rng
        if kind < 0.15:
            return compose.gradient(self.clip.size, rng)
        if kind < 0.35:
            return self.props.rooms[rng.integers(len(self.props.rooms))]
        if kind < 0.5 and self.props.films:
            frames, _ = self.props.films[rng.integers(len(self.props.films))]
            return np.asarray(frames[rng.integers(len(frames))])
        return self._still()

    def _still(self) -> U8:
        return np.asarray(self.props.stills[self.rng.integers(len(self.props.stills))])

    def _person(self) -> tuple[Person, int]:
        person = self.props.people[self.rng.integers(len(self.props.people))]
        return person, int(self.rng.integers(len(person.frames)))

    def _other_film(self) -> U8:
        if not self.props.films:
            return self._rubber()
        rng = self.rng
        frames, rate_hz = self.props.films[rng.integers(len(self.props.films))]
        rows = compose.moments(len(frames), self.clip, rate_hz, rng.uniform(0.5, 1.6), rng)
        h, w = frames.shape[1:3]
        return compose.film(self._crop(frames[rows], h, w, rng.uniform(1.0, 2.0)), rng)

    def _crop(self, frames: U8, h: int, w: int, zoom: float) -> F32:
        rng, size = self.rng, self.clip.size
        a = np.diag(
            zoom * np.array([rng.choice((-1, 1)) * size / w, size / h]) * np.exp(rng.normal(0, 0.1, 2))
        )
        aim = np.array([w, h]) * rng.uniform(0.5 / zoom, 1 - 0.5 / zoom, 2)
        still = np.concatenate([a, size / 2 - (a @ aim)[:, None]], axis=1).astype(np.float32)
        places = np.repeat(still[None], len(frames), axis=0)
        places[:, :, 2] += compose.shake(len(frames), rng)
        return compose.tint(compose.warp(frames, places, size, cv2.BORDER_REFLECT_101), rng, 0.15)

    def _statue(self) -> U8:
        """Somebody stands there and sways a little, or just froze in the middle of an activity."""
        person, row = self._person()
        places = compose.place(person.box, self.clip, self.rng)
        places[:, :, 2] += compose.wander(self.clip.frames, self.rng.choice((0.0, 0.15, 0.6)), self.rng)
        rows = np.full(self.clip.frames, row)
        return compose.film(
            compose.before(person, rows, self.background(), places, self.clip, self.rng), self.rng
        )

    def _unfinished(self) -> U8:
        """An arm goes up once, or an activity ends or begins in the last moment; or all is far too slow."""
        rng, frames = self.rng, self.clip.frames
        person, _ = self._person()
        if rng.random() < 0.3:
            rows = compose.moments(len(person.frames), self.clip, person.rate_hz, rng.uniform(0.0, 0.08), rng)
        else:
            rows = compose.moments(len(person.frames), self.clip, person.rate_hz, rng.uniform(0.7, 1.4), rng)
            moving = int(rng.integers(2, round(0.3 * frames)))
            start = int(rng.integers(0, frames - moving))
            rows[:start] = rows[start]
            rows[start + moving :] = rows[start + moving]
        places = compose.place(person.box, self.clip, rng)
        return compose.film(compose.before(person, rows, self.background(), places, self.clip, rng), rng)

    def _passer_by(self) -> U8:
        """Somebody crosses the picture, comes nearer or goes away, without moving a limb."""
        rng, clip = self.rng, self.clip
        person, row = self._person()
        places = compose.place(person.box, clip, rng)
        t = np.linspace(-0.5, 0.5, clip.frames, dtype=np.float32)[:, None]
        grow = np.exp(rng.normal(0, 0.4) * t)[:, None]
        middle = np.float32(clip.size / 2)
        places[:, :, 2] -= middle
        places *= grow
        places[:, :, 2] += middle
        places[:, :, 2] += t * rng.normal(0, (40, 5), 2) + compose.wander(clip.frames, 0.5, rng)
        rows = np.full(clip.frames, row)
        return compose.film(compose.before(person, rows, self.background(), places, clip, rng), rng)

    def _photograph(self) -> U8:
        """A photograph, moved, zoomed and turned as a whole."""
        rng, clip = self.rng, self.clip
        image = self._still()
        h, w = image.shape[:2]
        t = np.linspace(-0.5, 0.5, clip.frames)
        speed = rng.choice((0.0, 0.1, 0.5))
        zoom = 1.5 * clip.size / h * np.exp(speed * rng.normal() * t)
        turn = speed * rng.normal(0, 0.5) * t
        a = np.stack([np.cos(turn), -np.sin(turn), np.sin(turn), np.cos(turn)], axis=1).reshape(-1, 2, 2)
        a *= zoom[:, None, None]
        way = speed * 40 * rng.normal(0, 1, 2) * t[:, None] + compose.shake(clip.frames, rng)
        places = np.concatenate([a, (clip.size / 2 + way - a @ np.array([w, h]) / 2)[:, :, None]], axis=2)
        frames = np.broadcast_to(image, (clip.frames, *image.shape))
        scene = compose.warp(frames, places.astype(np.float32), clip.size, cv2.BORDER_REFLECT_101)
        return compose.film(compose.tint(scene, rng, 0.15), rng)

    def _rubber(self) -> U8:
        """A photograph whose parts move smoothly, each its own way: motion that is no activity."""
        rng, clip = self.rng, self.clip
        size = clip.size
        image = cv2.resize(self._still(), (size, size), interpolation=cv2.INTER_AREA)
        cells = int(rng.integers(2, 6))
        t = np.linspace(0, 2 * np.pi, clip.frames)[:, None, None, None]
        shape = (1, cells, cells, 2)
        motion = np.sin(rng.uniform(0.3, 5.0, shape) * t + rng.uniform(0, 2 * np.pi, shape))
        motion *= rng.uniform(0, 1, shape) ** 2 * rng.uniform(1, 9)
        y, x = np.mgrid[0:size, 0:size].astype(np.float32)
        frames = []
        for field in motion.astype(np.float32):
            flow = cv2.resize(field, (size, size), interpolation=cv2.INTER_CUBIC)
            frames.append(
                cv2.remap(
                    image, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
                )
            )
        return compose.film(compose.tint(np.stack(frames), rng, 0.15), rng)

    def _thing(self) -> U8:
        """One or a few things move past, or to and fro, before a room or somebody who stands still."""
        rng, clip = self.rng, self.clip
        size = clip.size
        if rng.random() < 0.5:
            person, row = self._person()
            places = compose.place(person.box, clip, rng)
            scene = compose.before(person, np.full(clip.frames, row), self.background(), places, clip, rng)
        else:
            scene = np.repeat(
                compose.scenery(self.background(), np.zeros((1, 2), np.float32), clip, rng),
                clip.frames,
                axis=0,
            )
        y, x = np.mgrid[0:size, 0:size].astype(np.float32)
        t = np.linspace(0, 1, clip.frames)
        for _ in range(rng.integers(1, 4)):
            radius = rng.uniform(2, 14, 2)
            stuff = cv2.resize(self._still(), (size, size)).astype(np.float32)
            frequency, phase, reach = rng.uniform(0.2, 3, 2), rng.uniform(0, 6.3, 2), rng.uniform(0, 20, 2)
            way = rng.uniform(0, size, 2) + reach * np.sin(2 * np.pi * frequency * t[:, None] + phase)
            way = way + rng.normal(0, 15, 2) * t[:, None]
            for k, (cx, cy) in enumerate(way):
                inside = (((x - cx) / radius[0]) ** 2 + ((y - cy) / radius[1]) ** 2 < 1).astype(np.float32)
                inside = cv2.GaussianBlur(inside, (3, 3), 0)[..., None]
                scene[k] = scene[k] * (1 - inside) + stuff * inside
        return compose.film(scene, rng)

    def _nobody(self) -> U8:
        """A room, and lights that change."""
        rng, clip = self.rng, self.clip
        scene = compose.scenery(self.background(), compose.shake(clip.frames, rng), clip, rng)
        scene = np.repeat(scene, clip.frames, axis=0) if len(scene) == 1 else scene
        light = 1 + rng.choice((0.0, 0.3)) * np.sin(
            rng.uniform(0, 6, 2) @ np.ones(2) + np.linspace(0, 3, clip.frames)
        )
        if rng.random() < 0.2:
            light[rng.integers(clip.frames) :] *= rng.uniform(0.3, 2.0)
        return compose.film(scene * light[:, None, None, None].astype(np.float32), rng)
