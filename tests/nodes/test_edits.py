"""Blend, rewind and transitions between steps, through the nodes on ComfyUI's real Wan class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.studio import NodeStudio
from tests.support.tiny_models import WAN, WAN_LARGER


@pytest.fixture(scope="module")
def studio(node_classes: dict[str, Any], tiny_models: Path) -> NodeStudio:
    return NodeStudio(node_classes, WAN)


def cold(studio: NodeStudio) -> Any:
    return studio.run("AdaStateApply", studio.bare, "adaptive", 3, 3, 1, 3)[0]


def test_two_streams_are_blended(studio: NodeStudio) -> None:
    a, _ = studio.step(studio.fresh(), 2, prompt=0)
    b, _ = studio.step(studio.fresh(), 3, prompt=1)
    (mixed,) = studio.run("AdaStateBlend", a, b, 0.5)
    after, latent = studio.step(mixed, 1)
    assert after.chunk_index == 3
    assert latent["samples"].shape[2] == 3
    for alone in (a, b):
        assert not torch.equal(studio.step(alone, 1)[0].newest_content(), after.newest_content())
    assert torch.equal(studio.step(mixed, model=cold(studio))[0].content(), after.content())


def test_a_stream_of_another_model_is_not_blended(
    studio: NodeStudio, node_classes: dict[str, Any]
) -> None:
    a, _ = studio.step(studio.fresh(), 1)
    other = NodeStudio(node_classes, WAN_LARGER)
    b, _ = other.step(other.fresh(), 1)
    with pytest.raises(ValueError, match=r"the other stream: got wan2.1 .*expected wan2.1"):
        studio.run("AdaStateBlend", a, b, 0.5)


def test_rewinding_takes_chunks_back(studio: NodeStudio) -> None:
    state, _ = studio.step(studio.fresh(), 4)
    (back,) = studio.run("AdaStateRewind", state, -2)
    assert back.chunk_index == 3
    again, _ = studio.step(back, 1)
    assert torch.equal(again.content(), state.content())
    with pytest.raises(ValueError, match=r"chunk: got 7, expected a chunk whose latents are kept"):
        studio.run("AdaStateRewind", state, 7)


@pytest.mark.parametrize("transition", ["recache", "flush"])
def test_a_transition_changes_what_the_new_prompt_meets(
    studio: NodeStudio, transition: str
) -> None:
    state, _ = studio.step(studio.fresh(), 2, prompt=0)
    (ready,) = studio.run("AdaStateTransition", state, transition, 1)
    after, _ = studio.step(ready, 2, prompt=1)
    swapped, _ = studio.step(state, 2, prompt=1)
    assert not torch.equal(after.content(), swapped.content())
    rebuilt, _ = studio.step(ready, 2, prompt=1, model=cold(studio))
    assert torch.equal(rebuilt.content(), after.content())


def test_reading_from_a_chunk_on(studio: NodeStudio) -> None:
    state, _ = studio.step(studio.fresh(), 3)
    whole, tail = (studio.run("AdaStateRead", state, first)[2]["samples"] for first in (0, 1))
    assert torch.equal(whole[:, :, 3:], tail)


def test_late_chunks_of_a_timeline_share_steps(pack: Any, core: Any) -> None:
    """A thousand chunks are some 240 steps, and none of them moves with an edit after it."""
    import importlib

    timeline = importlib.import_module(f"{pack.__name__}.nodes.timeline")
    texts = importlib.import_module(f"{core.__name__}.stream.timeline")
    pace = texts.Pace(3, 4, 16.0)

    def steps(text: str, chunks: int = 1000) -> list[list[int]]:
        plan = texts.plan_prompts(texts.parse_timeline(text), pace, 0, chunks)
        return [[prompt.chunk for prompt in step] for step in timeline.joined(plan)]

    whole = steps("0: a")
    assert [chunk for step in whole for chunk in step] == list(range(1000))
    assert whole[:128] == [[chunk] for chunk in range(128)]
    assert {len(step) for step in whole[128:]} == {8}
    edited = steps("0: a\n300: b\n401 blend 3: c\n500 recache: d")
    shared = next(i for i, (a, b) in enumerate(zip(whole, edited, strict=False)) if a != b)
    assert whole[shared][0] <= 300 < whole[shared][0] + 8
    assert [300, 301, 302, 303] in edited
    assert [401] in edited
    assert [402] in edited  # the third part of the blend is the whole prompt
    assert [500, 501, 502, 503] in edited
    assert steps("0: a", 200) == whole[: 128 + 9]
