"""Blend, rewind and transitions between steps, through the nodes on ComfyUI's real Wan class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.harness import NodeHarness
from tests.support.tiny_models import WAN, WAN_LARGER


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Path) -> NodeHarness:
    return NodeHarness(node_classes, WAN)


def cold(harness: NodeHarness) -> Any:
    return harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3)[0]


def test_two_streams_are_blended(harness: NodeHarness) -> None:
    a, _ = harness.step(harness.fresh(), 2, prompt=0)
    b, _ = harness.step(harness.fresh(), 3, prompt=1)
    (mixed,) = harness.run("AdaStateBlend", a, b, 0.5)
    after, latent = harness.step(mixed, 1)
    assert after.chunk_index == 3
    assert latent["samples"].shape[2] == 3
    for alone in (a, b):
        assert not torch.equal(harness.step(alone, 1)[0].newest_content(), after.newest_content())
    assert torch.equal(harness.step(mixed, model=cold(harness))[0].content(), after.content())


def test_a_stream_of_another_model_is_not_blended(
    harness: NodeHarness, node_classes: dict[str, Any]
) -> None:
    a, _ = harness.step(harness.fresh(), 1)
    other = NodeHarness(node_classes, WAN_LARGER)
    b, _ = other.step(other.fresh(), 1)
    with pytest.raises(
        ValueError, match=r"^These two streams cannot be blended: one is wan2.1 .*the other wan2.1"
    ):
        harness.run("AdaStateBlend", a, b, 0.5)


def test_rewinding_takes_chunks_back(harness: NodeHarness) -> None:
    state, _ = harness.step(harness.fresh(), 4)
    (back,) = harness.run("AdaStateRewind", state, -2)
    assert back.chunk_index == 3
    again, _ = harness.step(back, 1)
    assert torch.equal(again.content(), state.content())
    with pytest.raises(ValueError, match=r"^Chunk 7 is not kept in this stream"):
        harness.run("AdaStateRewind", state, 7)


@pytest.mark.parametrize("transition", ["recache", "flush"])
def test_a_transition_changes_what_the_new_prompt_meets(
    harness: NodeHarness, transition: str
) -> None:
    state, _ = harness.step(harness.fresh(), 2, prompt=0)
    (ready,) = harness.run("AdaStateTransition", state, transition, 1)
    after, _ = harness.step(ready, 2, prompt=1)
    swapped, _ = harness.step(state, 2, prompt=1)
    assert not torch.equal(after.content(), swapped.content())
    rebuilt, _ = harness.step(ready, 2, prompt=1, model=cold(harness))
    assert torch.equal(rebuilt.content(), after.content())


def test_reading_from_a_chunk_on(harness: NodeHarness) -> None:
    state, _ = harness.step(harness.fresh(), 3)
    whole, tail = (harness.run("AdaStateRead", state, first)[2]["samples"] for first in (0, 1))
    assert torch.equal(whole[:, :, 3:], tail)


def test_late_chunks_of_a_timeline_share_steps(pack: Any, core: Any) -> None:
    """A thousand chunks are some 240 steps, and none of them moves with an edit after it."""
    import importlib

    timeline = importlib.import_module(f"{pack.__name__}.adastate_comfy.timeline_graph")
    texts = importlib.import_module(f"{core.__name__}.stream.timeline")
    pace = texts.Pace(3, 4, 16.0)

    def steps(text: str, chunks: int = 1000) -> list[list[int]]:
        plan = texts.plan_prompts(texts.parse_timeline(text), pace, 0, chunks)
        return [[prompt.chunk for prompt in step] for step in timeline.group_steps(plan)]

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
