"""Which policy serves which options, and what all of them answer."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from adastate_core.anchors import POLICIES, policy_for, policy_for_block
from adastate_core.config import Anchor, StreamConfig
from adastate_core.layout import CachedFrames
from tests.support.frames import chunks


def config_of(anchor: str, **options: object) -> StreamConfig:
    return StreamConfig(anchor=anchor, anchor_frames=5, window_frames=4, **options)


def test_every_anchor_has_a_policy() -> None:
    assert set(POLICIES) == set(get_args(Anchor))
    for anchor in get_args(Anchor):
        assert policy_for(config_of(anchor)) is POLICIES[anchor]


def test_an_adaptive_anchor_without_state_frames_is_none() -> None:
    assert policy_for(config_of("adaptive", state_frames=0)) is POLICIES["none"]


def test_a_block_without_state_is_committed_without_an_anchor() -> None:
    adaptive = config_of("adaptive")
    assert policy_for_block(adaptive, has_state=True) is POLICIES["adaptive"]
    assert policy_for_block(adaptive, has_state=False) is POLICIES["none"]
    for anchor in ("frozen", "ema", "dual_ema", "rolling", "none"):
        assert policy_for_block(config_of(anchor), has_state=False) is POLICIES[anchor]


@pytest.mark.parametrize(
    ("anchor", "state", "sink", "kept"),
    [
        ("adaptive", 1, 0, 5),
        ("frozen", 0, 5, 9),
        ("ema", 0, 5, 9),
        ("dual_ema", 0, 5, 11),
        ("rolling", 0, 5, 9),
        ("none", 0, 0, 4),
    ],
)
def test_frames_of_a_policy(anchor: str, state: int, sink: int, kept: int) -> None:
    config, policy = config_of(anchor), POLICIES[anchor]
    assert policy.state_frames(config) == state
    assert policy.sink_frames(config) == sink
    assert policy.kept_frames(config) == kept


@pytest.mark.parametrize("anchor", POLICIES)
def test_a_stream_that_has_settled_holds_as_many_frames_as_said(anchor: str) -> None:
    config, policy = config_of(anchor), POLICIES[anchor]
    cached = CachedFrames()
    for chunk in range(12):
        plan = policy.commit(config, cached, hold=False)
        anchors, window = ((0.0,) * len(kept) for kept in (plan.anchor, plan.window))
        cached = CachedFrames(anchors, window, 3 * (chunk + 1))
    assert cached.frames == policy.kept_frames(config)


@pytest.mark.parametrize("anchor", POLICIES)
def test_no_policy_reads_a_frame_twice(anchor: str) -> None:
    for each in chunks(config_of(anchor), 9):
        read = [frame for frame in each.anchor + each.window if isinstance(frame, str)]
        assert len(read) == len({*read})
        assert len({*each.layout.context}) == len(each.layout.context)


@pytest.mark.parametrize("anchor", ["frozen", "ema", "dual_ema", "none"])
def test_absolute_indices_end_where_the_stream_has_come_to(anchor: str) -> None:
    config = replace(config_of(anchor), positions="absolute")
    for number, each in enumerate(chunks(config, 6)):
        assert each.layout.content == tuple(range(3 * number, 3 * number + 3))
