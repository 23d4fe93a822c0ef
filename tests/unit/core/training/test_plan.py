"""What a step does: drawn from seed and number alone, and weighted by the horizon."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from adastate_core.errors import ConfigError
from adastate_core.training.plan import TrainingOptions, horizon_weights, plan_step

OPTIONS = TrainingOptions(steps=100, rollout_chunks=3, seed=11)


def test_a_step_depends_on_seed_and_number_alone() -> None:
    state = torch.random.get_rng_state()
    first = plan_step(OPTIONS, 40, (5, 4, 9))
    torch.random.manual_seed(99)
    assert plan_step(replace(OPTIONS, steps=50), 40, (5, 4, 9)).seed == first.seed
    assert plan_step(OPTIONS, 40, (5, 4, 9)) == first
    assert plan_step(OPTIONS, 41, (5, 4, 9)) != first
    assert plan_step(replace(OPTIONS, seed=12), 40, (5, 4, 9)) != first
    torch.random.set_rng_state(state)
    plan_step(OPTIONS, 0, (3,))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_every_clip_and_every_place_in_it_is_seen() -> None:
    plans = [plan_step(OPTIONS, step, (5, 3)) for step in range(100)]
    assert Counter(plan.clip for plan in plans) == {0: 50, 1: 50}
    assert {plan.first for plan in plans if plan.clip == 0} == {0, 1, 2}
    assert {plan.first for plan in plans if plan.clip == 1} == {0}


def test_noise_levels_are_spread_evenly() -> None:
    levels = torch.tensor([plan_step(OPTIONS, step, (3,)).levels for step in range(100)])
    for chunk in range(3):
        counts = torch.histc(levels[:, chunk], bins=10, min=0.0, max=1.0)
        assert counts.min() >= 7
        assert counts.max() <= 13


def test_a_short_clip_is_gone_through_whole() -> None:
    plan = plan_step(replace(OPTIONS, rollout_chunks=8), 0, (2,))
    assert (plan.first, len(plan.levels), len(plan.weights)) == (0, 2, 2)


def test_the_last_steps_have_their_own_past() -> None:
    options = replace(OPTIONS, own_past=0.25)
    own = [plan_step(options, step, (3,)).own_past for step in range(100)]
    assert own == [False] * 75 + [True] * 25
    assert not any(plan_step(replace(OPTIONS, own_past=0.0), s, (3,)).own_past for s in range(100))


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0, 4.0])
def test_later_chunks_count_linearly_more(alpha: float) -> None:
    weights = horizon_weights(7, alpha)
    assert sum(weights) / 7 == pytest.approx(1.0)
    assert weights[-1] / weights[0] == pytest.approx(1.0 + alpha)
    steps = {round(b - a, 9) for a, b in pairwise(weights)}
    assert len(steps) == 1


REFUSED: dict[str, dict[str, Any]] = {
    "Steps is 0; it goes from 1 to 1e+06": {"steps": 0},
    "learning_rate is 0": {"learning_rate": 0.0},
    "Rank is 2000": {"rank": 2000},
    "rollout_chunks is 1; it goes from 2 to 64": {"rollout_chunks": 1},
    "horizon_alpha is -1": {"horizon_alpha": -1.0},
    "own_past is 1.5; it goes from 0 to 1": {"own_past": 1.5},
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_out_of_range_is_refused_by_name(words: str) -> None:
    with pytest.raises(ConfigError) as error:
        TrainingOptions(**{"steps": 5, **REFUSED[words]})
    assert str(error.value).startswith(words)
