"""The route that gives a page the document of a panel, for one that was opened later."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web
from server import PromptServer

from .panels import PANELS

PATH = "/adastate/panel"


def add_panel_route() -> None:
    """Add the route to the server, if there is one."""
    server = getattr(PromptServer, "instance", None)
    if server is None:
        return

    async def panel(request: web.Request) -> web.Response:
        workflow, node = (request.rel_url.query.get(k, "") for k in ("workflow", "node"))
        document = await asyncio.to_thread(PANELS.document, workflow, node)
        if document is not None and document["state"] == "running":
            document = _ended(document, server.prompt_queue)
        return web.json_response(document)

    server.routes.get(PATH)(panel)


def _ended(document: dict[str, Any], queue: Any) -> dict[str, Any]:
    """Return a document as its run ended, where no node could say so: all steps were kept."""
    running, _ = queue.get_current_queue_volatile()
    if any(item[1] == document["run"] for item in running):
        return document
    wanted = document["first_chunk"] + document["chunks_wanted"]
    last = document["chunks"][-1]["index"] if document["chunks"] else -1
    state = "done" if last + 1 == wanted else "stopped"
    return {**document, "state": state, "seconds_left": None}
