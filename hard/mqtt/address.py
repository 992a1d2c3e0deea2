"""Where a broker is and how to get in: URL, user, password, TLS files; checked before anything connects."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

from hard.settings import BrokerSettings
from hard.types import HardError

SCHEMES: Final = {"mqtt": 1883, "mqtts": 8883}
CREDENTIAL: Final = "mqtt-password"


class BrokerUrl(msgspec.Struct, frozen=True):
    """Where a broker is, and how to get in. Neither `str()` nor `repr()` shows the password."""

    host: str
    port: int
    tls: bool = False
    username: str | None = None
    password: str | None = None
    ca: str | None = None  # PEM file; None: the system's CAs
    cert: str | None = None  # PEM file of ours
    key: str | None = None  # PEM file; None: in `cert`
    insecure: bool = False  # take any certificate
    mqtt5: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"

    def __repr__(self) -> str:
        return f"BrokerUrl({self})"


def parse_url(url: str) -> BrokerUrl:
    """mqtt://[user:password@]host[:port] or mqtts://...; HardError says what is wrong, not the password."""
    try:
        parts = urlsplit(url if "://" in url else f"mqtt://{url}")
        host, port = parts.hostname, parts.port
    except ValueError:  # its text may quote a piece of the password
        raise HardError(
            "broker URL: expected mqtt://host:1883, the port a number; write / ? # @ : of a password as "
            "%2F %3F %23 %40 %3A, or give it by broker.password_file"
        ) from None
    if parts.scheme not in SCHEMES:
        raise HardError(f"broker URL: scheme {parts.scheme!r}; expected one of {', '.join(SCHEMES)}")
    if port == 0:
        raise HardError("broker URL: port 0; expected 1 to 65535")
    if not host:
        raise HardError("broker URL: no host; expected mqtt://host:1883")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise HardError("broker URL: expected mqtt://host:1883, nothing after the port")
    return BrokerUrl(
        host,
        SCHEMES[parts.scheme] if port is None else port,
        parts.scheme == "mqtts",
        unquote(parts.username) if parts.username else None,
        unquote(parts.password) if parts.password else None,
    )


def address(url: str, settings: BrokerSettings, environ: Mapping[str, str]) -> BrokerUrl:
    """The broker at `url` with the settings' user, password and TLS; HardError where a file is of no use.

    User and password: the URL's, then broker.username and broker.password, broker.password_file, and the
    systemd credential mqtt-password.
    """
    at, tls = parse_url(url), settings.tls
    username = at.username or settings.username or None
    password = at.password or settings.password or None
    if password is None and settings.password_file is not None:
        password = _secret(Path(settings.password_file).expanduser(), "broker.password_file")
    if password is not None and username is None:
        raise HardError("broker.username: missing; a password needs its user (or mqtt://user@host)")
    if password is None and username is not None and "CREDENTIALS_DIRECTORY" in environ:
        password = credential(Path(environ["CREDENTIALS_DIRECTORY"]) / CREDENTIAL)
    wanted = [n for n in ("ca", "cert", "key", "insecure") if getattr(tls, n)]
    if wanted and not at.tls:
        raise HardError(
            f"broker.tls.{wanted[0]}: the broker URL is without TLS; write mqtts://{at.host}:8883"
        )
    ca, cert, key = (str(Path(p).expanduser()) if p else None for p in (tls.ca, tls.cert, tls.key))
    found = BrokerUrl(
        at.host, at.port, at.tls, username, password, ca, cert, key, tls.insecure, settings.protocol == "5"
    )
    if at.tls:
        tls_context(found)
    return found


def tls_context(url: BrokerUrl) -> ssl.SSLContext:
    """What to trust and to show; HardError names the setting whose file is of no use."""
    if url.key and not url.cert:
        raise HardError("broker.tls.key: a key without its certificate; set broker.tls.cert too")
    if url.ca:
        _readable(url.ca, "broker.tls.ca")
    try:
        context = ssl.create_default_context(cafile=url.ca)
    except ssl.SSLError:
        raise HardError(f"broker.tls.ca: {url.ca}: holds no PEM certificate") from None
    if url.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if url.cert:
        _readable(url.cert, "broker.tls.cert")
        if url.key:
            _readable(url.key, "broker.tls.key")
        try:
            # without a password callback OpenSSL asks on the terminal, which a daemon does not have
            context.load_cert_chain(url.cert, url.key, password=lambda: "")
        except ssl.SSLError as e:
            name = "broker.tls.key" if url.key else "broker.tls.cert"
            why = "belongs to another certificate" if e.reason == "KEY_VALUES_MISMATCH" else "no usable PEM"
            raise HardError(
                f"{name}: {url.key or url.cert}: {why}; expected an unencrypted private key of {url.cert}"
            ) from None
    context.sslsocket_class = _TlsSocket
    return context


class _TlsSocket(ssl.SSLSocket):
    """Closed where the handshake fails: paho forgets such a socket, open."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def _readable(path: str, name: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as e:
        raise HardError(f"{name}: {path}: {e.strerror}") from None


def _secret(path: Path, name: str) -> str:
    """A file's text without its line end."""
    try:
        text = path.read_text("utf-8").rstrip("\r\n")
    except PermissionError as e:
        raise HardError(
            f"{name}: {path}: {e.strerror}; let this user read it, or, for a service, put the password into "
            "/etc/hard/mqtt-password and leave broker.password_file out: systemd hands it over"
        ) from None
    except OSError as e:
        raise HardError(f"{name}: {path}: {e.strerror}") from None
    except UnicodeDecodeError:
        raise HardError(f"{name}: {path}: not UTF-8 text") from None
    if not text or "\n" in text:
        raise HardError(f"{name}: {path}: expected the password, on one line")
    return text


def credential(path: Path) -> str | None:
    """systemd's credential; none where the file is absent or, as the unit's default has it, blank."""
    try:
        return _secret(path, "credential") if path.read_bytes().strip() else None
    except FileNotFoundError:
        return None
    except OSError as e:
        raise HardError(f"credential: {path}: {e.strerror}") from None


def explain_failure(error: OSError | None, tls: bool) -> str:
    """Why there was no connection at all, and what to do about it, for the log."""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = f"the broker's certificate is not accepted: {error.verify_message}"
        if "mismatch" in error.verify_message:
            return f"{why}; name the broker as its certificate does"
        return f"{why}; set broker.tls.ca to the certificate of the CA that signed it"
    if error is None:
        return "cannot connect"
    why = f"cannot connect: {error.strerror or error}"
    if isinstance(error, ssl.SSLError | ConnectionResetError) and tls:  # it does not know our greeting
        return f"{why}; a port without TLS is mqtt://"
    return why


def explain_refusal(code: int, reason: str, url: BrokerUrl) -> str:
    """Why the broker said no (an MQTT 5 reason code), and what to do about it, for the log."""
    if code in (134, 135):  # bad user name or password, not authorised: brokers do not agree on which
        if url.username is None:
            return f"refused us: {reason}; it wants a user: set broker.username and broker.password_file"
        return (
            f"refused user {url.username!r}: {reason}; check broker.username and the password "
            "(broker.password_file, HARD__BROKER__PASSWORD, or the credential mqtt-password)"
        )
    if code == 132:
        return f"refused us: {reason}; set broker.protocol to {'3.1.1' if url.mqtt5 else '5'}"
    return f"refused us: {reason}"


def explain_silence(url: BrokerUrl) -> str:
    """Why a broker may close a connection before it answers, for the log."""
    if not url.tls:
        return "closed the connection before answering; a port with TLS is mqtts://"
    if url.cert is None:
        return (
            "closed the connection; it may want a client certificate: set broker.tls.cert and broker.tls.key"
        )
    return f"closed the connection; it may not trust the certificate {url.cert}"
