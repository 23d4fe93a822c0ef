"""The decoder or encoder that serves a VAE of the host."""

from __future__ import annotations

from typing import cast

from torch import nn

from .base import StreamDecoder, StreamEncoder
from .detect import refuse_vae, vae_kind
from .minimax_h3 import MiniMaxH3Decoder
from .taehv import TaehvDecoder, TaehvEncoder
from .wan import Wan21Encoder, Wan22Decoder, Wan22Encoder, WanDecoder


def stream_decoder(vae: object) -> StreamDecoder:
    """Return a decoder for a video of its own, whose parts equal the whole.

    Args:
        vae: The host's VAE module.

    Raises:
        UnsupportedFamilyError: If it is none whose parts are known to equal the whole.
    """
    kind, module = vae_kind(vae), cast(nn.Module, vae)
    if kind == "wan_2_1" and WanDecoder.fits(module):
        return WanDecoder(module)
    if kind == "wan_2_2" and Wan22Decoder.fits(module):
        return Wan22Decoder(module)
    if kind == "taehv" and TaehvDecoder.fits(module):
        return TaehvDecoder(module)
    if kind == "minimax_h3" and MiniMaxH3Decoder.fits(module):
        return MiniMaxH3Decoder(module)
    refuse_vae(vae, "decode the whole stream with VAE Decode", known=kind is not None)


def stream_encoder(vae: object) -> StreamEncoder:
    """Return an encoder for a clip of its own.

    Args:
        vae: The host's VAE module.

    Raises:
        UnsupportedFamilyError: If it is none whose encoder is known to be causal.
    """
    kind, module = vae_kind(vae), cast(nn.Module, vae)
    if kind == "wan_2_1" and Wan21Encoder.fits(module):
        return Wan21Encoder(module)
    if kind == "wan_2_2" and Wan22Encoder.fits(module):
        return Wan22Encoder(module)
    if kind == "taehv" and TaehvEncoder.fits(module):
        return TaehvEncoder(module)
    known = kind is not None and kind != "minimax_h3"
    refuse_vae(vae, "encode the whole clip with VAE Encode", known=known)
