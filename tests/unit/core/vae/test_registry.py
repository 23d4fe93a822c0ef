"""The decoder and the encoder that serve a VAE of the host."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from adastate_core.errors import UnsupportedFamilyError
from adastate_core.vae.registry import stream_decoder, stream_encoder
from adastate_core.vae.taehv import TaehvDecoder, TaehvEncoder
from adastate_core.vae.wan import Wan21Encoder, Wan22Decoder, Wan22Encoder, WanDecoder


class Cached(nn.Module):
    """A module of Wan, by what its forward takes."""

    def forward(self, x: Any, feat_cache: Any, feat_idx: Any, final: bool = False) -> Any:
        return x


class MemBlock(nn.Module):
    """A block of a tiny autoencoder, by what its forward takes."""

    def forward(self, x: Any, past: Any) -> Any:
        return x


def vae(name: str, module: str) -> Any:
    made: Any = type(name, (nn.Module,), {"__module__": module})()
    if name == "WanVAE":
        made.decoder, made.encoder = Cached(), Cached()
        made.conv1 = made.conv2 = nn.Identity()
    else:
        made.decoder, made.encoder = nn.Sequential(MemBlock()), nn.Sequential(MemBlock())
        made.patch_size, made.frames_to_trim, made.t_downscale = 1, 3, 4
        made.process_in = made.process_out = nn.Identity()
    return made


KINDS = {
    ("WanVAE", "comfy.ldm.wan.vae"): (WanDecoder, Wan21Encoder),
    ("WanVAE", "comfy.ldm.wan.vae2_2"): (Wan22Decoder, Wan22Encoder),
    ("TAEHV", "comfy.taesd.taehv"): (TaehvDecoder, TaehvEncoder),
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[1])
def test_a_vae_is_served_by_its_own(kind: tuple[str, str]) -> None:
    decoder, encoder = KINDS[kind]
    assert type(stream_decoder(vae(*kind))) is decoder
    assert type(stream_encoder(vae(*kind))) is encoder


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[1])
def test_every_video_has_a_memory_of_its_own(kind: tuple[str, str]) -> None:
    made = vae(*kind)
    assert stream_decoder(made) is not stream_decoder(made)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[1])
def test_one_whose_modules_were_changed_is_refused(kind: tuple[str, str]) -> None:
    changed = vae(*kind)
    changed.decoder = changed.encoder = nn.Identity()
    with pytest.raises(UnsupportedFamilyError, match=r"of another layout.*VAE Decode"):
        stream_decoder(changed)
    with pytest.raises(UnsupportedFamilyError, match=r"of another layout.*VAE Encode"):
        stream_encoder(changed)


def test_any_other_is_refused_by_name() -> None:
    with pytest.raises(
        UnsupportedFamilyError, match=r"^This VAE is not one that can be used here \(Identity\)"
    ):
        stream_decoder(nn.Identity())
    with pytest.raises(UnsupportedFamilyError, match=r"\(Identity\)"):
        stream_encoder(nn.Identity())
