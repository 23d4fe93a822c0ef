"""Measure a decoded stream: how much it moves, how far its look drifts, where it jumps.

Everything is computed on pixels, frame by frame, so that any video can be measured and two
streams can be compared. Colour is CIE Lab, where equal distances look equally large.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import kornia
import torch
from torch import Tensor

from ..errors import LayoutError

SEAM_RATIO = 2.5
"""A frame is a seam if it changes this many times more than its neighbours do."""
_NEIGHBOURS = 6
_BATCH = 64


@dataclass(frozen=True, slots=True, repr=False)
class StreamMeasures:
    """The measures of every frame of a video of T frames.

    Args:
        luminance: Mean Lab lightness, (T,), 0 to 100.
        saturation: Mean Lab chroma, (T,), about 0 to 130.
        sharpness: Mean absolute Laplacian of the lightness, (T,).
        motion: Mean Lab distance to the previous frame, (T - 1,).
        seams: Frames that jump.
    """

    luminance: Tensor
    saturation: Tensor
    sharpness: Tensor
    motion: Tensor
    seams: tuple[int, ...]

    def summary(self) -> dict[str, Any]:
        """Return the figures an artist asks for, as JSON values.

        Drift is the last fifth relative to the first, minus 1: 0 is no drift. `motion_kept` is
        the motion of the last third over that of the first third: 1 is as lively as at the
        start, 0 is frozen.
        """
        third = max(len(self.motion) // 3, 1)
        return {
            "frames": len(self.luminance),
            "dynamics": round(float(self.motion.mean()), 4) if len(self.motion) else 0.0,
            "motion_kept": round(_ratio(self.motion[:third], self.motion[-third:]), 4),
            "drift": {
                "luminance": round(_drift(self.luminance), 4),
                "saturation": round(_drift(self.saturation), 4),
                "sharpness": round(_drift(self.sharpness), 4),
            },
            "seams": list(self.seams),
        }


def measure_stream(frames: Tensor) -> StreamMeasures:
    """Measure a video.

    Args:
        frames: Images, (T, H, W, 3) in 0 to 1, T of 2 or more.

    Raises:
        LayoutError: If the shape is another one.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.shape[0] < 2:
        raise LayoutError(
            "images of the report",
            problem=f"a report needs a video of two frames or more, not {tuple(frames.shape)}",
            seen=tuple(frames.shape),
            expected="(frames, height, width, 3) with two frames or more",
            remedy="connect the decoded video to Stream Report",
        )
    rows: list[Tensor] = []
    motion: list[Tensor] = []
    previous: Tensor | None = None
    for batch in frames.float().split(_BATCH):
        lab = kornia.color.rgb_to_lab(batch.movedim(-1, 1).clamp(0, 1))
        lightness = lab[:, :1]
        edges = kornia.filters.laplacian(lightness, kernel_size=3, normalized=False)
        rows.append(
            torch.stack(
                [
                    lightness.mean(dim=(1, 2, 3)),
                    lab[:, 1:].norm(dim=1).mean(dim=(1, 2)),
                    edges.abs().mean(dim=(1, 2, 3)),
                ]
            )
        )
        joined = lab if previous is None else torch.cat((previous, lab))
        motion.append((joined[1:] - joined[:-1]).norm(dim=1).mean(dim=(1, 2)))
        previous = lab[-1:]
    luminance, saturation, sharpness = torch.cat(rows, dim=1)
    moved = torch.cat(motion)
    return StreamMeasures(luminance, saturation, sharpness, moved, _seams(moved))


def _seams(motion: Tensor) -> tuple[int, ...]:
    """Find frames whose change stands out from that of the frames around them."""
    found = []
    for i in range(len(motion)):
        around = torch.cat(
            (motion[max(i - _NEIGHBOURS, 0) : i], motion[i + 1 : i + 1 + _NEIGHBOURS])
        )
        # The floor keeps still video quiet: differences below it cannot be seen.
        if len(around) and motion[i] > SEAM_RATIO * max(float(around.median()), 0.25):
            found.append(i + 1)
    return tuple(found)


def _drift(values: Tensor) -> float:
    fifth = max(len(values) // 5, 1)
    return _ratio(values[:fifth], values[-fifth:]) - 1.0


def _ratio(first: Tensor, last: Tensor) -> float:
    base = float(first.mean()) if len(first) else 0.0
    return float(last.mean()) / base if base > 1e-6 else 1.0
