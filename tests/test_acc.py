"""What lstm-acc looks at, and what it does not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hard.datasets.hapt import LABELS
from hard.nets.acc import SITTING, STANDING, SWAY, LstmAcc, sway


def swaying(n: int, size: float) -> Tensor:
    """Windows (n, 128, 6) of an upright body at rest, each tilted a little, that sways by about `size` g."""
    body = size * torch.randn(n, 128, 3)
    up = F.normalize(torch.tensor([1.0, 0, 0]) + 0.2 * torch.randn(n, 1, 3), dim=2)
    return torch.cat([body, body + up], dim=2)


def turned(x: Tensor, axis: int, angle: float) -> Tensor:
    """The same motion of a phone that is turned about one of its axes."""
    v = torch.zeros(3)
    v[axis] = angle
    cross = torch.tensor([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return (x.view(*x.shape[:2], 2, 3) @ torch.matrix_exp(cross).T).view_as(x)


@pytest.mark.parametrize("angle", [-1.0, 0.3, 1.0])
def test_how_steep_a_phone_hangs_does_not_change_the_sway(angle: float) -> None:
    torch.manual_seed(0)
    body = 0.005 * torch.randn(20, 128, 3)
    x = torch.cat([body, body - body.mean(dim=1, keepdim=True) + torch.tensor([1.0, 0, 0])], dim=2)
    torch.testing.assert_close(sway(turned(x, 1, angle))[:, 3:], sway(x)[:, 3:], atol=1e-3, rtol=0)
    torch.testing.assert_close(sway(x)[:, :3], torch.tensor([[1.0, 0, 0]]).expand(20, 3))


def test_sway_of_a_phone_on_a_table_or_without_any_signal_is_a_number() -> None:
    x = torch.zeros(2, 128, 6)
    x[1, :, 5] = 1.0
    assert sway(x).shape == (2, SWAY)
    assert sway(x).isfinite().all()


def test_only_the_sway_tells_sitting_from_standing() -> None:
    torch.manual_seed(0)
    net = LstmAcc(len(LABELS), width=8, hidden=8).eval()
    x = torch.cat([swaying(50, 0.003), swaying(50, 0.006)])
    net.fit_rule(x, torch.tensor([SITTING, STANDING]).repeat_interleave(50), torch.arange(100) // 10)
    other = x.clone()
    other[:, :, :3] = torch.randn(100, 128, 3)  # body acceleration, of which the rule takes nothing
    with torch.no_grad():
        a, b = net(x), net(other)
    assert not torch.allclose(a, b, atol=0.01)
    odds = a[:, STANDING] - a[:, SITTING]
    torch.testing.assert_close(odds, b[:, STANDING] - b[:, SITTING])
    assert (odds[:50] < 0).all()
    assert (odds[50:] > 0).all()


def test_one_long_bout_does_not_outweigh_several_short_ones() -> None:
    torch.manual_seed(0)
    net = LstmAcc(len(LABELS), width=8, hidden=8)
    x = torch.cat([swaying(40, 0.003), swaying(40, 0.006), swaying(200, 0.006)])
    y = torch.cat([torch.full((40,), SITTING), torch.full((40,), STANDING), torch.full((200,), SITTING)])
    bouts = torch.cat([torch.arange(80) // 10, torch.full((200,), 8)])
    net.fit_rule(x, y, bouts)
    assert (net.scaled_sway(x) @ net.rule)[40:80].mean() > 0
    net.fit_rule(x, y, torch.arange(280))  # every window by itself
    assert (net.scaled_sway(x) @ net.rule)[40:80].mean() < 0
