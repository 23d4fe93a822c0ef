"""An update learns chunks as they stream, and its gradient reaches one commit back."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from adastate_core.layout import SlotLayout
from tests.support.tiny_anchors import TINY, tiny_params
from training.anchors.draws import Draws
from training.anchors.latents import Batch
from training.anchors.memory import ANCHORS, Memory, Written, anchor_config
from training.anchors.network import Network, Words
from training.anchors.rollout import Task, Update
from training.dit import Params

CPU = torch.device("cpu")


def batch(chunks: int = 3, before: float = 0.0, clips: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(5)
    return Batch(
        blocks=torch.randn(clips, chunks, 16, 4, 4, 6, generator=generator),
        origin=torch.randn(clips, 16, 3, 4, 6, generator=generator),
        chunks_before=torch.full((clips,), before),
        mask=torch.rand(clips, chunks, 4, 4, 6, generator=generator) < 0.3,
        prompts=tuple(range(clips)),
    )


class Watched(Network):
    """A network that keeps what it was asked and what it wrote."""

    def __init__(self) -> None:
        super().__init__(TINY)
        object.__setattr__(self, "asked", [])
        object.__setattr__(self, "wrote", [])

    def velocity(
        self, p: Params, x: Tensor, t: Tensor, words: Words, past: Written | None, at: SlotLayout
    ) -> Tensor:
        self.asked.append((x.detach(), t, past, at))  # type: ignore[attr-defined]
        return super().velocity(p, x, t, words, past, at)

    def write(
        self, p: Params, x: Tensor, words: Words, past: Written | None, at: SlotLayout
    ) -> Written:
        written = super().write(p, x, words, past, at)
        for k, _ in written:
            if k.requires_grad:
                k.retain_grad()
        self.wrote.append((x, written, past))  # type: ignore[attr-defined]
        return written


def update(task: Task, given: Batch, network: Network | None = None, step: int = 0) -> Update:
    params = {name: value.requires_grad_() for name, value in tiny_params().items()}
    return Update(network or Network(TINY), params, given, task, Draws(1, step, CPU))


@pytest.mark.parametrize("anchor", ANCHORS)
def test_a_loss_reaches_the_commit_before_it_and_no_further(anchor: str) -> None:
    network = Watched()
    update(Task(anchor), batch(), network).learn()
    first, second = network.wrote  # type: ignore[attr-defined]
    for written in (first[1], second[1]):
        assert all(k.grad is not None and k.grad.abs().max() > 0 for k, _ in written)
    # What a commit itself sees is a constant.
    assert first[2] is None
    assert not any(k.requires_grad or v.requires_grad for k, v in second[2])


def test_the_gradient_through_the_commit_is_the_true_one() -> None:
    """Central differences of both chunks' losses by one number of the commit's own input."""

    def loss_at(shift: float) -> float:
        made = update(Task("adaptive", copies=1, text_dropout=0.0, context_noise=0.0), batch(2))
        made.params["dit.blocks.0.self_attn.v.bias"].data[7] += shift
        losses = made.learn()
        return sum(w * x for w, x in zip((0.25, 0.75), losses, strict=True))

    made = update(Task("adaptive", copies=1, text_dropout=0.0, context_noise=0.0), batch(2))
    made.learn()
    gradient = made.params["dit.blocks.0.self_attn.v.bias"].grad
    assert gradient is not None
    step = 2e-2
    slope = (loss_at(step) - loss_at(-step)) / (2.0 * step)
    assert math.isclose(float(gradient[7]), slope, rel_tol=2e-2, abs_tol=1e-5)


@pytest.mark.parametrize("anchor", ANCHORS)
def test_all_anchors_see_the_same_clips_under_the_same_noise(anchor: str) -> None:
    reference, network = Watched(), Watched()
    update(Task("none"), batch(), reference).learn()
    update(Task(anchor), batch(), network).learn()
    states = int(anchor == "adaptive")
    pairs = zip(reference.asked, network.asked, strict=True)  # type: ignore[attr-defined]
    for (expected, t, *_), (seen, other_t, *_) in pairs:
        assert torch.equal(seen[:, :, states:], expected)
        assert torch.equal(t, other_t)
    for (expected, *_), (seen, *_) in zip(reference.wrote, network.wrote, strict=True):  # type: ignore[attr-defined]
        assert torch.equal(seen[:, :, states:], expected)


def test_a_clip_from_the_middle_is_not_asked_for_its_first_chunk() -> None:
    network, given = Watched(), batch(before=7.5)
    losses = update(Task("frozen"), given, network).learn()
    assert len(losses) == 2
    assert all(past is not None for _, _, past, _ in network.asked)  # type: ignore[attr-defined]
    origin = network.wrote[0]  # type: ignore[attr-defined]
    assert torch.equal(origin[0], given.origin)
    # Slot 0 is the chunk after departure in all chunks, and the window what came last.
    keys = origin[1][0][0].repeat(2, 1, 1, 1)
    for _, _, past, at in network.asked:  # type: ignore[attr-defined]
        assert torch.equal(past[0][0][:, : 3 * 6], keys)
        assert at.context == (0, 1, 2, 3, 4, 5)


def test_an_average_of_a_long_way_is_mostly_what_came_last() -> None:
    memory = Memory(anchor_config("ema"))
    first, second = ([(torch.full((2, 9, 1, 4), x),) * 2] for x in (1.0, 3.0))
    memory.commit(first)
    memory.commit(second)
    memory.blend_anchor(torch.tensor([1.0, 0.25]))
    k, _ = memory.read()[0]  # type: ignore[index]
    assert k[:, 0, 0, 0].tolist() == [1.0, 2.5]


def test_own_rollouts_remake_what_they_commit() -> None:
    network, given = Watched(), batch(before=3.0)
    update(Task("adaptive", own_past=True), given, network, step=4).learn()
    first, second = network.wrote  # type: ignore[attr-defined]
    clean = given.blocks[:, :2]
    # What leads to a clip is the clip's; what follows is the model's.
    assert (first[0] - clean[:, 0]).abs().mean() < 0.3
    assert (second[0] - clean[:, 1]).abs().mean() > 0.05
    asked = len(network.asked)  # type: ignore[attr-defined]
    assert 2 + 1 <= asked <= 2 + 3


def test_a_guided_target_moves_away_from_the_silent_prediction() -> None:
    plain, guided = Task("none", text_dropout=0.0), Task("none", text_dropout=0.0, guided=True)
    losses = update(plain, batch()).learn(), update(guided, batch()).learn()
    assert losses[0] != losses[1]
    # Without a prompt there is nothing to move away from.
    silent = (replace(task, text_dropout=1.0) for task in (plain, guided))
    a, b = (update(task, batch()).learn() for task in silent)
    assert a == pytest.approx(b, rel=1e-5)


def test_chunks_count_as_their_horizon_says() -> None:
    def gradient(alpha: float) -> Tensor:
        made = update(Task("none", alpha=alpha, text_dropout=0.0), batch())
        made.learn()
        grad = made.params["dit.head.head.bias"].grad
        assert grad is not None
        return grad

    # Of three chunks: (1, 1, 1) / 3 and (1, 3, 5) / 9 to one and three parts are (1, 2, 3) / 6.
    even, steep = gradient(0.0), gradient(4.0)
    torch.testing.assert_close(gradient(2.0), 0.25 * even + 0.75 * steep, atol=1e-6, rtol=1e-4)
    assert (even - steep).abs().max() > 1e-3
