"""Figures of readings that are true: the world scores ideal, and each control where it should."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from training.measure import figures
from training.measure.evaluate import fixed_pairs
from training.measure.figures import FIGURES, figures_of
from training.measure.moments import Array, Asked, asked, stream_times
from training.measure.reader import Reading, angle_of
from training.panorama.journey import Journey
from training.panorama.prompts import ACTIONS, COLOURS, SUBJECTS, Prompt

CHUNKS = 60
Pair = tuple[Prompt, int]


def told(pairs: list[Pair], chunks: int = CHUNKS) -> list[Asked]:
    return asked([Journey.draw(*pair) for pair in pairs], stream_times(len(pairs), chunks))


def one_hot(index: int, size: int, chunks: int) -> Array:
    scores = np.full((chunks, size), -9.0)
    scores[:, index] = -0.01
    return scores


def true_reading(prompt: Prompt, truth: Asked, seed: int = 0, noise: float = 0.0) -> Reading:
    """What a reader gives that errs by ``noise`` in the place and not at all elsewhere."""
    rng = np.random.default_rng(seed)
    chunks = len(truth.place)
    place = angle_of(torch.from_numpy(truth.place)).double().numpy()
    facts = [truth.place / 480.0, truth.light * 4.0, truth.path[:, 1, 0] / 20.0]
    return Reading(
        place=place + noise * rng.normal(size=place.shape),
        speed=truth.speed,
        light=truth.light,
        colour=one_hot(COLOURS.index(prompt.colour), len(COLOURS), chunks),
        subject=one_hot(SUBJECTS.index(prompt.subject), len(SUBJECTS), chunks),
        present=np.ones(chunks),
        path=truth.path,
        features=np.stack(facts, 1),
    )


def picked(read: Reading, order: list[int]) -> Reading:
    return Reading(*(getattr(read, name)[order] for name in Reading.__dataclass_fields__))


def latents(chunks: int = CHUNKS, seed: int = 0) -> torch.Tensor:
    """A smooth walk: what follows another frame is near it."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(16, 3 * chunks, 2, 3, generator=generator).cumsum(1)


def mean(rows: list[dict[str, float]], name: str) -> float:
    return float(np.mean([row[name] for row in rows]))


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return fixed_pairs(40)


def test_the_world_scores_ideal(pairs: list[Pair]) -> None:
    rows = [
        figures_of(pair[0], truth, true_reading(pair[0], truth, i, 0.08), latents(seed=i))
        for i, (pair, truth) in enumerate(zip(pairs, told(pairs), strict=True))
    ]
    assert set(rows[0]) == set(FIGURES)
    for name in ("destination", "direction", "pace", "light", "colour", "subject", "identity"):
        assert mean(rows, name) > 0.97, name
    assert mean(rows, "action") > 0.9
    for name in ("progress", "progress_end", "seams"):
        assert mean(rows, name) == pytest.approx(1.0, abs=0.05), name
    assert mean(rows, "off_way") < 0.05


def test_one_chunk_for_ever_goes_nowhere(pairs: list[Pair]) -> None:
    rows = []
    for pair, truth in zip(pairs, told(pairs), strict=True):
        read = picked(true_reading(pair[0], truth), [1] * CHUNKS)
        rows.append(figures_of(pair[0], truth, read, latents()))
    assert mean(rows, "progress") == mean(rows, "progress_end") == mean(rows, "change") == 0.0
    assert mean(rows, "direction") == mean(rows, "destination") == 0.0
    assert mean(rows, "identity") == mean(rows, "colour") == 1.0


def test_another_prompt_s_world_is_told_from_one_s_own(pairs: list[Pair]) -> None:
    truths = told(pairs)
    rows = []
    for i, (prompt, _) in enumerate(pairs):
        other, truth = pairs[i - 1][0], truths[i - 1]
        rows.append(figures_of(prompt, truths[i], true_reading(other, truth), latents()))
    for name, chance in (("colour", 6), ("subject", 4), ("action", 4), ("destination", 6)):
        assert mean(rows, name) < 1.0 / chance + 0.2, name
    assert mean(rows, "identity") == 1.0
    assert mean(rows, "off_way") > 0.5


def test_shuffled_chunks_jump_and_lose_their_way(pairs: list[Pair]) -> None:
    jumps, ways = [], []
    for i, (pair, truth) in enumerate(zip(pairs, told(pairs), strict=True)):
        order = np.random.default_rng(i).permutation(CHUNKS).tolist()
        clip = latents(seed=i).unflatten(1, (-1, 3))[:, order].flatten(1, 2)
        row = figures_of(pair[0], truth, picked(true_reading(pair[0], truth), order), clip)
        jumps.append(row["seams"])
        ways.append(row["off_way"])
    assert min(jumps) > 3.0
    assert float(np.mean(ways)) > 0.2


def test_half_the_pace_is_half_the_progress(pairs: list[Pair]) -> None:
    pair = pairs[0]
    journey = Journey.draw(*pair)
    (truth,) = told([pair])
    (slow,) = asked([journey], stream_times(1, CHUNKS) / 2.0)
    row = figures_of(pair[0], truth, true_reading(pair[0], slow), latents())
    (_, wanted) = (slow.travel, truth.travel)
    far = np.abs(wanted) >= figures.FAR_ENOUGH
    assert row["progress"] == pytest.approx(
        float((slow.travel[far] / wanted[far]).mean()), abs=0.03
    )
    assert row["progress"] < 0.9


def test_a_way_back_is_negative_progress(pairs: list[Pair]) -> None:
    (truth,) = told(pairs[:1])
    read = true_reading(pairs[0][0], truth)
    back = truth.place[0] - (truth.place - truth.place[0])
    mirrored = angle_of(torch.from_numpy(back)).double().numpy()
    fields = {name: getattr(read, name) for name in Reading.__dataclass_fields__}
    row = figures_of(pairs[0][0], truth, Reading(**fields | {"place": mirrored}), latents())
    assert row["progress"] == pytest.approx(-1.0, abs=0.02)
    assert row["direction"] == 0.0


def test_the_way_is_followed_round_the_ring() -> None:
    place = torch.arange(0.0, 2.4 * 2880.0, 50.0)
    way = figures.travelled(angle_of(place).double().numpy())
    assert way[-1] == pytest.approx(float(place[-1]), rel=0.02)


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_is_read_from_its_path(action: str) -> None:
    found = []
    for colour, seed in itertools.product(COLOURS, range(3)):
        prompt = Prompt(colour, "kite", action, "right", "slow", "coast", "hills", "by day")
        (truth,) = told([(prompt, seed)], 12)
        found += [
            figures.action_of(truth.path[k : k + figures.ACTS].reshape(-1, 2)) for k in range(8)
        ]
    assert found.count(action) / len(found) > 0.95


def test_what_rests_acts_not_at_all() -> None:
    assert figures.action_of(np.random.default_rng(0).normal(size=(12, 2))) is None


@pytest.mark.parametrize(
    ("speed", "word"),
    [(0.0, None), (0.7, None), (1.4, "slow"), (2.6, "steady"), (3.9, "quick"), (7.0, None)],
)
def test_paces_have_names(speed: float, word: str | None) -> None:
    assert figures.pace_of(speed) == word
