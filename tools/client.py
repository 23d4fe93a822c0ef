"""Talk to a ComfyUI server: queue API-format prompts, follow them by websocket, read results.

A plain synchronous surface over one background event loop. It knows ComfyUI's HTTP and websocket
protocol and nothing about this pack.
"""

from __future__ import annotations

import asyncio
import json
import queue
import struct
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator, Mapping
from types import TracebackType
from typing import Any, TypeVar

import aiohttp

from tools.events import (
    NodeProgress,
    Preview,
    Progress,
    PromptError,
    PromptInterrupted,
    PromptResult,
)

__all__ = [
    "ComfyClient",
    "NodeProgress",
    "Preview",
    "Progress",
    "Prompt",
    "PromptError",
    "PromptInterrupted",
    "PromptResult",
]

Prompt = Mapping[str, Mapping[str, Any]]
_T = TypeVar("_T")

_PREVIEW_WITH_METADATA = 4  # ComfyUI's BinaryEventTypes.PREVIEW_IMAGE_WITH_METADATA
_HTTP_TIMEOUT = aiohttp.ClientTimeout(total=120)


class ComfyClient:
    """A client of one server; use it as a context manager.

    Args:
        url: Server address, such as `http://127.0.0.1:8188`.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.client_id = uuid.uuid4().hex
        self.other_events: list[dict[str, Any]] = []
        self._events: defaultdict[str, queue.SimpleQueue[dict[str, Any]]]
        self._events = defaultdict(queue.SimpleQueue)
        self._closed = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> ComfyClient:
        self._thread.start()
        self._await(self._connect())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._await(self._disconnect())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def get(self, path: str) -> Any:
        """Return the JSON answer of a GET request."""
        return self._await(self._request("GET", path))[1]

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the JSON answer of a POST request, None when the body is empty."""
        return self._await(self._request("POST", path, body))[1]

    def object_info(self) -> dict[str, Any]:
        """Return the definitions of all nodes the server knows."""
        return dict(self.get("/object_info"))

    def history(self, prompt_id: str) -> dict[str, Any]:
        """Return the history entry of a finished prompt, empty when there is none."""
        return dict(self.get(f"/history/{prompt_id}").get(prompt_id, {}))

    def free(self) -> None:
        """Make the server unload all models and drop its cached outputs, and wait until it has."""
        self.post("/free", {"unload_models": True, "free_memory": True})
        # It does so between prompts only, and may take one that is queued now before: have it do
        # nothing, and whatever is queued after that comes late enough.
        self.run({"1": {"class_type": "PreviewAny", "inputs": {"source": "nothing"}}})

    def interrupt(self, prompt_id: str | None = None) -> None:
        """Cancel the running prompt, or only the one named."""
        self.post("/interrupt", {"prompt_id": prompt_id} if prompt_id else {})

    def queue(self, prompt: Prompt, extra_data: Mapping[str, Any] | None = None) -> str:
        """Queue an API-format prompt and return its id.

        Raises:
            PromptError: If the server refuses the prompt, or any output of it.
        """
        body: dict[str, Any] = {"prompt": prompt, "client_id": self.client_id}
        if extra_data:
            body["extra_data"] = dict(extra_data)
        status, answer = self._await(self._request("POST", "/prompt", body, check=False))
        node_errors = answer.get("node_errors") or {}
        if status != 200:
            raise PromptError(_refusal(answer, node_errors), node_errors=node_errors)
        prompt_id = str(answer["prompt_id"])
        if node_errors:
            # The server runs the outputs that are valid; nobody here wants half a prompt.
            self.post("/queue", {"delete": [prompt_id]})
            self.interrupt(prompt_id)
            raise PromptError(_refusal(answer, node_errors), node_errors=node_errors)
        return prompt_id

    def wait(
        self,
        prompt_id: str,
        on_progress: Callable[[Progress], None] | None = None,
        timeout: float = 600.0,
    ) -> PromptResult:
        """Wait until a queued prompt is done.

        Args:
            prompt_id: What `queue` returned.
            on_progress: Called after every progress event and preview.
            timeout: Seconds to wait at most.

        Raises:
            PromptError: If a node fails.
            PromptInterrupted: If the prompt is cancelled.
            TimeoutError: If it is not done in time.
            ConnectionError: If the server goes away.
        """
        begin = time.monotonic()
        executed: dict[str, None] = {}
        previews: list[Preview] = []
        progress = Progress({}, frozenset(), None)
        failure: tuple[str, Mapping[str, Any]] | None = None
        for event in self._follow(prompt_id, begin + timeout):
            kind, data = event["type"], event["data"]
            if kind == "executing":
                executed[data["node"]] = None
            elif kind in ("execution_error", "execution_interrupted"):
                # Told only once the server is done with the prompt, and has let go of its tensors.
                failure = kind, data
            progress = progress.after(kind, data)
            if kind == "preview":
                assert progress.preview is not None
                previews.append(progress.preview)
            if on_progress and kind in ("progress_state", "preview", "execution_cached"):
                on_progress(progress)
        if failure is not None:
            self._raise_failure(*failure)
        entry = self.history(prompt_id)
        return PromptResult(
            prompt_id=prompt_id,
            executed=tuple(executed),
            cached=progress.cached,
            outputs=entry.get("outputs", {}),
            previews=tuple(previews),
            seconds=time.monotonic() - begin,
        )

    def run(
        self,
        prompt: Prompt,
        on_progress: Callable[[Progress], None] | None = None,
        timeout: float = 600.0,
    ) -> PromptResult:
        """Queue a prompt and wait for it."""
        return self.wait(self.queue(prompt), on_progress, timeout)

    def _follow(self, prompt_id: str, deadline: float) -> Iterator[dict[str, Any]]:
        """Yield a prompt's events until the server has put it into the history."""
        events = self._events[prompt_id]
        try:
            while True:
                try:
                    event = events.get(timeout=0.2)
                except queue.Empty:
                    if self._closed.is_set():
                        raise ConnectionError("The server closed the connection.") from None
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"Prompt {prompt_id} is not done in time.") from None
                    continue
                # The only event after the history entry is written, also after a failure.
                if event["type"] == "executing" and event["data"]["node"] is None:
                    return
                yield event
        finally:
            self._events.pop(prompt_id, None)

    def _raise_failure(self, kind: str, data: Mapping[str, Any]) -> None:
        where = f"node {data.get('node_id')} ({data.get('node_type')})"
        if kind == "execution_interrupted":
            raise PromptInterrupted(f"The prompt was interrupted in {where}.", details=data)
        reason = data.get("exception_message", "").strip()
        name = data.get("exception_type", "error")
        raise PromptError(f"{name} in {where}: {reason}", details=data)

    async def _connect(self) -> None:
        self._session = aiohttp.ClientSession(timeout=_HTTP_TIMEOUT)
        address = f"{self.url}/ws?clientId={self.client_id}"
        self._socket = await self._session.ws_connect(address, max_msg_size=0)
        flags = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
        await self._socket.send_json(flags)
        self._reader = asyncio.create_task(self._read())

    async def _disconnect(self) -> None:
        await self._socket.close()
        await self._reader
        await self._session.close()

    async def _read(self) -> None:
        async for message in self._socket:
            if message.type == aiohttp.WSMsgType.TEXT:
                self._sort(json.loads(message.data))
            elif message.type == aiohttp.WSMsgType.BINARY:
                preview = _parse_preview(message.data)
                if preview:
                    self._sort(preview)
        self._closed.set()

    def _sort(self, event: dict[str, Any]) -> None:
        data = event.get("data")
        prompt_id = data.get("prompt_id") if isinstance(data, dict) else None
        if prompt_id:
            self._events[prompt_id].put(event)
        elif event.get("type") != "status":
            self.other_events.append(event)

    async def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, check: bool = True
    ) -> tuple[int, Any]:
        async with self._session.request(method, self.url + path, json=body) as reply:
            text = await reply.text()
            if check:
                reply.raise_for_status()
            return reply.status, json.loads(text) if text else None

    def _await(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _parse_preview(message: bytes) -> dict[str, Any] | None:
    kind, size = struct.unpack_from(">II", message)
    if kind != _PREVIEW_WITH_METADATA:
        return None
    metadata = json.loads(message[8 : 8 + size])
    return {"type": "preview", "data": {**metadata, "image": bytes(message[8 + size :])}}


def _refusal(answer: Mapping[str, Any], node_errors: Mapping[str, Any]) -> str:
    reasons = [
        f"node {node} ({error.get('class_type')}): {item['message']}: {item['details']}"
        for node, error in node_errors.items()
        for item in error.get("errors", [])
    ]
    if not reasons:
        error = answer.get("error", answer)
        reasons = [error.get("message", str(error)) if isinstance(error, dict) else str(error)]
    return "The server refused the prompt: " + "; ".join(reasons)
