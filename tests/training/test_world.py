"""The world moves as its prompts say, for ever, and the metrics read it without error."""

from __future__ import annotations

import numpy as np
import pytest

from training.metrics import Drift, colour_right, direction_right, pan_right
from training.prompts import Prompt, all_prompts, parse_prompt, split
from training.world import HEIGHT, SHAPE_SPEED, WIDTH, Scene, render


def test_split_is_disjoint_and_complete() -> None:
    seen, unseen = set(split(unseen=False)), set(split(unseen=True))
    assert not seen & unseen
    assert seen | unseen == set(all_prompts())
    assert 0.03 < len(unseen) / len(all_prompts()) < 0.1


def test_every_word_is_seen_in_training() -> None:
    words = {word for prompt in all_prompts() for word in prompt.text.split()}
    assert words == {word for prompt in split(unseen=False) for word in prompt.text.split()}


def test_text_round_trips() -> None:
    for prompt in all_prompts()[::97]:
        assert parse_prompt(prompt.text) == prompt
    with pytest.raises(ValueError, match="grammar"):
        parse_prompt("a poem about circles, hills")
    with pytest.raises(ValueError, match="colour is 'mauve'"):
        Prompt("mauve", "circle", "left", "still", "blue", "hills")


def test_frames_depend_on_time_alone() -> None:
    prompt = all_prompts()[5]
    whole = render(prompt, seed=3, frames=12)
    np.testing.assert_array_equal(whole[8:], render(prompt, seed=3, frames=4, start=8))
    assert whole.min() >= 0.0
    assert whole.max() <= 1.0


@pytest.mark.parametrize("direction", ["left", "right", "up", "down"])
def test_shape_wraps_around(direction: str) -> None:
    prompt = Prompt("red", "circle", direction, "still", "blue", "hills")
    size = WIDTH if direction in ("left", "right") else HEIGHT
    period = int(size / SHAPE_SPEED)
    first, later = render(prompt, 1, 1), render(prompt, 1, 1, start=period)
    np.testing.assert_allclose(first, later, atol=1e-4)
    x, y = Scene.draw(prompt, 1).position(np.arange(200, dtype=np.float32))
    for place, size in ((x, WIDTH), (y, HEIGHT)):
        assert place.min() >= 0.0
        assert place.max() < size


def test_scenery_never_repeats() -> None:
    prompt = Prompt("red", "circle", "up", "right", "blue", "hills")
    frames = [render(prompt, 2, 1, start=64 * i)[0, 40:] for i in range(12)]
    for i, one in enumerate(frames):
        for other in frames[:i]:
            assert np.abs(one - other).mean() > 1e-3


@pytest.mark.parametrize("seed", range(6))
def test_metrics_agree_with_the_world(seed: int) -> None:
    prompt = split(unseen=True)[seed * 23]
    frames = render(prompt, seed, 33)
    assert colour_right(frames, prompt)
    assert direction_right(frames, prompt)
    assert pan_right(frames, prompt)


def test_metrics_see_what_is_wrong() -> None:
    prompt = Prompt("red", "circle", "left", "right", "green", "hills")
    frames = render(prompt, 4, 33)
    assert not direction_right(frames[::-1], prompt)
    assert not pan_right(frames[::-1], prompt)
    assert not colour_right(frames, Prompt("pink", "circle", "left", "right", "green", "hills"))
    faded = np.concatenate([frames[:16], frames[16:] * 0.4])
    assert not Drift.of(faded, chunk_frames=4, chunks=2).within_limits
    assert Drift.of(frames, chunk_frames=4, chunks=2).within_limits
