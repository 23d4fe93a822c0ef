"""In which form, and in whose memory, keys and values of past frames are kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config import Precision

_FP8 = torch.float8_e4m3fn
_SMALLEST_SCALE = 2.0**-14


class PlainKV(nn.Module):
    """Keep a tensor as it is, (B, S, H, D)."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x = nn.Parameter(x, requires_grad=False)

    def decode(self) -> Tensor:
        """Return the tensor."""
        return self.x


class Fp8KV(nn.Module):
    """Keep a tensor in 8 bits a value, scaled for every frame and head.

    Scales are powers of two: they cost nothing, since a float has its own exponent, and a frame
    that is packed, unpacked and packed again stays the same to the last bit.

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
    """Say how keys and values are kept.

    Args:
        precision: `model` keeps what the model wrote, `fp8` rounds it to 8 bits (e4m3).
        device: Where they are kept; None is where the model wrote them.
    """

    precision: Precision = "model"
    device: torch.device | None = None

    @property
    def reads_per_layer(self) -> bool:
        """Whether every forward reads them anew, layer by layer.

        Else a chunk keeps them ready for its steps, in the form in which attention takes them,
        which would undo what the kv_format saves.
        """
        return self != PLAIN

    def encode(self, x: Tensor, tokens_per_frame: int) -> PlainKV | Fp8KV:
        """Pack the keys or the values of one layer, (B, S, H, D)."""
        # Outside inference mode, so that the result can be moved between devices by the host later.
        with torch.inference_mode(False), torch.no_grad():
            held = PlainKV(x) if self.precision == "model" else Fp8KV(x, tokens_per_frame)
            return held if self.device is None else held.to(self.device)


PLAIN = KVFormat()
"""As the model wrote them, where it wrote them."""
