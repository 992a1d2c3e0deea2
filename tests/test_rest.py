"""The rule that tells sitting from standing, and what it remembers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from hard.datasets.hapt import LABELS
from hard.nets.acc import LstmAcc, sway
from hard.nets.rest import FADE, MOVED_G, SITTING, STANDING, TILTS, RestRule

STILL = torch.zeros(1, 128, 6)


def swaying(n: int, size: float) -> Tensor:
    """Windows (n, 128, 6) of an upright body at rest, each tilted a little, that sways by about `size` g."""
    body = size * torch.randn(n, 128, 3)
    up = F.normalize(torch.tensor([1.0, 0, 0]) + 0.2 * torch.randn(n, 1, 3), dim=2)
    return torch.cat([body, body + up], dim=2)


def seen_alone(rule: RestRule, x: Tensor) -> Tensor:
    return rule.remember(x, sway(x), torch.zeros(len(x), rule.state))[0]


def fitted(x: Tensor, y: Tensor, bouts: Tensor) -> LstmAcc:
    torch.manual_seed(0)
    net = LstmAcc(len(LABELS), width=8, hidden=8).eval()
    net.rest.fit_sway(sway(x))
    net.rest.fit(net.rest.numbers(seen_alone(net.rest, x)), (y == STANDING).float(), bouts)
    return net


@given(n=st.integers(1, 8), seed=st.integers(0, 1000))
def test_it_remembers_a_fading_mean_and_how_far_tilt_was_off_it(n: int, seed: int) -> None:
    sways = torch.randn(n, 1, 9, generator=torch.Generator().manual_seed(seed))
    rule = RestRule(9, 10.0, 1e-3, 1.0)
    state = torch.zeros(1, rule.state)
    for s in sways:
        seen, state = rule.remember(STILL, s, state)
    weight = FADE ** torch.arange(n - 1, -1, -1.0)[:, None]
    mean = (weight * sways[:, 0]).sum(dim=0) / weight.sum()
    variance = (weight * (sways[:, 0] - mean).square()).sum(dim=0)[:TILTS] / weight.sum()
    torch.testing.assert_close(seen[0, :9], mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(seen[0, 9:-1] / seen[0, -1], variance, atol=1e-5, rtol=1e-4)
    assert torch.equal(seen, state)
    assert rule.numbers(seen).isfinite().all()


def test_who_has_not_moved_at_all_has_not_wandered() -> None:
    rule = RestRule(9, 10.0, 1e-3, 1.0)
    s = 3 * torch.randn(1, 9)
    seen, state = rule.remember(STILL, s, torch.zeros(1, rule.state))
    for _ in range(50):
        again, state = rule.remember(STILL, s, state)
        torch.testing.assert_close(again[:, :-1], seen[:, :-1])


def test_movement_ends_what_is_remembered() -> None:
    rule = RestRule(9, 10.0, 1e-3, 1.0)
    before, s = torch.rand(1, rule.state), torch.randn(1, 9)
    moving = STILL + 1.1 * MOVED_G
    seen, after = rule.remember(moving, s, before)
    assert torch.equal(seen, rule.remember(STILL, s, torch.zeros(1, rule.state))[0])
    assert not after.any()
    assert not torch.equal(rule.remember(STILL, s, before)[0], seen)


def test_only_the_sway_tells_sitting_from_standing() -> None:
    torch.manual_seed(0)
    x = torch.cat([swaying(50, 0.003), swaying(50, 0.006)])
    net = fitted(x, torch.tensor([SITTING, STANDING]).repeat_interleave(50), torch.arange(100) // 10)
    other = x.clone()
    other[:, :, :3] = torch.randn(100, 128, 3)  # body acceleration, of which the rule takes nothing
    with torch.no_grad():
        a, b = net(x), net(other)
    assert not torch.allclose(a, b, atol=0.01)
    odds = a[:, STANDING] - a[:, SITTING]
    torch.testing.assert_close(odds, b[:, STANDING] - b[:, SITTING])
    assert (odds[:50] < 0).all()
    assert (odds[50:] > 0).all()


@pytest.mark.parametrize(("bouts", "sign"), [(torch.arange(80) // 10, 1), (torch.arange(80), -1)])
def test_one_long_bout_does_not_outweigh_several_short_ones(bouts: Tensor, sign: int) -> None:
    torch.manual_seed(0)
    x = torch.cat([swaying(40, 0.003), swaying(40, 0.006), swaying(200, 0.006)])
    y = torch.cat([torch.full((40,), SITTING), torch.full((40,), STANDING), torch.full((200,), SITTING)])
    long = torch.full((200,), 80) if sign > 0 else torch.arange(80, 280)  # else every window by itself
    net = fitted(x, y, torch.cat([bouts, long]))
    assert sign * net.rest.odds(seen_alone(net.rest, x))[40:80].mean() > 0
