"""Mean optical flow by the iterative pyramidal method of Lucas and Kanade, dense, in torch.

J.-Y. Bouguet, "Pyramidal implementation of the Lucas Kanade feature tracker", Intel, 2001.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS, ROUNDS, WINDOW = 4, 4, 9
# Added to the gradients' squares: where there is nothing to follow the flow stays as it was.
RIDGE = 2e-5
# Pixels that a round may move a window at its own level.
MOST = 1.5


def _smooth(x: Tensor, width: int) -> Tensor:
    return F.avg_pool2d(x, width, 1, width // 2, count_include_pad=False)


def _warped(picture: Tensor, flow: Tensor) -> Tensor:
    """Fetch ``picture (B, 1, H, W)`` at ``flow (B, 2, H, W)`` pixels away, x before y."""
    _, _, height, width = picture.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    at_x = (x + flow[:, 0] + 0.5) * (2.0 / width) - 1.0
    at_y = (y + flow[:, 1] + 0.5) * (2.0 / height) - 1.0
    grid = torch.stack([at_x, at_y], -1)
    return F.grid_sample(picture, grid, padding_mode="border", align_corners=False)


def _refined(before: Tensor, after: Tensor, flow: Tensor) -> Tensor:
    """Improve a flow at one level of the pyramid."""
    dx = F.conv2d(F.pad(before, (1, 1, 0, 0), mode="replicate"), _SLOPE.view(1, 1, 1, 3))
    dy = F.conv2d(F.pad(before, (0, 0, 1, 1), mode="replicate"), _SLOPE.view(1, 1, 3, 1))
    xx, yy, xy = (_smooth(part, WINDOW) for part in (dx * dx, dy * dy, dx * dy))
    xx, yy = xx + RIDGE, yy + RIDGE
    area = xx * yy - xy * xy
    for _ in range(ROUNDS):
        rest = before - _warped(after, flow)
        bx, by = _smooth(dx * rest, WINDOW), _smooth(dy * rest, WINDOW)
        step = torch.cat([yy * bx - xy * by, xx * by - xy * bx], 1) / area
        flow = flow + step.clamp(-MOST, MOST)
    return flow


_SLOPE = torch.tensor([-0.5, 0.0, 0.5])


@torch.no_grad()
def optical_flow(before: Tensor, after: Tensor) -> Tensor:
    """Estimate where pixels go from pictures to pictures.

    Args:
        before: ``(B, 3, H, W)`` in 0 to 1.
        after: The same, one picture later.

    Returns:
        ``(B, 2, H, W)`` pixels to the right and down.
    """
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    pyramids = []
    for picture in (before, after):
        levels = [(picture.float() * weights).sum(1, keepdim=True)]
        for _ in range(LEVELS - 1):
            levels.append(F.avg_pool2d(levels[-1], 2))
        pyramids.append(levels)
    flow = torch.zeros(len(before), 2, *pyramids[0][-1].shape[-2:])
    for first, second in zip(*(levels[::-1] for levels in pyramids), strict=True):
        if flow.shape[-2:] != first.shape[-2:]:
            flow = F.interpolate(flow, first.shape[-2:], mode="bilinear", align_corners=False) * 2.0
        flow = _refined(first, second, flow)
    return flow


def mean_flow(pictures: Tensor) -> float:
    """Mean length of the flow over a clip ``(T, 3, H, W)``, in pixels a picture."""
    if len(pictures) < 2:
        return float("nan")
    return float(optical_flow(pictures[:-1], pictures[1:]).norm(dim=1).mean())
