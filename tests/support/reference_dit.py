"""A small Wan-shaped DiT of the tests' own, with its self-attention in the open.

It has what the core relies on: frames outermost in the token order, rotary axes time | height |
width with interleaved pairs, cross-attended text, one timestep. `forward` numbers its frames
from `origin` and hands every self-attention to `attend`, as the host's hook does.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


def plain_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attend over (B, S, H, D), with a bias on the logits of each key, if any."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    mask = None if bias is None else bias[None]
    return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


def axis_frequencies(channels: int) -> Tensor:
    return 10000.0 ** (-torch.arange(0, channels, 2, dtype=torch.float64) / channels)


class ReferenceDiT(nn.Module):
    def __init__(
        self, *, dim: int = 48, heads: int = 2, layers: int = 2, channels: int = 4, seed: int = 0
    ) -> None:
        super().__init__()
        self.heads, self.head, self.channels = heads, dim // heads, channels
        spatial = 2 * (self.head // 6)
        self.axes = (self.head - 2 * spatial, spatial, spatial)
        self.patch = nn.Linear(channels, dim)
        self.time = nn.Linear(16, dim)
        self.blocks = nn.ModuleList(Block(dim) for _ in range(layers))
        self.out = nn.Linear(dim, channels)
        source = torch.Generator().manual_seed(seed)
        for p in self.parameters():
            p.requires_grad_(False)
            scale = p.shape[1] ** -0.5 if p.ndim > 1 else 0.05
            p.copy_(torch.randn(p.shape, generator=source) * scale)

    @property
    def temporal_frequencies(self) -> tuple[float, ...]:
        return tuple(axis_frequencies(self.axes[0]).tolist())

    @property
    def spatial_frequencies(self) -> tuple[float, ...]:
        return tuple(axis_frequencies(self.axes[1]).tolist())

    def rotate(self, x: Tensor, times: list[int], height: int, width: int) -> Tensor:
        """Give (B, S, H, D) its full rotary position, frames at `times`."""
        grid = torch.cartesian_prod(
            torch.tensor(times, dtype=torch.float64),
            torch.arange(height, dtype=torch.float64),
            torch.arange(width, dtype=torch.float64),
        )
        angles = torch.cat(
            [grid[:, i : i + 1] * axis_frequencies(c) for i, c in enumerate(self.axes)], dim=1
        )
        turned = torch.view_as_complex(x.double().reshape(*x.shape[:-1], -1, 2))
        turned = turned * torch.polar(torch.ones_like(angles), angles)[None, :, None]
        return torch.view_as_real(turned).flatten(-2).to(x.dtype)

    def embed(self, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """Return tokens (B, S, dim) and the time vector (dim,)."""
        steps = torch.arange(8, dtype=torch.float32) * sigma * 3.0
        time = self.time(torch.cat((steps.sin(), steps.cos())))
        return self.patch(x.flatten(2).transpose(1, 2)), time

    def project(self, tokens: Tensor, shape: tuple[int, ...]) -> Tensor:
        return self.out(tokens).transpose(1, 2).reshape(shape)

    def forward(self, x: Tensor, sigma: float, text: Tensor, origin: int, attend: Attend) -> Tensor:
        frames, height, width = x.shape[2:]
        tokens, time = self.embed(x, sigma)
        times = list(range(origin, origin + frames))
        for layer, block in enumerate(self.blocks):
            q, k, v = (self.split(y) for y in block.qkv(tokens, time))
            q, k = (self.rotate(y, times, height, width) for y in (q, k))
            tokens = block.finish(tokens, attend(layer, q, k, v).flatten(2), text, time)
        return self.project(tokens, x.shape)

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, self.head))


class Block(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.qkv_of, self.o = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.text_q, self.text_kv = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim)
        self.up, self.down = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)

    def qkv(self, tokens: Tensor, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv_of(self.norm(tokens) * (1 + time)).chunk(3, dim=-1)
        return q, k, v

    def finish(self, tokens: Tensor, attended: Tensor, text: Tensor, time: Tensor) -> Tensor:
        tokens = tokens + self.o(attended)
        k, v = self.text_kv(text).chunk(2, dim=-1)
        q = self.text_q(self.norm(tokens))
        weights = (q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])).softmax(-1)
        tokens = tokens + weights @ v
        hidden = nn.functional.gelu(self.up(self.norm(tokens) + time))
        return tokens + self.down(hidden)

    @staticmethod
    def norm(x: Tensor) -> Tensor:
        return nn.functional.layer_norm(x, x.shape[-1:])
