"""The ground truth of a clip keeps what its prompt promises."""

from dataclasses import replace

import pytest
import torch

from training.panorama import prompts
from training.panorama.journey import (
    ACCENTS,
    CENTRE,
    PATTERNS,
    REACH,
    SPEEDS,
    Journey,
    truth,
)

RED = prompts.Prompt(
    "red", "balloon", "circling left", "right", "steady", "coast", "forest", "as night falls"
)


def clock(count: int, frames: int) -> torch.Tensor:
    return torch.arange(frames, dtype=torch.float32).repeat(count, 1)


def test_every_way_ends_at_rest_in_the_destination_within_60_chunks() -> None:
    ways = {(p.heading, p.pace, p.origin, p.destination): p for p in prompts.all_prompts()}
    journeys = [Journey.draw(prompt, 3) for prompt in ways.values()]
    told = truth(journeys, clock(len(journeys), 60 * 12 - 3))
    for index, journey in enumerate(journeys):
        rest = journey.departure + float(told.place[index, -1])
        region = prompts.REGIONS[int(rest // prompts.REGION_LENGTH) % len(prompts.REGIONS)]
        assert region == journey.prompt.destination
        assert abs(float(told.place[index, -1])) == journey.prompt.distance
        assert float(told.speed[index, -1]) == 0.0
        assert float(told.share[index, -1]) == 1.0


def test_the_camera_keeps_its_pace_until_it_slows() -> None:
    told = truth([Journey.draw(RED, 0)], clock(1, 500))
    assert torch.allclose(told.place.diff()[0, :300], torch.full((300,), SPEEDS["steady"]))
    # Speed is the slope of the place, also while the camera slows down.
    middle = (told.speed[:, 1:] + told.speed[:, :-1]) / 2.0
    assert float((told.place.diff() - middle).abs().max()) < 2e-2
    assert bool((told.speed.diff() <= 0.0).all())


@pytest.mark.parametrize(
    ("light", "first", "last"),
    [("by day", 0.0, 0.0), ("as night falls", 0.0, 1.0), ("as day breaks", 1.0, 0.0)],
)
def test_light_follows_the_share_of_the_way(light: str, first: float, last: float) -> None:
    told = truth([Journey.draw(replace(RED, light=light), 5)], clock(1, 500))
    assert float(told.light[0, 0]) == first
    assert float(told.light[0, -1]) == last
    assert bool((told.light.diff() * (last - first) >= 0.0).all())
    assert float(told.light.diff().abs().max()) < 0.01


@pytest.mark.parametrize(
    ("action", "turn"), [("circling left", -1.0), ("circling right", 1.0), ("swaying", 0.0)]
)
def test_a_subject_does_as_told(action: str, turn: float) -> None:
    told = truth([Journey.draw(replace(RED, action=action), 8)], clock(1, 200))
    x, y = told.x[0] - told.x[0].mean(), told.y[0] - told.y[0].mean()
    # With y pointing down, a positive cross product turns clockwise on the screen.
    cross = x[:-1] * y[1:] - y[:-1] * x[1:]
    assert torch.equal((cross.median() / 10.0).round().sign(), torch.tensor(turn))
    assert float(told.x.max() - told.x.min()) > 70.0


def test_bobbing_stays_on_its_line() -> None:
    told = truth([Journey.draw(replace(RED, action="bobbing"), 8)], clock(1, 200))
    assert float(told.x.max() - told.x.min()) == 0.0
    assert float(told.y.max() - told.y.min()) > 28.0


@pytest.mark.parametrize(
    ("action", "across"),
    [("swaying", 0.0), ("bobbing", 0.0), ("circling left", 1.0), ("circling right", 1.0)],
)
def test_an_act_begins_where_its_prompt_says(action: str, across: float) -> None:
    journeys = [Journey.draw(replace(RED, action=action), seed) for seed in range(200)]
    start = truth(journeys, torch.zeros(200, 1))
    # Within the width of the subject, so that no picture between two of them shows two.
    assert float((start.x - CENTRE[0] - across * REACH[0]).abs().max()) < 20.0
    assert float((start.y - CENTRE[1]).abs().max()) < 10.0
    assert float(start.x.std()) > 2.0 or float(start.y.std()) > 2.0


@pytest.mark.parametrize("action", prompts.ACTIONS)
def test_an_act_moves_less_than_two_latent_cells_in_a_latent_frame(action: str) -> None:
    journeys = [Journey.draw(replace(RED, action=action), seed) for seed in range(50)]
    told = truth(journeys, clock(50, 200))
    frames = torch.stack([told.x, told.y])[:, :, ::4]
    assert float(frames.diff(dim=2).norm(dim=0).max()) < 16.0


def test_looks_are_drawn_evenly_and_for_good() -> None:
    journeys = [Journey.draw(RED, seed) for seed in range(400)]
    assert journeys[7] == Journey.draw(RED, 7)
    for values, names in (
        ([j.pattern for j in journeys], PATTERNS),
        ([j.accent for j in journeys], ACCENTS),
    ):
        for name in names:
            assert abs(values.count(name) / 400 - 1 / len(names)) < 0.08


def test_truth_does_not_depend_on_company() -> None:
    journeys = [Journey.draw(prompt, 2) for prompt in prompts.all_prompts()[::4001]]
    times = torch.rand(len(journeys), 7, generator=torch.Generator().manual_seed(1)) * 600.0
    together = truth(journeys, times)
    alone = truth(journeys[1:2], times[1:2])
    for name in ("place", "speed", "share", "light", "x", "y", "pattern", "accent"):
        assert torch.equal(getattr(together, name)[1:2], getattr(alone, name))
