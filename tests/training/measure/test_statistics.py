"""Intervals cover what they should, and the Frechet distance is that of known Gaussians."""

from __future__ import annotations

import numpy as np
import pytest

from training.measure.evaluate import Measured
from training.measure.statistics import (
    Interval,
    averaged,
    frechet,
    frechet_interval,
    interval,
)
from training.measure.table import compare


def test_an_interval_covers_the_mean_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(200):
        draws = np.random.default_rng(seed).normal(3.0, 1.0, 48)
        found = interval({str(i): float(v) for i, v in enumerate(draws)})
        assert found is not None
        covered += found.low <= 3.0 <= found.high
    assert 0.88 < covered / 200 <= 0.99


def test_pairing_sees_what_separate_intervals_hide() -> None:
    rng = np.random.default_rng(0)
    base = {str(i): float(v) for i, v in enumerate(rng.normal(0.0, 1.0, 48))}
    better = {name: value + 0.1 + 0.02 * float(rng.normal()) for name, value in base.items()}
    rows = [
        Measured("row", list(values), [0] * 48, [{"x": value} for value in values.values()])
        for values in (better, base)
    ]
    one, other, apart = interval(better), interval(base), compare(rows[0], rows[1], "x")
    assert one is not None
    assert other is not None
    assert apart is not None
    assert one.overlaps(other)
    assert 0.08 < apart.low < apart.mean < apart.high < 0.12


def test_rows_are_paired_averaged_and_seed_whatever_their_order() -> None:
    one = Measured("one", ["a", "b", "c"], [1, 2, 3], [{"x": v} for v in (1.0, 2.0, 30.0)])
    other = Measured("other", ["c", "a", "b"], [3, 1, 2], [{"x": v} for v in (29.0, 0.0, 1.0)])
    assert compare(one, other, "x") == Interval(1.0, 1.0, 1.0)


def test_rows_of_several_trainings_are_pooled_before_they_are_paired() -> None:
    one = Measured("one", ["a", "a", "b"], [1, 1, 2], [{"x": v} for v in (1.0, 3.0, 4.0)])
    other = Measured("other", ["a", "b"], [1, 2], [{"x": v} for v in (1.0, 3.0)])
    assert compare(one, other, "x") == Interval(1.0, 1.0, 1.0)


def test_prompts_weigh_alike_and_what_is_missing_does_not_count() -> None:
    assert averaged([1.0, 3.0, float("nan"), 7.0], ["a", "a", "b", "c"]) == {"a": 2.0, "c": 7.0}
    assert interval({}) is None


def test_frechet_distance_of_known_gaussians() -> None:
    rng = np.random.default_rng(1)
    spread = np.array([1.0, 2.0, 0.5])
    one = rng.normal(size=(60_000, 3))
    other = rng.normal(size=(60_000, 3)) * spread + np.array([0.5, 0.0, -1.0])
    # Diagonal: the squares of the differences of means and of deviations.
    assert frechet(one, other) == pytest.approx(1.25 + 1.0 + 0.25, rel=0.03)
    assert frechet(one, one) == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(ValueError, match="expected 2 or more"):
        frechet(one[:1], other)


def test_the_interval_of_a_distance_stands_around_it() -> None:
    rng = np.random.default_rng(2)
    found = frechet_interval(rng.normal(size=(48, 6)), rng.normal(size=(48, 6)) + 0.7)
    assert found.low < found.mean < found.high
