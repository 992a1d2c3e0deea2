"""Published networks have the published layers, and the webcam network sees motion alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hard.nets.cnn_lstm15 import CnnLstm15
from hard.nets.conv_lstm import ConvLstm, ConvLstmCell
from hard.nets.frame_cnn import FrameCnn
from hard.nets.lrcn import Lrcn
from hard.nets.residual import Residual
from hard.nets.webcam import WebcamLrcn


def conv(channels: int, filters: int) -> int:
    """Keras' count for Conv2D, 3x3."""
    return filters * (9 * channels + 1)


def lstm(inputs: int, units: int) -> int:
    """Keras' count for LSTM: four gates, one bias each."""
    return 4 * units * (inputs + units + 1)


def dense(inputs: int, units: int) -> int:
    return units * (inputs + 1)


def keras_parameters(net: nn.Module) -> int:
    """Trainable parameters as Keras counts them: torch keeps a second bias for each gate of an LSTM."""
    second = sum(m.bias_hh_l0.numel() for m in net.modules() if isinstance(m, nn.LSTM))
    return sum(p.numel() for p in net.parameters()) - second


LRCN = conv(3, 16) + conv(16, 32) + conv(32, 64) + conv(64, 64) + lstm(4 * 4 * 64, 32) + dense(32, 6)
FRAME_CNN = conv(3, 64) + conv(64, 64) + 2 * 64 + dense(64, 256) + 2 * 256 + dense(256, 6)
CONV_LSTM = sum(
    4 * filters * (9 * (channels + filters) + 1) for channels, filters in ((3, 4), (4, 8), (8, 14), (14, 16))
) + dense(20 * 3 * 3 * 16, 6)


@pytest.mark.parametrize(
    ("net", "shape", "parameters"),
    [
        (Lrcn(6), (2, 20, 3, 64, 64), LRCN),
        (FrameCnn(6), (2, 3, 64, 64), FRAME_CNN),
        (ConvLstm(6), (2, 20, 3, 64, 64), CONV_LSTM),
        (CnnLstm15(), (1, 10, 3, 128, 128), 14_791_887),
    ],
    ids=["lrcn", "frame-cnn", "conv-lstm", "cnn-lstm-15"],
)
def test_a_published_network_has_as_many_parameters_as_its_layers_in_keras(
    net: nn.Module, shape: tuple[int, ...], parameters: int
) -> None:
    assert keras_parameters(net) == parameters
    with torch.no_grad():
        assert net.eval()(torch.rand(shape)).shape == (shape[0], 15 if parameters > 1e7 else 6)


def test_the_conv_lstm_of_four_ucf50_classes_has_the_published_44524_parameters() -> None:
    assert keras_parameters(ConvLstm(4)) == 44_524


def test_a_conv_lstm_remembers_and_does_not_look_ahead() -> None:
    torch.manual_seed(0)
    cell = ConvLstmCell(3, 4).eval()
    x = torch.rand(1, 6, 3, 12, 12)
    other = x.clone()
    other[:, 3] += 0.5
    with torch.no_grad():
        a, b = cell(x), cell(other)
    assert a.shape == (1, 6, 4, 10, 10)
    torch.testing.assert_close(a[:, :3], b[:, :3])
    assert not torch.allclose(a[:, 5], b[:, 5], atol=1e-4)


def test_the_residual_network_takes_one_image_at_a_time() -> None:
    with torch.no_grad():
        assert Residual(15).eval()(torch.rand(3, 3, 64, 64)).shape == (3, 15)


@pytest.fixture
def net() -> WebcamLrcn:
    torch.manual_seed(0)
    return WebcamLrcn(7).eval()


def clips(n: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, 20, 64, 64, 3), np.uint8))


def test_a_frame_is_encoded_by_itself(net: WebcamLrcn) -> None:
    x = clips(2)
    with torch.no_grad():
        one_by_one = torch.stack([torch.cat([net.encode(f[None]) for f in clip]) for clip in x])
        torch.testing.assert_close(net.logits(one_by_one), net(x), atol=1e-5, rtol=0)
        torch.testing.assert_close(net.classify(one_by_one).sum(dim=1), torch.ones(2))


def test_what_does_not_move_is_not_seen(net: WebcamLrcn) -> None:
    """Two rooms where nothing moves are the same to the network, whatever is in them."""
    still = clips(2)[:, :1].expand(-1, 20, -1, -1, -1)
    with torch.no_grad():
        a, b = net(still.contiguous())
    torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


def test_a_clip_where_nothing_moves_at_all_does_not_spoil_the_weights() -> None:
    """The size of no motion has a finite slope: one such clip once made every weight NaN."""
    net = WebcamLrcn(7)
    net(torch.zeros(2, 20, 64, 64, 3, dtype=torch.uint8)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_a_dim_person_is_seen_as_a_bright_one_is(net: WebcamLrcn) -> None:
    e = torch.rand(1, 20, 16 * 16 * 12)
    with torch.no_grad():
        torch.testing.assert_close(net.logits(e), net.logits(0.5 * e), atol=0.05, rtol=0)
