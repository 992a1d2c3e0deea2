"""User, password and TLS files: where they come from, errors that name the setting, and nothing echoed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from certificates import Authority
from conftest import Hard, Mosquitto
from hard.config import load_settings
from hard.mqtt.address import BrokerUrl, address, parse_url
from hard.settings import BrokerSettings, Settings, TlsSettings
from hard.types import HardError

CANARY = "kanarienvogel-7Q"


@pytest.fixture
def secret(tmp_path: Path) -> str:
    path = tmp_path / "secret"
    path.write_text("from-file\n")
    return str(path)


def test_the_nearest_password_wins(tmp_path: Path, secret: str) -> None:
    (tmp_path / "mqtt-password").write_text("from-credential\n")
    systemd = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    only_user = BrokerSettings(username="me")
    with_file = BrokerSettings(username="me", password_file=secret)
    with_all = BrokerSettings(username="me", password="from-key", password_file=secret)

    def got(url: str, settings: BrokerSettings) -> tuple[str | None, str | None]:
        at = address(url, settings, systemd)
        return at.username, at.password

    assert got("mqtt://h", BrokerSettings()) == (None, None)
    assert got("mqtt://h", only_user) == ("me", "from-credential")
    assert got("mqtt://h", with_file) == ("me", "from-file")
    assert got("mqtt://h", with_all) == ("me", "from-key")
    assert got("mqtt://you:from%2Furl@h", with_all) == ("you", "from/url")
    assert got("mqtt://you@h", with_file) == ("you", "from-file")
    assert address("mqtt://h", only_user, {}).password is None


def test_a_password_is_taken_as_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "hard.yaml"
    for text in ("0123", "true", "1e5", "2026-11-20"):
        file.write_text(f"broker:\n  password: {text}\n  protocol: 5\n")
        assert load_settings(file).broker.password == text
    for text in ("0123", "[x", "a: b", "#", "'"):
        assert load_settings(None, {"HARD__BROKER__PASSWORD": text}).broker.password == text
    assert load_settings(file).broker.protocol == "5"
    assert load_settings(None, {"HARD__BROKER__PROTOCOL": "3.1.1"}).broker.protocol == "3.1.1"


def test_files_that_are_of_no_use_are_named(tmp_path: Path, secret: str) -> None:
    authority = Authority(tmp_path / "ca")
    cert, key = authority.sign("hard")
    other, _ = authority.sign("other")
    lines = {
        BrokerSettings(
            username="x", password_file="/no/file"
        ): "broker.password_file: /no/file: No such file",
        BrokerSettings(username="x", password_file="/dev/null"): "expected the password, on one line",
        BrokerSettings(username="x", password_file=str(cert)): "expected the password, on one line",
        BrokerSettings(password="x"): "broker.username: missing",
        BrokerSettings(tls=TlsSettings(ca="/no/ca")): "broker.tls.ca: /no/ca: No such file",
        BrokerSettings(tls=TlsSettings(ca=str(tmp_path))): "Is a directory",
        BrokerSettings(tls=TlsSettings(ca=secret)): f"broker.tls.ca: {secret}: holds no PEM certificate",
        BrokerSettings(tls=TlsSettings(cert="/no/cert")): "broker.tls.cert: /no/cert: No such file",
        BrokerSettings(tls=TlsSettings(key=str(key))): "broker.tls.key: a key without its certificate",
        BrokerSettings(tls=TlsSettings(cert=str(cert))): f"broker.tls.cert: {cert}: no usable PEM",
        BrokerSettings(tls=TlsSettings(cert=str(cert), key="/no/key")): "broker.tls.key: /no/key: No such",
        BrokerSettings(tls=TlsSettings(cert=str(other), key=str(key))): "belongs to another certificate",
    }
    for settings, line in lines.items():
        with pytest.raises(HardError) as error:
            address("mqtts://h", settings, {})
        assert line in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(
        HardError, match=r"broker\.tls\.ca: the broker URL is without TLS; write mqtts://h:8883"
    ):
        address("mqtt://h", BrokerSettings(tls=TlsSettings(ca=str(cert))), {})


def test_a_password_file_that_only_root_reads_comes_with_the_way_out(secret: str) -> None:
    Path(secret).chmod(0)
    before = os.geteuid()
    if before == 0:
        os.seteuid(65_534)  # root reads everything
    try:
        with pytest.raises(HardError, match=r"Permission denied; .*leave broker\.password_file out"):
            address("mqtt://h", BrokerSettings(username="x", password_file=secret), {})
    finally:
        os.seteuid(before)


@pytest.mark.parametrize(
    "url",
    [
        f"mqtt://me:{CANARY}/@h", f"mqtt://me:a/{CANARY}@h", f"mqtt://me:{CANARY}@h:port", f"me:{CANARY}@",
        f"mqtt://me:{CANARY}#@h", f"mqtt://me:[{CANARY}@h", f"mqtt://me:x@h/{CANARY}", f"http://me:{CANARY}@h",
    ],
)  # fmt: skip
def test_a_bad_url_does_not_show_its_password(url: str) -> None:
    with pytest.raises(HardError) as error:
        parse_url(url)
    assert CANARY not in str(error.value)


def test_no_value_shows_its_password() -> None:
    at = BrokerUrl("h", 1, username="me", password=CANARY)
    settings = load_settings(None, {"HARD__BROKER__PASSWORD": CANARY, "HARD__EMBEDDED__PASSWORD": CANARY})
    assert CANARY not in f"{at} {at!r} {settings!r} {settings.broker!r} {settings.embedded}"
    assert settings != Settings()


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"HARD__BROKER": CANARY}, ""),
        ({"HARD__BROKER": f"[{CANARY}"}, ""),
        ({"HARD__BROKER__PASWORD": CANARY}, ""),
        ({"HARD__BROKER__PASSWORD__X": CANARY}, ""),
        ({"HARD__EMBEDDED__PASSWORD": CANARY[:7]}, ""),
        ({}, f"broker: {CANARY}\n"),
        ({}, f"broker: {{password: [{CANARY}]}}\n"),
        ({}, f"broker: {{password: *{CANARY}}}\n"),
        ({}, f"broker:\n  password: {CANARY}: x\n"),
        ({}, f"broker: {{pasword: {CANARY}}}\n"),
    ],
)
def test_a_settings_error_does_not_show_a_password(
    tmp_path: Path, environ: dict[str, str], text: str
) -> None:
    file = tmp_path / "hard.yaml"
    file.write_text(text)
    with pytest.raises(HardError) as error:
        load_settings(file, environ)
    assert CANARY[:7] not in str(error.value)


@pytest.mark.mosquitto
@pytest.mark.parametrize("right", [True, False])
def test_no_output_shows_the_password(hard: Hard, server: Mosquitto, tmp_path: Path, right: bool) -> None:
    """Everything that the commands print or log, at the chattiest, and what `ps` shows."""
    server.start(server.set_password("hard", CANARY if right else "another"))
    password = tmp_path / "mqtt-password"
    password.write_text(CANARY)
    file = tmp_path / "hard.yaml"
    file.write_text(
        f"log_level: debug\nbroker:\n  url: mqtt://127.0.0.1:{server.port}\n  username: hard\n"
        f"  password_file: {password}\n"
    )
    walk = tmp_path / "walk.csv"
    walk.write_text("t,ax,ay,az,gx,gy,gz\n" + "".join(f"{n / 50},0,9.8,0,0,0,0\n" for n in range(60)))
    plain = {"HARD__BROKER__URL": f"mqtt://127.0.0.1:{server.port}", "HARD__BROKER__USERNAME": "hard"}
    runs = [
        hard.start("run", "--config", str(file), "--simulate", "1", "--for", "2"),
        hard.start("watch", "--for", "2", HARD__BROKER__URL=f"mqtt://hard:{CANARY}@127.0.0.1:{server.port}"),
        hard.start("replay", str(walk), **plain, CREDENTIALS_DIRECTORY=str(tmp_path)),
        hard.start("watch", "--for", "2", **plain, HARD__BROKER__PASSWORD=CANARY),
    ]
    shown = ""
    for process in runs:
        shown += Path(f"/proc/{process.pid}/cmdline").read_text()
        out, err = process.communicate(timeout=60)
        assert ("refused user 'hard'" in err) is not right
        assert process.returncode == (0 if right or process is runs[0] else 1)
        shown += out + err
    assert CANARY not in shown
