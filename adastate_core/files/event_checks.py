"""Check the events of a file against each other and against the tensors they name."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..stream.events import ChunkEvent, Event
from .schema import (
    LATENT_DTYPES,
    AnyModel,
    ChunkModel,
    ConfigModel,
    GivenLatentsModel,
    Refuse,
    Shapes,
    StateFields,
)


def check_events(
    fields: StateFields,
    events: Sequence[AnyModel | Event],
    conditionings: Collection[str],
    shapes: Shapes,
    refuse: Refuse,
) -> None:
    """Refuse events whose values contradict each other or the tensors they name.

    Args:
        fields: The values besides the events.
        events: The events, or a part at their end. Those that are built have been checked before.
        conditionings: Digests of those that are there.
        shapes: Returns dtype and shape of a tensor without reading it.
        refuse: Makes the error.

    Raises:
        StateFileError: If anything disagrees.
    """
    last: int | None = None
    keeps = False
    for event in events:
        if isinstance(event, GivenLatentsModel):
            _check_latents(fields, event, shapes, refuse)
        if not isinstance(event, ChunkModel | ChunkEvent):
            continue
        if last is not None and event.index != last + 1:
            raise refuse(f"chunk {event.index} after chunk {last}")
        parts = (event.state, event.sound)
        if event.content is None and (keeps or any(part is not None for part in parts)):
            raise refuse(f"chunk {event.index} with a part of its latents, or older ones alone")
        last, keeps = event.index, event.content is not None
        if isinstance(event, ChunkEvent) or not keeps:
            continue
        _check_latents(fields, event, shapes, refuse)
        for digest in (event.positive, event.negative):
            if digest is not None and digest not in conditionings:
                raise refuse(f"chunk {event.index} without its conditioning")
    if last is not None and fields.chunk_index != last + 1:
        raise refuse(f"next chunk {fields.chunk_index} after chunk {last}")
    if last is not None and fields.fingerprint is None:
        raise refuse("chunks without the model that made them")


def _check_latents(
    fields: StateFields, event: ChunkModel | GivenLatentsModel, shapes: Shapes, refuse: Refuse
) -> None:
    """Check the latents of one event against the size of the stream."""
    batch, channels, height, width = fields.latent_shape
    lengths = _lengths(event.config) if isinstance(event, ChunkModel) else {}
    frames: int | None = None
    for name, reference in (("state", event.state), ("content", event.content)):
        if reference is None:
            continue
        dtype, shape = shapes(reference)
        length = shape[2] if len(shape) == 5 else 0
        right = dtype in LATENT_DTYPES and length > 0
        right = right and shape == (batch, channels, length, height, width)
        if not right or length != lengths.get(name, length):
            size = (batch, channels, lengths.get(name, "frames"), height, width)
            raise refuse(f"{name} of {dtype} {shape} in place of {size}")
        frames = length if name == "content" else None
    if event.sound is None:
        return
    if frames is None:
        raise refuse("sound without the frames that it belongs to")
    ticks = None if fields.clock is None else fields.clock.clock.ticks_of(event.frame, frames)
    _check_sound(fields, shapes(event.sound), ticks, refuse)


def _lengths(config: ConfigModel) -> dict[str, int]:
    """Return how many frames a chunk has that was made under some options."""
    states = config.state_frames if config.anchor == "adaptive" else 0
    return {"state": states, "content": config.chunk_frames}


def _check_sound(
    fields: StateFields, seen: tuple[str, tuple[int, ...]], ticks: int | None, refuse: Refuse
) -> None:
    """Check the sound of one event against that of the stream, and its length if that is known."""
    dtype, shape = seen
    if fields.sound_shape is None:
        raise refuse("sound in a stream without")
    channels, rows = fields.sound_shape
    length = shape[2] if len(shape) == 4 else 0
    right = dtype in LATENT_DTYPES and (length > 0 if ticks is None else length == ticks)
    if not right or shape != (fields.latent_shape[0], channels, length, rows):
        size = (fields.latent_shape[0], channels, "ticks" if ticks is None else ticks, rows)
        raise refuse(f"sound of {dtype} {shape} in place of {size}")
