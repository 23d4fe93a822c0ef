"""Decode a video as it grows, so that its parts join.

The host's own loops begin anew with every call. Here decoders that are causal keep what they have
seen from part to part (`wan`, `taehv`), and parts are equal to the whole. Others are given the
end of the earlier parts again (`overlap`); how well that joins is measured.
"""

from __future__ import annotations

from typing import Protocol, cast

from torch import Tensor, nn

from ..vae_kinds import refuse_vae, vae_kind
from .overlap import OverlapDecoder
from .taehv import TaehvDecoder
from .wan import Wan22Decoder, WanDecoder

__all__ = ["OverlapDecoder", "StreamDecoder", "TaehvDecoder", "stream_decoder"]


class StreamDecoder(Protocol):
    """Decode the frames of one video, part after part."""

    def decode(self, latents: Tensor) -> Tensor:
        """Decode the next frames.

        Args:
            latents: (B, C, T, H, W), in the VAE's dtype and on its device.

        Returns:
            (B, 3, frames, height, width): for the first latent frame of the video one frame, for
            each other one as many as the decoder's time stride.
        """
        ...


def stream_decoder(vae: object) -> StreamDecoder:
    """Return a decoder for a video of its own, whose parts equal the whole.

    Args:
        vae: The host's VAE module.

    Raises:
        UnsupportedFamilyError: If it is none whose decoder is known to be causal.
    """
    kind, module = vae_kind(vae), cast(nn.Module, vae)
    if kind == "wan_2_1" and WanDecoder.fits(module):
        return WanDecoder(module)
    if kind == "wan_2_2" and Wan22Decoder.fits(module):
        return Wan22Decoder(module)
    if kind == "taehv" and TaehvDecoder.fits(module):
        return TaehvDecoder(module)
    refuse_vae(vae, "decode with VAE Decode, the whole stream at once")
