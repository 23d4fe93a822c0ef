"""The document of a panel: what the page draws, as values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from ...adastate_core.stream.pace import Pace

PanelState = Literal["running", "done", "stopped", "failed"]
VERSION = 1
_EXACT = 1 << 53
"""Up to here the page knows whole numbers to their last digit."""


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a run is to make.

    >>> RunPlan(
    ...     first_chunk=8, chunks=4, pace=Pace(chunk_frames=3, time_stride=4, fps=16)
    ... ).last_chunk
    12

    Args:
        first_chunk: Absolute index of its first chunk.
        chunks: How many.
        pace: How long chunks are.
        steps: Sampler steps of a chunk.
        width: Width of the video in pixels.
        height: Its height.
    """

    first_chunk: int
    chunks: int
    pace: Pace
    steps: int = 0
    width: int = 0
    height: int = 0

    @property
    def last_chunk(self) -> int:
        """Return the number of chunks of the stream after the run."""
        return self.first_chunk + self.chunks

    def covering(self, part: RunPlan) -> RunPlan:
        """Return the plan with at least the chunks of a part of it, and what the part knows."""
        first = min(self.first_chunk, part.first_chunk)
        chunks = max(self.last_chunk, part.last_chunk) - first
        return replace(part, first_chunk=first, chunks=chunks, pace=self.pace)


NO_PLAN = RunPlan(0, 0, Pace(chunk_frames=1, time_stride=1, fps=16.0))
"""The plan of a panel that has not shown a run."""


@dataclass(frozen=True, slots=True)
class ChunkEntry:
    """A chunk on the panel.

    Args:
        index: Absolute index.
        latents: Digest of its latents, by which it is known again.
        start: Seconds into the video at which it begins.
        seconds: How long it lasts.
        frames: Its images.
        prompt: The text that made it, empty where it cannot be told.
        seed: Its seed.
        transition: How the stream changed to it.
        took: Seconds it took to make.
        source: What its pictures are made with: `vae` or `latent`.
        motion: Mean difference of neighbouring frames.
        drift: Distance of its look from that of the first chunk.
        look: Mean and spread of its colours.
        tile: Name of its small moving picture, or None where there is none.
        tile_frames: Frames of that.
        hidden: Name of the picture of its hidden state, or None.
        picture: Name of its large moving picture, or None; only the newest chunk has one.
    """

    index: int
    latents: str
    start: float
    seconds: float
    frames: int
    prompt: str
    seed: int
    transition: str
    took: float
    source: str = ""
    motion: float = 0.0
    drift: float = 0.0
    look: tuple[float, ...] = ()
    tile: str | None = None
    tile_frames: int = 0
    hidden: str | None = None
    picture: str | None = None

    @property
    def end(self) -> float:
        """Return the second of the video at which it ends."""
        return self.start + self.seconds

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values; a seed that the page would round is a text."""
        return {**asdict(self), "seed": self.seed if self.seed <= _EXACT else str(self.seed)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ChunkEntry:
        """Read it from JSON values."""
        return cls(**{**values, "seed": int(values["seed"]), "look": tuple(values["look"])})


@dataclass(slots=True)
class PanelDocument:
    """Everything that a panel shows.

    Args:
        folder: Folder of its pictures below the temp folder.
        run: Id of the run.
        state: Whether it goes on, or how it ended.
        text: What to say now.
        note: What an artist should know of the whole run, or an empty text.
        plan: What the run is to make.
        chunk: The chunk that is being made.
        step: The step of it.
        seconds_left: How long the rest will take, or None where it is not known.
        chunks: The chunks so far.
    """

    folder: str
    run: str = ""
    state: PanelState = "done"
    text: str = ""
    note: str = ""
    plan: RunPlan = NO_PLAN
    chunk: int = 0
    step: int = 0
    seconds_left: float | None = None
    chunks: list[ChunkEntry] = field(default_factory=list)

    def status(self) -> dict[str, Any]:
        """Return what changes while it runs, as JSON values."""
        return {
            "text": self.text,
            "note": self.note,
            "chunk": self.chunk,
            "step": self.step,
            "steps": self.plan.steps,
            "seconds_left": self.seconds_left,
        }

    def head(self) -> dict[str, Any]:
        """Return all but the chunks, as JSON values."""
        plan = self.plan
        return {
            "version": VERSION,
            "run": self.run,
            "state": self.state,
            **self.status(),
            "fps": plan.pace.fps,
            "width": plan.width,
            "height": plan.height,
            "first_chunk": plan.first_chunk,
            "chunks_wanted": plan.chunks,
            "seconds_wanted": round(plan.pace.seconds_of(plan.last_chunk, begins=True), 3),
            "folder": self.folder,
        }

    def to_json(self) -> dict[str, Any]:
        """Return the whole document, as JSON values."""
        return {**self.head(), "chunks": chunks_to_json(self.chunks)}


def chunks_to_json(chunks: list[ChunkEntry]) -> list[dict[str, Any]]:
    """Return chunks as JSON values; of the large pictures only the newest is still there."""
    values = [entry.to_json() for entry in chunks]
    for older in values[:-1]:
        older["picture"] = None
    return values
