"""All panels that this server has shown."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from .panel_document import chunks_to_json
from .panel_feed import PanelFeed
from .panel_store import PanelStore

_IN_MEMORY = 32
"""Panels whose documents stay in memory; those of others are read from disk."""


class Panels:
    """The panels, by workflow and node."""

    def __init__(self) -> None:
        self._feeds: OrderedDict[tuple[str, str], PanelFeed] = OrderedDict()
        self._lock = threading.Lock()

    def feed(self, workflow: str, node: str) -> PanelFeed:
        """Return the feed of a panel, a new one if it was not shown yet."""
        key = (workflow, node)
        with self._lock:
            if key not in self._feeds:
                self._feeds[key] = PanelFeed(workflow, node)
            self._feeds.move_to_end(key)
            while len(self._feeds) > _IN_MEMORY:
                self._feeds.popitem(last=False)
            return self._feeds[key]

    def newest_tile(self, latents: str) -> Path | None:
        """Return the file of the tile that a panel shows of these latents as its newest chunk."""
        with self._lock:
            feeds = list(self._feeds.values())
        return next((tile for feed in feeds if (tile := feed.newest_tile(latents))), None)

    def seconds_until(self, latents: str) -> float | None:
        """Return when the chunk of these latents ends in its stream, if a panel shows it."""
        with self._lock:
            newest_first = list(reversed(self._feeds.values()))
        ends = (feed.end_of(latents) for feed in newest_first)
        return next((end for end in ends if end is not None), None)

    def document(self, workflow: str, node: str) -> dict[str, Any] | None:
        """Return the document of a panel, or None if there is none."""
        with self._lock:
            feed = self._feeds.get((workflow, node))
        if feed is not None:
            return feed.document()
        store = PanelStore(workflow, node)
        head = store.head()
        if head is None:
            return None
        return {**head, "chunks": chunks_to_json(store.chunks())}


PANELS = Panels()
