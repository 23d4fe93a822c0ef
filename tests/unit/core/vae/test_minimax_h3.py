"""Windows of 7 latent frames, one after the other, beside all of them in one go."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adastate_core.vae.minimax_h3 import MiniMaxH3Decoder

SIDE = 2


class Windows(nn.Module):
    """The parts of the host's module that are used, with a decoder whose windows see themselves."""

    clip_length, token_drop = 17, 3
    vae_ratio, vae_ratio_t = SIDE, 4
    tokens_chunk_size, token_overlap = 5, 2
    frame_pre_padding, frame_overlap = 3, 5

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("latents_mean", torch.linspace(-1, 1, 3))
        self.register_buffer("latents_std", torch.linspace(0.5, 2, 3))
        self.register_buffer("pixel_mean", torch.full((1, 3, 1, 1, 1), 0.45))
        self.register_buffer("pixel_std", torch.full((1, 3, 1, 1, 1), 0.25))

    def _adaptive_decode(self, z: Tensor) -> Tensor:
        seen = torch.tanh(z + z.mean(dim=2, keepdim=True) + z.cumsum(dim=2) / 9)
        frames = seen.repeat_interleave(4, dim=2) * torch.linspace(0.2, 1, 4 * z.shape[2]).view(
            -1, 1, 1
        )
        return frames.repeat_interleave(SIDE, dim=3).repeat_interleave(SIDE, dim=4)

    def blend(self, a: Tensor, b: Tensor, extent: int, dim: int) -> Tensor:
        assert dim == -3
        weights = (torch.arange(extent) / extent).view(-1, 1, 1)
        mixed = a * (1 - weights) + b[:, :, :extent] * weights
        return torch.cat((mixed, b[:, :, extent:]), dim=2)

    def decode_temporal(self, z: Tensor) -> Tensor:
        raise AssertionError("a whole video is not asked for")


def whole(vae: Windows, z: Tensor) -> Tensor:
    """Decode in one go, written out."""
    mean, std = vae.latents_mean.view(1, 3, 1, 1, 1), vae.latents_std.view(1, 3, 1, 1, 1)
    z = z * std + mean
    length = z.shape[2]
    if length == 1:
        pixels = vae._adaptive_decode(z)[:, :, -1:]
    else:
        padded = length
        while padded < 7 or padded % 5 != 2:
            padded += 1
        z = torch.cat((z, z[:, :, -1:].expand(-1, -1, padded - length, -1, -1)), dim=2)
        pixels, tail = z.new_zeros(0), None
        shown = []
        for begin in range(0, padded - 2, 5):
            frames = vae._adaptive_decode(z[:, :, begin : begin + 7])
            head = frames[:, :, 3:20]
            shown.append(head if tail is None else vae.blend(tail, head, 5, -3))
            tail = frames[:, :, 23:28]
        pixels = torch.cat([*shown, tail], dim=2)
        groups, rest = divmod(length, 5)
        pixels = pixels[:, :, : 17 * groups + (0, 1, 5, 9, 13)[rest]]
    return (pixels * vae.pixel_std + vae.pixel_mean).clamp(0, 1) * 2 - 1


def latents(count: int, seed: int = 0) -> Tensor:
    return torch.randn((2, 3, count, 1, 2), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("count", range(1, 24))
@pytest.mark.parametrize("size", [1, 3, 5, 10, 99])
def test_parts_and_the_flush_are_the_whole(count: int, size: int) -> None:
    vae, z = Windows(), latents(count)
    decoder = MiniMaxH3Decoder(vae)
    parts = [decoder.decode(part) for part in z.split(size, dim=2)]
    rest = decoder.flush()
    made = torch.cat([*parts, *([rest] if rest is not None else [])], dim=2)
    assert torch.equal(made, whole(vae, z))
    assert made.shape[2] == decoder.frames_of(count)


def test_no_more_is_held_back_than_is_said() -> None:
    decoder, shown = MiniMaxH3Decoder(Windows()), 0
    for known in range(1, 40):
        shown += decoder.decode(latents(1)).shape[2]
        assert shown >= decoder.frames_of(max(0, known - decoder.held_back))
        assert shown == 17 * max(0, (known - 2) // 5)


def test_it_may_begin_at_a_window_that_is_not_shown() -> None:
    vae, z = Windows(), latents(20)
    everything = whole(vae, z)
    decoder = MiniMaxH3Decoder(vae)
    for at in range(21):
        assert decoder.may_begin(at, 15) == (at in (0, 5, 10))
    for at in (5, 10):
        late = MiniMaxH3Decoder(vae)
        rest = late.decode(z[:, :, at:]), late.flush()
        made = torch.cat([part for part in rest if part is not None], dim=2)
        skipped = late.frames_of(15 - at)
        assert torch.equal(made[:, :, skipped:], everything[:, :, late.frames_of(15) :])
        # The control: the first pictures have no window before them to be blended with.
        assert not torch.equal(made[:, :, :5], everything[:, :, late.frames_of(at) :][:, :, :5])


def test_an_unused_one_has_nothing_to_give() -> None:
    assert MiniMaxH3Decoder(Windows()).flush() is None


@pytest.mark.parametrize(
    "changes",
    [{"token_drop": 0}, {"frame_pre_padding": 0}, {"clip_length": 33}, {"blend": None}],
    ids=str,
)
def test_a_module_of_other_windows_is_not_taken(changes: dict[str, Any]) -> None:
    assert MiniMaxH3Decoder.fits(Windows())
    changed: Any = type("Changed", (Windows,), {})
    for name, value in changes.items():
        setattr(changed, name, value)
    made = changed()
    if changes.get("blend", 0) is None:
        made = nn.Identity()
    assert not MiniMaxH3Decoder.fits(made)
