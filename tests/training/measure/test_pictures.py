"""Flow and looks measure what was done to pictures."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from training.measure.controls import Drifting
from training.measure.flow import mean_flow, optical_flow
from training.measure.looks import LOOKS, Look, drift_of
from training.panorama.journey import Journey
from training.panorama.prompts import split
from training.panorama.render import render


def texture(height: int, width: int) -> torch.Tensor:
    noise = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    return F.avg_pool2d(F.avg_pool2d(noise, 7, 1, 3), 5, 1, 2).sub(0.5).mul(4.0).add(0.5)


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (1, 0), (-3, 0), (2, 2), (4, -1)])
def test_flow_is_the_shift_of_a_picture(dx: int, dy: int) -> None:
    wide = texture(132, 212)
    before, after = wide[..., 10:122, 10:202], wide[..., 10 - dy : 122 - dy, 10 - dx : 202 - dx]
    inner = optical_flow(before, after)[0, :, 16:-16, 16:-16]
    assert float(inner[0].median()) == pytest.approx(dx, abs=0.1)
    assert float(inner[1].median()) == pytest.approx(dy, abs=0.1)


def test_nothing_moves_where_there_is_nothing_to_see() -> None:
    assert mean_flow(torch.full((3, 3, 112, 192), 0.4)) == 0.0


def test_a_quicker_camera_has_more_flow() -> None:
    prompts = {p.pace: p for p in split(unseen=True) if p.action == "bobbing" and p.hops == 2}
    times = torch.arange(40.0, 44.0)[None]
    flows = {
        pace: mean_flow(render([Journey.draw(prompt, 1)], times)[0].float() / 255.0)
        for pace, prompt in prompts.items()
    }
    assert flows["slow"] < flows["steady"] < flows["quick"]
    still = render([Journey.draw(prompts["slow"], 1)], torch.full((1, 3), 40.0))[0] / 255.0
    assert mean_flow(still) < 0.01 * flows["slow"]


def look_of(times: list[float], faded: bool) -> list[Look]:
    prompt = next(p for p in split(unseen=True) if p.light == "by day" and p.hops == 1)
    clock = torch.tensor([times])
    pictures = render([Journey.draw(prompt, 1)], clock)
    if faded:
        pictures = Drifting(720)(pictures, clock)
    return [Look.of(one[None].float() / 255.0) for one in pictures[0]]


def test_drifting_colours_are_drift_and_the_world_is_none() -> None:
    times = [0.0, 400.0, 718.0]
    world = look_of(times, faded=False)
    still = drift_of(world, world)
    assert all(still[name] == 1.0 for name in LOOKS)
    assert still["drift"] == 0.0
    faded = drift_of(look_of(times, faded=True), world)
    assert faded["saturation"] > 1.3
    assert 1.05 < faded["luminance"] < 1.2
    assert faded["drift"] > 0.1
