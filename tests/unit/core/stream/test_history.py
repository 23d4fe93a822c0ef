"""A bounded history: which chunks still have their latents, and what belongs to them."""

from __future__ import annotations

import torch

from adastate_core.config import StreamConfig
from adastate_core.stream.conditioning import Conditioning
from adastate_core.stream.event_log import EventLog
from adastate_core.stream.events import ChunkEvent, GivenLatentsEvent
from adastate_core.stream.history import kept_chunks, pruned, trimmed

VIDEO, SOUND = torch.ones((1, 4, 3, 2, 3)), torch.ones((1, 6, 7, 2))
PROMPTS = {name: Conditioning.pack(name) for name in "abc"}


def chunk(index: int, prompt: str = "a") -> ChunkEvent:
    config = StreamConfig()
    return ChunkEvent(index, 0, prompt, None, "", config, state=VIDEO, content=VIDEO, sound=SOUND)


LOG = EventLog(
    (
        GivenLatentsEvent("start", content=VIDEO, sound=SOUND),
        chunk(0, "a"),
        chunk(1, "b"),
        chunk(2, "b"),
        chunk(3, "c"),
    )
)


def test_all_chunks_are_kept_unless_there_is_a_bound() -> None:
    assert trimmed(LOG, 0) is LOG
    assert trimmed(LOG, 4) is LOG
    assert [(position, event.index) for position, event in kept_chunks(LOG)] == [
        (4, 3),
        (3, 2),
        (2, 1),
        (1, 0),
    ]


def test_older_chunks_lose_latents_and_sound_and_stay_as_events() -> None:
    log = trimmed(LOG, 2)
    assert [event.index for _, event in kept_chunks(log)] == [3, 2]
    for event in list(log)[:3]:
        assert (event.state, event.content, event.sound) == (None, None, None)
    assert len(log) == len(LOG)
    assert trimmed(log, 2) is log


def test_prompts_of_chunks_that_are_kept_stay() -> None:
    assert pruned(PROMPTS, trimmed(LOG, 1)).keys() == {"c"}
    assert pruned(PROMPTS, trimmed(LOG, 3)).keys() == {"b", "c"}
