"""Tokens of a block: which are the video's, and where in time the model puts its frames."""

from __future__ import annotations

from dataclasses import replace

import torch

from adastate_core.attention.geometry import AttentionGeometry, Track, parts
from adastate_core.attention.layers import SELF, AttentionCalls, LayerCall, joint
from adastate_core.attention.rope import TemporalRope


def geometry(first_index: float) -> AttentionGeometry:
    return AttentionGeometry(2, 6, 3, TemporalRope(((1.0,),)), AttentionCalls(), True, first_index)


def test_frames_are_numbered_from_the_origin() -> None:
    assert geometry(0.0).native(0, 4) == (0, 1, 2, 3)
    assert geometry(0.0).native(-2, 3) == (-2, -1, 0)
    assert geometry(0.0).native(5, 0) == ()


def test_a_first_frame_with_a_place_of_its_own() -> None:
    assert geometry(0.875).native(0, 4) == (0.875, 1, 2, 3)
    assert geometry(0.4375).native(0, 1) == (0.4375,)


def places(call: LayerCall, tokens: int, **sizes: int) -> dict[str, list[int]]:
    return {name: list(range(tokens))[at] for name, at in parts(call.keys, sizes, tokens)}


def test_tracks_lie_in_the_order_of_the_call_and_text_has_what_is_left() -> None:
    assert places(SELF, 4, video=4) == {"video": [0, 1, 2, 3]}
    assert places(joint("text", "video"), 5, video=3) == {"text": [0, 1], "video": [2, 3, 4]}
    assert places(joint("video", "text"), 5, video=3) == {"video": [0, 1, 2], "text": [3, 4]}
    whole = places(joint("text", "sound", "video"), 6, sound=2, video=3)
    assert whole == {"text": [0], "sound": [1, 2], "video": [3, 4, 5]}
    assert places(joint("text", "video"), 3, video=3) == {"text": [], "video": [0, 1, 2]}


def test_tokens_in_lanes_come_unit_after_unit() -> None:
    left, right = torch.arange(3.0), torch.arange(3.0) + 10
    x = torch.cat((left, right))[None, :, None, None]
    assert Track("sound", 2, lanes=2).by_unit(x).flatten().tolist() == [0, 10, 1, 11, 2, 12]
    assert torch.equal(Track("sound", 2).by_unit(x), x)


def test_units_in_lanes_are_rotated_where_they_lie() -> None:
    rope, offsets = TemporalRope(((1.0,),)), (0.0, 2.0, -1.0)
    x = torch.randn((1, 6, 1, 4), generator=torch.Generator().manual_seed(0))
    track = Track("sound", 2, lanes=2)
    turned = x.clone()
    track.rotate_(turned, rope, offsets)
    assert torch.equal(track.by_unit(turned), rope.rotate(track.by_unit(x), offsets))


def test_text_is_no_past() -> None:
    assert joint("text", "sound", "video").past == ("sound", "video")
    how = replace(geometry(0.0), calls=AttentionCalls(of_block=(joint("text", "video"),)))
    assert how.has_text
    assert not geometry(0.0).has_text
