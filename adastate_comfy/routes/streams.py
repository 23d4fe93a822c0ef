"""The routes of the streams sidebar.

    GET  /adastate/streams          all streams, and what is in the bin
    POST /adastate/streams/fork     {"name", "new_name"}
    POST /adastate/streams/rename   {"name", "new_name"}
    POST /adastate/streams/delete   {"name"}: into the bin
    POST /adastate/streams/restore  {"slot", "new_name"}: out of it; an empty new_name keeps the old
    POST /adastate/streams/purge    {"slot"}: for good

What cannot be done is answered with {"problem", "remedy"}, both for whoever reads the page, and
with status 200: it is an answer, and browsers would note any other as an error of the page.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web
from server import PromptServer

from ...adastate_core.errors import AdaStateError
from ...adastate_core.files.stream_bin import (
    delete_stream,
    list_bin,
    purge_stream,
    restore_stream,
)
from ...adastate_core.files.stream_card import StreamCard
from ...adastate_core.files.stream_shelf import fork_stream, list_streams, rename_stream
from ..named_streams import FOLDER_SHOWN, recorded_frames, streams_folder
from .guard import read_texts

PATH = "/adastate/streams"
Texts = Mapping[str, str]


def add_stream_routes() -> None:
    """Add the routes to the server, if there is one."""
    server = getattr(PromptServer, "instance", None)
    if server is None:
        return
    server.routes.get(PATH)(_answer_list)
    for what, act in ACTIONS.items():
        server.routes.post(f"{PATH}/{what}")(_handler(act))


async def _answer_list(_: web.Request) -> web.Response:
    return web.json_response(await asyncio.to_thread(_listed))


def _handler(act: Callable[[Texts], object]) -> Callable[[web.Request], Any]:
    async def answer(request: web.Request) -> web.Response:
        texts = await read_texts(request)
        try:
            return web.json_response(await asyncio.to_thread(act, texts))
        except KeyError as missing:
            raise web.HTTPBadRequest(text=f"Send {missing.args[0]}.") from missing
        except AdaStateError as error:
            return web.json_response({"problem": error.problem, "remedy": error.remedy})

    return answer


def _listed() -> dict[str, Any]:
    root = streams_folder()
    return {
        "folder": FOLDER_SHOWN,
        "streams": [_shown(card) for card in list_streams(root)],
        "bin": [
            {**_shown(each.card), "slot": each.slot, "deleted": each.deleted}
            for each in list_bin(root)
        ],
    }


def _fork(texts: Texts) -> object:
    return _shown(fork_stream(streams_folder(), texts["name"], texts["new_name"]))


def _rename(texts: Texts) -> object:
    return _shown(rename_stream(streams_folder(), texts["name"], texts["new_name"]))


def _delete(texts: Texts) -> object:
    return {"slot": delete_stream(streams_folder(), texts["name"])}


def _restore(texts: Texts) -> object:
    return _shown(restore_stream(streams_folder(), texts["slot"], texts["new_name"]))


def _purge(texts: Texts) -> object:
    purge_stream(streams_folder(), texts["slot"])
    return {}


ACTIONS: dict[str, Callable[[Texts], object]] = {
    "fork": _fork,
    "rename": _rename,
    "delete": _delete,
    "restore": _restore,
    "purge": _purge,
}


def _shown(card: StreamCard) -> dict[str, Any]:
    """Return a card as the page has it; times are in seconds."""
    return {
        "name": card.name,
        "revision": card.revision,
        "chunks": card.chunks,
        "frames": recorded_frames(card.latent_frames, card.latent_format),
        "prompt": card.prompt,
        "size": card.size,
        "changed": card.changed,
        "thumbnail": str(card.thumbnail or ""),
        "problem": card.problem,
    }
