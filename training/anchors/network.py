"""One forward of the DiT over a block of a batch of streams, with their past in view."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from adastate_core.layout import SlotLayout
from training import dit
from training.anchors.memory import KeysValues, Written
from training.dit import DitConfig, Params

Table = tuple[Tensor, Tensor]
RunBlock = Callable[..., tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True, slots=True)
class Words:
    """Prompts as the DiT attends to them: projected tokens, and the bias of each on its logit."""

    values: Tensor
    bias: Tensor

    def repeat(self, copies: int) -> Words:
        return Words(self.values.repeat(copies, 1, 1), self.bias.repeat(copies, 1, 1, 1))


@lru_cache(maxsize=64)
def rope_table(indices: tuple[int, ...], height: int, width: int, device: torch.device) -> Table:
    """Rotations of frames at temporal indices, on a device; built once."""
    cos, sin = dit.rope_table(torch.tensor(indices), height, width)
    return cos.to(device), sin.to(device)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention by what is fastest on the device; shapes as :func:`training.dit.attend`."""
    if not q.is_cuda:
        return dit.attend(q, k, v)
    mixed = F.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2).to(q.dtype)
    )
    return mixed.transpose(1, 2).flatten(2)


def block(
    p: Params,
    x: Tensor,
    e: Tensor,
    words: Tensor,
    bias: Tensor,
    past: KeysValues | None,
    own: Table,
    context: Table | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run one transformer block; returns its output, and its unrotated keys and values."""
    written: list[Tensor] = []

    def mix(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        written.extend((k, v))
        q, k = dit.rotate(q, own), dit.rotate(k, own)
        if past is not None and context is not None:
            k = torch.cat([dit.rotate(past[0], context).to(k.dtype), k], 1)
            v = torch.cat([past[1].to(v.dtype), v], 1)
        return attend(q, k, v)

    out = dit.block(p, x, e, words, bias, mix)
    return out, written[0], written[1]


def keys_values(p: Params, x: Tensor, e: Tensor) -> KeysValues:
    """Only what a block writes, for a last block whose output nobody reads."""
    shift, scale = (p["modulation"] + e)[:, :2].unsqueeze(2).unbind(1)
    h = dit.layer_norm(x) * (1 + scale) + shift
    heads = (-1, dit.HEAD_DIM)
    k = dit.rms_norm(dit.linear(p, "self_attn.k", h), p["self_attn.norm_k.weight"])
    return k.unflatten(-1, heads), dit.linear(p, "self_attn.v", h).unflatten(-1, heads)


@dataclass(frozen=True, slots=True)
class Network:
    """The DiT as a function of its parameters.

    Args:
        config: Its sizes.
        run_block: :func:`block`, or a compiled one.
    """

    config: DitConfig
    run_block: RunBlock = block

    def velocity(
        self, p: Params, x: Tensor, t: Tensor, words: Words, past: Written | None, at: SlotLayout
    ) -> Tensor:
        """Predict the velocity of blocks.

        Args:
            p: Parameters of the DiT.
            x: Blocks ``(B, 16, frames, h, w)``, in normalised latents.
            t: Timesteps ``(B,)`` in 0..1000.
            words: Their prompts.
            past: What they see.
            at: Temporal indices of both.
        """
        e, e_blocks = dit.embed_time(p, t, x.dtype)
        tokens = dit.embed_patches(p, x)
        for i, (own, context) in self._layers(x, past, at):
            seen = None if past is None else past[i]
            tokens, _, _ = self.run_block(
                dit.block_params(p, i),
                tokens,
                e_blocks,
                words.values,
                words.bias,
                seen,
                own,
                context,
            )
        height, width = x.shape[-2] // 2, x.shape[-1] // 2
        return dit.unpatchify(dit.head(p, tokens, e), height, width).float()

    def write(
        self, p: Params, x: Tensor, words: Words, past: Written | None, at: SlotLayout
    ) -> Written:
        """Return the keys and values of clean blocks: a commit pass, at noise 0."""
        _, e_blocks = dit.embed_time(p, torch.zeros(len(x), device=x.device), x.dtype)
        tokens, written = dit.embed_patches(p, x), []  # type: Tensor, Written
        for i, (own, context) in self._layers(x, past, at):
            weights = dit.block_params(p, i)
            if i == self.config.layers - 1:
                written.append(keys_values(weights, tokens, e_blocks))
                break
            seen = None if past is None else past[i]
            tokens, k, v = self.run_block(
                weights, tokens, e_blocks, words.values, words.bias, seen, own, context
            )
            written.append((k, v))
        return written

    def _layers(
        self, x: Tensor, past: Written | None, at: SlotLayout
    ) -> list[tuple[int, tuple[Table, Table | None]]]:
        height, width = x.shape[-2] // 2, x.shape[-1] // 2
        own = rope_table(at.block, height, width, x.device)
        context = None if past is None else rope_table(at.context, height, width, x.device)
        return [(i, (own, context)) for i in range(self.config.layers)]
