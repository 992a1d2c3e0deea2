"""Ports and cameras: names that stay, settings of each port, and what `hard devices` says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console
from serial.tools import list_ports

from conftest import Hard
from hard.codecs import CodecOptions
from hard.config import load_settings
from hard.devices import Found, FoundCamera, FoundPort, find, found_cameras, show
from hard.settings import PortSettings, SerialSourceSettings
from hard.sources.ports import by_device, device_name, stable_names
from hard.types import HardError


@pytest.mark.parametrize(
    ("port", "links", "name"),
    [
        ("/dev/serial/by-id/usb-Arduino_LLC_Nano_33_BLE_8F2C-if00", {}, "Arduino_LLC_Nano_33_BLE_8F2C"),
        ("/dev/serial/by-id/usb-1a86_USB_Serial-if00-port0", {}, "1a86_USB_Serial"),
        ("/dev/ttyUSB0", {"/dev/ttyUSB0": Path("/dev/serial/by-id/usb-Espressif_C3-if00")}, "Espressif_C3"),
        ("/dev/ttyACM7", {}, "ttyACM7"),
        ("socket://10.0.0.5:4000", {}, "10.0.0.5-4000"),
        ("rfc2217://pi:2217?ign_set_control", {}, "pi-2217"),
        ("/dev/serial/by-id/usb-" + "x" * 90 + "-if00", {}, "x" * 64),
    ],
)
def test_a_device_is_named_after_its_ports_stable_name(port: str, links: dict[str, Path], name: str) -> None:
    assert device_name(port, links) == name


def test_two_boards_of_one_name_are_refused() -> None:
    ports = (PortSettings(port="/dev/ttyUSB0", device="a"), PortSettings(port="/dev/ttyUSB1", device="a"))
    with pytest.raises(HardError, match="are both device 'a'; set `device` of one"):
        by_device(SerialSourceSettings(ports=ports))


def test_each_port_has_its_own_settings(tmp_path: Path) -> None:
    file = tmp_path / "hard.yaml"
    file.write_text(
        "sources:\n  enabled: [serial]\n  serial:\n    port: /dev/ttyACM0\n    acc_unit: g\n    ports:\n"
        "    - {port: /dev/ttyACM1, device: leg, baud: 9600, columns: [ax, ay, az, gx, gy, gz, '-']}\n"
    )
    first, leg = by_device(load_settings(file).sources.serial, {}).values()
    assert (first.acc_unit, first.baud, first.columns) == ("g", 115200, ())
    assert (leg.acc_unit, leg.baud, leg.columns[-1]) == ("auto", 9600, "-")
    assert isinstance(leg, CodecOptions)


@pytest.mark.parametrize(
    ("columns", "ok"),
    [("[ax, ay, az, gx, gy, gz]", True), ("[ax, ay, az, gx, gy]", False),
     ("[ax, ax, ay, az, gx, gy, gz]", False), ("['-', t, gx, gy, gz, ax, ay, az, '-']", True),
     ("[t, t, gx, gy, gz, ax, ay, az]", False)],
)  # fmt: skip
def test_columns_are_checked_when_settings_are_read(tmp_path: Path, columns: str, ok: bool) -> None:
    file = tmp_path / "hard.yaml"
    file.write_text(f"sources:\n  serial:\n    columns: {columns}\n")
    if ok:
        load_settings(file)
    else:
        with pytest.raises(HardError, match=r"hard.yaml:2: sources.serial: columns name each of ax, ay"):
            load_settings(file)


def test_stable_names_are_the_links_of_by_id(tmp_path: Path) -> None:
    (tmp_path / "ttyUSB0").touch()
    (tmp_path / "by-id").mkdir()
    (tmp_path / "by-id" / "usb-X-if00").symlink_to("../ttyUSB0")
    assert stable_names(tmp_path / "by-id") == {str(tmp_path / "ttyUSB0"): tmp_path / "by-id/usb-X-if00"}
    assert stable_names(tmp_path / "nothing") == {}


def test_cameras_are_found_without_opening_them(tmp_path: Path) -> None:
    for n, index in enumerate((0, 1, 0)):
        node = tmp_path / f"sys/class/video4linux/video{n * 5}"
        node.mkdir(parents=True)
        (node / "name").write_text(f"Camera {n}\n")
        (node / "index").write_text(f"{index}\n")
    (tmp_path / "dev/v4l/by-id").mkdir(parents=True)
    (tmp_path / "dev/video10").touch()
    link = tmp_path / "dev/v4l/by-id/usb-C270-video-index0"
    link.symlink_to("../../video10")
    assert found_cameras(tmp_path) == [
        FoundCamera(str(tmp_path / "dev/video0"), None, "Camera 0"),
        FoundCamera(str(tmp_path / "dev/video10"), str(link), "Camera 2"),
    ]
    assert found_cameras(tmp_path / "nothing") == []


def test_devices_lists_what_is_there(hard: Hard) -> None:
    done = hard.run("devices", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {p["device"] for p in found["serial"]} == {p.device for p in list_ports.comports()}
    assert [c["device"] for c in found["cameras"]] == [c.device for c in find().cameras]
    shown = hard.run("devices").stdout
    assert ("no serial ports" in shown) == (not found["serial"])
    assert ("no cameras" in shown) == (not found["cameras"])


def test_devices_shows_tables_or_says_that_there_are_none() -> None:
    def printed(found: Found) -> str:
        console = Console(width=150)
        with console.capture() as capture:
            console.print(show(found))
        return capture.get()

    assert "no serial ports" in printed(Found([], []))
    assert "no cameras" in printed(Found([], []))
    port = FoundPort("/dev/ttyACM0", "/dev/serial/by-id/usb-Arduino-if00", "Nano 33 BLE")
    out = printed(Found([port], [FoundCamera("/dev/video0", None, "C270")]))
    for word in ("/dev/serial/by-id/usb-Arduino-if00", "/dev/ttyACM0", "Nano 33 BLE", "/dev/video0", "C270"):
        assert word in out
