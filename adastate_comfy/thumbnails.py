"""The moving picture that a named stream is shown by, made whenever it is committed."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..adastate_core.files.atomic import PARTIAL
from ..adastate_core.files.stream_card import THUMBNAIL
from ..adastate_core.stream.events import ChunkEvent
from ..adastate_core.stream.state import StreamState
from .model.demo_models import is_demo, with_demo_colours
from .panel.latent_colours import colours_of
from .panel.panels import PANELS
from .panel.pictures import small_pixels
from .panel.tiles import TILE_WIDTH, moving
from .sockets.latents import latent_format

_SECONDS = 0.75
"""How long it plays before it begins again."""


def keep_thumbnail(folder: Path, state: StreamState) -> None:
    """Write the picture of a stream's newest chunk beside it.

    A stream is whole without it: the log says why there is none.

    Args:
        folder: Folder of the stream.
        state: The stream.
    """
    chunk = state.last_chunk
    if chunk is None or chunk.content is None:
        return
    partial = folder / f".{THUMBNAIL}.{os.getpid()}{PARTIAL}"
    try:
        partial.write_bytes(_tile_of(chunk) or _picture_of(state, chunk))
        os.replace(partial, folder / THUMBNAIL)
    except Exception as error:
        logging.warning("AdaState: no picture for the streams sidebar: %s", error)
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def recorded_form(state: StreamState) -> Any:
    """Return the latent format of a stream, with the colours of the model that made it."""
    form = latent_format(state.latent_format)
    return with_demo_colours(form) if is_demo(state.fingerprint) else form


def _tile_of(chunk: ChunkEvent) -> bytes:
    """Return the tile that a panel shows of a chunk, if one does: it may be truer in colour."""
    tile = PANELS.newest_tile(chunk.latents)
    with suppress(OSError):
        return tile.read_bytes() if tile is not None else b""
    return b""


def _picture_of(state: StreamState, chunk: ChunkEvent) -> bytes:
    assert chunk.content is not None
    colours = colours_of(chunk.content[:1], recorded_form(state))
    return moving(small_pixels(colours, TILE_WIDTH), _SECONDS, TILE_WIDTH)
