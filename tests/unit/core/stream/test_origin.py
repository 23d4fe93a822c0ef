"""Where a state was opened from."""

from __future__ import annotations

from dataclasses import replace

from adastate_core.stream.origin import StreamOrigin
from tests.support.reference_host import Harness


def test_what_a_process_knows_of_a_revision_is_no_part_of_it() -> None:
    known, unknown = (
        StreamOrigin("walk", "0" * 32, 3, held=object()),
        StreamOrigin("walk", "0" * 32, 3),
    )
    assert known == unknown
    assert "held" not in repr(known)
    assert unknown != StreamOrigin("walk", "0" * 32, 4)
    assert unknown != StreamOrigin("walk", "1" * 32, 3)


def test_every_operation_keeps_it() -> None:
    harness, origin = Harness(), StreamOrigin("walk")
    state = harness.step(replace(harness.fresh, origin=origin), 2)
    for after in (
        state,
        state.reset("all"),
        state.hold_anchor(1),
        state.flush(1),
        state.recache(),
        state.rewind(1),
        state.blend(state, 0.5),
    ):
        assert after.origin is origin
