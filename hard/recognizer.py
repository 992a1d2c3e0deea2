"""The Python door: samples of any number of devices in, predictions out; the daemon uses the same object."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from hard.card import SensorCard
from hard.imu import Imu, Limits
from hard.model import Model, load_model
from hard.novelty import Motion, measure
from hard.personal.adapter import Adapter
from hard.personal.profiles import Head, checked_rotation
from hard.placement import Placement
from hard.recall import Recall
from hard.stats import Counters, Drop
from hard.types import F32, F64, UNKNOWN, Chunk, HardError, Prediction, Windows

log = logging.getLogger(__name__)


class Recognizer:
    """Push samples, get predictions.

        recognizer = hard.Recognizer("lstm-waist")
        for t, samples in phone:                       # t (n,) s, samples (n, 6) m/s² and rad/s
            for p in recognizer.push("alice", t, samples):
                print(p.t_end, p.activity, p.confidence)

    Owner: one thread.
    """

    def __init__(
        self,
        model: str | Model = "lstm-waist",
        *,
        acc_model: str | Model = "lstm-acc",
        elsewhere_model: str | Model | None = None,
        limits: Limits | None = None,
        min_rate_hz: float = 19.0,
        counters: Counters | None = None,
    ) -> None:
        """`acc_model` is for devices without a gyroscope; when one comes, it is loaded where it is given by
        name, and one that needs a gyroscope is refused with a HardError.

        `elsewhere_model` is for devices that are not carried as the card of their model says; None: no other.
        One that needs a gyroscope is only for devices that have one.
        """
        self.model = _loaded(model)
        self.counters = counters or Counters()
        self._limits = limits or Limits()
        self._min_rate_hz = min_rate_hz
        self._acc_model = acc_model
        elsewhere = None if elsewhere_model is None else _loaded(elsewhere_model)
        if elsewhere is not None:
            require_same_windows(self.model, elsewhere)
        self._elsewhere = elsewhere
        self._placement = _placement(self.model, elsewhere)
        self._acc_placement: Placement | None = None
        self._full = Imu(self.model.card.windowing, self._limits, self.counters)
        self._acc: tuple[Imu, Model] | None = None
        self._rotations: dict[str, F64] = {}
        self._heads: dict[str, Head] = {}
        self._adapters: dict[tuple[str, str], Adapter | None] = {}  # device and model's sha256
        self._recall = Recall()

    def push(self, device: str, t: ArrayLike, samples: ArrayLike) -> Sequence[Prediction]:
        """Take consecutive samples of one device and return the predictions that they complete.

        t: (n,) seconds on the device's own clock, increasing; samples: (n, 6) ax ay az in m/s² (specific
        force, +9.8 on the axis that points up at rest), gx gy gz in rad/s; or (n, 3), without a gyroscope.
        Any n; irregular sampling from 20 to 400 Hz is resampled. Raises ValueError for other shapes. Samples
        that are not finite, absurd or late are dropped and counted in `counters`.
        """
        at = np.asarray(t, np.float64)
        values = np.asarray(samples, np.float32)
        if at.ndim != 1 or values.shape not in ((len(at), 6), (len(at), 3)):
            raise ValueError(
                f"expected t (n,) and samples (n, 6) or (n, 3), got {at.shape} and {values.shape}"
            )
        gyro = values.shape[1] == 6
        if not gyro:
            values = np.concatenate([values, np.zeros_like(values)], axis=1)
        self.feed([Chunk(device, at, values, time.monotonic(), gyro)])
        return self.step()

    def wear(self, device: str, rotation: ArrayLike | None = None, head: Head | None = None) -> None:
        """From now on turn a device's samples, and adapt what the model says of it; None: do not.

        rotation: (3, 3), the device's axes -> the models'; see gait.py. Its window starts anew. Raises
        ValueError for what is not a rotation.
        """
        turn = None if rotation is None else checked_rotation(rotation)
        self._adapters = {key: adapter for key, adapter in self._adapters.items() if key[0] != device}
        self._rotations.pop(device, None)
        self._heads.pop(device, None)
        self._forget([device])
        if turn is not None:
            self._rotations[device] = turn
        if head is not None:
            self._heads[device] = head
        if self._full.forget(device) or (self._acc and self._acc[0].forget(device)):
            self.counters.add(Drop.GAP)

    def feed(self, chunks: Sequence[Chunk]) -> None:
        """Take chunks, in the order of each device's time, without recognising anything yet."""
        if self._rotations:
            worn = self._rotations
            chunks = [turned(c, worn[c.device]) if c.device in worn else c for c in chunks]
        self._push(chunks)

    def _push(self, chunks: Sequence[Chunk]) -> None:
        bare = [chunk for chunk in chunks if not chunk.gyro]
        if not bare and self._acc is None:
            self._full.push_many(chunks)
            return
        full = [chunk for chunk in chunks if chunk.gyro]
        names = {chunk.device for chunk in full}
        if any(chunk.device in names for chunk in bare):  # a gyroscope that comes or goes at this moment
            for chunk in chunks:
                self._push([chunk])
            return
        if self._acc is None:
            model = _loaded(self._acc_model)
            require_no_need_of_gyroscope(model)
            self._acc = Imu(model.card.windowing, self._limits, self.counters), model
            self._acc_placement = _placement(model, _for_bare(self._elsewhere))
        for lane, other, part in ((self._full, self._acc[0], full), (self._acc[0], self._full, bare)):
            for chunk in part:
                if other.forget(chunk.device):
                    self.counters.add(Drop.GAP)  # the window starts anew
            lane.push_many(part)

    def step(self, oldest_s: float = -np.inf) -> list[Prediction]:
        """Recognise every window that is due, a batch a model; see `Imu.prepare` for `oldest_s`."""
        lanes = [(self._full, self.model, self._placement)]
        if self._acc:
            lanes.append((*self._acc, self._acc_placement))
        out: list[Prediction] = []
        for imu, model, placement in lanes:
            windows = imu.prepare(oldest_s)
            if windows is not None:
                motion = measure(windows.x)
                models = self._models_of(windows, motion, model, placement)
                self._predict(windows, motion, models, imu is self._full, out)
        return out

    def _models_of(
        self, w: Windows, motion: Motion, model: Model, placement: Placement | None
    ) -> list[Model]:
        """Whose windows these are: by how the device is carried, unless it is calibrated or has a head."""
        if placement is None or self._elsewhere is None:
            return [model] * len(w.devices)
        both = self._elsewhere, model
        models = [both[fits] for fits in placement.fits(w.devices, w.x, motion)]
        if self._heads or self._rotations:
            own = {m.card.sha256: m for m in both}
            for i, device in enumerate(w.devices):
                if device in self._rotations:
                    models[i] = model
                if device in self._heads:
                    models[i] = own.get(self._heads[device].sha256, models[i])
        return models

    def _predict(
        self, w: Windows, motion: Motion, models: Sequence[Model], gyro: bool, out: list[Prediction]
    ) -> None:
        """Append a prediction of each window, in their order; gyro: whether the devices have one."""
        rows: list[list[float]] = [[]] * len(models)
        cards = [model.card for model in models]
        for model in {id(model): model for model in models}.values():
            mine = [i for i, m in enumerate(models) if m is model]
            probabilities = self._recall.predict(model, w, mine)
            if self._heads:
                self._adapt(w, mine, model.card, probabilities)
            for i, row in zip(mine, probabilities.tolist(), strict=True):
                rows[i] = row
        times = zip(w.t_end.tolist(), w.arrival_s.tolist(), w.end_s.tolist(), strict=True)
        rates = w.rate_hz.tolist()
        for i, (card, row, (t_end, arrival_s, end_s)) in enumerate(zip(cards, rows, times, strict=True)):
            reason, passing = self._unknown(i, rates[i], motion, card)
            confidence = 0.0 if reason else max(row)
            out.append(
                Prediction(
                    device=w.devices[i],
                    t_end=t_end,
                    activity=UNKNOWN if reason else card.labels[row.index(confidence)],
                    confidence=confidence,
                    probabilities=dict(zip(card.labels, row, strict=True)),
                    rate_hz=rates[i],
                    gaps=w.gaps[i],
                    arrival_s=arrival_s,
                    end_s=end_s,
                    model=card.name,
                    model_hash=card.sha256[:12],
                    reason=reason,
                    movement_g=motion.body_g[i],
                    passing=passing,
                    averaging_s=card.averaging_s if gyro and card.averaging_s else math.inf,
                )
            )

    def _unknown(self, i: int, rate_hz: float, motion: Motion, card: SensorCard) -> tuple[str | None, bool]:
        """Why window i is of no activity, None where it may be; and whether a posture is left or reached."""
        if rate_hz < self._min_rate_hz:
            return f"rate {rate_hz:.1f} Hz is below {self._min_rate_hz:g} Hz", False
        reason = motion.reason(i, card.motion_range)
        if reason is not None:
            return reason, False
        passing = motion.passing(i, card.motion_range)
        return passing, passing is not None

    def windowless(self, now_s: float) -> list[Prediction]:
        """`unknown`, and why, of the devices whose samples make no window; see `Imu.windowless`."""
        out: list[Prediction] = []
        lanes = [(self._full, self.model)] + ([self._acc] if self._acc else [])
        for imu, model in lanes:
            card = model.card
            for w in imu.windowless(now_s):
                why = f"{w.gaps} gaps in {w.waits_s:.0f} s" if w.gaps else "samples late or impossible"
                reason = f"no window: {why}; see `hard check --listen`"
                out.append(
                    Prediction(
                        w.device, w.t, UNKNOWN, 0.0, {}, 0.0, w.all_gaps, w.seen_s, w.seen_s, card.name,
                        card.sha256[:12], reason,
                    )
                )  # fmt: skip
        return out

    def use(self, model: Model, acc_model: Model, elsewhere_model: Model | None, min_rate_hz: float) -> None:
        """Other models from the next window on; devices keep their state where windows are cut alike."""
        self._placement = _replaced(self._placement, self.model, model, elsewhere_model)
        if self._acc:
            elsewhere = _for_bare(elsewhere_model)
            self._acc_placement = _replaced(self._acc_placement, self._acc[1], acc_model, elsewhere)
        self._elsewhere = elsewhere_model
        self._full = self._imu_for(model, self.model, self._full)
        if self._acc:
            imu, before = self._acc
            self._acc = self._imu_for(acc_model, before, imu), acc_model
        self.model, self._acc_model, self._min_rate_hz = model, acc_model, min_rate_hz
        self._recall.keep(m for m in (model, acc_model, elsewhere_model) if m is not None)

    def _imu_for(self, model: Model, before: Model, imu: Imu) -> Imu:
        if model.card.windowing == before.card.windowing:
            return imu
        self.counters.add(Drop.GAP, len(imu))
        return Imu(model.card.windowing, self._limits, self.counters)

    def evict(self, now_s: float) -> list[str]:
        """Forget devices that have been silent for long; returns their names."""
        gone = self._full.evict(now_s) + (self._acc[0].evict(now_s) if self._acc else [])
        self._forget(gone)
        return gone

    def _forget(self, devices: Sequence[str]) -> None:
        self._recall.forget(devices)
        for placement in (self._placement, self._acc_placement):
            if placement:
                placement.forget(devices)

    @property
    def evict_after_s(self) -> float:
        """Silent devices are forgotten after this."""
        return self._limits.evict_after_s

    @property
    def devices(self) -> int:
        return len(self._full) + (len(self._acc[0]) if self._acc else 0)

    def _adapt(self, w: Windows, mine: Sequence[int], card: SensorCard, probabilities: F32) -> None:
        """Let the heads have their say of windows `mine`, whose probabilities these are; in place."""
        for row, i in enumerate(mine):
            device = w.devices[i]
            adapter = self._adapter(device, card) if device in self._heads else None
            if adapter is not None:
                probabilities[row] = adapter.apply(probabilities[row : row + 1], w.x[i : i + 1])[0]

    def _adapter(self, device: str, card: SensorCard) -> Adapter | None:
        """A device's head for this model; None, with a line in the log, where it was made for another."""
        key = device, card.sha256
        if key not in self._adapters:
            head = self._heads[device]
            fits = head.sha256 == card.sha256 and set(head.labels) <= set(card.labels)
            if not fits:
                log.warning(
                    "%s: its personal head was made for %s, sha256 %s..., and is not used with %s; "
                    "`hard personalize %s` makes it anew",
                    *(device, head.model, head.sha256[:12], card.name, device),
                )
            self._adapters[key] = Adapter(head, card.labels) if fits else None
        return self._adapters[key]


def _loaded(model: str | Model) -> Model:
    return load_model(model) if isinstance(model, str) else model


def require_same_windows(model: Model, elsewhere: Model) -> None:
    """HardError where the two cannot choose between them: they see other windows."""
    if elsewhere.card.windowing != model.card.windowing:
        raise HardError(
            f"imu.elsewhere_model: {elsewhere.card.name} wants windows of another kind than "
            f"{model.card.name}; set it to null"
        )


def require_no_need_of_gyroscope(acc: Model) -> None:
    """HardError where this cannot be the model of devices without one: it would label what it never saw."""
    if acc.card.needs_gyroscope:
        raise HardError(
            f"imu.acc_model: {acc.card.name} needs a gyroscope, and is to be for devices without one; take a "
            "model such as lstm-acc"
        )


def _for_bare(elsewhere: Model | None) -> Model | None:
    """The model of devices that are carried elsewhere and have no gyroscope."""
    return None if elsewhere is None or elsewhere.card.needs_gyroscope else elsewhere


def _placement(model: Model, elsewhere: Model | None) -> Placement | None:
    """None where there is nothing to choose."""
    worn, windowing = model.card.worn, model.card.windowing
    if elsewhere is None or worn is None or elsewhere.card.windowing != windowing:
        return None
    return Placement(worn, windowing.rate_hz)


def _replaced(
    placement: Placement | None, before: Model, model: Model, elsewhere: Model | None
) -> Placement | None:
    """The placement for other models: the same, with all it knows, where devices are to be carried alike."""
    new, old = model.card, before.card
    made = _placement(model, elsewhere)
    alike = (new.worn, new.windowing) == (old.worn, old.windowing)
    return placement if made and placement and alike else made


def turned(chunk: Chunk, rotation: F64) -> Chunk:
    """The same samples in other axes; rotation: (3, 3)."""
    with np.errstate(invalid="ignore"):  # infinities become NaN, and are dropped as such
        samples = chunk.samples.reshape(-1, 2, 3) @ rotation.T.astype(np.float32)  # (n, 2, 3)
    return msgspec.structs.replace(chunk, samples=samples.reshape(-1, 6))
