"""Every codec keeps the contract; the native format round-trips, and its documentation is true."""

from __future__ import annotations

import contextlib
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps import APPS, Phone
from conftest import ROOT
from hard.codecs import Codec, CodecOptions, PayloadError
from hard.codecs.native import HEADER, NativeCodec, encode
from hard.recordings import Recording
from hard.registry import CODECS, OPTIONS, make_codec, names
from hard.stats import Counters
from hard.synthetic import SyntheticPhone
from hard.types import Chunk, G, Message


def decode(payload: bytes) -> tuple[np.ndarray, np.ndarray]:
    (chunk,) = NativeCodec(CodecOptions(), Counters()).decode(Message("hard/alice/imu", payload, 1.0))
    assert chunk.device == "alice"
    assert chunk.arrival_s == 1.0
    return chunk.t, chunk.samples


class Noting:
    """Options that know which of them were read."""

    def __init__(self) -> None:
        self._options = CodecOptions()
        self.read: set[str] = set()

    def __getattr__(self, name: str) -> object:
        self.read.add(name)
        return getattr(self._options, name)


@pytest.mark.parametrize("name", [name for name in CODECS if name != "auto"])
def test_the_options_that_a_codec_reads_are_those_that_settings_allow_it(name: str) -> None:
    t, samples = SyntheticPhone(0).read(0, 600)
    sent = [("hard/a/imu", encode(t, samples))]
    rows = np.column_stack([t, samples]).tolist()
    sent += [("serial/a", (",".join(map(str, row)) + "\n").encode()) for row in rows]
    for encoder, _ in APPS.values():
        sent += encoder(Phone(Recording("person", t, samples), seed=1))
    options = Noting()
    made = make_codec(name, options, Counters())  # type: ignore[arg-type]
    for k, (topic, payload) in enumerate(sent):
        with contextlib.suppress(PayloadError):
            made.decode(Message(topic, payload, 0.02 * k))
    assert options.read == set(OPTIONS[name])


@pytest.mark.parametrize("name", names("codecs", CODECS))
@given(
    payload=st.binary(max_size=200)
    | st.text(max_size=200).map(lambda s: ("{" + s).encode("utf-8", "replace"))
)
def test_a_codec_refuses_bytes_with_payload_error_only(name: str, payload: bytes) -> None:
    codec: Codec = make_codec(name, CodecOptions(), Counters())
    with contextlib.suppress(PayloadError):
        for item in codec.decode(Message("hard/alice/imu", payload, 0.0)):
            values = item.samples if isinstance(item, Chunk) else item.xyz
            assert values.shape == (len(item.t), 6 if isinstance(item, Chunk) else 3)


floats32 = st.floats(-300, 300, width=32)
rows = st.lists(st.tuples(*[floats32] * 6), min_size=1, max_size=200)


@given(values=rows, first=st.floats(-1e9, 1e10), rate=st.floats(1, 1000))
def test_uniform_chunks_round_trip(values: list[tuple[float, ...]], first: float, rate: float) -> None:
    samples = np.array(values, np.float32)
    t, got = decode(encode(np.array([first]), samples, rate))
    assert (got == samples).all()
    assert (t == first + np.arange(len(samples)) / rate).all()


@given(values=rows, first=st.floats(-1e9, 1e10))
def test_irregular_chunks_round_trip(values: list[tuple[float, ...]], first: float) -> None:
    samples = np.array(values, np.float32)
    times = first + np.cumsum(np.abs(samples[:, 0])).astype(np.float64)
    t, got = decode(encode(times, samples))
    assert (got == samples).all()
    assert (t == times).all()


def test_a_phone_without_a_gyroscope_says_so_in_both_forms() -> None:
    samples = np.array([[0, 0, 9.8], [0, 0, 9.9]], np.float32)
    twin = {"t": 0, "rate": 50, "gyro": "none", "samples": [[0, 0, 9.8, 1, 1, 1], [0, 0, 9.9, 1, 1, 1]]}
    for payload in (encode(np.arange(2) / 50, samples), json.dumps(twin).encode()):
        (chunk,) = NativeCodec(CodecOptions(), Counters()).decode(Message("hard/alice/imu", payload, 1.0))
        assert not chunk.gyro
        assert (chunk.samples == np.pad(samples, ((0, 0), (0, 3)))).all()


def test_worked_example_of_the_readme() -> None:
    text = (ROOT / "hard/codecs/README.md").read_text("utf-8")
    hexadecimal = re.search(r"```hex\n(.*?)```", text, re.S)
    twin = re.search(r"```json\n(.*?)```", text, re.S)
    assert hexadecimal
    assert twin
    for payload in (bytes.fromhex(hexadecimal[1]), twin[1].encode()):
        t, samples = decode(payload)
        assert t.tolist() == [1.5, 1.52]
        np.testing.assert_allclose(samples, [[0, 0, G, 0, 0, 0.25], [0, 0.5 * G, G, 0, 0, 0.5]], rtol=1e-6)


def test_json_twin_in_other_units_and_with_own_times() -> None:
    twin = {"t": [1.0, 1.5], "gyro": "deg/s", "samples": [[1, 2, 3, 180, 0, 0], [1, 2, 3, 0, 0, 90]]}
    t, samples = decode(json.dumps(twin).encode())
    assert t.tolist() == [1.0, 1.5]
    np.testing.assert_allclose(samples, [[1, 2, 3, np.pi, 0, 0], [1, 2, 3, 0, 0, np.pi / 2]], rtol=1e-6)


def test_one_sample_needs_no_rate() -> None:
    t, samples = decode(b'{"t": 0, "samples": [[0.1, 0.2, 9.8, 0, 0, 0]]}')
    assert t.tolist() == [0.0]
    assert samples.shape == (1, 6)


GOOD = encode(np.array([0.0]), np.zeros((2, 6), np.float32), 50.0)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "starts with"),
        (b"hello", "starts with"),
        (GOOD[:20], "header"),
        (GOOD[:-1], "rows make"),
        (GOOD + b"\0", "rows make"),
        (GOOD[:4] + b"\2" + GOOD[5:], "version 2"),
        (GOOD[:5] + b"\x80" + GOOD[6:], "flags"),
        (HEADER.pack(b"HARD", 1, 0, 0, 50.0, 0.0), "count 0"),
        (HEADER.pack(b"HARD", 1, 0, 1, 0.0, 0.0) + bytes(24), "rate 0 Hz"),
        (HEADER.pack(b"HARD", 1, 0, 1, float("nan"), 0.0) + bytes(24), "rate nan Hz"),
        (HEADER.pack(b"HARD", 1, 0, 1, 50.0, float("inf")) + bytes(24), "first timestamp inf"),
        (HEADER.pack(b"HARD", 1, 4, 1, 0.0, 0.0) + np.array([np.nan]).tobytes() + bytes(24), "not finite"),
        (b"{", "JSON"),
        (b'{"t": 0, "samples": []}', "0 samples"),
        (b'{"t": 0, "samples": [[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]]}', "rate is missing"),
        (b'{"t": [0], "samples": [[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]]}', "1 times for 2"),
        (b'{"t": 0, "samples": [[1, 2, 3]]}', "samples"),
        (b'{"t": 0, "sample": [[1, 2, 3, 4, 5, 6]]}', "unknown field `sample`"),
        (b'{"t": 0, "acc": "G", "samples": [[1, 2, 3, 4, 5, 6]]}', "acc"),
        (b'{"t": 1731000000000000000, "samples": [[1, 2, 3, 4, 5, 6]]}', "expected seconds"),
    ],
)
def test_a_bad_payload_says_why(payload: bytes, why: str) -> None:
    with pytest.raises(PayloadError, match=re.escape(why)):
        decode(payload)


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_float32_become_infinity_quietly() -> None:
    _, samples = decode(b'{"t": 0, "acc": "g", "samples": [[1e300, 3.4e38, 3, 4, 5, 6]]}')
    assert np.isinf(samples[0, :2]).all()
