"""Draws depend on seed, purpose and chunk alone."""

from __future__ import annotations

import torch

from adastate_core.rollout.latent_block import LatentBlock
from adastate_core.rollout.noise import BlockNoise, CommitNoise
from tests.support.card import OffTheCard


def noise(seed: int = 1, chunk: int = 2, states: int = 1) -> BlockNoise:
    return BlockNoise(seed, chunk, (1, 4, states + 3, 2, 2), states)


def test_content_draws_do_not_depend_on_the_state() -> None:
    with_state, without = noise(), noise(states=0)
    assert torch.equal(with_state.initial().video[:, :, 1:], without.initial().video)
    like = torch.zeros(1)
    for _ in range(3):
        assert torch.equal(with_state.renoise(like).video[:, :, 1:], without.renoise(like).video)


def test_every_purpose_seed_and_chunk_draws_differently() -> None:
    like = torch.zeros(1)
    draws = [
        noise().initial().video[:, :, 1:],
        noise().renoise(like).video[:, :, 1:],
        noise(seed=2).initial().video[:, :, 1:],
        noise(chunk=3).initial().video[:, :, 1:],
        noise().initial().video[:, :, :1].expand(-1, -1, 3, -1, -1),
    ]
    for i, a in enumerate(draws):
        assert all(not torch.allclose(a, b) for b in draws[i + 1 :])


def test_initial_noise_is_repeatable_and_global_rng_untouched() -> None:
    before = torch.random.get_rng_state()
    source = noise()
    assert torch.equal(source.initial().video, source.initial().video)
    assert torch.equal(before, torch.random.get_rng_state())


def test_noise_is_standard_normal() -> None:
    x = BlockNoise(0, 0, (1, 16, 4, 32, 32), 1).initial().video
    assert abs(float(x.mean())) < 0.01
    assert abs(float(x.std()) - 1) < 0.01


def test_noise_that_is_drawn_ahead_is_the_same() -> None:
    like, plain, ahead = torch.zeros(1), noise(), noise()
    expected = [plain.renoise(like).video for _ in range(3)]
    found = []
    for _ in range(3):
        ahead.draw_ahead(like)
        ahead.draw_ahead(like)  # what waits already stays
        found.append(ahead.renoise(like).video)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert (plain.renoised, ahead.renoised) == (3, 3)


def test_what_was_drawn_ahead_needs_nothing_more_from_the_processor() -> None:
    card, source = torch.empty(1, device="meta"), noise()
    source.draw_ahead(card)
    with OffTheCard() as touched:
        found = source.renoise(card).video
    assert found.device == card.device
    assert touched.names == []


def test_noise_of_a_commit_is_drawn_by_seed_and_number() -> None:
    block = LatentBlock(torch.zeros((1, 4, 3, 2, 2)), torch.zeros((1, 2, 5, 2)))
    first = CommitNoise.drawn(0.01, 7, 2, block, 1)
    again = CommitNoise.drawn(0.01, 7, 2, block, 1)
    assert first.sigma == 0.01
    assert all(
        torch.equal(a, b) for a, b in zip(first.noise.tracks, again.noise.tracks, strict=True)
    )
    assert [tuple(x.shape) for x in first.noise.tracks] == [(1, 4, 3, 2, 2), (1, 2, 5, 2)]
    for seed, number in ((8, 2), (7, 3)):
        other = CommitNoise.drawn(0.01, seed, number, block, 1).noise
        assert not torch.equal(other.video, first.noise.video)
        assert not torch.equal(other.sound, first.noise.sound)  # type: ignore[arg-type]


def test_noise_of_a_commit_is_none_of_the_chunk_and_the_state_has_its_own() -> None:
    block = LatentBlock(torch.zeros((1, 4, 3, 2, 2)))
    noise = CommitNoise.drawn(0.01, 7, 2, block, 1).noise.video
    without = CommitNoise.drawn(0.01, 7, 2, LatentBlock(block.video[:, :, 1:]), 0).noise.video
    assert torch.equal(noise[:, :, 1:], without)
    chunk = BlockNoise(7, 2, (1, 4, 3, 2, 2), 1)
    for other in (chunk.initial(), chunk.renoise(block.video)):
        assert (other.video - noise).abs().min() > 0
