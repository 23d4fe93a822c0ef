"""What a run of a stream reports to: its chunks, steps and words, for the panel of its node."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from statistics import median

import comfy.model_management

from ...adastate_core.stream.events import ChunkEvent, FlushEvent, GivenLatentsEvent
from ...adastate_core.stream.pace import Pace
from ...adastate_core.stream.state import StreamState
from .panel_document import NO_PLAN, ChunkEntry, RunPlan
from .panels import PANELS
from .pictures import ChunkPictures, PictureSource
from .place import NodePlace
from .prompt_text import PromptText
from .words import progress_words

_PAUSE = 0.2
"""Seconds between two words on how far a chunk is."""


class StreamView:
    """A run as it is shown.

    Args:
        place: Where it is shown; None shows nothing.
        prompt: The text behind its prompt.
    """

    def __init__(
        self,
        place: NodePlace | None = None,
        prompt: PromptText = PromptText(),  # noqa: B008, a frozen value
    ) -> None:
        self.prompt = prompt
        self.note = ""
        """What an artist should know of the whole run; every line under the node ends with it."""
        self._remark = ""
        self.joined = False
        """Whether it goes on where another part of the node stopped."""
        self._place = place
        self._pictures: PictureSource | None = None
        self._feed = PANELS.feed(place.workflow, place.node) if place is not None else None
        self._plan = NO_PLAN
        self._chunk = self._first = 0
        self._begun = False
        self._since = self._told = 0.0
        self._made: dict[str, tuple[float, bool]] = {}
        """Seconds that a chunk took and whether its prompt was blended, until it is shown."""

    @property
    def node(self) -> str | None:
        """Return the id of the node that is shown."""
        return self._place.node if self._place is not None else None

    @property
    def decodes(self) -> bool:
        """Whether pictures take a model, so that no sampling session may be open for them."""
        return self._pictures is not None and self._pictures.decodes

    def show_with(self, pictures: PictureSource) -> None:
        """Take the pictures of chunks from a source, where who makes the run gives none."""
        if self._place is not None:
            self._pictures = pictures

    @property
    def has_parts_before(self) -> bool:
        """Whether this is part of a node other parts of which have made chunks in this run."""
        feed, place = self._feed, self._place
        if feed is None or place is None or not place.is_part or feed.run != place.run:
            return False
        return self._begun and self._first > feed.plan.first_chunk

    def begin(self, start: StreamState, plan: RunPlan) -> None:
        """Begin the run, or go on where the node's part before this one stopped.

        Args:
            start: The stream so far.
            plan: What the node is to make.
        """
        self._plan, self._begun = plan, True
        self._chunk = self._first = plan.first_chunk
        self._since = time.monotonic()
        feed, place = self._feed, self._place
        if feed is None or place is None:
            return
        last = start.last_chunk
        if place.is_part and feed.run == place.run:
            self._plan = feed.plan.covering(plan)
            if feed.state == "running" and feed.ends_with(last.latents if last else None):
                feed.extend(self._plan, self._notes)
                self.joined = True
                return
        history = {chunk.latents for chunk in start.chunks}
        feed.begin(place.run, self._plan, self._words(), history, self._notes)

    def step(self, step: int) -> str | None:
        """Note a sampler step, from 1; return what to say of it, if anything."""
        now = time.monotonic()
        if self._feed is None or (step > 1 and now - self._told < _PAUSE):
            return None
        self._told = now
        text = self._words()
        self._feed.status(text, self._chunk, step, self._left())
        return text

    def say(self, text: str) -> None:
        """Say something on the panel."""
        if self._feed is not None:
            self._feed.status(text, self._chunk, 0, self._left())

    def made(self, after: StreamState) -> None:
        """Note that a chunk was made."""
        chunk = after.last_chunk
        assert chunk is not None
        now = time.monotonic()
        took, self._since = now - self._since, now
        self._chunk = chunk.index + 1
        if self._feed is None:
            return
        self._feed.times.append(took)
        self._made[chunk.latents] = took, self.prompt.blended
        if self._pictures is not None and not self._pictures.decodes:
            # What takes no model is made in the thread: the next chunk does not wait for it.
            source = self._pictures
            self._add(after, lambda: source.pictures_of(after), _images_of(chunk, self._plan.pace))

    def picture(self, after: StreamState) -> None:
        """Make pictures of the newest chunk and show them."""
        if self._pictures is not None:
            source = self._pictures
            self.show(after, lambda: source.pictures_of(after))
            self._since = time.monotonic()

    def show(self, after: StreamState, make: Callable[[], ChunkPictures]) -> None:
        """Show pictures of the newest chunk; the log says why if they cannot be made."""
        chunk, feed = after.last_chunk, self._feed
        if feed is None or chunk is None:
            return
        pictures: ChunkPictures | None = None
        try:
            pictures = make()
        except comfy.model_management.InterruptProcessingException:
            raise
        except Exception as error:
            logging.warning("AdaState: no picture of chunk %d: %s", chunk.index, error)
        images = pictures.images if pictures is not None else _images_of(chunk, self._plan.pace)
        self._add(after, None if pictures is None else lambda: pictures, images)

    def _add(
        self, after: StreamState, pictures: Callable[[], ChunkPictures] | None, images: int
    ) -> None:
        """Add the newest chunk, which is so many images of the video."""
        chunk, feed, plan = after.last_chunk, self._feed, self._plan
        assert chunk is not None
        assert feed is not None
        before = feed.latest
        follows = before is not None and before.index == chunk.index - 1
        start = plan.pace.seconds_of(chunk.index, begins=True)
        if follows and before is not None:
            start = before.end
        took, blended = self._made.pop(chunk.latents, (0.0, False))
        entry = ChunkEntry(
            index=chunk.index,
            latents=chunk.latents,
            start=round(start, 4),
            seconds=round(images / plan.pace.fps, 4),
            frames=images,
            prompt=chunk.prompt,
            seed=chunk.seed,
            transition="blend" if blended else transition_to(after),
            took=round(took, 3),
        )
        feed.add(entry, pictures)

    def remark(self, text: str) -> None:
        """Add to the note what the run has found out; it takes the place of an earlier remark."""
        if text == self._remark:
            return
        self._remark = text
        if self._feed is not None:
            self._feed.extend(self._plan, self._notes)

    def under(self, text: str) -> str:
        """Return what to write under the node."""
        return "; ".join(part for part in (text, self._notes) if part)

    def finish(self, text: str = "") -> str | None:
        """End the run well and return what is said; a part ends it with the node's last chunk."""
        feed, place = self._feed, self._place
        if feed is None or place is None or not self._begun:
            return None
        if place.is_part and self._chunk < feed.plan.last_chunk:
            return None
        text = text or feed.plan.pace.describe(feed.plan.last_chunk, begins=True)
        feed.end("done", text)
        return text

    def fail(self, error: BaseException, text: str = "") -> str | None:
        """End the run after a failure, or a cancel, and return what is said."""
        feed, place = self._feed, self._place
        if feed is None or place is None:
            return None
        stopped = isinstance(error, comfy.model_management.InterruptProcessingException)
        text = text or ("stopped" if stopped else f"{error}" or type(error).__name__)
        if feed.run != place.run and not stopped:
            feed.refuse(place.run, text)
            return text
        if feed.run != place.run or feed.state != "running":
            return None
        feed.end("stopped" if stopped else "failed", text)
        return text

    @property
    def _notes(self) -> str:
        return "; ".join(part for part in (self.note, self._remark) if part)

    def _words(self) -> str:
        return progress_words(self._chunk, self._plan.last_chunk, self.prompt.text, self._left())

    def _left(self) -> float | None:
        """Estimate the seconds that are left from the newest chunks."""
        if self._feed is None or not self._feed.times:
            return None
        chunks = self._plan.last_chunk - self._chunk
        spent = time.monotonic() - self._since
        return round(max(median(self._feed.times) * chunks - spent, 0.0), 1)


def transition_to(state: StreamState) -> str:
    """Say how a stream changed to its newest chunk: what was done to its memory before."""
    events = state.events
    position = len(events) - 1
    while position >= 0 and not isinstance(events[position], ChunkEvent):
        position -= 1
    for before in range(position - 1, -1, -1):
        event = events[before]
        if isinstance(event, ChunkEvent):
            break
        if isinstance(event, FlushEvent):
            return "flush"
        if isinstance(event, GivenLatentsEvent) and event.reason == "recache":
            return "recache"
    return "swap"


def _images_of(chunk: ChunkEvent, pace: Pace) -> int:
    return pace.frames_of(1, begins=chunk.frame == 0)
