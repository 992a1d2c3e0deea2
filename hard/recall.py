"""What a model carries from a device's window to its next (`state` of model.Model), by device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hard.imu import in_turns
from hard.model import Model
from hard.roster import RESERVED, Roster
from hard.types import F32, Windows
from hard.waiting import Rows

LATE: Final = 1.5  # hops after the last window: one was lost in between, and nothing is known any more
KEPT: Final = [("t_end", np.float64), ("gaps", np.int64)]  # of the window that a state came from


class Recall:
    """It depends on a device's windows alone, not on how they are batched. Owner: one thread."""

    def __init__(self) -> None:
        self._of: dict[str, _States] = {}  # by a model's sha256

    def predict(self, model: Model, w: Windows, chosen: Sequence[int]) -> F32:
        """Probabilities (n, labels) of the chosen windows by this model."""
        if model.card.state == 0:
            return model.predict(w.x if len(chosen) == len(w.devices) else w.x[chosen])
        states = self._of.get(model.card.sha256)
        if states is None:
            states = self._of[model.card.sha256] = _States(model.card.state)
        late_s = LATE * model.card.windowing.hop / model.card.windowing.rate_hz
        out = np.empty((len(chosen), len(model.card.labels)), np.float32)
        for turn in in_turns([w.devices[i] for i in chosen]):
            at = np.array([chosen[k] for k in turn], np.intp)
            rows = states.rows([w.devices[i] for i in at.tolist()])
            t_end, gaps = w.t_end[at], np.array([w.gaps[i] for i in at.tolist()])
            x = w.x if len(at) == len(w.devices) else w.x[at]
            out[turn], after = model.step(x, states.before(rows, t_end, gaps, late_s))
            states.put(rows, t_end, gaps, after)
        return out

    def forget(self, devices: Iterable[str]) -> None:
        for device in devices:
            for states in self._of.values():
                states.forget(device)

    def keep(self, models: Iterable[Model]) -> None:
        """Let go of what other models knew."""
        wanted = {model.card.sha256 for model in models}
        self._of = {sha256: states for sha256, states in self._of.items() if sha256 in wanted}


class _States:
    """One model's, each device's newest. A device that another model has had meanwhile comes too late."""

    def __init__(self, size: int) -> None:
        self._roster = Roster()
        self._kept = np.zeros(RESERVED, KEPT)
        self._states: F32 = np.zeros((RESERVED, size), np.float32)

    def rows(self, devices: Sequence[str]) -> Rows:
        rows = [self._roster.row(device) for device in devices]
        return np.array(
            [self._add(d) if row is None else row for d, row in zip(devices, rows, strict=True)], np.intp
        )

    def _add(self, device: str) -> int:
        row = self._roster.add(device)
        if row == len(self._kept):
            self._kept = np.concatenate([self._kept, np.zeros_like(self._kept)])
            self._states = np.concatenate([self._states, np.zeros_like(self._states)])
        self._kept[row] = (-np.inf, 0)
        return row

    def before(self, rows: Rows, t_end: NDArray[np.float64], gaps: NDArray[np.int64], late_s: float) -> F32:
        """The states (n, size) after the windows before these; zeros where there was none."""
        kept, states = self._kept[rows], self._states[rows]
        since_s = t_end - kept["t_end"]
        states[~((since_s > 0) & (since_s < late_s) & (gaps == kept["gaps"]))] = 0.0
        return states

    def put(self, rows: Rows, t_end: NDArray[np.float64], gaps: NDArray[np.int64], states: F32) -> None:
        self._kept["t_end"][rows], self._kept["gaps"][rows] = t_end, gaps
        self._states[rows] = states

    def forget(self, device: str) -> None:
        self._roster.remove(device)
