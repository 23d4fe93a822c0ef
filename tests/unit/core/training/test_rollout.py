"""A rollout on the reference DiT: what its chunks see, and where its gradients go."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

from adastate_core.attention.block_attention import BlockAttention
from adastate_core.attention.kv_format import PLAIN
from adastate_core.config import StreamConfig
from adastate_core.rollout.latent_block import LatentBlock
from adastate_core.rollout.noise import BlockNoise
from adastate_core.training.plan import StepPlan, horizon_weights
from adastate_core.training.rollout import Rollout, TrainingClip, velocity_loss
from tests.support.reference_host import Harness, ReferenceHost, text

PLAN = StepPlan(
    clip=0,
    first=0,
    weights=horizon_weights(3, 2.0),
    levels=(0.2, 0.5, 0.8),
    starts=(0.0, 0.5, 0.9),
    own_past=False,
    seed=3,
    past_seed=4,
)


@dataclass
class LearningHost(ReferenceHost):
    """The reference host with an adapter: a bias on its patches."""

    harness: Harness
    seen: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(self.harness.model)
        self.text = [text(0).unpack()]  # type: ignore[list-item]
        self.bias = torch.zeros_like(self.model.patch.bias).requires_grad_()
        self.model.patch.bias = None
        self.plain = self.model.patch.forward
        self.model.patch.forward = lambda x: self.plain(x) + self.bias  # type: ignore[method-assign]
        self.gradients: list[Tensor] = []
        self.blocks: list[Tensor] = []

    def learn(
        self,
        block: LatentBlock,
        noise: LatentBlock,
        level: float,
        view: BlockAttention,
        weight: float,
    ) -> float:
        self.seen.append(("learn", view.first_frame))
        before = torch.zeros_like(self.bias) if self.bias.grad is None else self.bias.grad.clone()
        with torch.enable_grad():
            x = (1.0 - level) * block.video + level * noise.video
            denoised = x - level * self.forward(x, level, view)
            loss = velocity_loss(denoised, block.video, level)
            (loss * weight).backward()
        assert self.bias.grad is not None
        self.gradients.append(self.bias.grad - before)
        return float(loss.detach())

    def remake(
        self, block: LatentBlock, noise: BlockNoise, start: float, view: BlockAttention
    ) -> LatentBlock:
        self.seen.append(("remake", view.first_frame))
        return block.map(lambda x: x + 0.1)

    def commit(self, block: LatentBlock, view: BlockAttention, sigma: float = 0.0) -> None:
        self.seen.append(("commit", view.first_frame))
        self.blocks.append(block.video)
        with torch.no_grad():
            super().commit(block, view, sigma)


def clip(config: StreamConfig, chunks: int = 5) -> TrainingClip:
    source = torch.Generator().manual_seed(8)
    content = torch.randn((1, 4, 3 * chunks, 2, 3), generator=source)
    states = torch.randn((1, 4, chunks, 2, 3), generator=source)
    return TrainingClip(content, states if config.anchor == "adaptive" else None, 0)


def run(plan: StepPlan, config: StreamConfig | None = None) -> tuple[LearningHost, float]:
    harness = Harness(config or StreamConfig())
    host = LearningHost(harness)
    rollout = Rollout(harness.config, harness.geometry, PLAIN)
    return host, rollout.step(clip(harness.config), plan, host)


def test_chunks_are_learned_in_view_of_those_before() -> None:
    host, _ = run(PLAN)
    assert host.seen == [
        ("learn", 0),
        ("commit", 0),
        ("learn", 3),
        ("commit", 3),
        ("learn", 6),
    ]
    # State and content; from the second chunk on the old state and the window in front of them.
    tokens = sorted(set(host.key_tokens))
    assert tokens == [4 * 6, 8 * 6]


def test_a_rollout_in_the_middle_begins_with_the_chunk_before() -> None:
    host, _ = run(replace(PLAN, first=2))
    assert host.seen[:2] == [("commit", 3), ("learn", 6)]
    assert torch.equal(host.blocks[0], clip(StreamConfig()).block(1, StreamConfig()).video)
    assert host.key_tokens[-1] == 8 * 6


def test_its_own_past_is_what_is_committed() -> None:
    host, _ = run(replace(PLAN, own_past=True))
    assert [kind for kind, _ in host.seen] == [
        *("learn", "remake", "commit"),
        *("learn", "remake", "commit"),
        "learn",
    ]
    expected = clip(StreamConfig()).block(0, StreamConfig()).video + 0.1
    assert torch.equal(host.blocks[0], expected)


def test_losses_and_gradients_are_weighted_by_the_horizon() -> None:
    alike, plain = run(replace(PLAN, weights=(1.0, 1.0, 1.0)))
    later, loss = run(PLAN)
    for chunk, weight in enumerate(PLAN.weights):
        torch.testing.assert_close(later.gradients[chunk], weight * alike.gradients[chunk])
    assert loss != plain


def test_no_gradient_flows_into_the_past() -> None:
    """The gradient of a chunk is that of its own forward, whatever was committed before it."""
    host, _ = run(PLAN)
    last = host.gradients[-1]
    assert last.abs().max() > 0
    fresh, _ = run(replace(PLAN, weights=(0.0, 0.0, PLAN.weights[2])))
    torch.testing.assert_close(fresh.gradients[-1], last)
    assert fresh.gradients[0].abs().max() == 0


@pytest.mark.parametrize("anchor", ["frozen", "none", "ema"])
def test_anchors_without_a_state_learn_content_alone(anchor: str) -> None:
    host, loss = run(PLAN, StreamConfig(anchor=anchor, state_frames=1))  # type: ignore[arg-type]
    assert host.blocks[0].shape[2] == 3
    assert loss > 0


def test_commits_have_the_noise_that_the_options_ask_for() -> None:
    clean, _ = run(PLAN)
    noised, _ = run(PLAN, StreamConfig(commit_sigma=0.1))
    assert not torch.equal(clean.blocks[0], noised.blocks[0])


def test_a_velocity_is_the_difference_over_the_noise() -> None:
    clean, noise = torch.randn(4, 5), torch.randn(4, 5)
    velocity = torch.randn(4, 5)
    noised = 0.7 * clean + 0.3 * noise
    denoised = noised - 0.3 * velocity
    expected = (velocity - (noise - clean)).square().mean()
    torch.testing.assert_close(velocity_loss(denoised, clean, 0.3), expected)
