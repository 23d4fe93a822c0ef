"""In which form, and on which device, keys and values of past frames are kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config import Precision

_FP8 = torch.float8_e4m3fn
_SMALLEST_SCALE = 2.0**-14


class PlainKV(nn.Module):
    """Keys or values as they are, (B, S, H, D)."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x = nn.Parameter(x, requires_grad=False)

    def decode(self) -> Tensor:
        """Return the tensor."""
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
        frames = x.unflatten(1, (x.shape[1] // tokens_per_frame, tokens_per_frame))
        largest = frames.abs().amax(dim=(2, 4), keepdim=True).float()
        least = (largest / torch.finfo(_FP8).max).clamp_min(_SMALLEST_SCALE)
        scales = torch.exp2(torch.log2(least).ceil()).to(x.dtype)
        self.codes = nn.Parameter((frames / scales).to(_FP8), requires_grad=False)
        self.scales = nn.Parameter(scales, requires_grad=False)

    def decode(self) -> Tensor:
        """Return the tensor, rounded."""
        return (self.codes.to(self.scales.dtype) * self.scales).flatten(1, 2)


@dataclass(frozen=True, slots=True)
class KVFormat:
    """How keys and values are kept.

    Args:
        precision: `model` keeps them as they were projected, `fp8` rounds them to 8 bits (e4m3).
        device: Where they are kept; None is where the model computed them.
    """

    precision: Precision = "model"
    device: torch.device | None = None

    @property
    def reads_per_layer(self) -> bool:
        """Whether every forward decodes them again, layer by layer.

        Else a chunk keeps them ready for its steps, in the form in which attention takes them,
        which would undo what the format saves.
        """
        return self != PLAIN

    def encode(self, x: Tensor, tokens_per_frame: int) -> PlainKV | Fp8KV:
        """Encode the keys or the values of one layer, (B, S, H, D)."""
        # Outside inference mode, so that the result can be moved between devices by the host later.
        with torch.inference_mode(False), torch.no_grad():
            encoded = PlainKV(x) if self.precision == "model" else Fp8KV(x, tokens_per_frame)
            return encoded if self.device is None else encoded.to(self.device)


PLAIN = KVFormat()
"""As the model computed them, and where it did."""
