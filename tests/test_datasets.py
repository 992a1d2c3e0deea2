"""Loaders of MotionSense and sp_sw_har: people, activities, clocks, and errors with the fix."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from hard.datasets import features, motionsense, sp_sw_har
from hard.recordings import Recording
from hard.types import G, HardError, Windowing

HEADER = "x_acc,y_acc,z_acc,x_gyro,y_gyro,z_gyro,timestamp,label\n"


def write_trial(data: Path, trial: str, user: int, packed: bool) -> None:
    axes = [f"{name}.{axis}" for name in ("gravity", "userAcceleration", "rotationRate") for axis in "xyz"]
    text = ",".join(["", *axes]) + "\n0,0,-1,0,0,0,0,1,2,3\n1,0,-1,0,0,0,0,1,2,3\n"
    folder = data / "motionsense" / "A_DeviceMotion_data" / trial
    folder.mkdir(parents=True, exist_ok=True)
    raw = text.encode()
    name = f"sub_{user}.csv" + (".gz" if packed else "")
    (folder / name).write_bytes(gzip.compress(raw) if packed else raw)


def write_execution(data: Path, text: str, packed: bool = False) -> None:
    folder = data / "sp_sw_har" / "DATA" / "s07"
    folder.mkdir(parents=True, exist_ok=True)
    name = "s07_02_sp.csv" + (".gz" if packed else "")
    (folder / name).write_bytes(gzip.compress(text.encode()) if packed else text.encode())


def test_trials_come_by_user_and_number_plain_or_compressed(tmp_path: Path) -> None:
    for trial, user, packed in (("wlk_7", 10, True), ("jog_9", 2, False), ("ups_3", 2, True)):
        write_trial(tmp_path, trial, user, packed)
    trials = motionsense.read_trials(tmp_path)
    assert [(t.user, t.number, t.activity) for t in trials] == [
        (2, 3, "walking_upstairs"),
        (2, 9, "running"),
        (10, 7, "walking"),
    ]
    np.testing.assert_allclose(trials[0].recording.samples[0], [0, G, 0, 1, 2, 3], rtol=1e-6)
    assert [t.user for t in motionsense.read_trials(tmp_path, frozenset({10}))] == [10]


@pytest.mark.parametrize(
    ("read", "name"), [(motionsense.read_trials, "motionsense"), (sp_sw_har.read_executions, "sp_sw_har")]
)
def test_absent_data_gets_the_command_that_fetches_it(tmp_path: Path, read, name: str) -> None:
    with pytest.raises(HardError, match=rf"{name}.*no .*tools/fetch_data\.py"):
        read(tmp_path)


@pytest.mark.parametrize("packed", [False, True])
def test_turning_is_walking_and_getting_up_is_nothing(tmp_path: Path, packed: bool) -> None:
    labels = ["SEATED"] * 3 + ["STANDING_UP"] * 2 + ["WALKING"] * 4 + ["TURNING"] * 2 + ["SITTING_DOWN"]
    rows = [f"0,9.8,0,0.1,0.2,0.3,{1000 + 10 * i},{label}\n" for i, label in enumerate(labels)]
    write_execution(tmp_path, HEADER + "".join(rows), packed)
    (execution,) = sp_sw_har.read_executions(tmp_path)
    assert (execution.user, execution.number, execution.recording.name) == (7, 2, "s07_02_sp")
    assert execution.activities == ["sitting", "walking"]
    np.testing.assert_allclose(execution.spans_s, [[0, 0.02], [0.05, 0.1]], atol=1e-9)
    np.testing.assert_allclose(execution.recording.samples[0], [0, 9.8, 0, 0.1, 0.2, 0.3], rtol=1e-6)


def test_samples_that_came_in_bursts_get_an_even_clock() -> None:
    true = np.arange(1000) / 102.4
    stamps = np.ceil(true / 0.05) * 0.05 + 1e9  # handed over every 50 ms
    t = sp_sw_har.uniform(stamps)
    np.testing.assert_allclose(np.diff(t), np.diff(t)[0])
    assert np.abs(t - true).max() < 0.02


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", r"header ''; expected x_acc"),
        ("a,b\n1,2\n", r"header 'a,b'; expected x_acc"),
        (HEADER + "1,2,3,4,5,x,7,WALKING\n" * 2, r".*expected seven numbers and a label"),
        (HEADER + "1,2,3,4,5,6,7,WALKING\n", r"1 samples; expected two or more"),
    ],
)
def test_a_bad_file_is_named_with_the_fix(tmp_path: Path, text: str, error: str) -> None:
    write_execution(tmp_path, text)
    with pytest.raises(HardError, match=r"s07_02_sp\.csv: " + error):
        sp_sw_har.read_executions(tmp_path)


@pytest.mark.parametrize("end", [5.0, 5.012, 5.019, 5.02])
def test_a_recording_may_end_between_two_samples_of_the_grid(end: float) -> None:
    t = np.linspace(0, end, 512)
    samples = np.tile(np.array([0, 9.8, 0, 0, 0, 0], np.float32), (512, 1))
    (stream,) = features([Recording("a", t, samples)], Windowing())
    assert len(stream) == 251 + (end == 5.02)


@pytest.mark.data
def test_motionsense_is_complete_and_stands_upright(data: Path) -> None:
    trials = motionsense.read_trials(data, frozenset({1, 2}))
    assert len(trials) == 30
    assert {t.activity for t in trials} == set(motionsense.ACTIVITIES.values())
    for t in trials:
        if t.activity in ("sitting", "standing"):
            up = np.median(t.recording.samples[:, :3], axis=0)
            assert np.linalg.norm(up) == pytest.approx(G, rel=0.03)


@pytest.mark.data
def test_sp_sw_har_is_complete_and_in_si_units(data: Path) -> None:
    executions = sp_sw_har.read_executions(data)
    assert len(executions) == 223
    assert {e.user for e in executions} == set(range(1, 24))
    for e in executions:
        assert 1 / np.diff(e.recording.t[:2])[0] == pytest.approx(102.4, abs=0.2)
        assert np.median(np.linalg.norm(e.recording.samples[:, :3], axis=1)) == pytest.approx(G, rel=0.1)
        assert "walking" in e.activities
