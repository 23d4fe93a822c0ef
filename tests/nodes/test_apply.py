"""What Apply AdaState decides, and what is said of it."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from tests.support.harness import NodeHarness
from tests.support.tiny_models import WAN


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN)


@pytest.fixture
def written(
    harness: NodeHarness, pack: Any, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[str, str]]:
    """Collect the lines under nodes: (node, text)."""
    from comfy_api.latest import io

    lines: list[tuple[str, str]] = []
    for name in ("nodes.apply", "adastate_comfy.progress"):
        monkeypatch.setattr(
            importlib.import_module(f"{pack.__name__}.{name}"),
            "write_under",
            lambda node, text: lines.append((node, text)),
        )
    monkeypatch.setattr(harness, "hidden", {io.Hidden.unique_id: "7"})
    return lines


def applied(harness: NodeHarness, **options: Any) -> Any:
    return harness.run("AdaStateApply", harness.bare, "adaptive", 3, 3, 1, 3, **options)[0]


@pytest.mark.newest
def test_a_changed_preset_says_that_it_is_not_the_published_method(
    harness: NodeHarness, written: list[tuple[str, str]]
) -> None:
    model = applied(harness, preset="longlive", anchor_strength=0.5, cache_precision="fp8")
    note = "not longlive as published: anchor_strength 0.5, cache_precision fp8"
    assert [node for node, _ in written] == ["7"]
    assert written[0][1].startswith(
        "longlive: frozen anchor, window of 6 and chunks of 3 latent frames"
    )
    assert written[0][1].endswith(note)
    written.clear()
    harness.step(harness.fresh(), 2, model=model)
    assert len(written) >= 3
    assert all(text.endswith(f"; {note}") for _, text in written)


@pytest.mark.parametrize("options", [{"preset": "longlive"}, {"anchor_strength": 0.5}])
def test_what_is_as_published_or_no_preset_is_not_remarked_on(
    harness: NodeHarness, written: list[tuple[str, str]], options: dict[str, Any]
) -> None:
    model = applied(harness, **options)
    harness.step(harness.fresh(), 2, model=model)
    assert not any("published" in text for _, text in written)


@pytest.mark.parametrize(
    ("options", "events"),
    [
        ({}, []),
        ({"prompt_switch": "recache"}, ["recache"]),
        ({"prompt_switch": "flush"}, ["flush"]),
        ({"preset": "longlive"}, ["recache"]),
        ({"preset": "longlive", "prompt_switch": "swap"}, []),
        ({"preset": "self_forcing"}, []),
        ({"preset": "self_forcing", "prompt_switch": "recache"}, ["recache"]),
    ],
)
def test_an_artist_chooses_what_a_changed_prompt_does(
    harness: NodeHarness, core: Any, options: dict[str, Any], events: list[str]
) -> None:
    receipt = importlib.import_module(f"{core.__name__}.stream.summary").receipt
    model = applied(harness, **options)
    state, _ = harness.step(harness.fresh(), 2, model=model)
    state, _ = harness.step(state, 1, model=model)
    state, _ = harness.step(state, 1, model=model, prompt=1)
    seen = [receipt(entry)["event"] for entry in state.events]
    assert [event for event in seen if event != "chunk"] == events


def test_an_unknown_choice_is_refused(harness: NodeHarness) -> None:
    with pytest.raises(ValueError, match=r'^prompt_switch cannot be "cut". Choose swap or recache'):
        applied(harness, prompt_switch="cut")
