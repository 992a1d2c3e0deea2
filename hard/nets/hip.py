"""The hip's acceleration out of a pocket's: what a swinging thigh adds at the end of an arm is taken out."""

import torch
from torch import Tensor
from torch.nn import functional as F

from hard.nets.level import rotate


def hip(x: Tensor, acc: Tensor, turns: Tensor, rate_hz: float, ridge: float) -> Tensor:
    """Acceleration [g] (N, 3, T) in the still frame, less what the arm from the joint to the phone explains.

    x: windows (N, T, 6); acc: (N, 3, T) of its still_frame, and the `turning` (N, 4, T) behind it. The arm
    r [g s²] is constant in the phone's own axes, where turning adds A r = dw/dt x r + w x (w x r): least
    squares over the window, with `ridge` [1/s⁴] towards no arm. Where nothing turns, nothing changes; who
    negates acceleration gets -r, and the negated answer.
    """
    gyro = x[:, :, :3].transpose(1, 2)
    ends = F.pad(gyro, [1, 1], mode="replicate")
    w = (ends[:, :, :-2] + 2.0 * gyro + ends[:, :, 2:]) / 4.0
    ends = F.pad(w, [1, 1], mode="replicate")
    change = (ends[:, :, 2:] - ends[:, :, :-2]) * (rate_hz / 2.0)  # (N, 3, T) rad/s²
    back = torch.cat([turns[:, :1], -turns[:, 1:]], dim=1)
    moving = rotate(back, acc - acc.mean(dim=2, keepdim=True))  # in the phone's own axes
    a = felt(w, change)  # (N, 3, 3, T) 1/s²
    n, samples = a.shape[0], a.shape[3]
    columns = a.permute(0, 2, 1, 3).reshape(n, 3, 3 * samples)
    square = columns @ columns.transpose(1, 2) / samples + ridge * torch.eye(3).to(a.dtype)
    r = solved(square, (columns @ moving.reshape(n, 3 * samples, 1) / samples)[:, :, 0])
    return acc - rotate(turns, (a * r[:, None, :, None]).sum(dim=2))


def felt(w: Tensor, change: Tensor) -> Tensor:
    """The matrix (N, 3, 3, T) [1/s²] that takes an arm to what turning (N, 3, T) adds at its end."""
    x, y, z = w[:, 0], w[:, 1], w[:, 2]
    dx, dy, dz = change[:, 0], change[:, 1], change[:, 2]
    rows = [
        torch.stack([-y * y - z * z, x * y - dz, x * z + dy], dim=1),
        torch.stack([x * y + dz, -x * x - z * z, y * z - dx], dim=1),
        torch.stack([x * z - dy, y * z + dx, -x * x - y * y], dim=1),
    ]
    return torch.stack(rows, dim=1)


def solved(square: Tensor, v: Tensor) -> Tensor:
    """Of symmetric matrices (N, 3, 3) and vectors (N, 3): the r with square r = v. ONNX has no solve()."""
    a, b, c = square[:, 0], square[:, 1], square[:, 2]
    ab, bc, ca = (
        torch.linalg.cross(a, b, dim=1),
        torch.linalg.cross(b, c, dim=1),
        torch.linalg.cross(c, a, dim=1),
    )
    whole = (a * bc).sum(dim=1, keepdim=True)
    out: Tensor = (bc * v[:, :1] + ca * v[:, 1:2] + ab * v[:, 2:]) / whole
    return out
