"""The video VAE of MiniMax H3: the host's windows of 7 latent frames, one after the other.

Its decoder takes 7 latent frames and makes 28 pictures. Windows begin every 5 latent frames; of
each 17 pictures remain, the first 5 of which are blended with the end of the window before. So a
window needs 2 latent frames of the next one, and leaves 5 pictures to it.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from .base import StreamDecoder

_MODULE_PARTS = (
    "_adaptive_decode",
    "blend",
    "decode_temporal",
    "latents_mean",
    "latents_std",
    "pixel_mean",
    "pixel_std",
)
_SIZES = ("vae_ratio", "vae_ratio_t", "tokens_chunk_size", "token_overlap", "frame_pre_padding")


class MiniMaxH3Decoder(StreamDecoder):
    """The decoder of the MiniMax H3 video VAE, to the bit as the host decodes a whole video.

    Args:
        vae: The host's VAE module.
    """

    def __init__(self, vae: nn.Module) -> None:
        self._vae = cast(Any, vae)
        self._step = int(self._vae.tokens_chunk_size)
        self._window = self._step + int(self._vae.token_overlap)
        self._ahead: Tensor | None = None
        self._blended: Tensor | None = None
        self._given = self._shown = 0
        self.held_back = self._window - 1
        # A window and the one before it, if both begin where windows of the whole video do.
        self.look_back = self._step + 1

    @staticmethod
    def fits(vae: nn.Module) -> bool:
        """Say whether the module still has the windows that are run here."""
        if not all(hasattr(vae, name) for name in (*_MODULE_PARTS, *_SIZES, "token_drop")):
            return False
        module = cast(Any, vae)
        group = module.tokens_chunk_size * module.vae_ratio_t
        left = group - module.frame_pre_padding
        # One overlap after each window, as long as what the window after it begins with.
        return bool(module.token_drop > 0 and left == module.clip_length)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode the next frames; a window comes out once all of its latent frames are there."""
        self._take(latents)
        return self._to_pictures(self._windows(latents), latents)

    def flush(self) -> Tensor | None:
        """Decode what is left, after the host's way to fill the last window."""
        if self._ahead is None or self._given == 0:
            return None
        newest = self._ahead[:, :, -1:]
        if self._given == 1:
            # A single latent frame is a picture; of those that are made the last one is shown.
            frames = [self._vae._adaptive_decode(newest)[:, :, -1:]]
            return self._to_pictures(frames, newest)
        total = self.frames_of(self._given)
        missing = (self._step - (self._given + self._vae.token_drop)) % self._step
        if self._given + missing < self._window:
            missing += self._step
        before = self._shown
        self._take_ready(newest.repeat(1, 1, missing, 1, 1))
        frames = self._windows(newest)
        if self._blended is not None:
            frames.append(self._blended)
        self._ahead = self._blended = None
        self._shown = total
        pictures = torch.cat(frames, dim=2)[:, :, : total - before]
        return self._to_pictures([pictures], newest)

    def frames_of(self, latents: int) -> int:
        """Return how many pictures the first latent frames make: 17 for every 5."""
        groups, rest = divmod(latents, self._step)
        ratio, short = self._vae.vae_ratio_t, self._vae.frame_pre_padding
        return int(groups * self._vae.clip_length + max(0, rest * ratio - short))

    def may_begin(self, at: int, first: int) -> bool:
        """Say whether a window begins there, and another one before the pictures do."""
        begins_window = at % self._step == 0
        return at == 0 or (begins_window and at <= first - self._step)

    def _take(self, latents: Tensor) -> None:
        mean = self._vae.latents_mean.view(1, -1, 1, 1, 1).to(latents)
        std = self._vae.latents_std.view(1, -1, 1, 1, 1).to(latents)
        self._given += latents.shape[2]
        self._take_ready(latents * std + mean)

    def _take_ready(self, latents: Tensor) -> None:
        ahead = self._ahead
        self._ahead = latents if ahead is None else torch.cat((ahead, latents), dim=2)

    def _windows(self, latents: Tensor) -> list[Tensor]:
        """Decode all windows that are full; what is returned comes before what was kept."""
        vae, frames = self._vae, []
        ahead = self._ahead
        assert ahead is not None
        group = self._step * vae.vae_ratio_t
        while ahead.shape[2] >= self._window:
            decoded = vae._adaptive_decode(ahead[:, :, : self._window])
            head = decoded[:, :, vae.frame_pre_padding : group]
            if self._blended is not None:
                head = vae.blend(self._blended, head, vae.frame_overlap, dim=-3)
            # A copy: a view would keep all pictures of the window.
            self._blended = decoded[:, :, group + vae.frame_pre_padding :].clone()
            frames.append(head)
            self._shown += head.shape[2]
            ahead = ahead[:, :, self._step :]
        self._ahead = ahead.clone() if frames else ahead
        return frames

    def _to_pictures(self, frames: list[Tensor], latents: Tensor) -> Tensor:
        if not frames:
            batch, _, _, height, width = latents.shape
            side = self._vae.vae_ratio
            return latents.new_zeros((batch, 3, 0, height * side, width * side)).float()
        pictures = torch.cat(frames, dim=2).float()
        std, mean = self._vae.pixel_std.to(pictures), self._vae.pixel_mean.to(pictures)
        return pictures.mul_(std).add_(mean).clamp_(0.0, 1.0).mul_(2.0).sub_(1.0)
