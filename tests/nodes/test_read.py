"""Read State: what it gives, and what takes the place of a hidden state that is not there."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch

from tests.support.harness import NodeHarness
from tests.support.tiny_models import WAN_CAUSAL


class DynamicPrompt:
    """A prompt of one workflow, whose parts are shown at one node."""

    def get_display_node_id(self, node_id: str) -> str:
        return node_id.split(".")[0]


@pytest.fixture
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    from comfy_api.latest import io

    harness = NodeHarness(node_classes, WAN_CAUSAL)
    harness.hidden = {io.Hidden.unique_id: "7", io.Hidden.dynprompt: DynamicPrompt()}
    return harness


@pytest.fixture
def said(pack: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    node, words = importlib.import_module(f"{pack.__name__}.nodes.state"), []
    monkeypatch.setattr(node, "write_under", lambda place, text: words.append((place, text)))
    return words


def streamed(harness: NodeHarness, anchor: str, chunks: int) -> Any:
    (model,) = harness.run("AdaStateApply", harness.bare, anchor, 3, 3, 1, 3)
    return harness.step(harness.fresh(), chunks, model=model)[0]


def test_no_anchor_shows_the_newest_frames(
    harness: NodeHarness, said: list[tuple[str, str]]
) -> None:
    state = streamed(harness, "none", 2)
    said.clear()
    hidden, window, content, _, _, each = harness.run("AdaStateRead", state)
    assert torch.equal(hidden["samples"], window["samples"][:, :, -1:])
    assert hidden["samples"].shape == (1, 16, 1, 4, 6)
    expected = torch.cat([content["samples"][:, :, at : at + 1] for at in (2, 5)])
    assert torch.equal(each["samples"], expected)
    assert said == [("7", "no hidden state (anchor none): this is the newest frame")]


def test_a_frozen_anchor_shows_its_frames_and_the_newest_of_every_chunk(
    harness: NodeHarness, said: list[tuple[str, str]]
) -> None:
    state = streamed(harness, "frozen", 2)
    said.clear()
    hidden, _, content, _, _, each = harness.run("AdaStateRead", state)
    frames = hidden["samples"].shape[2]
    assert torch.equal(hidden["samples"], content["samples"][:, :, :frames])
    assert torch.equal(each["samples"][1], content["samples"][0, :, -1:])
    assert said == [
        ("7", "no hidden states (anchor frozen): these are the newest frames of the chunks")
    ]


def test_what_a_reset_removed_is_said(harness: NodeHarness, said: list[tuple[str, str]]) -> None:
    state = streamed(harness, "adaptive", 2)
    said.clear()
    harness.run("AdaStateRead", state)
    for scope in ("anchor", "all"):
        (reset,) = harness.run("AdaStateReset", state, scope)
        hidden, _, content, _, _, each = harness.run("AdaStateRead", reset)
        assert torch.equal(hidden["samples"], content["samples"][:, :, -1:])
        assert each["samples"].shape[0] == 2
    reset = "no hidden state (after a reset): this is the newest frame"
    assert [text for _, text in said] == ["2 chunks", reset, reset]


def test_a_start_shows_its_newest_frame(harness: NodeHarness) -> None:
    clip = harness.latent(2, seed=1)
    hidden, *_, each = harness.run("AdaStateRead", harness.fresh(start_latent=clip))
    assert torch.equal(hidden["samples"], clip["samples"][:, :, -1:])
    assert torch.equal(each["samples"], clip["samples"][:, :, -1:])


def test_nodes_wired_to_nothing_are_left_out_quietly(
    harness: NodeHarness, said: list[tuple[str, str]]
) -> None:
    from comfy_execution.graph_utils import ExecutionBlocker

    hidden, window, content, index, report, each = harness.run("AdaStateRead", harness.fresh())
    for value in (hidden, window, content, each):
        assert isinstance(value, ExecutionBlocker)
        assert value.message is None
    assert index == 0
    assert '"events": []' in report
    assert said == [("7", "nothing to show yet: stream a chunk first")]


def test_the_part_of_a_timeline_says_nothing(
    harness: NodeHarness, said: list[tuple[str, str]]
) -> None:
    from comfy_api.latest import io

    harness.hidden[io.Hidden.unique_id] = "7.0.read"
    harness.run("AdaStateRead", harness.fresh())
    assert said == []
