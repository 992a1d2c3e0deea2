"""Which model a phone gets by how it is carried: on real recordings, through the recognizer."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import hard
from conftest import Hard
from hard.card import SensorCard
from hard.datasets import hapt, motionsense
from hard.model import Model, load_model
from hard.personal import gait
from hard.personal.personalize import personalize
from hard.personal.profiles import Head
from hard.personal.record import write
from hard.recordings import Recording
from hard.settings import ImuSettings
from hard.types import HardError, Prediction, Windowing

WAIST, POCKET = "lstm-waist", "lstm-pocket"
PERSON = 1


@pytest.fixture(scope="module")
def models() -> tuple[Model, Model]:
    return load_model(WAIST), load_model(POCKET)


@pytest.fixture(scope="module")
def belt(data: Path) -> Recording:
    """A whole session of HAPT: posture changes first, walking at the end."""
    return hapt.read_sessions(data, frozenset({PERSON}))[0].recording


@pytest.fixture(scope="module")
def pocket(data: Path) -> dict[str, Recording]:
    """MotionSense's longest trial of each activity of one person."""
    trials = [trial for trial in motionsense.read_trials(data) if trial.user == PERSON]
    trials.sort(key=lambda trial: len(trial.recording.t))
    return {trial.activity: trial.recording for trial in trials}


def recognizer(models: tuple[Model, Model]) -> hard.Recognizer:
    return hard.Recognizer(models[0], elsewhere_model=models[1])


def push(to: hard.Recognizer, *parts: Recording) -> list[list[Prediction]]:
    """The predictions of each recording, pushed one after the other as the same device's."""
    out, began = [], 0.0
    for part in parts:
        t = began + part.t - part.t[0]
        out.append(list(to.push("a", t, part.samples)))
        began = t[-1] + 0.02
    return out


def turned(recording: Recording, rotation: np.ndarray) -> Recording:
    samples = (recording.samples.reshape(-1, 2, 3) @ rotation.T).reshape(-1, 6)
    return Recording(recording.name, recording.t, samples.astype(np.float32))


@pytest.mark.data
def test_a_phone_on_the_belt_keeps_the_model_of_the_waist(models, belt) -> None:
    """Also while its person lies, which turns it, and from the first time that they stand or sit."""
    (predictions,) = push(recognizer(models), belt)
    names = [p.model for p in predictions]
    first = names.index(WAIST)
    assert set(names[first:]) == {WAIST}
    assert predictions[first].t_end < 30.0


@pytest.mark.data
@pytest.mark.parametrize("activity", ["walking", "walking_upstairs", "running", "standing"])
def test_a_phone_in_a_pocket_gets_the_model_for_anywhere(models, pocket, activity) -> None:
    (predictions,) = push(recognizer(models), pocket[activity])
    assert {p.model for p in predictions} == {POCKET}
    assert Counter(p.activity for p in predictions).most_common(1)[0][0] == activity


@pytest.mark.data
@pytest.mark.parametrize("activity", ["walking", "walking_upstairs", "running", "standing"])
def test_so_does_one_without_a_gyroscope(models, pocket, activity) -> None:
    t, samples = pocket[activity].t, pocket[activity].samples
    predictions = recognizer(models).push("a", t, samples[:, :3])
    assert {p.model for p in predictions} == {POCKET}
    assert Counter(p.activity for p in predictions).most_common(1)[0][0] == activity


@pytest.mark.data
def test_but_from_no_model_that_needs_one(models, pocket) -> None:
    other = load_model(POCKET)
    other.card = msgspec.structs.replace(other.card, gyro_optional=False)
    made = hard.Recognizer(models[0], elsewhere_model=other)
    t, samples = pocket["walking"].t, pocket["walking"].samples
    assert {p.model for p in made.push("a", t, samples[:, :3])} == {"lstm-acc"}
    assert {p.model for p in made.push("b", t, samples)} == {POCKET}
    made.use(models[0], load_model("lstm-acc"), other, 19.0)
    assert {p.model for p in made.push("c", t, samples[:, :3])} == {"lstm-acc"}


@pytest.mark.data
def test_on_the_belt_a_phone_without_a_gyroscope_has_its_own_model(models, belt) -> None:
    predictions = recognizer(models).push("a", belt.t, belt.samples[:, :3])
    assert predictions[-1].model == "lstm-acc"


@pytest.mark.data
def test_a_phone_that_moves_from_the_belt_to_a_pocket_and_back_changes_its_model_by_walking(
    models, belt, pocket
) -> None:
    there, then, back = push(recognizer(models), belt, pocket["walking"], belt)
    assert there[-1].model == WAIST
    changes = [p.t_end for p in then if p.model == WAIST]
    assert len(changes) <= 4  # three windows, and one across the change
    assert then[-1].model == POCKET
    assert back[-1].model == WAIST
    ends = [p.t_end for p in there + then + back]
    assert ends == sorted(ends)


@pytest.mark.data
def test_many_windows_at_once_are_chosen_as_one_by_one(models, pocket) -> None:
    """A tick may hold windows of both models: their order, and every number, stay."""
    turn = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    mixed = [turned(pocket["walking"], turn), pocket["walking"]]  # y up becomes x up
    at_once = [p for part in push(recognizer(models), *mixed) for p in part]
    slowly = recognizer(models)
    t = np.concatenate([mixed[0].t - mixed[0].t[0], mixed[0].t[-1] - mixed[0].t[0] + 0.02 + mixed[1].t])
    samples = np.concatenate([part.samples for part in mixed])
    one_by_one = [
        p for i in range(0, len(t), 20) for p in slowly.push("a", t[i : i + 20], samples[i : i + 20])
    ]
    assert [(p.model, p.activity, p.t_end) for p in at_once] == [
        (p.model, p.activity, p.t_end) for p in one_by_one
    ]
    assert len({p.model for p in at_once}) == 2


@pytest.mark.data
def test_a_calibrated_phone_has_the_model_of_the_waist_however_it_hangs(models, belt) -> None:
    rotation = Rotation.from_euler("zyx", [100, 20, 50], degrees=True).as_matrix()
    hung = turned(belt, rotation)
    fitted = np.array(gait.fit(hung.t, hung.samples[:, :3].astype(np.float64)).rotation)
    plain, worn = recognizer(models), recognizer(models)
    worn.wear("a", fitted)
    assert push(plain, hung)[0][-1].model == POCKET
    assert {p.model for p in push(worn, hung)[0]} == {WAIST}


@pytest.mark.data
def test_a_personal_head_brings_its_own_model(models, pocket) -> None:
    own = recognizer(models)
    own.wear("a", head=idle_head(models[0].card))
    assert {p.model for p in push(own, pocket["walking"])[0]} == {WAIST}


def idle_head(card: SensorCard) -> Head:
    """A head that changes nothing."""
    return Head(
        device="a", made="2026-01-01T00:00:00Z", model=card.name, sha256=card.sha256, calibrated=False,
        labels=("sitting", "standing"), mean=(0.0, 0.0, 0.0), scale=(1.0, 1.0, 1.0),
        weights=((0.0,) * 4,) * 2, seconds={"sitting": 60.0, "standing": 60.0}, before=0.5, after=0.6,
    )  # fmt: skip


@pytest.mark.data
def test_personalize_takes_the_model_that_the_daemon_would(pocket, tmp_path: Path) -> None:
    for label in ("sitting", "standing", "walking"):
        write(tmp_path / f"{label}-20261120T050000Z.csv", pocket[label])
    assert personalize("a", tmp_path, ImuSettings(), None).model == POCKET


@pytest.mark.data
def test_classify_chooses_as_the_daemon_does_and_a_named_model_is_taken_at_its_word(
    hard: Hard, data: Path
) -> None:
    path = sorted((data / "motionsense" / "A_DeviceMotion_data").glob("wlk_8/sub_1.csv*"))[0]
    for arguments, model in (([], POCKET), (["--model", WAIST], WAIST)):
        done = hard.run("classify", str(path), "--json", *arguments)
        assert done.returncode == 0, done.stderr
        assert {json.loads(line)["model"]["name"] for line in done.stdout.splitlines()} == {model}
    done = hard.run("classify", str(path), "--json", HARD__IMU__ELSEWHERE_MODEL="null")
    assert {json.loads(line)["model"]["name"] for line in done.stdout.splitlines()} == {WAIST}


def test_models_that_see_other_windows_are_refused(models) -> None:
    other = load_model(POCKET)
    other.card = msgspec.structs.replace(other.card, windowing=Windowing(hop=32))
    with pytest.raises(HardError, match="windows of another kind"):
        hard.Recognizer(models[0], elsewhere_model=other)
