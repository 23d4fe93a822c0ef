"""Render Stream to Video along a timeline: the chunks of Stream Timeline, one file, few memory."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.nodes.test_render import counting
from tests.support.harness import SMALL, NodeHarness, conditioning
from tests.support.rendered import receipts
from tests.support.tiny_models import WAN

TIMELINE = (
    "0: red circle moving left\n1 blend 3: blue square moving right\n"
    "4 recache: red square moving up\n5 flush 1: green circle moving left"
)


class Clip:
    """A text encoder of one vector for each text, which counts what it encodes."""

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def tokenize(self, text: str) -> str:
        return text

    def encode_from_tokens_scheduled(self, text: str) -> list[Any]:
        self.encoded.append(text)
        return conditioning(len(text))


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN, SMALL)


def content(harness: NodeHarness, state: Any) -> Tensor:
    return harness.run("AdaStateRead", state)[2]["samples"]


def by_steps(harness: NodeHarness, pack: Any, clip: Clip, timeline: str, chunks: int) -> Any:
    """Run the nodes that Stream Timeline expands into, one after another."""
    import comfy.samplers

    import nodes

    graph = importlib.import_module(f"{pack.__name__}.adastate_comfy.timeline_graph")
    texts = importlib.import_module(f"{pack.__name__}.adastate_core.stream.timeline")
    pace = importlib.import_module(f"{pack.__name__}.adastate_core.stream.pace").Pace(3, 4, 16.0)
    plan = texts.plan_prompts(texts.parse_timeline(timeline), pace, 0, chunks)
    wired = {
        "model": harness.model,
        "state": harness.fresh(),
        "clip": clip,
        "cfg": 1.0,
        "sampler": comfy.samplers.sampler_object("lcm"),
        "sigmas": torch.tensor((1.0, 0.6, 0.0)),
        "seed": 0,
    }
    made = graph.TimelineGraph(
        {**wired, "state": ["start", 0], "clip": ["clip", 0]},
        ("model", "cfg", "sampler", "sigmas", "seed"),
    )
    made.add_steps(plan)
    results: dict[str, Any] = {"start": (wired["state"],), "clip": (clip,)}
    pending = made.finalize()
    while pending:
        ready = [
            key
            for key, node in pending.items()
            if all(v[0] in results for v in node["inputs"].values() if is_link(v, pending, results))
        ]
        for key in ready:
            node = pending.pop(key)
            inputs = {
                name: results[v[0]][v[1]] if is_link(v, pending, results) else v
                for name, v in node["inputs"].items()
            }
            kind = node["class_type"]
            if kind in harness.nodes:
                results[key] = harness.run(kind, **inputs)
            else:
                stock = nodes.NODE_CLASS_MAPPINGS[kind]
                results[key] = getattr(stock(), stock.FUNCTION)(**inputs)
    return results[made.state[0]][0]


def is_link(value: Any, *known: dict[str, Any]) -> bool:
    return isinstance(value, list) and any(value[0] in nodes for nodes in known)


def test_chunks_are_those_of_stream_timeline(
    harness: NodeHarness, pack: Any, render: Any, output: Path
) -> None:
    clip = Clip()
    state, _ = render(harness.fresh(), 7, positive=None, clip=clip, timeline=TIMELINE)
    assert len(clip.encoded) == len(set(clip.encoded)) == 4
    expected = by_steps(harness, pack, Clip(), TIMELINE, 7)
    assert [type(e).__name__ for e in state.events] == [type(e).__name__ for e in expected.events]
    assert torch.equal(content(harness, state), content(harness, expected))
    plain, _ = render(harness.fresh(), 7, positive=None, clip=clip, timeline="0: a")
    assert not torch.equal(content(harness, state), content(harness, plain))


@pytest.mark.newest
def test_what_is_held_does_not_grow_with_the_length(
    harness: NodeHarness, render: Any, output: Path
) -> None:
    def held(first: int, last: int) -> list[int]:
        counts: list[int] = []
        # Two forwards each, and a commit.
        model = counting(harness.model, {3 * first - 1, 3 * last - 1}, counts)
        lines = [f"{chunk}: {'ab'[chunk % 2]}" for chunk in range(last)]
        options = {"positive": None, "clip": Clip(), "timeline": "\n".join(lines)}
        render(harness.fresh(), last + 1, model=model, history_chunks=2, **options)
        return counts

    early, late = held(5, 11)
    assert late == early


def test_receipts_say_the_prompts(harness: NodeHarness, render: Any, output: Path) -> None:
    render(harness.fresh(), 6, positive=None, clip=Clip(), timeline=TIMELINE)
    (path,) = output.glob("*.mp4")
    chunks = [line for line in receipts(path) if line["event"] == "chunk"]
    texts = [line["prompt"] for line in chunks]
    assert texts == [
        "red circle moving left",
        *["blue square moving right"] * 3,
        "red square moving up",
        "green circle moving left",
    ]
    assert [line.get("blended_from") for line in chunks[:4]] == [None, texts[0], texts[0], None]
    assert [line.get("transition") for line in chunks] == [None] * 4 + ["recache", "flush"]


def test_a_timeline_goes_on_where_the_stream_is(
    harness: NodeHarness, render: Any, output: Path
) -> None:
    clip = Clip()
    whole, _ = render(harness.fresh(), 7, positive=None, clip=clip, timeline=TIMELINE)
    half, _ = render(harness.fresh(), 2, positive=None, clip=clip, timeline=TIMELINE)
    # In the middle of a blend.
    clip.encoded.clear()
    half, _ = render(half, 1, positive=None, clip=clip, timeline=TIMELINE)
    assert clip.encoded == ["red circle moving left", "blue square moving right"]
    half, _ = render(half, 4, positive=None, clip=clip, timeline=TIMELINE)
    assert torch.equal(content(harness, half), content(harness, whole))


def test_seconds_are_as_many_chunks_as_reach_them(
    harness: NodeHarness, render: Any, output: Path
) -> None:
    first, _ = render(harness.fresh(), 99, seconds=1.0)
    assert first.chunk_index == 2  # 21 frames, where 9 are too few
    longer, _ = render(first, 99, seconds=1.5)
    assert longer.chunk_index == 4  # 24 frames, each chunk 12
    with pytest.raises(ValueError, match=r"Set seconds to \d+ or less, and continue"):
        render(longer, 1, seconds=1_000_000.0)


def test_a_timeline_takes_the_place_of_positive(
    harness: NodeHarness, render: Any, output: Path
) -> None:
    kept = [
        render(harness.fresh(), 2, clip=Clip(), timeline="0: a", positive=positive)[0]
        for positive in (None, conditioning(9))
    ]
    assert torch.equal(*(content(harness, state) for state in kept))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "There is no prompt. Connect a prompt to positive, or write a timeline"),
        ({"timeline": " \n"}, "There is no prompt"),
        ({"timeline": "0: a"}, "The timeline has no text encoder. Connect"),
        ({"timeline": "0: a", "positive": None}, "The timeline has no text encoder"),
        ({"timeline": "later: a", "clip": None}, "later"),
    ],
)
def test_what_lacks_a_prompt_is_refused_before_anything_runs(
    harness: NodeHarness, inputs: dict[str, Any], message: str
) -> None:
    """A socket that is connected comes as None, one that is not does not come at all."""
    said = harness.nodes["AdaStateRender"].validate_inputs(**inputs)
    assert message in said


@pytest.mark.parametrize(
    "inputs",
    [{"positive": None, "timeline": ""}, {"clip": None, "timeline": TIMELINE}],
)
def test_one_kind_of_prompt_is_enough(harness: NodeHarness, inputs: dict[str, Any]) -> None:
    assert harness.nodes["AdaStateRender"].validate_inputs(**inputs) is True


def test_a_render_that_was_not_validated_is_refused_too(
    harness: NodeHarness, render: Any, output: Path
) -> None:
    with pytest.raises(ValueError, match="There is no prompt"):
        render(harness.fresh(), 1, positive=None)
    with pytest.raises(ValueError, match="no text encoder"):
        render(harness.fresh(), 1, positive=None, timeline="0: a")
    assert not output.exists()
