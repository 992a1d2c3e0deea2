"""What lstm-acc looks at, and what it does not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hard.nets.acc import SWAY, sway


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
