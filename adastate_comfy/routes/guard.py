"""Who may change something: ComfyUI's own page and programs, but no other page in the browser."""

from __future__ import annotations

import json
from collections.abc import Mapping

from aiohttp import web

LARGEST = 1 << 16
"""Bytes that a request may have."""


def is_own_page(headers: Mapping[str, str], host: str) -> bool:
    """Say whether a request comes from ComfyUI's page, or from no page at all.

    Browsers say so themselves where they trust the connection; elsewhere the page's origin has to
    be the host that was asked. Programs send neither.

    Args:
        headers: Headers of the request.
        host: The host that was asked, with its port.
    """
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("Origin")
    return origin is None or origin.partition("://")[2].lower() == host.lower()


async def read_texts(request: web.Request) -> dict[str, str]:
    """Return the texts in the JSON object of a request that changes something.

    Raises:
        HTTPException: If it comes from another page, or is no small JSON object of texts.
    """
    if not is_own_page(request.headers, request.host):
        raise web.HTTPForbidden(text="Only ComfyUI's own page may change streams.")
    # Another page's browser sends this type only after it has asked, which nobody allows.
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="Send application/json.")
    body = bytearray()
    async for part in request.content.iter_any():
        body += part
        if len(body) > LARGEST:
            raise web.HTTPRequestEntityTooLarge(LARGEST, len(body))
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or not all(isinstance(text, str) for text in values.values()):
        raise web.HTTPBadRequest(text="Send a JSON object of texts.")
    return values
