"""Squeezing pictures: what training and the daemon share."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from hard.frames import squeeze


def picture(width: int, height: int) -> np.ndarray:
    """Soft shapes and some noise, as a camera gives them."""
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 255, (12, 16, 3)).astype(np.uint8)
    soft = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(int)
    return np.clip(soft + rng.normal(0, 4, soft.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", [(640, 480), (1280, 720), (1920, 1080), (160, 120), (101, 333), (64, 64)])
def test_a_picture_is_averaged_and_turned_to_rgb(shape: tuple[int, int]) -> None:
    frame = picture(*shape)
    exact = cv2.resize(frame, (64, 64), interpolation=cv2.INTER_AREA)[:, :, ::-1].astype(int)
    got = squeeze(frame, 64)
    assert (got.shape, got.dtype) == ((64, 64, 3), np.uint8)
    assert np.abs(got - exact).mean() < 4.0


@pytest.mark.parametrize("shape", [(1, 1), (3, 2000), (2000, 3)])
def test_odd_shapes_are_squeezed_too(shape: tuple[int, int]) -> None:
    assert squeeze(picture(*shape), 64).shape == (64, 64, 3)


def test_a_picture_of_the_right_size_is_left_as_it_is() -> None:
    frame = picture(64, 64)
    np.testing.assert_array_equal(squeeze(frame, 64), frame[:, :, ::-1])
