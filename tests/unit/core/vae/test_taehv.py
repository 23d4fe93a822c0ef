"""Tiny video autoencoders: blocks with memory, run part by part."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adastate_core.vae.taehv import MemoryBlocks, TaehvDecoder, TaehvEncoder


class MemBlock(nn.Module):
    """A block that sees each frame beside the one before it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor, past: Tensor) -> Tensor:
        return x + self.conv(torch.cat((x, past), dim=1)).relu()


class TGrow(nn.Module):
    """Make each frame into several."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride, self.conv = stride, nn.Conv2d(channels, channels * stride, 1)

    def forward(self, x: Tensor) -> Tensor:
        frames, channels, height, width = x.shape
        return self.conv(x).reshape(frames * self.stride, channels, height, width)


class TPool(nn.Module):
    """Make several frames into one."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.stride, self.conv = stride, nn.Conv2d(channels * stride, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.reshape(-1, x.shape[1] * self.stride, *x.shape[2:]))


class TinyVae(nn.Module):
    """A VAE of four frames a latent frame and two pixels a token, of which three are trimmed."""

    patch_size, frames_to_trim, t_downscale = 2, 3, 4

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        c = 12
        self.decoder = nn.Sequential(
            MemBlock(c), TGrow(c, 2), MemBlock(c), nn.ReLU(), TGrow(c, 2), MemBlock(c)
        )
        self.encoder = nn.Sequential(
            MemBlock(c), TPool(c, 2), MemBlock(c), TPool(c, 2), MemBlock(c)
        )

    def process_in(self, latents: Tensor) -> Tensor:
        return latents * 2.0

    def process_out(self, latents: Tensor) -> Tensor:
        return latents / 2.0


@pytest.fixture(scope="module", autouse=True)
def _no_gradients() -> Any:
    state = torch.random.get_rng_state()
    with torch.inference_mode():
        yield
    torch.random.set_rng_state(state)


def at_once(blocks: nn.Sequential, x: Tensor) -> Tensor:
    """Run one video (T, C, H, W) whole; what is before the first frame is zero."""
    for block in blocks:
        if isinstance(block, MemBlock):
            x = block(x, torch.cat((torch.zeros_like(x[:1]), x[:-1])))
        else:
            x = block(x)
    return x


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("sizes", [(6,), (2, 4), (1,) * 6])
def test_decoding_in_parts_equals_the_whole(sizes: tuple[int, ...]) -> None:
    vae, latents = TinyVae(), random(2, 12, 6, 2, 3)
    decoder = TaehvDecoder(vae)
    parts = torch.cat([decoder.decode(part) for part in latents.split(sizes, dim=2)], dim=2)
    assert parts.shape == (2, 3, 1 + 5 * 4, 4, 6)
    for video, found in zip(latents, parts, strict=True):
        whole = at_once(vae.decoder, 2.0 * video.movedim(1, 0))[3:]
        torch.testing.assert_close(found.movedim(1, 0), nn.functional.pixel_shuffle(whole, 2))


@pytest.mark.parametrize("sizes", [(12,), (5, 7), (1,) * 12])
def test_encoding_in_parts_equals_the_whole(sizes: tuple[int, ...]) -> None:
    vae, clip = TinyVae(), random(1, 3, 12, 4, 6)
    encoder = TaehvEncoder(vae)
    for part in clip.split(sizes, dim=2):
        encoder.add(part)
    whole = at_once(vae.encoder, nn.functional.pixel_unshuffle(clip[0].movedim(1, 0), 2)) / 2.0
    torch.testing.assert_close(encoder.finish()[0].movedim(1, 0), whole)


def test_the_last_frame_is_repeated_until_it_comes_out_even() -> None:
    vae, clip = TinyVae(), random(1, 3, 9, 4, 6)
    padded = torch.cat((clip, clip[:, :, -1:].expand(-1, -1, 3, -1, -1)), dim=2)
    found = []
    for video in (clip, padded):
        encoder = TaehvEncoder(vae)
        encoder.add(video)
        found.append(encoder.finish())
    assert torch.equal(found[0], found[1])


def test_memory_is_of_the_last_frame_alone() -> None:
    blocks = MemoryBlocks(nn.Sequential(MemBlock(4)))
    blocks.run(random(1, 50, 4, 2, 2))
    (kept,) = blocks._past.values()
    assert kept.untyped_storage().nbytes() == 4 * 2 * 2 * 4


def test_other_blocks_are_not_run() -> None:
    assert MemoryBlocks.fits(nn.Sequential(MemBlock(4), nn.ReLU()))
    assert not MemoryBlocks.fits(nn.Sequential(nn.ReLU()))
    assert not MemoryBlocks.fits(nn.Sequential(MemBlock(4), nn.Sigmoid()))
    assert not MemoryBlocks.fits([MemBlock(4)])
    assert TaehvDecoder.fits(TinyVae())
    assert TaehvEncoder.fits(TinyVae())
    changed: Any = TinyVae()
    changed.decoder = nn.Sequential(nn.ReLU())
    assert not TaehvDecoder.fits(changed)
    assert TaehvEncoder.fits(changed)
    bare = nn.Module()
    assert not TaehvDecoder.fits(bare)
    assert not TaehvEncoder.fits(bare)
