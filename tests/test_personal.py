"""A personal head: nothing where it knows nothing, better where its person differs, only for its model."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hard.card import SensorCard, find_model, read_card
from hard.datasets.hapt import LABELS
from hard.personal.adapter import Adapter, fit
from hard.personal.personalize import Labelled, compare, make_head, personalize
from hard.personal.profiles import Calibration, Head
from hard.personal.record import folder_of, recordings, write
from hard.recognizer import Recognizer
from hard.recordings import Recording
from hard.settings import ImuSettings
from hard.synthetic import SyntheticPhone
from hard.types import F32, HardError
from tools.worn import any_rotation


class Doubtful:
    """A model that cannot tell sitting from standing."""

    def __init__(self) -> None:
        card = read_card(find_model("lstm-waist"))
        assert isinstance(card, SensorCard)
        self.card = card

    def predict(self, x: F32) -> F32:
        out = np.full((len(x), len(LABELS)), 0.02, np.float32)
        out[:, 3], out[:, 4] = 0.5, 0.42
        return out

    def step(self, x: F32, state: F32) -> tuple[F32, F32]:
        return self.predict(x), state


def posture(up: list[float], n: int, rng: np.random.Generator) -> F32:
    """Windows of somebody at rest, (n, 128, 9)."""
    x = rng.normal(0, 0.01, (n, 128, 9))
    x[:, :, 6:9] += np.array(up) + rng.normal(0, 0.02, (n, 1, 3))
    return x.astype(np.float32)


def somebody(rng: np.random.Generator, n: int = 40) -> Labelled:
    """Sits leaning back, stands upright."""
    x = np.concatenate([posture([0.93, -0.1, 0.35], n, rng), posture([0.99, -0.1, 0.05], n, rng)])
    place = np.tile(np.arange(n) / n, 2)
    y = np.repeat([3, 4], n)
    return Labelled(x, y, place, place + 1 / n, Doubtful().predict(x))


def head_of(data: Labelled) -> Head:
    return make_head("alice", Doubtful(), data, {"sitting": 50.0, "standing": 50.0}, False)


def test_a_head_tells_postures_that_the_model_does_not() -> None:
    rng = np.random.default_rng(0)
    data = somebody(rng)
    before, after = compare(Doubtful(), data, head_of(data))
    assert before.right == 0.5
    assert after.right > 0.98
    assert after.loss < before.loss


@given(st.integers(0, 2**32 - 1))
def test_a_head_moves_probability_only_among_what_was_recorded(seed: int) -> None:
    rng = np.random.default_rng(seed)
    adapter = Adapter(head_of(somebody(np.random.default_rng(1))), LABELS)
    p = rng.dirichlet(np.ones(6) * 0.3, 20).astype(np.float32)
    x = rng.normal(0, 3, (20, 128, 9)).astype(np.float32)
    out = adapter.apply(p, x)
    np.testing.assert_allclose(out.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(out[:, [0, 1, 2, 5]], p[:, [0, 1, 2, 5]])
    assert (out >= 0).all()


def test_a_strong_ridge_leaves_the_model_as_it_is() -> None:
    data = somebody(np.random.default_rng(0))
    _, _, weights = fit(data.probabilities[:, 3:5], data.x, data.y - 3, ridge=1e6)
    assert np.abs(weights).max() < 1e-5


def test_the_daemons_recognizer_adapts_one_device_alone() -> None:
    data = somebody(np.random.default_rng(0))
    recognizer = Recognizer(Doubtful())
    recognizer.wear("alice", head=head_of(data))
    up = np.array([0.99, -0.1, 0.05]) * 9.80665
    samples = np.concatenate([np.tile(up, (256, 1)), np.zeros((256, 3))], axis=1)
    said = {d: recognizer.push(d, np.arange(256) / 50, samples)[-1].activity for d in ("alice", "bob")}
    assert said == {"alice": "standing", "bob": "sitting"}
    recognizer.wear("alice")
    assert recognizer.push("alice", np.arange(256) / 50, samples)[-1].activity == "sitting"


def test_a_head_of_another_model_is_not_used_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    other = msgspec.structs.replace(head_of(somebody(np.random.default_rng(0))), sha256="0" * 64)
    recognizer = Recognizer(Doubtful())
    recognizer.wear("alice", head=other)
    with caplog.at_level(logging.WARNING):
        t, samples = SyntheticPhone(0).read(0, 600)
        predictions = recognizer.push("alice", t, samples)
    assert predictions[-1].probabilities["sitting"] == pytest.approx(0.5)
    assert [r.getMessage() for r in caplog.records if "hard personalize alice" in r.getMessage()] == [
        "alice: its personal head was made for lstm-waist, sha256 000000000000..., and is not used with "
        "lstm-waist; `hard personalize alice` makes it anew"
    ]


def test_a_worn_device_is_turned_and_its_window_starts_anew() -> None:
    """However the phone is turned, with its rotation undone it is labelled as if it were not."""
    t, samples = SyntheticPhone(1, dwell_s=5.0).read(0, 1500)
    turn = any_rotation(np.random.default_rng(2))
    plain, worn = Recognizer(), Recognizer()
    worn.wear("alice", turn.T)
    turned = (samples.reshape(-1, 2, 3) @ turn.T.astype(np.float32)).reshape(-1, 6)
    expected, found = plain.push("alice", t, samples), worn.push("alice", t, turned)
    assert [p.activity for p in found] == [p.activity for p in expected]
    assert found[-1].probabilities == pytest.approx(expected[-1].probabilities, abs=1e-3)
    worn.wear("alice", None)
    assert worn.counters.drops() == {"gap": 1}
    assert worn.push("alice", t[-70:] + 5, samples[-70:]) == []


def test_samples_that_are_not_finite_are_counted_with_a_rotation_too() -> None:
    t, samples = SyntheticPhone(1).read(0, 300)
    samples = samples.copy()
    samples[7, 1] = np.inf
    samples[8, 4] = np.nan
    recognizer = Recognizer(Doubtful())
    recognizer.wear("alice", any_rotation(np.random.default_rng(2)))
    assert recognizer.push("alice", t, samples)
    assert recognizer.counters.drops() == {"not_finite": 2}


def keep(folder: Path, label: str, seconds: float, when: str = "20261120T050000Z") -> None:
    t, samples = SyntheticPhone(0, dwell_s=1e9).read(0, int(seconds * 50))
    write(folder / f"{label}-{when}.csv", Recording("alice", t, samples))


def test_too_little_or_unknown_is_said(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "alice")
    settings = ImuSettings()
    with pytest.raises(HardError, match="no recordings; make them with `hard record --device alice"):
        personalize("alice", folder, settings, None)
    keep(folder, "sitting", 20)
    with pytest.raises(HardError, match=r"recorded: sitting 20 s; expected 10 s or more each of two"):
        personalize("alice", folder, settings, None)
    keep(folder, "standing", 5)
    with pytest.raises(HardError, match=r"standing 5 s.*; expected 10 s or more"):
        personalize("alice", folder, settings, None)
    keep(folder, "siting", 20)
    with pytest.raises(HardError, match=r"no activity 'siting'; did you mean sitting\?"):
        personalize("alice", folder, settings, None)


def test_recordings_are_found_by_label_and_age(tmp_path: Path) -> None:
    keep(tmp_path, "walking_upstairs", 3, "20261120T060000Z")
    keep(tmp_path, "sitting", 3, "20261120T050000Z")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "sitting.csv").write_text("x")
    assert [label for label, _ in recordings(tmp_path)] == ["sitting", "walking_upstairs"]


def test_a_head_that_helps_nothing_is_refused(tmp_path: Path) -> None:
    """The same motion under two names: what one part teaches, the next does not bear out."""
    folder = folder_of(tmp_path, "alice")
    t, samples = SyntheticPhone(0, dwell_s=1e9).read(0, 2000)
    flipped = samples.copy()
    flipped[1000:, :3] = samples[1000:, :3] * [1, -1, 1]
    for label, swapped in (("walking", False), ("walking_upstairs", True)):
        acc = np.concatenate([samples[1000:], flipped[1000:]][:: -1 if swapped else 1])
        write(folder / f"{label}-20261120T050000Z.csv", Recording("alice", t, acc))
    with pytest.raises(HardError, match=r"no better on parts of the recordings left out"):
        personalize("alice", folder, ImuSettings(), None)


def test_recordings_with_and_without_calibration_do_not_mix(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "alice")
    keep(folder, "sitting", 20)
    keep(folder, "standing", 20)
    same = Calibration(
        "alice", "2026-11-20T05:00:00Z", ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), 0.9
    )
    (folder / "standing-20261120T050000Z.json").write_bytes(msgspec.json.encode(same))
    with pytest.raises(HardError, match=r"some without; remove the latter .* or `hard calibrate alice`"):
        personalize("alice", folder, ImuSettings(), None)
