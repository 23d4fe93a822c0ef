"""The finished chunks of a run that stops half-way: kept in a file, which Load State continues."""

from __future__ import annotations

import logging
from types import TracebackType

import torch
from comfy_api.latest import io
from torch import Tensor

from ..adastate_core.files.state_file import SUFFIX
from ..adastate_core.stream.pace import count_of
from ..adastate_core.stream.state import StreamState
from .panel.place import place_of
from .panel.stream_view import StreamView
from .progress import write_under
from .sockets.latents import from_model_space
from .state_files import save_numbered

PREFIX = "adastate/stopped"
"""Folder and name of the files, below the output folder."""


class KeptChunks:
    """The chunks that a run has made so far; a context manager that saves them if it stops.

    Nothing is saved of a part of a timeline: ComfyUI keeps what its other parts have made.

    Args:
        hidden: Hidden inputs of the node.
        wanted: Chunks that it is to make.
        view: The panel of the node.
    """

    def __init__(self, hidden: io.HiddenHolder, wanted: int, view: StreamView) -> None:
        self._place, self._extra = place_of(hidden), hidden.extra_pnginfo
        self._wanted, self._view = wanted, view
        self._after: StreamState | None = None
        # Collected as they come: a bounded history may have forgotten the first ones by the end.
        self._made: list[Tensor] = []
        self._heard: list[Tensor] = []

    def __enter__(self) -> KeptChunks:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or self._place is None:
            return
        text = self._told() if self._place.is_part else self._saved()
        if text:
            self._view.fail(error, text)
            write_under(self._place.node, text)

    def add(self, after: StreamState) -> None:
        """Note a finished chunk.

        Args:
            after: The stream after it.
        """
        self._after = after
        self._made.append(after.newest_content())
        sound = after.last_chunk.sound if after.last_chunk is not None else None
        self._heard += [] if sound is None else [sound]

    def latent(self) -> io.Latent.Type:
        """Return a LATENT of all chunks that were made, their sound included."""
        assert self._after is not None  # a run makes a chunk at least
        sound = torch.cat(self._heard, dim=2) if self._heard else None
        return from_model_space(self._after, torch.cat(self._made, dim=2), sound)

    def _told(self) -> str:
        """Say what becomes of the chunks of a timeline; nothing before the first is finished."""
        if not self._view.has_parts_before:
            return ""
        return "stopped: queue again to go on, the chunks so far are kept"

    def _saved(self) -> str:
        """Save the stream and say where it is; what goes wrong here must not hide the failure."""
        if self._after is None:
            return ""
        try:
            _, listed = save_numbered(self._after, PREFIX, None, self._extra)
        except Exception as error:
            logging.warning("AdaState: the finished chunks could not be saved: %s", error)
            return ""
        name = listed.removesuffix(" [output]").removesuffix(SUFFIX)
        count = f"{len(self._made)} of {count_of(self._wanted, 'chunk')}"
        text = f"stopped: {count} are in {name}, continue with Load State"
        logging.info("AdaState: %s.", text)
        return text
