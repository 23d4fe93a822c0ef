"""In which form, and on which device, keys and values of past frames are kept."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..config import Precision

_FP8 = torch.float8_e4m3fn
_SMALLEST_SCALE = 2.0**-14


class PlainKV(nn.Module):
    """Keys or values as they are.

    Args:
        x: (B, S, H, D).
        tokens_per_frame: Tokens of one latent frame.
    """

    def __init__(self, x: Tensor, tokens_per_frame: int) -> None:
        super().__init__()
        self.x = nn.Parameter(x, requires_grad=False)
        self._tokens = tokens_per_frame

    def parts(self) -> tuple[Tensor, ...]:
        """Return what is kept, with the frames along the second axis."""
        return (_by_frame(self.x, self._tokens),)

    @staticmethod
    def write(parts: tuple[Tensor, ...], out: Tensor) -> None:
        """Write the frames of `parts` to `out`, (B, frames, tokens, H, D)."""
        out.copy_(parts[0])

    def decode(self) -> Tensor:
        """Return the tensor, (B, S, H, D)."""
        return self.x


class Fp8KV(nn.Module):
    """Keys or values in 8 bits each, with a scale for every frame and head.

    Scales are powers of two: they lose nothing, since a float has its own exponent, and a frame
    that is encoded, decoded and encoded again stays the same to the last bit.

    Args:
        x: (B, S, H, D).
        tokens_per_frame: Tokens of one latent frame.
    """

    def __init__(self, x: Tensor, tokens_per_frame: int) -> None:
        super().__init__()
        frames = _by_frame(x, tokens_per_frame)
        largest = frames.abs().amax(dim=(2, 4), keepdim=True).float()
        least = (largest / torch.finfo(_FP8).max).clamp_min(_SMALLEST_SCALE)
        scales = torch.exp2(torch.log2(least).ceil()).to(x.dtype)
        self.codes = nn.Parameter((frames / scales).to(_FP8), requires_grad=False)
        self.scales = nn.Parameter(scales, requires_grad=False)

    def parts(self) -> tuple[Tensor, ...]:
        """Return what is kept, with the frames along the second axis."""
        return self.codes, self.scales

    @staticmethod
    def write(parts: tuple[Tensor, ...], out: Tensor) -> None:
        """Write the frames of `parts` to `out`, (B, frames, tokens, H, D), rounded."""
        codes, scales = parts
        # In place, so that what takes half the memory is not first written elsewhere in full.
        out.copy_(codes).mul_(scales)

    def decode(self) -> Tensor:
        """Return the tensor, (B, S, H, D), rounded."""
        return (self.codes.to(self.scales.dtype) * self.scales).flatten(1, 2)


EncodedKV = PlainKV | Fp8KV


@dataclass(frozen=True, slots=True)
class KVFormat:
    """How keys and values are kept.

    Args:
        precision: `model` keeps them as they were projected, `fp8` rounds them to 8 bits (e4m3).
        device: Where they are kept; None is where the model computed them.
        pinned: Whether they are kept in page-locked memory, from which a card copies while it
            computes. Such tensors take up to twice their bytes: torch rounds each up to a power
            of two.
    """

    precision: Precision = "model"
    device: torch.device | None = None
    pinned: bool = False

    @property
    def reads_per_layer(self) -> bool:
        """Whether every forward decodes them again, layer by layer.

        Else a chunk keeps them ready for its steps, in the form in which attention takes them,
        which would undo what the format saves.
        """
        return self != PLAIN

    @property
    def exact(self) -> KVFormat:
        """Return the form of what is not to be rounded, in the same place."""
        return replace(self, precision="model")

    def encode(self, x: Tensor, tokens_per_frame: int) -> EncodedKV:
        """Encode the keys or the values of one layer, (B, S, H, D)."""
        kind = PlainKV if self.precision == "model" else Fp8KV
        # Outside inference mode, so that the result can be moved between devices by the host later.
        with torch.inference_mode(False), torch.no_grad():
            encoded: EncodedKV = kind(x, tokens_per_frame)
            if self.device is not None:
                for name, x in list(encoded.named_parameters()):
                    kept = self._kept(x.data, self.device)
                    setattr(encoded, name, nn.Parameter(kept, requires_grad=False))
        return encoded

    def _kept(self, x: Tensor, device: torch.device) -> Tensor:
        if not self.pinned or x.device == device:
            return x.to(device)
        try:
            target = torch.empty_like(x, device=device, pin_memory=True)
        except RuntimeError:  # the system has no more of it: slower, and as good
            return x.to(device)
        # A card that waited here would wait twice in every layer of a commit.
        return target.copy_(x, non_blocking=True)


PLAIN = KVFormat()
"""As the model computed them, and where it did."""


def _by_frame(x: Tensor, tokens_per_frame: int) -> Tensor:
    frames: Tensor = x.unflatten(1, (x.shape[1] // tokens_per_frame, tokens_per_frame))
    return frames
