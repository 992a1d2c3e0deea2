"""What a model carries from a device's window to its next (`state` of model.Model), by device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import numpy as np

from hard.imu import in_turns
from hard.model import Model
from hard.types import F32, Windows

LATE: Final = 1.5  # hops after the last window: one was lost in between, and nothing is known any more


class _Kept(msgspec.Struct, frozen=True, gc=False):
    sha256: str  # of the model
    t_end: float
    gaps: int
    state: F32  # (card.state,)


class Recall:
    """It depends on a device's windows alone, not on how they are batched. Owner: one thread."""

    def __init__(self) -> None:
        self._of: dict[str, _Kept] = {}

    def predict(self, model: Model, w: Windows, chosen: Sequence[int]) -> F32:
        """Probabilities (n, labels) of the chosen windows by this model."""
        if model.card.state == 0:
            return model.predict(w.x if len(chosen) == len(w.devices) else w.x[chosen])
        out = np.empty((len(chosen), len(model.card.labels)), np.float32)
        for turn in in_turns([w.devices[i] for i in chosen]):
            rows = [chosen[k] for k in turn]
            before = np.stack([self._before(model, w, i) for i in rows])
            x = w.x if len(rows) == len(w.devices) else w.x[rows]
            out[turn], after = model.step(x, before)
            for i, state in zip(rows, after, strict=True):
                self._of[w.devices[i]] = _Kept(model.card.sha256, float(w.t_end[i]), w.gaps[i], state.copy())
        return out

    def forget(self, devices: Iterable[str]) -> None:
        for device in devices:
            self._of.pop(device, None)

    def _before(self, model: Model, w: Windows, i: int) -> F32:
        """The state after the window before window i; zeros where there was none, or not of this model."""
        card, kept = model.card, self._of.get(w.devices[i])
        hop_s = card.windowing.hop / card.windowing.rate_hz
        if (
            kept is not None
            and (kept.sha256, kept.gaps) == (card.sha256, w.gaps[i])
            and 0 < float(w.t_end[i]) - kept.t_end < LATE * hop_s
        ):
            return kept.state
        return np.zeros(card.state, np.float32)
