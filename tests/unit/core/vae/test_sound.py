"""Sound VAEs, by their classes: what a latent makes, and joins that cannot be heard."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from adastate_core.errors import UnsupportedFamilyError
from adastate_core.vae.sound import SoundVae


def smeared(values: Tensor, before: int, after: int) -> Tensor:
    """Return the mean of each value and its neighbours, zero outside."""
    return pad(values, (before, after)).unfold(-1, before + after + 1, 1).mean(dim=-1)


def h3() -> Any:
    class MiniMaxH3AudioVAE(nn.Module):
        """10 samples a latent; a latent is heard 12 latents before and after its own."""

        samples_per_latent, sample_rate = 10, 400

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("latents_mean", torch.zeros(4))

        def decode(self, z: Tensor) -> Tensor:
            assert z.shape[1:3] == (4, 2)
            return smeared(z.mean(dim=1).repeat_interleave(10, dim=-1), 120, 120)

    MiniMaxH3AudioVAE.__module__ = "comfy.ldm.minimax.audio_vae"
    return MiniMaxH3AudioVAE()


def ltx() -> Any:
    class Autoencoder(nn.Module):
        is_causal = True

    class AudioVAE(nn.Module):
        """4 frames a latent, 1 for the first; a frame is 5 samples, heard 15 frames around."""

        mel_hop_length, sample_rate, output_sample_rate = 10, 1000, 500
        latent_channels, latent_frequency_bins = 3, 2

        def __init__(self) -> None:
            super().__init__()
            self.autoencoder, self.vocoder = Autoencoder(), nn.Identity()

        def decode(self, z: Tensor) -> Tensor:
            frames = z.mean(dim=(1, 3))[:, None].repeat_interleave(4, dim=-1)[..., 3:]
            heard = smeared(frames.repeat_interleave(5, dim=-1), 75, 75)
            return heard.expand(-1, 2, -1)

    AudioVAE.__module__ = "comfy.ldm.lightricks.vae.audio_vae"
    return AudioVAE()


def latents(vae: SoundVae, count: int) -> Tensor:
    shape = (1, vae.channels, count, vae.rows)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("make", [h3, ltx])
@pytest.mark.parametrize("sizes", [(29, 28, 28, 29), (1,) * 60, (90,), (3, 70, 20)])
def test_parts_are_the_whole(make: Any, sizes: tuple[int, ...]) -> None:
    vae = SoundVae.of(make())
    x = latents(vae, sum(sizes))
    decoder = vae.open()
    parts = [*(decoder.decode(part) for part in x.split(sizes, dim=2)), decoder.flush()]
    joined = torch.cat([part for part in parts if part is not None], dim=2)
    torch.testing.assert_close(joined, vae.decode(x), atol=1e-6, rtol=0)
    assert joined.shape[2] == decoder.count_of(sum(sizes))


def test_what_a_latent_makes() -> None:
    one, other = SoundVae.of(h3()), SoundVae.of(ltx())
    assert (one.sample_rate, one.stride, one.first) == (400, 10, 10)
    assert (other.sample_rate, other.stride, other.first) == (500, 20, 5)
    assert one.host_shape(2, 29) == (2, 4, 2, 29)
    assert other.host_shape(2, 25) == (2, 3, 25, 2)


def test_a_latent_socket_has_time_last_for_one_of_them() -> None:
    for vae in (SoundVae.of(h3()), SoundVae.of(ltx())):
        x = latents(vae, 7)
        host = torch.zeros(vae.host_shape(1, 7))
        assert vae.from_host(host).shape == x.shape


def test_another_number_of_samples_is_refused() -> None:
    module = h3()
    module.samples_per_latent = 11
    vae = SoundVae.of(module)
    decoder = vae.open()
    with pytest.raises(UnsupportedFamilyError, match="makes 300 samples where 330 were expected"):
        decoder.decode(latents(vae, 30))


def test_others_are_refused_by_name() -> None:
    with pytest.raises(
        UnsupportedFamilyError,
        match=r"^The VAE at audio_vae is none for sound that is known here \(Identity\)",
    ):
        SoundVae.of(nn.Identity())
    looks_ahead = ltx()
    looks_ahead.autoencoder.is_causal = False
    with pytest.raises(UnsupportedFamilyError, match=r"\(AudioVAE\)"):
        SoundVae.of(looks_ahead)
