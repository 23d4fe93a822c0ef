"""From the pictures of a chunk to its files and its entry on the panel. No torch in here."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from .measures import Look, drift_of, look_of, motion_of
from .panel_document import ChunkEntry
from .panel_store import PanelStore
from .pictures import ChunkPictures
from .tiles import PICTURE_WIDTH, TILE_WIDTH, moving, still


def measured(entry: ChunkEntry, pictures: ChunkPictures, first: Look | None) -> ChunkEntry:
    """Return the entry with what its pictures say of motion and drift.

    Args:
        entry: The entry of the chunk.
        pictures: Its pictures.
        first: The look of the first chunk; None if this is the first.
    """
    look = look_of(pictures.frames)
    return replace(
        entry,
        source=pictures.source,
        motion=motion_of(pictures.frames),
        look=look,
        drift=drift_of(look, first or look),
    )


def written(entry: ChunkEntry, pictures: ChunkPictures, store: PanelStore, run: str) -> ChunkEntry:
    """Write the pictures of a chunk and return the entry with their names.

    The names are those of this run: a page keeps what it has fetched, and another run may show the
    same chunk in other pictures.

    Raises:
        OSError: If there is no room for them.
    """
    name = f"{entry.latents[:16]}_{hashlib.sha256(run.encode()).hexdigest()[:8]}"
    tile = f"{name}.webp"
    store.write(tile, moving(pictures.frames, entry.seconds, TILE_WIDTH))
    hidden = picture = None
    if pictures.hidden is not None:
        hidden = f"{name}_hidden.webp"
        store.write(hidden, still(pictures.hidden[0], TILE_WIDTH))
    if pictures.frames.shape[2] > TILE_WIDTH:
        picture = f"{name}_large.webp"
        store.write(picture, moving(pictures.frames, entry.seconds, PICTURE_WIDTH))
    return replace(
        entry, tile=tile, tile_frames=len(pictures.frames), hidden=hidden, picture=picture
    )
