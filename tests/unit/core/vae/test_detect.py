"""Video VAEs are known by the names of their classes and by what their modules take."""

from __future__ import annotations

import pytest

from adastate_core.errors import UnsupportedFamilyError
from adastate_core.vae.detect import refuse_vae, sound_vae_kind, takes, vae_kind


def vae(name: str, module: str) -> object:
    return type(name, (), {"__module__": module})()


@pytest.mark.parametrize(
    ("name", "module", "kind"),
    [
        ("WanVAE", "comfy.ldm.wan.vae", "wan_2_1"),
        ("WanVAE", "comfy.ldm.wan.vae2_2", "wan_2_2"),
        ("TAEHV", "comfy.taesd.taehv", "taehv"),
        ("MiniMaxH3VideoVAE", "comfy.ldm.minimax.vae", "minimax_h3"),
        ("MiniMaxH3AudioVAE", "comfy.ldm.minimax.audio_vae", None),
        ("WanVAE", "comfy.ldm.wan.vae3", None),
        ("WanVAE", "other.vae", None),
        ("AutoencoderKL", "comfy.ldm.wan.vae", None),
    ],
)
def test_a_kind_is_a_class_of_a_module(name: str, module: str, kind: str | None) -> None:
    assert vae_kind(vae(name, module)) == kind


@pytest.mark.parametrize(
    ("name", "module", "kind"),
    [
        ("MiniMaxH3AudioVAE", "comfy.ldm.minimax.audio_vae", "minimax_h3"),
        ("AudioVAE", "comfy.ldm.lightricks.vae.audio_vae", "ltx_2"),
        ("AudioVAE", "comfy.ldm.other.audio", None),
        ("WanVAE", "comfy.ldm.wan.vae", None),
    ],
)
def test_vaes_of_sound_are_others(name: str, module: str, kind: str | None) -> None:
    assert sound_vae_kind(vae(name, module)) == kind


class Forward:
    def forward(self, x: int, feat_cache: object = None, *, final: bool = False) -> int:
        return x


def test_what_a_forward_takes() -> None:
    assert takes(Forward(), "x")
    assert takes(Forward(), "feat_cache", "final")
    assert not takes(Forward(), "feat_cache", "feat_idx")
    assert not takes(object(), "x")
    assert not takes(None)


def test_a_refusal_tells_another_vae_from_one_that_was_changed() -> None:
    with pytest.raises(
        UnsupportedFamilyError,
        match=r"^This VAE is not one that can be used here \(Other\)\. Do this\.$",
    ):
        refuse_vae(vae("Other", "somewhere"), "do this", known=False)
    with pytest.raises(UnsupportedFamilyError, match="TAEHV of another layout"):
        refuse_vae(vae("TAEHV", "comfy.taesd.taehv"), "do this", known=True)
