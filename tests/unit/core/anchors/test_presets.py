"""What a stream says of the method it was made with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adastate_core.anchors.presets import PRESETS, departure, preset_config
from adastate_core.config import StreamConfig
from adastate_core.stream.summary import describe_stream, receipt
from tests.support.reference_host import Harness


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_known_by_its_options(name: str) -> None:
    published = preset_config(name)
    found = departure(published)
    assert (found.preset, found.changed, str(found)) == (name, {}, "")
    for changed in ({"anchor_strength": 0.5}, {"prompt_switch": "flush"}):
        found = departure(replace(published, **changed), name)
        assert (found.preset, found.changed) == (name, changed)
    text = str(departure(replace(published, anchor_strength=2.0, prompt_switch="flush")))
    assert text == f"not {name} as published: anchor_strength 2, prompt_switch flush"


def test_other_sizes_are_no_preset() -> None:
    assert departure(StreamConfig(window_frames=5)).preset == "custom"
    assert departure(StreamConfig(), "longlive").preset == "custom"
    assert str(departure(StreamConfig(window_frames=5, anchor_strength=2.0))) == ""


def test_the_receipt_of_a_chunk_names_the_preset_and_what_was_changed() -> None:
    harness = Harness()
    longlive = preset_config("longlive")
    state = harness.step(harness.fresh, config=longlive)
    state = harness.step(state, config=replace(longlive, anchor_strength=0.5))
    state = harness.step(state, config=replace(longlive, cache_precision="fp8"))
    state = harness.step(state, config=StreamConfig(window_frames=2))
    wanted = [
        ("longlive", {}),
        ("longlive", {"anchor_strength": 0.5}),
        ("longlive", {"cache_precision": "fp8"}),
        ("custom", {}),
    ]
    events = describe_stream(state)["events"]
    assert [(event["preset"], event["changed"]) for event in events] == wanted
    assert [(r["preset"], r["changed"]) for r in map(receipt, state.chunks)] == wanted


@pytest.mark.parametrize("name", ["longlive", "longlive_relative"])
def test_longlive_reads_its_memory_again_at_a_change_of_prompt(name: str) -> None:
    harness = Harness(preset_config(name))
    state = harness.step(harness.step(harness.fresh, 4), prompt=1)
    assert [event["event"] for event in describe_stream(state)["events"]] == [
        *["chunk"] * 4,
        "recache",
        "chunk",
    ]
    by_hand = Harness(preset_config(name))
    before = by_hand.step(by_hand.fresh, 4).recache()
    swap = replace(harness.config, prompt_switch="swap")
    assert (by_hand.step(before, prompt=1, config=swap).content() == state.content()).all()
