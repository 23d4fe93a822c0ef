"""The VAEs of Wan: what is handed to their modules, part by part.

The modules here are stand-ins that write down what they are given: that parts equal the whole is
shown with the host's own classes in the tier of the nodes.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from adastate_core.vae.wan import Wan21Encoder, Wan22Decoder, Wan22Encoder, WanDecoder


class CausalConv3d(nn.Module):
    """What has a place in the cache of features."""


class Module(nn.Module):
    """A decoder or encoder with one convolution, which remembers the frames it was given."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.channels = CausalConv3d(), channels
        self.seen: list[tuple[list[float], dict[str, Any]]] = []
        self.cached: list[Any] = []

    def run(self, x: Tensor, feat_cache: list[Any], feat_idx: list[int], **options: Any) -> Tensor:
        assert feat_idx == [0]
        assert len(feat_cache) == 1
        self.seen.append((x[0, 0, :, 0, 0].tolist(), options))
        self.cached.append(feat_cache[0])
        feat_cache[0] = x[:, :, -2:].clone()
        return x[:, :1].expand(-1, self.channels, -1, -1, -1)


class Decoder21(Module):
    def forward(self, x: Tensor, feat_cache: list[Any], feat_idx: list[int]) -> list[Tensor]:
        return list(self.run(x, feat_cache, feat_idx).split(1, dim=2))


class Decoder22(Module):
    def forward(
        self, x: Tensor, feat_cache: list[Any], feat_idx: list[int], first_chunk: bool = False
    ) -> Tensor:
        return self.run(x, feat_cache, feat_idx, first_chunk=first_chunk)


class Encoder21(Module):
    def forward(
        self, x: Tensor, feat_cache: list[Any], feat_idx: list[int], final: bool = False
    ) -> Tensor | None:
        out = self.run(x, feat_cache, feat_idx, final=final)
        return out if x.shape[2] == 1 or final else None


class Encoder22(Module):
    def forward(self, x: Tensor, feat_cache: list[Any], feat_idx: list[int]) -> Tensor:
        return self.run(x, feat_cache, feat_idx)


class Vae(nn.Module):
    def __init__(self, decoder: Module, encoder: Module) -> None:
        super().__init__()
        self.decoder, self.encoder = decoder, encoder
        self.conv1 = self.conv2 = nn.Identity()


def counted(frames: int, channels: int = 4) -> Tensor:
    """Return (1, C, T, 2, 2) whose frames are their numbers."""
    return torch.arange(float(frames))[None, None, :, None, None].expand(1, channels, -1, 2, 2)


def shown(module: Module) -> list[list[float]]:
    return [frames for frames, _ in module.seen]


@pytest.mark.parametrize(
    ("sizes", "blocks"),
    [
        ((7,), [[0], [1, 2], [3, 4], [5, 6]]),
        ((3, 3), [[0], [1, 2], [3, 4], [5]]),
        ((1, 2, 1), [[0], [1, 2], [3]]),
    ],
)
def test_wan_2_1_decodes_the_first_frame_alone_and_then_pairs(
    sizes: tuple[int, ...], blocks: list[list[float]]
) -> None:
    vae = Vae(Decoder21(3), Encoder21(4))
    decoder = WanDecoder(vae)
    parts = [decoder.decode(part) for part in counted(sum(sizes)).split(sizes, dim=2)]
    assert shown(vae.decoder) == blocks
    assert torch.cat(parts, dim=2)[0, 0, :, 0, 0].tolist() == list(range(sum(sizes)))


def test_wan_2_1_puts_together_what_a_single_frame_made_it_forget() -> None:
    vae = Vae(Decoder21(3), Encoder21(4))
    decoder = WanDecoder(vae)
    for size in (1, 1, 1, 2):
        decoder.decode(counted(size) + 10 * size)
    remembered = [x if x is None else x[0, 0, :, 0, 0].tolist() for x in vae.decoder.cached]
    # After a single frame two are remembered: it, and the newest of before.
    assert remembered == [None, [10.0], [10.0, 10.0], [10.0, 10.0]]
    assert len(remembered) == 4


def test_wan_2_2_decodes_frame_by_frame_and_says_which_is_the_first() -> None:
    vae = Vae(Decoder22(12), Encoder22(4))
    decoder = Wan22Decoder(vae)
    parts = [decoder.decode(part) for part in counted(4).split((1, 3), dim=2)]
    assert shown(vae.decoder) == [[0], [1], [2], [3]]
    firsts = [options["first_chunk"] for _, options in vae.decoder.seen]
    assert firsts == [True, False, False, False]
    assert [part.shape for part in parts] == [(1, 3, 1, 4, 4), (1, 3, 3, 4, 4)]


def test_four_channels_of_wan_2_2_are_a_square_column_by_column() -> None:
    vae = Vae(Decoder22(12), Encoder22(4))
    vae.decoder.forward = lambda x, **options: x  # type: ignore[method-assign,assignment]
    x = torch.arange(4.0)[None, :, None, None, None].expand(1, 4, 2, 3, 3).contiguous()
    square = Wan22Decoder(vae).decode(x)[0, 0, 0, :2, :2]
    assert square.tolist() == [[0.0, 2.0], [1.0, 3.0]]
    assert pixel_shuffle(x[:, :, 0], 2)[0, 0, :2, :2].tolist() == [[0.0, 1.0], [2.0, 3.0]]


def encoded(encoder: Any, frames: int, sizes: tuple[int, ...]) -> Tensor:
    for part in counted(frames, 3).split(sizes, dim=2):
        encoder.add(part)
    latents: Tensor = encoder.finish()
    return latents


@pytest.mark.parametrize("sizes", [(9,), (1, 8), (3, 3, 3)])
def test_wan_2_1_encodes_pairs_of_which_the_last_is_final(sizes: tuple[int, ...]) -> None:
    vae = Vae(Decoder21(3), Encoder21(8))
    latents = encoded(Wan21Encoder(vae), 9, sizes)
    assert shown(vae.encoder) == [[0], [1, 2], [3, 4], [5, 6], [7, 8]]
    assert [options["final"] for _, options in vae.encoder.seen] == [False] * 4 + [True]
    # A pair that waits in the module gives nothing; of mean and deviation the mean is taken.
    assert latents.shape == (1, 4, 3, 2, 2)


def test_wan_2_1_counts_places_of_downsampling_too() -> None:
    vae = Vae(Decoder21(3), Encoder21(8))
    vae.encoder.down = nn.Module()
    vae.encoder.down.mode = "downsample3d"
    encoder: Any = Wan21Encoder(vae)
    assert len(encoder._feature_cache) == 2
    vae.encoder.down.mode = "downsample2d"
    encoder = Wan21Encoder(vae)
    assert len(encoder._feature_cache) == 1


def test_wan_2_2_encodes_groups_of_four_in_squares() -> None:
    vae = Vae(Decoder22(12), Encoder22(8))
    latents = encoded(Wan22Encoder(vae), 9, (9,))
    assert shown(vae.encoder) == [[0], [1, 2, 3, 4], [5, 6, 7, 8]]
    assert latents.shape[1] == 4
    x = torch.arange(4.0).reshape(1, 1, 1, 2, 2)
    seen: list[Tensor] = []

    def forward(x: Tensor, **options: Any) -> Tensor:
        seen.append(x)
        return x

    vae.encoder.forward = forward  # type: ignore[method-assign,assignment]
    encoder = Wan22Encoder(vae)
    encoder.add(x)
    encoder.finish()
    assert seen[0].flatten().tolist() == [0.0, 2.0, 1.0, 3.0]
    assert pixel_unshuffle(x[:, :, 0], 2).flatten().tolist() == [0.0, 1.0, 2.0, 3.0]


def test_modules_that_take_something_else_do_not_fit() -> None:
    old, new = Vae(Decoder21(3), Encoder21(8)), Vae(Decoder22(12), Encoder22(8))
    assert WanDecoder.fits(old)
    assert Wan22Decoder.fits(new)
    assert Wan21Encoder.fits(old)
    assert Wan22Encoder.fits(new)
    assert not Wan21Encoder.fits(new)  # it takes no `final`
    del old.conv1, old.conv2
    assert not WanDecoder.fits(old)
    assert not Wan21Encoder.fits(old)
    assert not WanDecoder.fits(nn.Module())
