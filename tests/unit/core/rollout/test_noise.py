"""Draws depend on seed, purpose and chunk alone."""

from __future__ import annotations

import torch

from adastate_core.rollout.noise import BlockNoise
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
