"""Pictures straight from latents: a colour for each of their pixels."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from ...adastate_core.stream.pace import video_frames
from ...adastate_core.stream.state import StreamState
from .pictures import ChunkPictures, small_pixels
from .tiles import TILE_WIDTH


class LatentColours:
    """Colours of latents by the factors of a latent format.

    A format without them gets false colours, in which one sees what moves.

    Args:
        form: The latent format of the model.
        time_stride: Images of a latent frame, on average.
        short_first: Whether the first one of a video makes one image.
    """

    decodes = False

    def __init__(self, form: Any, time_stride: int | Fraction, *, short_first: bool = True) -> None:
        self._form, self._stride, self._short_first = form, time_stride, short_first

    def pictures_of(self, state: StreamState) -> ChunkPictures:
        """Make pictures of the newest chunk, a frame for each latent frame."""
        chunk = state.last_chunk
        assert chunk is not None
        assert chunk.content is not None
        hidden = None if chunk.state is None else self._pixels(chunk.state[:1, :, -1:])
        frames = self._pixels(chunk.content[:1])
        images = video_frames(
            len(frames), self._stride, begins=self._short_first and chunk.frame == 0
        )
        return ChunkPictures(frames, hidden, "latent", images)

    def _pixels(self, latents: Tensor) -> Any:
        return small_pixels(colours_of(latents, self._form), TILE_WIDTH)


def colours_of(latents: Tensor, form: Any) -> Tensor:
    """Return the colours of latents in model space.

    Args:
        latents: (1, C, T, H, W).
        form: The latent format.

    Returns:
        (T, H, W, 3), about 0 to 1.
    """
    x = latents.float()
    reshape = getattr(form, "latent_rgb_factors_reshape", None)
    if reshape is not None:
        x = torch.stack([reshape(frame) for frame in x.unbind(2)], dim=2)
    planes = x[0].movedim(0, -1)
    factors = form.latent_rgb_factors
    if factors is None or len(factors) != planes.shape[-1]:
        return _false_colours(planes)
    bias = form.latent_rgb_factors_bias
    weights = torch.tensor(factors, dtype=torch.float32, device=x.device)
    offset = torch.tensor(bias or [0.0] * 3, dtype=torch.float32, device=x.device)
    return (planes @ weights + offset + 1) / 2


def _false_colours(planes: Tensor) -> Tensor:
    """Return three mixes of the channels as colours: every third one each."""
    mixes = [planes[..., i::3].mean(dim=-1) * planes[..., i::3].shape[-1] ** 0.5 for i in range(3)]
    return torch.stack(mixes, dim=-1).tanh() / 2 + 0.5
