"""What is kept of a device: written as a whole, found again, taken up when it changes."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hard.personal.profiles import Calibration, Head, Profiles, Shelf, calibrations, heads
from hard.personal.record import folder_of
from hard.types import HardError

SAME = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
TURNED = ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))


def calibration(device: str, made: str = "2026-11-20T05:00:00Z") -> Calibration:
    return Calibration(device, made, TURNED, 0.9)


def head(device: str, calibrated: bool = False) -> Head:
    zero = (0.0, 0.0, 0.0)
    return Head(
        device, "2026-11-20T06:00:00Z", "lstm-waist", "ab" * 32, calibrated, ("sitting", "standing"), zero,
        (1.0, 1.0, 1.0), ((*zero, 0.0), (*zero, 0.0)), {"sitting": 60.0, "standing": 60.0}, 0.9, 0.95,
    )  # fmt: skip


@given(
    common=st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=60),
    ends=st.lists(st.text(st.characters(exclude_categories=["C"]), max_size=4), min_size=2, unique=True),
)
@example("佐藤さんのスマートフォン（仕事用の黒い端末）", ["一号", "二号"])
def test_long_names_that_begin_alike_share_neither_file_nor_recordings(common: str, ends: list[str]) -> None:
    state, devices = Path("/state"), [common + end for end in ends]
    folders = {folder_of(state, device) for device in devices}
    assert {folder.parent for folder in folders} == {state / "recordings"}
    assert len(folders) == len(devices)
    assert len({calibrations(state).path(device) for device in devices}) == len(devices)


@pytest.mark.parametrize(
    "device", ["alice", "..", ".", "a.b", "ÄÖ ü", "a%2Eb", "%", "é" * 64, "日" * 63 + "x"]
)
def test_every_good_name_has_a_file_of_its_own(tmp_path: Path, device: str) -> None:
    shelf = calibrations(tmp_path)
    path = shelf.put(calibration(device))
    assert path.parent == tmp_path / "devices"
    assert len(path.name.encode()) < 200
    assert shelf.get(device) == calibration(device)
    assert shelf.path(device + "x" if len(device) < 64 else "日" * 64) != path
    assert [c.device for c in shelf.all()] == [device]
    assert shelf.remove(device)
    assert not shelf.remove(device)
    assert shelf.get(device) is None


def age(folder: Path) -> None:
    """As if the last change were a while ago."""
    past_s = folder.stat().st_mtime - 10
    os.utime(folder, (past_s, past_s))


def test_changes_are_told_once(tmp_path: Path) -> None:
    ours, theirs = calibrations(tmp_path), calibrations(tmp_path)
    assert theirs.changed() == {}
    ours.put(calibration("alice"))
    ours.put(calibration("bob"))
    assert theirs.changed() == {"alice": calibration("alice"), "bob": calibration("bob")}
    assert theirs.changed() == {}
    ours.put(calibration("bob", "later"))
    assert theirs.changed() == {"bob": calibration("bob", "later")}
    ours.remove("alice")
    assert theirs.changed() == {"alice": None}
    age(tmp_path / "devices")
    assert theirs.changed() == {}
    ours.put(calibration("alice"))
    assert theirs.changed() == {"alice": calibration("alice")}


def test_a_damaged_file_is_said_and_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shelf = calibrations(tmp_path)
    shelf.put(calibration("bob"))
    path = shelf.put(calibration("alice"))
    path.write_text(path.read_text().replace("-1.0", "-2.0"))
    with pytest.raises(HardError, match=r"alice.calibration.json: .*expected a rotation.*remove the file"):
        shelf.get("alice")
    with caplog.at_level(logging.WARNING):
        assert set(shelf.changed()) == {"bob"}
        assert shelf.changed() == {}
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b'{"device": "\xff"}', b'{"device": "alice"}']
)
def test_bytes_that_are_no_profile_are_an_error_with_the_file(tmp_path: Path, content: bytes) -> None:
    for shelf in (calibrations(tmp_path), heads(tmp_path)):
        shelf.path("alice").parent.mkdir(exist_ok=True)
        shelf.path("alice").write_bytes(content)
        with pytest.raises(HardError, match=r"alice\..*\.json: .*remove the file"):
            shelf.get("alice")
        assert shelf.changed() == {}


def test_a_folder_that_cannot_be_written_says_what_to_do() -> None:
    with pytest.raises(HardError, match="set state_dir to a folder that can be written"):
        Shelf(Path("/proc/nothing"), "calibration", Calibration).put(calibration("alice"))


def test_a_head_of_a_calibrated_phone_counts_with_any_calibration_but_not_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    taken: list[tuple[str, bool, bool]] = []
    profiles = Profiles(tmp_path)

    def look() -> list[tuple[str, bool, bool]]:
        taken.clear()
        profiles.refresh(
            lambda device, turn, head: taken.append((device, turn is not None, head is not None))
        )
        return taken

    heads(tmp_path).put(head("alice"))
    assert look() == [("alice", False, True)]
    calibrations(tmp_path).put(calibration("alice"))
    with caplog.at_level(logging.WARNING):
        assert look() == [("alice", True, False)]
    assert "hard personalize alice" in caplog.text
    heads(tmp_path).put(head("alice", calibrated=True))
    assert look() == [("alice", True, True)]
    calibrations(tmp_path).put(calibration("alice", "the next day, put on anew"))
    assert look() == [("alice", True, True)]
    heads(tmp_path).remove("alice")
    assert look() == [("alice", True, False)]
    calibrations(tmp_path).remove("alice")
    assert look() == [("alice", False, False)]
    assert look() == []
