"""Every fault of tools/faults.py, done to a real daemon; HARD_FAULTS=full does each as often as asked."""

from __future__ import annotations

import os
import sys

import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT))

from tools import faults
from tools.lab import has_compiler, may_mount

EXTENT = faults.FULL if os.environ.get("HARD_FAULTS") == "full" else faults.Extent()
NEEDS = {"disk-full": may_mount, "read-only": may_mount, "clock-back": has_compiler}


@pytest.mark.mosquitto
@pytest.mark.parametrize("name", faults.FAULTS)
def test_labels_flow_again_within_ten_seconds_of(name: str) -> None:
    if name in NEEDS and not NEEDS[name]():
        pytest.skip(f"{NEEDS[name].__name__} says no")
    print(faults.run(name, EXTENT, most_s=4 * faults.RECOVERY_S))  # a start takes long beside other work
