"""Talk to a ComfyUI server: queue API-format prompts, follow them by websocket, read results.

It knows ComfyUI's HTTP and websocket protocol and nothing about this pack. Both libraries are
ComfyUI's own requirements, so that the demo runs wherever ComfyUI does. Requests may come from any
thread, also while another one waits for a prompt.
"""

from __future__ import annotations

import asyncio
import json
import struct
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

import aiohttp
import requests

from tools.events import Preview, Progress, PromptError, PromptInterrupted, PromptResult

Prompt = Mapping[str, Mapping[str, Any]]

_PREVIEW_WITH_METADATA = 4  # ComfyUI's BinaryEventTypes.PREVIEW_IMAGE_WITH_METADATA
_HTTP_TIMEOUT = 120.0


class ComfyClient:
    """A client of one server; use it as a context manager.

    Args:
        url: Server address, such as `http://127.0.0.1:8188`.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.client_id = uuid.uuid4().hex
        self._events: defaultdict[str, deque[dict[str, Any]]] = defaultdict(deque)
        # Turned by the waiting thread, one event at a time: nothing runs in the background.
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> ComfyClient:
        self._loop.run_until_complete(self._connect())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.run_until_complete(self._disconnect())
        self._loop.close()

    def get(self, path: str) -> Any:
        """Return the JSON answer of a GET request."""
        return self._request("GET", path)[1]

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return the JSON answer of a POST request, None when the body is empty."""
        return self._request("POST", path, body)[1]

    def object_info(self) -> dict[str, Any]:
        """Return the definitions of all nodes the server knows."""
        return dict(self.get("/object_info"))

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

        Args:
            prompt: The prompt.
            extra_data: What the editor sends beside it, such as the workflow for saved files.

        Raises:
            PromptError: If the server refuses the prompt, or any output of it.
        """
        body = {"prompt": prompt, "client_id": self.client_id, "extra_data": extra_data or {}}
        status, answer = self._request("POST", "/prompt", body, check=False)
        node_errors = answer.get("node_errors") or {}
        if status == 200 and node_errors:
            # The server runs the outputs that are valid; nobody here wants half a prompt.
            self.post("/queue", {"delete": [answer["prompt_id"]]})
            self.interrupt(answer["prompt_id"])
        if status != 200 or node_errors:
            raise PromptError(_refusal(answer, node_errors), node_errors=node_errors)
        return str(answer["prompt_id"])

    def wait(
        self,
        prompt_id: str,
        on_progress: Callable[[Progress], None] | None = None,
        timeout: float = 600.0,
    ) -> PromptResult:
        """Wait until a queued prompt is done.

        Args:
            prompt_id: What `queue` returned.
            on_progress: Called after every event that tells of progress.
            timeout: Seconds to wait at most.

        Raises:
            PromptError: If a node fails.
            PromptInterrupted: If the prompt is cancelled.
            TimeoutError: If it is not done in time.
            ConnectionError: If the server goes away.
        """
        previews: list[Preview] = []
        progress = Progress()
        failure: PromptError | None = None
        for event in self._follow(prompt_id, time.monotonic() + timeout):
            kind, data = event["type"], event["data"]
            if kind == "preview":
                previews.append(Preview(str(data["node_id"]), data["image"]))
            elif kind in ("execution_error", "execution_interrupted"):
                # Told only once the server is done with the prompt, and has let go of its tensors.
                failure = _failure(kind, data)
            progress = progress.after(kind, data)
            if on_progress and kind in ("progress_state", "execution_cached"):
                on_progress(progress)
        if failure is not None:
            raise failure
        outputs = self.get(f"/history/{prompt_id}").get(prompt_id, {}).get("outputs", {})
        return PromptResult(progress.executed, progress.cached, outputs, tuple(previews))

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
                while not events:
                    self._receive(prompt_id, deadline)
                event = events.popleft()
                # The only event after the history entry is written, also after a failure.
                if event["type"] == "executing" and event["data"]["node"] is None:
                    return
                yield event
        finally:
            self._events.pop(prompt_id, None)

    def _receive(self, prompt_id: str, deadline: float) -> None:
        """Read one message and put it with the events of its prompt."""
        left = max(deadline - time.monotonic(), 0.0)
        try:
            message = self._loop.run_until_complete(asyncio.wait_for(self._socket.receive(), left))
        except asyncio.TimeoutError:
            raise TimeoutError(f"Prompt {prompt_id} is not done in time.") from None
        if message.type == aiohttp.WSMsgType.TEXT:
            event = json.loads(message.data)
        elif message.type == aiohttp.WSMsgType.BINARY:
            event = _parse_preview(message.data)
        else:
            raise ConnectionError("The server closed the connection.")
        if told := event["data"].get("prompt_id"):
            self._events[told].append(event)

    async def _connect(self) -> None:
        self._session = aiohttp.ClientSession()
        address = f"{self.url}/ws?clientId={self.client_id}"
        try:
            self._socket = await self._session.ws_connect(address, max_msg_size=0)
        except aiohttp.ClientError as error:
            await self._session.close()
            raise ConnectionError(f"No ComfyUI answers at {self.url}: {error}.") from error
        flags = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
        await self._socket.send_json(flags)

    async def _disconnect(self) -> None:
        await self._socket.close()
        await self._session.close()

    def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, check: bool = True
    ) -> tuple[int, Any]:
        reply = requests.request(method, self.url + path, json=body, timeout=_HTTP_TIMEOUT)
        if check:
            reply.raise_for_status()
        return reply.status_code, reply.json() if reply.content else None


def _parse_preview(message: bytes) -> dict[str, Any]:
    """Return a binary message as an event; without data, unless it is a preview of a prompt."""
    kind, size = struct.unpack_from(">II", message)
    if kind != _PREVIEW_WITH_METADATA:
        return {"type": "binary", "data": {}}
    metadata = json.loads(message[8 : 8 + size])
    return {"type": "preview", "data": {**metadata, "image": bytes(message[8 + size :])}}


def _failure(kind: str, data: Mapping[str, Any]) -> PromptError:
    where = f"node {data.get('node_id')} ({data.get('node_type')})"
    if kind == "execution_interrupted":
        return PromptInterrupted(f"The prompt was interrupted in {where}.", details=data)
    reason = data.get("exception_message", "").strip()
    name = data.get("exception_type", "error")
    return PromptError(f"{name} in {where}: {reason}", details=data)


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
