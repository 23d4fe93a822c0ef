"""What pictures of the panorama show is what its ground truth says."""

import colorsys
import itertools
from dataclasses import replace

import pytest
import torch

from training.panorama import palette, prompts, scenery
from training.panorama.canvas import Canvas
from training.panorama.journey import HEIGHT, PATTERNS, WIDTH, Journey, truth
from training.panorama.render import finish, paint_panorama, render
from training.panorama.subject import COLOUR_RGB

RED = prompts.Prompt(
    "red", "balloon", "circling left", "right", "steady", "coast", "forest", "as night falls"
)
HUES = [colorsys.rgb_to_hsv(*rgb)[0] for rgb in COLOUR_RGB.values()]


def hue_and_depth(pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Hue in [0, 1), and how deep the colour is: zero where it is pale or nearly black."""
    red, green, blue = (pictures[..., index, :, :].float() / 255.0 for index in range(3))
    most = torch.maximum(torch.maximum(red, green), blue)
    chroma = most - torch.minimum(torch.minimum(red, green), blue)
    part = chroma.clamp(min=1e-6)
    hue = torch.where(
        most == red,
        ((green - blue) / part) % 6.0,
        torch.where(most == green, (blue - red) / part + 2.0, (red - green) / part + 4.0),
    )
    saturation = chroma / most.clamp(min=1e-6)
    return hue / 6.0, torch.where((saturation > 0.6) & (chroma > 0.26), chroma, 0.0)


def away(hue: torch.Tensor, from_hue: float) -> torch.Tensor:
    return ((hue - from_hue + 0.5) % 1.0 - 0.5).abs()


def views(cameras: list[float], lights: list[float], salt: int = 5) -> torch.Tensor:
    """Pictures of the bare panorama."""
    count = len(cameras)
    canvas = Canvas.stretch(
        torch.tensor(cameras),
        torch.tensor(lights),
        torch.zeros(count),
        torch.zeros(count),
        torch.full((count,), salt),
    )
    paint_panorama(canvas)
    return finish(canvas)


def middles(region: int) -> float:
    return (region + 0.5) * prompts.REGION_LENGTH


def test_pictures_are_bytes_of_the_agreed_size() -> None:
    pictures = render([Journey.draw(RED, 1)], torch.tensor([[0.0, 3.5]]))
    assert pictures.dtype == torch.uint8
    assert pictures.shape == (1, 2, 3, HEIGHT, WIDTH) == (1, 2, 3, 112, 192)


def test_a_picture_does_not_depend_on_company() -> None:
    every = prompts.all_prompts()
    journeys = [Journey.draw(every[index], index) for index in range(3, len(every), 2900)]
    times = torch.arange(len(journeys) * 3, dtype=torch.float32).reshape(-1, 3) * 11.0
    state = torch.get_rng_state()
    together = render(journeys, times)
    assert torch.equal(torch.get_rng_state(), state)
    for index in range(0, len(journeys), 4):
        alone = render(journeys[index : index + 1], times[index : index + 1, 1:2])
        assert torch.equal(alone[0, 0], together[index, 1])


def test_seeds_differ_and_repeat() -> None:
    times = torch.tensor([[40.0]])
    first, again, other = (render([Journey.draw(RED, seed)], times) for seed in (4, 4, 9))
    assert torch.equal(first, again)
    assert (first != other).float().mean() > 0.3


@pytest.mark.parametrize("subject", prompts.SUBJECTS)
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("time", [5.0, 420.0], ids=["day", "night"])
def test_the_coloured_body_is_where_truth_says(subject: str, pattern: str, time: float) -> None:
    journeys = [
        replace(Journey.draw(replace(RED, colour=colour, subject=subject), 6), pattern=pattern)
        for colour in prompts.COLOURS
    ]
    times = torch.full((len(journeys), 1), time)
    told = truth(journeys, times)
    hue, deep = hue_and_depth(render(journeys, times)[:, 0])
    for index, colour in enumerate(prompts.COLOURS):
        # Sky is as blue as it likes but never as deep.
        found = (away(hue[index], HUES[index]) < 0.05) & (deep[index] > 0.0)
        found[80:] = False
        rows = torch.arange(HEIGHT)[:, None].expand(HEIGHT, WIDTH) + 0.5
        columns = torch.arange(WIDTH).expand(HEIGHT, WIDTH) + 0.5
        x, y = told.x[index, 0], told.y[index, 0]
        assert found.sum() > 60, colour
        assert abs(float(columns[found].mean() - x)) < 2.0, colour
        assert abs(float(rows[found].mean() - y)) < 2.0, colour


@pytest.mark.parametrize("light", prompts.LIGHTS)
def test_the_colour_is_named_right_from_the_picture(light: str) -> None:
    combinations = list(itertools.product(prompts.COLOURS, prompts.SUBJECTS, PATTERNS[:2]))
    journeys = [
        replace(Journey.draw(replace(RED, colour=c, subject=s, light=light), 2), pattern=p)
        for c, s, p in combinations
    ]
    times = torch.tensor([[190.0, 420.0]]).repeat(len(journeys), 1)
    told = truth(journeys, times)
    hue, deep = hue_and_depth(render(journeys, times))
    right = 0
    for clip, moment in itertools.product(range(len(journeys)), range(2)):
        x, y = int(told.x[clip, moment]), int(told.y[clip, moment])
        near = (slice(y - 9, y + 10), slice(x - 9, x + 10))
        hues = hue[clip, moment][near][deep[clip, moment][near] > 0.0]
        votes = torch.stack([away(hues, h) for h in HUES]).argmin(0)
        named = prompts.COLOURS[int(votes.bincount(minlength=6).argmax())]
        right += named == combinations[clip][0]
    assert right == len(journeys) * 2


def test_the_near_layer_moves_at_the_pace() -> None:
    # Two pictures at a steady pace are five whole pixels.
    prompt = replace(RED, origin="hills", destination="town", light="by day")
    pictures = render([Journey.draw(prompt, 3)], torch.tensor([[60.0, 62.0]]))[0].float()
    before, after = pictures[:, :, 100:]
    moved = (after[..., :-5] - before[..., 5:]).abs().mean()
    assert moved < 1.0
    assert (after - before).abs().mean() > 2.0 * moved


@pytest.mark.parametrize("heading", prompts.HEADINGS)
def test_the_camera_comes_to_rest_where_the_prompt_leads(heading: str) -> None:
    hops = {"left": "desert", "right": "forest"}
    prompt = replace(RED, heading=heading, destination=hops[heading], light="by day")
    pictures = render([Journey.draw(prompt, 8)], torch.tensor([[690.0, 705.0]]))[0]
    # The subject and the clouds fly on; the land lies still.
    assert torch.equal(pictures[0, :, 92:], pictures[1, :, 92:])
    last = pictures[1, :, 92:].float().mean((1, 2))
    references = views([middles(region) for region in range(6)], [0.0] * 6)
    colours = references[:, :, 92:].float().mean((2, 3))
    nearest = int((colours - last).square().sum(1).argmin())
    assert prompts.REGIONS[nearest] == prompt.destination


@pytest.mark.parametrize("region", range(6), ids=prompts.REGIONS)
def test_it_gets_darker_as_the_light_goes(region: int) -> None:
    lights = [index / 16 for index in range(17)]
    pictures = views([middles(region)] * 17, lights).float().mean((1, 2, 3))
    assert bool((pictures.diff() < 0.0).all())
    assert pictures[0] > 2.5 * pictures[-1]


def test_regions_add_up_and_change_smoothly() -> None:
    where = torch.arange(-3000.0, 3000.0)
    shares = torch.stack(palette.presence(where, 150.0))
    assert torch.allclose(shares.sum(0), torch.ones(6000), atol=1e-5)
    assert float(shares.diff(dim=1).abs().max()) < 0.02
    for region in range(6):
        assert float(shares[region][where == middles(region)]) == 1.0


def test_a_walk_round_the_ring_shows_nothing_twice() -> None:
    ring = 6 * prompts.REGION_LENGTH
    pictures = views([200.0, 200.0 + ring], [0.0, 0.0]).float()
    assert (pictures[0] - pictures[1])[:, 60:].abs().mean() > 3.0


def test_nothing_blinks() -> None:
    # One picture on, no pixel of the bare land changes by more than its edges can move.
    cameras = [900.0 + 2.5 * step for step in range(24)]
    pictures = views(cameras, [0.3] * 24).float()
    steps = pictures.diff(dim=0).abs().mean((1, 2, 3))
    assert steps.max() < 1.6 * steps.median()


def test_every_row_is_painted() -> None:
    cameras = [index * 97.0 for index in range(30)]
    count = len(cameras)
    canvas = Canvas.stretch(
        torch.tensor(cameras), *(torch.zeros(count) for _ in range(3)), torch.full((count,), 3)
    )
    canvas.image.fill_(float("nan"))
    paint_panorama(canvas)
    assert bool(canvas.image.isfinite().all())
    assert float(canvas.image.min()) >= 0.0
    assert scenery.SPANS["front"][1] == HEIGHT
