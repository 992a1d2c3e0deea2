"""What is written over a picture: always there, always legible, whatever the picture."""

from __future__ import annotations

import numpy as np
import pytest

from hard.overlay import Caption, draw, enlarge
from hard.types import Label, Prediction

SHARES = {"jumping_jack": 0.93, "wave_two_hands": 0.04, "bend": 0.02, "other": 0.01}


def label(device: str = "cam", activity: str = "jumping_jack", confidence: float = 0.93) -> Label:
    reason = "low confidence" if activity == "unknown" else None
    p = Prediction(device, 1.0, activity, confidence, SHARES, 29.97, 0, 0.0, 0.0, "m", "h", reason)
    return Label(p, activity, confidence, reason, 1000.0, 1012.0, 1, 12.4)


def flat(grey: int, width: int = 640, height: int = 480) -> np.ndarray:
    return np.full((height, width, 3), grey, np.uint8)


def brightness(image: np.ndarray) -> np.ndarray:
    """Relative luminance, 0 to 1, as the contrast rules of the web define it."""
    rgb = image[:, :, ::-1] / 255.0
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_letters_stand_out_on_any_background(grey: int) -> None:
    image = draw(flat(grey), Caption("cam", label(), [label("alice", "walking")], 0.0, 30.0))
    for part in (image[380:420, 30:300], image[18:40, 40:90], image[18:40, 520:620]):
        light = brightness(part)
        assert (light.max() + 0.05) / (np.median(light) + 0.05) > 7


def test_the_picture_itself_is_left_alone_and_shows_through() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    before = picture.copy()
    image = draw(picture, Caption("cam", label(), [], 0.0, 30.0))
    np.testing.assert_array_equal(picture, before)
    np.testing.assert_array_equal(image[60:350], picture[60:350])


def test_the_bar_is_as_long_as_the_label_is_sure() -> None:
    def green(confidence: float) -> int:
        image = draw(flat(0), Caption("cam", label(confidence=confidence), [], 0.0, 30.0))
        row = image[426, :350].astype(int)
        return int((row[:, 1] - row[:, 2] > 60).sum())

    assert 1.4 < green(0.98) / green(0.65) < 1.7


def test_other_labels_look_different() -> None:
    seen = [
        draw(flat(90), Caption("cam", which, [], age_s, 30.0))[370:460, 20:330]
        for which, age_s in ((label(), 0.0), (label(activity="bend"), 0.0), (label(activity="unknown"), 0.0),
                             (None, 0.0), (label(), 5.0))
    ]  # fmt: skip
    for i, a in enumerate(seen):
        for b in seen[:i]:
            assert np.abs(a.astype(int) - b).max() > 80


def test_an_old_picture_is_darkened() -> None:
    image = draw(flat(200), Caption("cam", label(), [], 2.0, 30.0))
    assert image[200, 320].max() < 80


@pytest.mark.parametrize(
    ("width", "height"),
    [(64, 64), (160, 120), (641, 479), (1280, 720), (3840, 2160), (360, 640), (1, 1), (2000, 3), (3, 2000)],
)
def test_pictures_of_any_size_are_drawn_on(width: int, height: int) -> None:
    image = draw(flat(90, width, height), Caption("x" * 90, label(), [label(f"phone-{k}") for k in range(9)]))
    assert image.dtype == np.uint8
    assert image.shape[1] <= 1920
    assert image.shape[0] <= 1080


def test_small_pictures_are_enlarged_and_large_ones_reduced() -> None:
    assert enlarge(flat(0, 64, 64)).shape == (560, 560, 3)
    assert enlarge(flat(0, 640, 480)).shape == (480, 640, 3)
    assert enlarge(flat(0, 1280, 720)).shape == (720, 1280, 3)
    assert enlarge(flat(0, 3840, 2160)).shape == (1080, 1920, 3)


def test_many_phones_end_in_a_count() -> None:
    six = draw(flat(90), Caption("cam", None, [label(f"phone-{k}") for k in range(6)]))
    seven = draw(flat(90), Caption("cam", None, [label(f"phone-{k}") for k in range(60)]))
    assert (six[146:160, 450:600] == 90).all()
    assert (seven[146:160, 450:600] != 90).any()
