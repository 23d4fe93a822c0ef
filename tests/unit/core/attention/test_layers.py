"""Attention calls that see the past are told from the others of a forward."""

from __future__ import annotations

from adastate_core.attention.layers import SELF, AttentionCalls, LayerCall, LayerCounter, Place


def layers(calls: AttentionCalls, *blocks: tuple[str | None, int] | None) -> list[int | None]:
    counter = LayerCounter(calls)
    places = [counter.place(block) for block in blocks]
    return [None if place is None else place.layer for place in places]


def test_the_first_call_in_a_block_is_its_self_attention() -> None:
    double = [("double", 0), ("double", 0), ("double", 1), ("double", 1)]
    assert layers(AttentionCalls(), *double) == [0, None, 1, None]


def test_blocks_are_known_by_name_whatever_was_skipped() -> None:
    assert layers(AttentionCalls(), ("double", 4), ("double", 2)) == [4, 2]


def test_types_of_block_are_numbered_one_after_the_other() -> None:
    calls = AttentionCalls(blocks=(("double", 0), ("single", 20)))
    assert layers(calls, ("double", 1), ("single", 0), ("single", 3)) == [1, 20, 23]


def test_calls_in_other_blocks_are_no_self_attentions() -> None:
    assert layers(AttentionCalls(), ("refiner", 0), ("double", 0)) == [None, 0]
    assert layers(AttentionCalls(blocks=((None, 0),)), (None, 3), ("double", 0)) == [3, None]


def test_a_block_that_is_run_again_has_its_self_attention_again() -> None:
    counter = LayerCounter(AttentionCalls())
    found = []
    for _ in range(2):
        counter.enter(("double", 0))
        found += [counter.place(("double", 0)), counter.place(("double", 0))]
    assert found == [Place(0, SELF), None, Place(0, SELF), None]


def test_calls_of_several_tracks_are_known_by_their_order_in_a_block() -> None:
    own, sound = LayerCall("video"), LayerCall("sound", ("sound",), ("sound",))
    across = LayerCall("video of sound", ("video",), ("sound",))
    of_block = (own, None, sound, None, across)
    for calls, block in (
        (AttentionCalls(per_block=6, of_block=of_block), None),
        (AttentionCalls(of_block=of_block), ("double", 0)),
    ):
        counter = LayerCounter(calls)
        found = [counter.place(block) for _ in range(6)]
        assert [place and place.call for place in found] == [*of_block, None]
        assert calls.tracked == (own, sound, across)
    assert counter.place(("double", 1)) == Place(1, own)


def test_calls_that_a_forward_leaves_out_are_not_waited_for() -> None:
    own, across, back = (LayerCall(name) for name in ("own", "across", "back"))
    calls = AttentionCalls(per_block=4, of_block=(own, None, across, back))
    without: dict[int, set[str]] = {0: {"across", "back"}, 1: {"own"}, 2: {"across"}}
    counter = LayerCounter(calls, lambda layer: without.get(layer, ()))
    expected = [(0, own), None, None, (1, across), (1, back), (2, own), None, (2, back), (3, own)]
    assert [counter.place(None) for _ in expected] == expected
    counter = LayerCounter(AttentionCalls(of_block=(own, across)), lambda layer: without[layer])
    blocks = [("double", 1), ("double", 2), ("double", 2), ("double", 0)]
    found = [counter.place(block) for block in blocks]
    assert found == [(1, across), (2, own), None, (0, own)]


def test_without_names_calls_are_counted() -> None:
    assert layers(AttentionCalls(per_block=2), *[None] * 5) == [0, None, 1, None, 2]
    assert layers(AttentionCalls(per_block=1), *[None] * 3) == [0, 1, 2]


def test_without_names_nothing_is_counted_where_all_are_named() -> None:
    assert layers(AttentionCalls(), None, ("double", 0), None) == [None, 0, None]


def test_named_calls_are_not_counted() -> None:
    found = layers(AttentionCalls(per_block=2), ("double", 3), None, ("refiner", 0), None, None)
    assert found == [3, 0, None, None, 1]
