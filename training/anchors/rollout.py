"""One update: clips are gone through chunk by chunk, as streams are, and each chunk is learned.

A chunk sees what the commit of the chunk before wrote, with its gradient: the loss of a chunk
reaches the commit before it and no further. A clip that begins in the middle of a way is not asked
for its first chunk, which nothing leads to; that chunk is only committed. A frozen anchor is then
the chunk after departure, and an averaged one a mixture of both, as they would be in a stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from adastate_core.training.plan import horizon_weights
from training import dit, text
from training.anchors.draws import Draws
from training.anchors.latents import Batch
from training.anchors.memory import Memory, anchor_config, repeated, unlinked
from training.anchors.network import Network, Words
from training.anchors.words import tokens
from training.dit import Params
from training.panorama.prompts import split
from training.train_dit import mix_noise, part

# Shift of the noise levels.
SHIFT = 3.0


@dataclass(frozen=True, slots=True)
class Task:
    """What an update does, apart from its clips.

    Args:
        anchor: Policy of slot 0.
        own_past: Whether the past is what the model makes, not that of the clips.
        guided: Whether the target points away from what the model says without a prompt
            (Tang et al. 2025, "Diffusion Models without Classifier-free Guidance").
        alpha: By how much more the last chunk counts than the first.
        copies: Noise levels at which each chunk is learned.
        shift: Shift of the noise levels.
        text_dropout: Share of clips without their prompt.
        context_noise: Most noise on the past of clips.
        subject_weight: Weight of cells that the subject touches; elsewhere it is 1.
        guide_weight: Step of the guided target.
        ema_rate: Rate of the averaged anchor.
    """

    anchor: str
    own_past: bool = False
    guided: bool = False
    alpha: float = 2.0
    copies: int = 2
    shift: float = SHIFT
    text_dropout: float = 0.09
    context_noise: float = 0.3
    subject_weight: float = 4.0
    guide_weight: float = 0.5
    ema_rate: float = 0.9


def weighted(mask: Tensor, weight: float) -> Tensor:
    """Weigh cells ``(N, frames, h, w)`` of a mask, all others 1, so that the mean is 1."""
    factor = 1.0 + (weight - 1.0) * mask.float()
    return factor / factor.mean((1, 2, 3), keepdim=True)


@dataclass(frozen=True, slots=True)
class Update:
    """Learns one batch; the gradients are left in the parameters."""

    network: Network
    params: Params
    batch: Batch
    task: Task
    draws: Draws

    def learn(self) -> tuple[float, ...]:
        """Return the loss of each chunk, before its weight; of the first only if it was asked."""
        task, device = self.task, self.draws.device
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            p = part(self.params, "dit.", torch.float32)
            texts = [split(unseen=False)[number].text for number in self.batch.prompts]
            dropped = self.draws.uniform("dropout", len(texts)) < task.text_dropout
            texts = ["" if drop else t for drop, t in zip(dropped, texts, strict=True)]
            values, bias = self._embedded(p, texts)
            # Backward goes through the text once, at the end, and not once a chunk.
            leaf = values.detach().requires_grad_()
            words = Words(leaf, bias)
            with torch.no_grad():
                silent = Words(*self._embedded(p, [""])) if task.guided else None
            losses = self._chunks(p, words, silent)
            if leaf.grad is not None:
                values.backward(leaf.grad)
        return losses

    def _embedded(self, p: Params, texts: list[str]) -> tuple[Tensor, Tensor]:
        ids, lengths = tokens(texts, self.draws.device)
        encoded = text.encode(part(self.params, "text.", torch.float32), ids, lengths)
        return dit.embed_text(p, encoded, lengths)

    def _chunks(self, p: Params, words: Words, silent: Words | None) -> tuple[float, ...]:
        memory = Memory(anchor_config(self.task.anchor, self.task.ema_rate))
        states, count = memory.state_frames, self.batch.blocks.shape[1]
        first = 0 if self.batch.departs else 1
        if first and memory.policy.sink_frames(memory.config):
            self._commit_origin(p, words, memory)
        weights = horizon_weights(count, self.task.alpha)[first:]
        losses = []
        for k in range(count):
            block = self.batch.blocks[:, k, :, 1 - states :]
            if k >= first:
                errors = self._errors(p, words, silent, memory, block, k)
                loss = errors.mean()
                (loss * weights[k - first] / sum(weights)).backward()
                losses.append(float(loss.detach()))
            memory.detach()
            if k + 1 == count:
                break
            past = self._past(p, words, memory, block, k, own=self.task.own_past and k >= first)
            memory.commit(self.network.write(p, past, words, memory.read(), memory.layout()))
            if k < first and self.task.anchor == "ema":
                memory.blend_anchor(self.task.ema_rate**self.batch.chunks_before)
        return tuple(losses)

    def _commit_origin(self, p: Params, words: Words, memory: Memory) -> None:
        """Fill slot 0 with the first chunk of the way, which the clip itself does not show."""
        with torch.no_grad():
            written = self.network.write(p, self.batch.origin, words, None, memory.layout())
            memory.commit(written)

    def _errors(
        self,
        p: Params,
        words: Words,
        silent: Words | None,
        memory: Memory,
        block: Tensor,
        k: int,
    ) -> Tensor:
        """Weighted mean squared velocity error of each noised copy ``(copies * B,)``."""
        task, copies = self.task, self.task.copies
        clean = block.repeat(copies, 1, 1, 1, 1)
        noise = self.draws.noise(f"noise:{k}", clean, memory.state_frames)
        sigma = self.draws.sigmas(f"sigma:{k}", len(clean), task.shift).to(clean.device)
        noisy, t = mix_noise(clean, noise, sigma), 1000.0 * sigma
        past, at = repeated(memory.read(), copies), memory.layout()
        seen = self.network.velocity(p, noisy, t, words.repeat(copies), past, at)
        wanted = noise - clean
        if silent is not None:
            with torch.no_grad():
                plain = self.network.velocity(
                    p, noisy, t, silent.repeat(len(clean)), unlinked(past), at
                )
            wanted = wanted + task.guide_weight * (seen.detach() - plain)
        mask = self.batch.mask[:, k, 1 - memory.state_frames :].repeat(copies, 1, 1, 1)
        factor = weighted(mask, task.subject_weight)
        return ((seen - wanted).square().mean(1) * factor).flatten(1).mean(1)

    @torch.no_grad()
    def _past(
        self, p: Params, words: Words, memory: Memory, block: Tensor, k: int, own: bool
    ) -> Tensor:
        """Return what is committed: the clip's block, noised a little, or what the model makes."""
        noise = self.draws.noise(f"past:{k}", block, memory.state_frames)
        if not own:
            amount = self.task.context_noise * (
                self.draws.uniform("amount", len(block)) * 1.4 - 0.4
            )
            return mix_noise(block, noise, amount.clamp(min=0.0).to(block.device))
        start, steps = self.draws.uniform(f"own:{k}", 2).tolist()
        sigma, count = 0.25 + 0.7 * start, 1 + int(3.0 * steps)
        levels = [sigma * (1.0 - i / count) for i in range(count + 1)]
        x = mix_noise(block, noise, torch.full((len(block),), sigma, device=block.device))
        past, at = memory.read(), memory.layout()
        for here, there in pairwise(levels):
            t = torch.full((len(x),), 1000.0 * here, device=x.device)
            x = x + (there - here) * self.network.velocity(p, x, t, words, past, at)
        return x
