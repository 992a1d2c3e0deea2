"""An hour of recordings as fast as the daemon keeps up; tools/soak.py is the long form."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT))

from tools.soak import recordings, soak


def test_a_data_folder_without_hapt_is_played_synthetically(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARD_DATA", str(tmp_path))
    source, samples = recordings()
    assert source == "synthetic"
    assert len(samples) > 0


@pytest.mark.mosquitto
def test_an_hour_of_recordings_loses_no_label_and_no_memory() -> None:
    result = soak(hours=1.0)
    assert result.missing == 0
    assert result.drops == {}
    assert result.windows > 2500
    least, most, _ = result.rss_mb
    assert most - least < 60  # what the first batches of each size allocate; the slope needs the long form
