"""The demo DiT: a compact forward of ComfyUI's ``WanModel`` over a dictionary of its parameters.

Many small blocks ("groups") of equal length run through one batch; a group either attends to itself
alone or also to the keys of one other group. That covers teacher forcing over all chunks of many
clips without masks. The training loop, sampling and text belong elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LATENT_CHANNELS = 16
HEAD_DIM = 128
FREQ_DIM = 256
TEXT_LEN = 512
# Query, key, value (B, S, H, D) to the mixed values (B, S, H * D).
Mix = Callable[[Tensor, Tensor, Tensor], Tensor]
Params = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class DitConfig:
    """The sizes a stock loader reads from the file; heads are always ``dim // 128``."""

    dim: int = 256
    ffn_dim: int = 1024
    layers: int = 4
    text_dim: int = 256

    def __post_init__(self) -> None:
        if self.dim % HEAD_DIM:
            raise ValueError(f"dim is {self.dim}, expected a multiple of {HEAD_DIM}")


def parameter_shapes(config: DitConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes exactly as in ``WanModel``."""
    d, shapes = config.dim, {}

    def linear(name: str, cin: int, cout: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (cout, cin), (cout,)

    shapes["patch_embedding.weight"] = (d, LATENT_CHANNELS, 1, 2, 2)
    shapes["patch_embedding.bias"] = (d,)
    linear("text_embedding.0", config.text_dim, d)
    linear("text_embedding.2", d, d)
    linear("time_embedding.0", FREQ_DIM, d)
    linear("time_embedding.2", d, d)
    linear("time_projection.1", d, 6 * d)
    for i in range(config.layers):
        block = f"blocks.{i}."
        shapes[f"{block}modulation"] = (1, 6, d)
        for part in ("self_attn", "cross_attn"):
            for name in "qkvo":
                linear(f"{block}{part}.{name}", d, d)
            shapes[f"{block}{part}.norm_q.weight"] = (d,)
            shapes[f"{block}{part}.norm_k.weight"] = (d,)
        shapes[f"{block}norm3.weight"], shapes[f"{block}norm3.bias"] = (d,), (d,)
        linear(f"{block}ffn.0", d, config.ffn_dim)
        linear(f"{block}ffn.2", config.ffn_dim, d)
    shapes["head.modulation"] = (1, 2, d)
    linear("head.head", d, 4 * LATENT_CHANNELS)
    return shapes


def init_params(config: DitConfig, generator: torch.Generator) -> Params:
    """Fresh fp32 parameters: a near-identity network that already tells text from padding."""
    params: Params = {}
    for name, shape in parameter_shapes(config).items():
        if name.endswith(("norm_q.weight", "norm_k.weight", "norm3.weight")):
            value = torch.ones(shape)
        elif name.endswith("bias") or name.startswith("head.head"):
            value = torch.zeros(shape)
        elif name.endswith("modulation"):
            value = torch.zeros(shape)
            if shape[1] == 6:
                value[:, 2] = value[:, 5] = 0.5
        else:
            value = torch.randn(shape, generator=generator) * math.prod(shape[1:]) ** -0.5
            if name.endswith((".o.weight", "ffn.2.weight")):
                value *= (2 * config.layers) ** -0.5
            if name.startswith("time_projection"):
                value *= 0.3
        params[name] = value
    # A prompt has a dozen tokens among 500 identical pads. Queries that start out pointing away
    # from the pad key hear the words from the first step on.
    params["text_embedding.2.bias"] = torch.randn(config.dim, generator=generator)
    for i in range(config.layers):
        cross = f"blocks.{i}.cross_attn."
        pad = params["text_embedding.2.bias"] @ params[f"{cross}k.weight"].T
        params[f"{cross}q.bias"] = -F.rms_norm(pad, (config.dim,))
    return params


def linear(p: Params, name: str, x: Tensor) -> Tensor:
    return F.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    scale = torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-6)
    return x * scale.to(x.dtype) * weight


def layer_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weight, bias, 1e-6)


def rope_table(frames: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Cosine and signed sine for tokens of the given temporal indices: ``(T H W, 1, 128)``.

    Computed on the CPU, wherever they are to be used.
    """
    axis = HEAD_DIM // 6
    sizes = (HEAD_DIM - 4 * axis, 2 * axis, 2 * axis)
    grid = torch.meshgrid(
        frames.double(), torch.arange(height).double(), torch.arange(width).double(), indexing="ij"
    )
    angles = [
        place.reshape(-1, 1) / 10000.0 ** (torch.arange(0, size, 2).double() / size)
        for place, size in zip(grid, sizes, strict=True)
    ]
    angle = torch.cat(angles, dim=1).repeat_interleave(2, dim=1)[:, None]
    sign = torch.tensor([-1.0, 1.0]).repeat(HEAD_DIM // 2)
    return angle.cos().float(), (angle.sin() * sign).float()


def rotate(x: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Turn ``(B, S, H, D)`` by its rotary angles; neighbouring channels form a pair."""
    cos, sin = table
    swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return (x * cos + swapped * sin).to(x.dtype)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Plain attention; on this size it is three times as fast on CPU as the fused kernel.

    Args:
        q: ``(B, S, H, D)``.
        k: ``(B, T, H, D)``.
        v: ``(B, T, H, D)``.
        bias: Added to the logits, broadcastable to ``(B, H, S, T)``.
    """
    scores = (q * q.shape[-1] ** -0.5).transpose(1, 2) @ k.permute(0, 2, 3, 1)
    if bias is not None:
        scores = scores + bias
    return (scores.softmax(-1) @ v.transpose(1, 2)).transpose(1, 2).flatten(2)


def patchify(x: Tensor) -> Tensor:
    """``(B, 16, T, H, W)`` to tokens ``(B, T H/2 W/2, 64)``, ordered as the weight is."""
    b, c, t, h, w = x.shape
    patches = x.view(b, c, t, h // 2, 2, w // 2, 2).permute(0, 2, 3, 5, 1, 4, 6)
    return patches.reshape(b, t * h * w // 4, c * 4)


def unpatchify(tokens: Tensor, height: int, width: int) -> Tensor:
    """Head output ``(B, T h w, 4 * 16)`` to latents ``(B, 16, T, 2 h, 2 w)``."""
    b = tokens.shape[0]
    x = tokens.view(b, -1, height, width, 2, 2, LATENT_CHANNELS).permute(0, 6, 1, 2, 4, 3, 5)
    return x.reshape(b, LATENT_CHANNELS, -1, 2 * height, 2 * width)


def embed_time(p: Params, t: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Timestep ``(B,)`` in 0..1000 to the head's ``(B, D)`` and the blocks' ``(B, 6, D)``."""
    half = FREQ_DIM // 2
    speed = torch.pow(10000.0, -torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angle = t.float()[:, None] * speed
    wave = torch.cat([angle.cos(), angle.sin()], dim=1).to(dtype)
    e = linear(p, "time_embedding.2", F.silu(linear(p, "time_embedding.0", wave)))
    return e, linear(p, "time_projection.1", F.silu(e)).unflatten(1, (6, -1))


def embed_text(p: Params, text: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Project text ``(B, L, text_dim)`` and append one pad token that stands for all of them.

    The host pads to 512 tokens with zeros. Equal keys with equal values act as one key whose
    logit is higher by the logarithm of their number.
    """
    count = text.shape[1]
    text = F.pad(text, (0, 0, 0, 1))
    hidden = F.gelu(linear(p, "text_embedding.0", text), approximate="tanh")
    real = torch.arange(count + 1, device=lengths.device) < lengths[:, None]
    bias = torch.where(real, 0.0, float("-inf"))
    bias[:, count] = torch.log((TEXT_LEN - lengths).float())
    return linear(p, "text_embedding.2", hidden), bias[:, None, None].to(text.dtype)


BLOCK_NAMES = tuple(
    name.removeprefix("blocks.0.")
    for name in parameter_shapes(DitConfig(layers=1))
    if name.startswith("blocks.")
)


def block_params(p: Params, index: int) -> Params:
    return {name: p[f"blocks.{index}.{name}"] for name in BLOCK_NAMES}


def block(p: Params, x: Tensor, e: Tensor, text: Tensor, bias: Tensor, mix: Mix) -> Tensor:
    """One transformer block on ``(B, S, D)``; ``mix`` decides what the queries see."""
    heads = (-1, HEAD_DIM)
    shift, scale, gate, shift2, scale2, gate2 = (p["modulation"] + e).unsqueeze(2).unbind(1)
    h = layer_norm(x) * (1 + scale) + shift
    q = rms_norm(linear(p, "self_attn.q", h), p["self_attn.norm_q.weight"]).unflatten(-1, heads)
    k = rms_norm(linear(p, "self_attn.k", h), p["self_attn.norm_k.weight"]).unflatten(-1, heads)
    v = linear(p, "self_attn.v", h).unflatten(-1, heads)
    x = x + linear(p, "self_attn.o", mix(q, k, v)) * gate
    h = layer_norm(x, p["norm3.weight"], p["norm3.bias"])
    q = rms_norm(linear(p, "cross_attn.q", h), p["cross_attn.norm_q.weight"]).unflatten(-1, heads)
    k = rms_norm(linear(p, "cross_attn.k", text), p["cross_attn.norm_k.weight"])
    v = linear(p, "cross_attn.v", text).unflatten(-1, heads)
    x = x + linear(p, "cross_attn.o", attend(q, k.unflatten(-1, heads), v, bias))
    h = layer_norm(x) * (1 + scale2) + shift2
    h = F.gelu(linear(p, "ffn.0", h), approximate="tanh")
    return x + linear(p, "ffn.2", h) * gate2


def head(p: Params, x: Tensor, e: Tensor) -> Tensor:
    shift, scale = (p["head.modulation"] + e[:, None]).unsqueeze(2).unbind(1)
    return linear(p, "head.head", layer_norm(x) * (1 + scale) + shift)


def embed_patches(p: Params, x: Tensor) -> Tensor:
    return F.linear(patchify(x), p["patch_embedding.weight"].flatten(1), p["patch_embedding.bias"])


@dataclass(frozen=True, slots=True)
class Groups:
    """Which group sees which: the first ``free`` see themselves, the others also a past group.

    ``past[i]`` is the group whose keys group ``free + i`` attends to; ``clip[g]`` is the text of g.
    """

    free: int
    past: Tensor
    clip: Tensor


def grouped_block(
    p: Params,
    x: Tensor,
    e: Tensor,
    text: Tensor,
    bias: Tensor,
    free: int,
    past: Tensor,
    own: tuple[Tensor, Tensor],
    context: tuple[Tensor, Tensor],
) -> Tensor:
    def mix(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        before_k, before_v = rotate(k[past], context), v[past]
        q, k = rotate(q, own), rotate(k, own)
        alone = attend(q[:free], k[:free], v[:free])
        keys, values = torch.cat([before_k, k[free:]], 1), torch.cat([before_v, v[free:]], 1)
        return torch.cat([alone, attend(q[free:], keys, values)])

    return block(p, x, e, text, bias, mix)


def grouped_forward(
    p: Params,
    config: DitConfig,
    x: Tensor,
    t: Tensor,
    text: Tensor,
    lengths: Tensor,
    groups: Groups,
    run_block: Callable[..., Tensor] = grouped_block,
) -> Tensor:
    """Predict the velocity of all groups.

    Args:
        x: Blocks of one state and three content frames ``(G, 16, 4, H, W)``.
        t: Timesteps ``(G,)``, 0 for clean blocks.
        text: Encoded prompts ``(clips, L, text_dim)``, with their ``lengths``.
    """
    height, width = x.shape[-2] // 2, x.shape[-1] // 2
    own = rope_table(torch.tensor([0, 4, 5, 6]), height, width)
    context = rope_table(torch.tensor([0, 1, 2, 3]), height, width)
    dtype = x.dtype
    own, context = (tuple(v.to(dtype) for v in table) for table in (own, context))
    words, bias = embed_text(p, text, lengths)
    words, bias = words[groups.clip], bias[groups.clip]
    e, e_blocks = embed_time(p, t, dtype)
    tokens = embed_patches(p, x)
    for i in range(config.layers):
        tokens = run_block(
            block_params(p, i),
            tokens,
            e_blocks,
            words,
            bias,
            groups.free,
            groups.past,
            own,
            context,
        )
    return unpatchify(head(p, tokens, e), height, width)
