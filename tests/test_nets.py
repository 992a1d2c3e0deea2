"""What a network looks at, and what it does not."""

from __future__ import annotations

import io

import pytest
import torch
from torch import Tensor, nn

from hard.datasets.hapt import LABELS
from hard.nets.lstm import Lstm
from hard.nets.posture import PostureLstm, sway, sway_numbers
from hard.nets.published import ResidualBiLstm, StackedLstm
from hard.nets.rest import SITTING, STANDING
from tools.export import script


def turned(x: Tensor, axis: int, angle: float) -> Tensor:
    """The same motion of a phone that is turned about one of its axes."""
    v = torch.zeros(3)
    v[axis] = angle
    cross = torch.tensor([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return (x.view(*x.shape[:2], -1, 3) @ torch.matrix_exp(cross).T).view_as(x)


@pytest.mark.parametrize("channels", [6, 9])
@pytest.mark.parametrize("angle", [-1.0, 0.3, 1.0])
def test_how_steep_a_phone_hangs_does_not_change_the_sway(angle: float, channels: int) -> None:
    torch.manual_seed(0)
    x = 0.005 * torch.randn(20, 128, channels)
    x[:, :, -3:] += torch.tensor([1.0, 0, 0]) - x[:, :, -3:].mean(dim=1, keepdim=True)
    torch.testing.assert_close(sway(turned(x, 1, angle))[:, 3:], sway(x)[:, 3:], atol=1e-3, rtol=0)
    torch.testing.assert_close(sway(x)[:, :3], torch.tensor([[1.0, 0, 0]]).expand(20, 3))


@pytest.mark.parametrize("channels", [6, 9])
def test_sway_of_a_phone_on_a_table_or_without_any_signal_is_a_number(channels: int) -> None:
    x = torch.zeros(2, 128, channels)
    x[1, :, -1] = 1.0
    assert sway(x).shape == (2, sway_numbers(channels))
    assert sway(x).isfinite().all()


def test_sway_sees_that_a_body_tilts_as_its_gyroscope_says() -> None:
    """About a pivot under the phone, the tilt follows the rate; the other way round the phone only shifts."""
    t = torch.arange(128) / 50
    rate = 0.02 * torch.cos(2 * torch.pi * t)  # rad/s
    tilt = 0.02 * torch.sin(2 * torch.pi * t) / (2 * torch.pi)
    x = torch.zeros(2, 128, 9)
    x[:, :, 6] = 1.0
    x[:, :, 8] = torch.stack([tilt, -tilt])
    x[:, :, 4] = rate
    same, opposite = sway(x)
    changed = (same - opposite).abs() > 0.5
    assert changed.any()
    torch.testing.assert_close(same[changed], -opposite[changed])


def odds_alone(net: PostureLstm, x: Tensor) -> Tensor:
    """What the rule makes of the sway of windows of which nothing before is known."""
    seen, _ = net.rest.remember(x, sway(x), torch.zeros(len(x), net.rest.state))
    return net.rest.odds(seen)[:, 0]


def untrained() -> PostureLstm:
    torch.manual_seed(0)
    net = PostureLstm(len(LABELS), width=8, hidden=8).eval()
    net.rest.rule.normal_(0.0, 0.1)
    return net


def test_sway_splits_sitting_from_standing_and_says_nothing_else() -> None:
    net = untrained()
    x = torch.randn(10, 128, 9)
    pair = [SITTING, STANDING]
    rest = [i for i in range(len(LABELS)) if i not in pair]
    with torch.no_grad():
        y, alone, odds = net(x), net.of_lstm(x), odds_alone(net, x)
    torch.testing.assert_close(y[:, rest], alone[:, rest])
    torch.testing.assert_close(y[:, pair].logsumexp(1), alone[:, pair].logsumexp(1))
    torch.testing.assert_close(y[:, STANDING] - y[:, SITTING], alone[:, STANDING] - alone[:, SITTING] + odds)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("walking", [0, 7, 10])
def test_sway_is_asked_of_windows_that_may_be_either(walking: int) -> None:
    """Whatever part of a batch that is; TorchScript leaves the others out, with the same answers."""
    net = untrained()
    x = torch.randn(10, 128, 9)
    x[:walking] *= 10.0
    with torch.no_grad():
        net.head.weight[:, 16:] = 0.0
        net.head.weight[0, 16] = 5.0  # what moves much walks
        saved = io.BytesIO(script(net))
        alone, odds = net.of_lstm(x), odds_alone(net, x)
        scripted = torch.jit.load(saved)  # type: ignore[no-untyped-call]
        answers = [net(x), scripted(x)]
    for y in answers:
        added = y[:, STANDING] - y[:, SITTING] - (alone[:, STANDING] - alone[:, SITTING])
        torch.testing.assert_close(added[walking:], odds[walking:], atol=1e-5, rtol=1e-4)
        assert (added[:walking].abs() < 1e-5).all()


def test_the_lstm_of_a_posture_lstm_starts_and_goes_on_as_if_alone() -> None:
    torch.manual_seed(0)
    alone, after = Lstm(len(LABELS)).state_dict(), torch.rand(3)
    torch.manual_seed(0)
    both, after_both = PostureLstm(len(LABELS)).state_dict(), torch.rand(3)
    assert all(torch.equal(alone[name], both[name]) for name in alone)
    torch.testing.assert_close(after, after_both, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("net", "parameters"),
    [(Lstm, 48_302), (PostureLstm, 48_302), (StackedLstm, 17_414), (ResidualBiLstm, 36_294)],
)
@pytest.mark.parametrize("n", [1, 5])
def test_windows_become_logits(net: type[nn.Module], parameters: int, n: int) -> None:
    built = net(len(LABELS)).eval()
    assert sum(p.numel() for p in built.parameters()) == parameters
    with torch.no_grad():
        assert built(torch.randn(n, 128, 9)).shape == (n, len(LABELS))


@pytest.mark.parametrize("net", [PostureLstm, StackedLstm, ResidualBiLstm])
def test_a_window_is_judged_alone(net: type[nn.Module]) -> None:
    torch.manual_seed(0)
    built = net(len(LABELS)).eval()
    x = torch.randn(7, 128, 9)
    with torch.no_grad():
        torch.testing.assert_close(built(x)[3:4], built(x[3:4]), atol=1e-5, rtol=1e-4)


def test_the_labels_are_those_of_hapt() -> None:
    assert (LABELS[SITTING], LABELS[STANDING]) == ("sitting", "standing")
