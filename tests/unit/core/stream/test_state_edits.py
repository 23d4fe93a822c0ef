"""Blend and rewind: what they leave in context, and that the streams they came from stay."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from adastate_core.digest import tensor_digest
from adastate_core.errors import ConfigError, StateMismatchError
from adastate_core.files.state_file import load_state, save_state
from adastate_core.stream.events import ChunkEvent, GivenLatentsEvent, RewindEvent
from adastate_core.stream.state import StreamState
from adastate_core.stream.summary import describe_stream
from tests.support.reference_host import Harness


def clip(seed: int, frames: int) -> Tensor:
    return torch.randn((1, 4, frames, 2, 3), generator=torch.Generator().manual_seed(seed))


def fingerprint(state: StreamState) -> list[str]:
    """Digest every tensor of a stream."""
    held = [e for e in state.events if isinstance(e, ChunkEvent | GivenLatentsEvent)]
    return [tensor_digest(x) for e in held for x in (e.state, e.content) if x is not None]


def test_a_blend_remembers_the_mix_and_keeps_its_record() -> None:
    harness = Harness()
    a, b = harness.step(harness.fresh, 2, prompt=0), harness.step(harness.fresh, 3, prompt=1)
    before = fingerprint(a), fingerprint(b)
    mixed = a.blend(b, 0.25)
    for part in ("anchor", "window"):
        ours, theirs = getattr(a.context, part), getattr(b.context, part)
        torch.testing.assert_close(getattr(mixed.context, part), 0.75 * ours + 0.25 * theirs)
    assert mixed.chunk_index == 2
    assert torch.equal(mixed.content(), a.content())
    after = harness.step(mixed, 2)
    assert after.chunk_index == 4
    assert (fingerprint(a), fingerprint(b)) == before
    assert torch.equal(Harness().step(mixed, 2).content(), after.content())
    assert describe_stream(after)["events"][2] == {"event": "blend"}


def test_a_blend_at_either_end_is_one_memory() -> None:
    harness = Harness()
    a, b = harness.step(harness.fresh, 2, prompt=0), harness.step(harness.fresh, 2, prompt=1)
    for share, alone in ((0.0, a), (1.0, b)):
        mixed = a.blend(b, share).context
        assert torch.equal(mixed.anchor, alone.context.anchor)
        assert torch.equal(mixed.window, alone.context.window)


def test_a_blend_takes_what_only_one_remembers() -> None:
    harness = Harness()
    a, b = harness.step(harness.fresh, 2), harness.step(harness.fresh, 2, prompt=1)
    mixed = a.reset("anchor").blend(b.flush(1), 0.5).context
    assert torch.equal(mixed.anchor, b.context.anchor)
    newest = a.context.window[:, :, -1:], b.context.window[:, :, -1:]
    torch.testing.assert_close(mixed.window, 0.5 * newest[0] + 0.5 * newest[1])
    assert harness.fresh.blend(harness.fresh, 0.5) == harness.fresh


def test_streams_that_do_not_fit_are_not_blended() -> None:
    harness = Harness()
    begun = harness.step(harness.fresh, 1)
    for other in (harness.fresh, StreamState((1, 4, 9, 9))):
        with pytest.raises(StateMismatchError, match=r"^These two streams cannot be blended"):
            begun.blend(other, 0.5)


def test_rewinding_and_going_on_is_as_if_nothing_had_come_after() -> None:
    harness = Harness()
    third = harness.step(harness.fresh, 3)
    fifth = harness.step(third.hold_anchor(2).reset("window"), 2, prompt=1)
    before = fingerprint(fifth)
    back = fifth.rewind(2)
    assert back.chunk_index == 3
    assert back.hold == third.hold == 0
    assert set(back.conditionings) == set(third.conditionings)
    assert torch.equal(harness.step(back, 2).content(), harness.step(third, 2).content())
    assert fingerprint(fifth) == before
    assert back.events[-1] == RewindEvent(2)
    assert fifth.rewind(-2).chunk_index == 4
    assert fifth.rewind(-2).hold == 1  # held for two chunks, one of which has been made
    held = harness.step(harness.fresh.hold_anchor(-1), 2)
    assert held.rewind(0).hold == -1


def test_rewinding_to_the_newest_chunk_replays_nothing() -> None:
    harness = Harness()
    state = harness.step(harness.fresh, 3)
    harness.step(state)
    commits = harness.host.commits
    harness.step(state.rewind(-1))
    assert harness.host.commits == commits


@pytest.mark.parametrize(("chunk", "limits"), [(5, "0 to 2"), (-4, "0 to 2"), (3, "0 to 2")])
def test_a_chunk_that_is_not_there_is_named(chunk: int, limits: str) -> None:
    state = Harness().step(Harness().fresh, 3)
    with pytest.raises(ConfigError, match=f"is not kept in this stream; it keeps {limits}"):
        state.rewind(chunk)


def test_a_forgotten_chunk_is_not_returned_to() -> None:
    harness = Harness()
    bounded = StreamState(harness.fresh.latent_shape, history_chunks=2)
    state = harness.step(bounded, 4)
    assert state.rewind(2).chunk_index == 3
    with pytest.raises(ConfigError, match=r"^Chunk 0 is not kept in this stream; it keeps 2 to 3"):
        state.rewind(0)
    with pytest.raises(ConfigError, match="none yet"):
        harness.fresh.rewind(-1)


EDITS = (
    "save",
    "step",
    "other prompt",
    "anchor",
    "window",
    "all",
    "hold",
    "flush",
    "recache",
    "rewind",
    "blend",
)


@given(edits=st.lists(st.sampled_from(EDITS), max_size=7))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_order_of_edits_replays_to_the_same_bits(
    tmp_path_factory: pytest.TempPathFactory, edits: list[str]
) -> None:
    harness = Harness()
    other = harness.step(harness.fresh, 2, prompt=2)
    state = harness.step(harness.fresh)
    for edit in edits:
        before = state, fingerprint(state)
        match edit:
            case "save":
                save_state(state, tmp_path_factory.getbasetemp() / "edited")
                state = load_state(tmp_path_factory.getbasetemp() / "edited")
            case "step":
                state = harness.step(state)
            case "other prompt":
                state = harness.step(state, prompt=1)
            case "hold":
                state = state.hold_anchor(1)
            case "flush":
                state = state.flush(1)
            case "recache":
                state = state.recache()
            case "rewind":
                state = state.rewind(0)
            case "blend":
                state = state.blend(other, 0.4)
            case "anchor" | "window" | "all":
                state = state.reset(edit)
        assert fingerprint(before[0]) == before[1]
    warm, cold = harness.step(state), Harness().step(state)
    assert torch.equal(warm.content(), cold.content())
    assert not cold.last_chunk.approximate
