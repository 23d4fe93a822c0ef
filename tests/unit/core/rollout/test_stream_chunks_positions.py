"""Counted positions: the frames of a stream keep their numbers, whatever its cache begins from."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from adastate_core.anchors.presets import preset_config
from adastate_core.config import StreamConfig
from adastate_core.files.state_file import load_state, save_state
from adastate_core.rollout.noise import BlockNoise
from adastate_core.stream.state import StreamState
from tests.support.reference_dit import plain_attention
from tests.support.reference_host import SIGMAS, Harness, text

CHUNKS, F = 9, 3
Edit = Callable[[StreamState, Harness], StreamState]


def clip(seed: int, frames: int) -> Tensor:
    return torch.randn((1, 4, frames, 2, 3), generator=torch.Generator().manual_seed(seed))


def rewound_and_recached(state: StreamState, harness: Harness) -> StreamState:
    return harness.step(state.recache(), 2, prompt=1).rewind(CHUNKS - 1).recache()


# What begins the cache again and leaves as many frames in it as there were.
EDITS: dict[str, Edit] = {
    "recache": lambda s, _: s.recache(),
    "recache twice": lambda s, _: s.recache().recache(),
    "rewind": rewound_and_recached,
    "blend": lambda s, harness: s.blend(harness.step(harness.fresh, 12, prompt=1), 0.5),
    "blend with a shorter one": lambda s, harness: s.blend(harness.step(harness.fresh, 8), 0.5),
    "anchor from a clip": lambda s, _: s.reset("anchor", clip(1, 18)),
    "window from a clip": lambda s, _: s.reset("window", clip(2, 18)),
    "anchor and window from clips": lambda s, _: s.reset("anchor", clip(1, 18)).reset(
        "window", clip(2, 18)
    ),
    "released hold": lambda s, _: s.hold_anchor(1).recache(),
}
# At which indices chunk k looks back, and where it stands, k chunks of 3 after the beginning.
PLACES: dict[str, Callable[[int], list[int]]] = {
    "self_forcing": lambda n: list(range(max(0, n - 18), n)),
    "longlive": lambda n: [0, 1, 2, *range(max(3, n - 6), n)],
    "rolling_sink": lambda n: list(range(max(0, n - 18), n)),
    "omniforcing": lambda n: list(range(max(0, n - 15), n)),
}


def expected(preset: str, frame: int) -> tuple[int, ...]:
    return (*PLACES[preset](frame), *range(frame, frame + F))


@pytest.mark.parametrize("preset", PLACES)
@pytest.mark.parametrize("can_shift", [True, False])
@pytest.mark.parametrize("edit", EDITS)
def test_the_next_chunks_stand_where_they_would_have(
    preset: str, can_shift: bool, edit: str
) -> None:
    harness = Harness(preset_config(preset), can_shift=can_shift)
    state = EDITS[edit](harness.step(harness.fresh, CHUNKS), harness)
    harness.host.times.clear()
    after = harness.step(state, 3)
    wanted = [expected(preset, F * k) for k in range(CHUNKS, CHUNKS + 3)]
    assert harness.host.times == wanted
    assert [chunk.frame for chunk in after.chunks[-3:]] == [27, 30, 33]
    cold = Harness(harness.config, can_shift=can_shift)
    assert torch.equal(cold.step(state, 3).content(), after.content())
    assert cold.host.times == wanted


def test_the_walk_of_the_rolling_anchor_goes_on() -> None:
    """The first chunk after a recache sees the same frames of the bank at the same places."""
    from adastate_core.anchors import policy_for
    from adastate_core.layout import CachedFrames

    config = preset_config("rolling_sink")
    harness = Harness(config)
    state = harness.step(harness.fresh, CHUNKS)
    walk = policy_for(config).layout(config, CachedFrames((0,) * 18, (0,) * 3, F * CHUNKS))
    # 9 .. 17 forwards, 17 .. 15 and 14 .. 12 back: then the window, frames 24 to 26.
    assert walk.picked == (*range(9, 18), *range(17, 11, -1))
    assert walk.window == (24, 25, 26)
    ordinary, recached = harness.step(state), harness.step(state.recache())
    assert harness.host.times[-1] == harness.host.times[-2]
    # Read again under the same prompt, what is seen is nearly the same.
    distance = (ordinary.newest_content() - recached.newest_content()).norm()
    assert distance < 0.2 * ordinary.newest_content().norm()


@pytest.mark.parametrize("preset", PLACES)
def test_what_a_bounded_history_has_left_keeps_its_numbers(preset: str, tmp_path: Path) -> None:
    harness = Harness(preset_config(preset))
    bounded = StreamState(harness.fresh.latent_shape, history_chunks=8)
    state = harness.step(bounded, CHUNKS + 3)
    save_state(state, tmp_path / "bounded")
    cold = Harness(harness.config)
    after = cold.step(load_state(tmp_path / "bounded"))
    assert cold.host.times == [expected(preset, 36)]
    assert after.last_chunk.approximate
    again = Harness(harness.config)
    again.step(after.recache())
    assert again.host.times == [expected(preset, 39)]


@pytest.mark.parametrize("preset", PLACES)
@pytest.mark.parametrize("begin", ["start", "all"])
def test_a_clip_is_numbered_from_its_first_frame(preset: str, begin: str) -> None:
    harness = Harness(preset_config(preset))
    for frames in (1, 2, 9, 20, 40):
        latents = clip(0, frames)
        state = harness.fresh
        if begin == "start":
            state = state.start_with(latents)
        else:
            state = harness.step(state, 2).reset("all", latents)
        harness.host.times.clear()
        state = harness.step(state)
        assert harness.host.times[0][-F:] == tuple(range(frames, frames + F))
        if frames > 20:  # else the cache holds what there is
            assert harness.host.times[0] == expected(preset, frames)
        harness.step(state.recache())
        assert harness.host.times[1][-F:] == tuple(range(frames + F, frames + 2 * F))


def test_an_anchor_of_the_first_frames_holds_those_of_a_long_clip() -> None:
    latents = clip(0, 40)
    for preset, size in (("longlive", 3), ("rolling_sink", 18)):
        harness = Harness(preset_config(preset))
        context = harness.step(harness.fresh.start_with(latents)).context
        assert torch.equal(context.anchor, latents[:, :, :size])
    harness = Harness(preset_config("longlive_relative"))  # whose anchor has no number
    context = harness.step(harness.fresh.start_with(latents)).context
    assert torch.equal(context.anchor, latents[:, :, 31:34])


@pytest.mark.parametrize("preset", PLACES)
def test_more_given_frames_than_the_stream_has_had_do_not_fall_behind_its_beginning(
    preset: str,
) -> None:
    other = Harness(preset_config(preset)).step(Harness().fresh, 9)
    for given in (
        lambda s: s.reset("window", clip(2, 9)),
        lambda s: s.reset("anchor", clip(2, 3)),
        lambda s: s.blend(other, 0.5) if s.chunks else s.start_with(clip(2, 5)),
    ):
        for chunks in (0, 1):
            harness = Harness(preset_config(preset))
            state = harness.step(harness.fresh, chunks) if chunks else harness.fresh
            harness.host.times.clear()
            state = harness.step(given(state), 2)
            for times in harness.host.times:
                assert min(times) >= 0
                assert len(set(times)) == len(times)
            first, second = harness.host.times
            assert second[-F:] == tuple(index + F for index in first[-F:])
            if chunks:  # else the anchor of the stream was not known when it was given
                harness.step(state.recache())
                third = harness.host.times[-1]
                assert third[-F:] == tuple(index + F for index in second[-F:])


def test_a_change_of_anchor_on_the_way_counts_the_stream() -> None:
    harness = Harness()
    state = harness.step(harness.fresh, 4).recache()
    harness.host.times.clear()
    harness.step(state, config=preset_config("self_forcing"))
    assert harness.host.times == [(9, 10, 11, 12, 13, 14)]


def test_relative_positions_are_those_of_every_chunk() -> None:
    harness = Harness(StreamConfig())
    state = harness.step(harness.fresh, CHUNKS)
    harness.step(state.recache())
    assert harness.host.times[-1] == harness.host.times[-2]


def test_longlive_after_a_recache_written_out() -> None:
    """Sink, then the window in blocks of a chunk, at their own numbers, under the new prompt."""
    harness = Harness(preset_config("longlive"))
    made = harness.step(harness.fresh, CHUNKS, seed=7)
    chunk = harness.step(made.recache(), seed=7, prompt=1).newest_content()
    assert chunk is not None
    content = made.content()
    assert content is not None
    model, condition = harness.model, text(1).unpack()
    past: list[list[tuple[Tensor, Tensor, list[int]]]] = [[] for _ in model.blocks]

    def forward(x: Tensor, sigma: float, times: list[int], *, keep: bool = False) -> Tensor:
        tokens, time = model.embed(x, sigma)
        written = []
        for layer, block in enumerate(model.blocks):
            q, k, v = (model.split(y) for y in block.qkv(tokens, time))
            written.append((k, v, times))
            seen = [*past[layer], written[-1]]
            keys = torch.cat([model.rotate(key, at, 2, 3) for key, _, at in seen], dim=1)
            values = torch.cat([value for _, value, _ in seen], dim=1)
            out = plain_attention(model.rotate(q, times, 2, 3), keys, values)
            tokens = block.finish(tokens, out.flatten(2), condition, time)
        if keep:
            for layer, new in enumerate(written):
                past[layer].append(new)
        return model.project(tokens, x.shape)

    for first in (0, 21, 24):
        forward(content[:, :, first : first + 3], 0.0, [first, first + 1, first + 2], keep=True)
    noise = BlockNoise(7, CHUNKS, (1, 4, F, 2, 3), 0)
    x = noise.initial().video
    for sigma, following in pairwise(SIGMAS):
        x = x - sigma * forward(x, sigma, [27, 28, 29])
        if following:
            x = (1 - following) * x + following * noise.renoise(x).video
    torch.testing.assert_close(chunk, x, atol=1e-5, rtol=0)
