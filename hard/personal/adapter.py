"""One person's head on a model: how they hold themselves when they sit, stand, lie and walk.

Which way gravity points in a posture differs from person to person, and tells sitting from standing where
the rest does not. To the model's log probabilities of the recorded activities the head adds a linear function
of a window's mean acceleration, fitted to the person's recordings by multinomial logistic regression with a
ridge that draws it to zero: to the model as it is. What the model gives the recorded activities together
stays; nothing touches an activity that was not recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hard.personal.profiles import Head
from hard.types import F32, F64

RIDGE: Final = (1e-2, 3e-3)
"""Of the mean loss, without and with a calibration. A phone that is put on anew hangs otherwise, unless it is
calibrated: a weaker ridge then costs accuracy, while with a calibration it gains (0.1 to 0.0001 were tried
on HAPT's training people, one session to learn, the other to test, by models that did not see them)."""
CLAMP: Final = 3.0  # standard deviations: beyond, nothing is known
LEAST: Final = 1e-6  # of a probability


def tilt(x: F32) -> F64:
    """Windows (N, window, 9) -> mean acceleration (N, 3) [g]."""
    mean: F64 = x[:, :, 6:9].mean(axis=1, dtype=np.float64)
    return mean


class Adapter:
    """A head's numbers as arrays, for the labels of its model. Keeps no state."""

    def __init__(self, head: Head, labels: Sequence[str]) -> None:
        """`labels`: the model's, in its order."""
        self._chosen = [list(labels).index(label) for label in head.labels]
        self._mean, self._scale = np.array(head.mean), np.array(head.scale)
        self._weights = np.array(head.weights)

    def apply(self, probabilities: F32, x: F32) -> F32:
        """Probabilities (N, labels) of windows (N, window, 9) -> the person's, (N, labels); rows sum to 1."""
        out = probabilities.copy()
        known = probabilities[:, self._chosen].astype(np.float64)  # (N, k)
        share = _softmax(_log(known) + design(tilt(x), self._mean, self._scale) @ self._weights.T)
        out[:, self._chosen] = share * known.sum(axis=1, keepdims=True)
        return out


def design(numbers: F64, mean: F64, scale: F64) -> F64:
    """(N, f) -> (N, f + 1): standardised, clamped, and a column of ones."""
    z = np.clip((numbers - mean) / scale, -CLAMP, CLAMP)
    return np.concatenate([z, np.ones((len(z), 1))], axis=1)


def fit(probabilities: F32, x: F32, y: NDArray[np.intp], ridge: float) -> tuple[F64, F64, F64]:
    """Mean (3,), scale (3,) and weights (k, 4) of a head; every activity counts alike.

    probabilities: (N, k), of the recorded activities alone; y: (N,) indices into them.
    """
    from scipy.optimize import minimize

    numbers = tilt(x)
    mean, scale = numbers.mean(axis=0), numbers.std(axis=0) + 1e-6
    a, logs = design(numbers, mean, scale), _log(probabilities.astype(np.float64))
    k = probabilities.shape[1]
    counts = np.bincount(y, minlength=k)
    weight = 1 / counts[y]
    weight /= weight.sum()  # (N,)
    truth = np.eye(k)[y]  # (N, k)

    def loss(flat: F64) -> tuple[float, F64]:
        w = flat.reshape(k, -1)
        p = _softmax(logs + a @ w.T)
        value = -float((weight * np.log((p * truth).sum(axis=1) + 1e-300)).sum()) + ridge * float(
            (w * w).sum()
        )
        slope = ((p - truth) * weight[:, None]).T @ a + 2 * ridge * w
        return value, slope.ravel()

    found = minimize(loss, np.zeros(k * a.shape[1]), jac=True, method="L-BFGS-B")
    return mean, scale, found.x.reshape(k, -1)


def _log(p: F64) -> F64:
    logs: F64 = np.log(np.maximum(p, LEAST))
    return logs


def _softmax(logits: F64) -> F64:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    out: F64 = e / e.sum(axis=1, keepdims=True)
    return out
