"""Convert a saved workflow (the graph the editor shows) into the API format that servers run.

comfy-cli does it as ComfyUI's front end does when it queues a graph: subgraphs, Set and Get nodes,
reroutes, muted and bypassed nodes, leftover values. It is needed for workflows from the editor;
prompts in API format, such as those in `workflows/api`, need nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.client import ComfyClient


class GraphError(ValueError):
    """The workflow cannot be converted; names the node and the reason."""


def load_prompt(workflow: Path, client: ComfyClient) -> dict[str, dict[str, Any]]:
    """Read a workflow in either format as a prompt for a server's queue.

    Raises:
        OSError, ValueError: If it cannot be read or converted; `GraphError` is a `ValueError`.
    """
    content: dict[str, Any] = json.loads(workflow.read_text(encoding="utf-8"))
    return to_api(content, client.object_info()) if "nodes" in content else content


def to_api(
    workflow: Mapping[str, Any], object_info: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return the API-format prompt of a UI-format workflow.

    Args:
        workflow: The parsed JSON of a saved workflow.
        object_info: The server's answer to `/object_info`.

    Raises:
        GraphError: If it is no workflow, or uses a node that the server lacks, or comfy-cli is
            missing.
    """
    if not isinstance(workflow.get("nodes"), list):
        raise GraphError("This is not a workflow saved by the editor: it has no list of nodes.")
    try:
        from comfy_cli.workflow_to_api import WorkflowConversionError, convert_ui_to_api
    except ImportError as error:
        raise GraphError(
            f"A workflow from the editor needs comfy-cli here ({error}): run pip install "
            "comfy-cli, or save the workflow with Export (API)."
        ) from error
    try:
        links = [_as_array(link) for link in workflow.get("links") or []]
        prompt: dict[str, dict[str, Any]] = convert_ui_to_api(
            {**workflow, "links": links}, dict(object_info)
        )
    except (WorkflowConversionError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise GraphError(f"The workflow cannot be converted: {error}.") from error
    for key, name, value in _primitives(workflow["nodes"], links):
        if key in prompt:
            prompt[key]["inputs"][name] = value
    unknown = {key for key, node in prompt.items() if node["class_type"] not in object_info}
    wired = {source for node in prompt.values() for source in _sources(node)}
    for key in unknown:
        # Labels and switches of other packs stand in the editor only.
        if key in wired or any(_sources(prompt[key])):
            kind = prompt[key]["class_type"]
            raise GraphError(f"Node {key} has the type {kind}, which the server lacks.")
    return {key: node for key, node in prompt.items() if key not in unknown}


def _primitives(
    nodes: Sequence[Mapping[str, Any]], links: Sequence[Any]
) -> Iterator[tuple[str, str, Any]]:
    """Yield the inputs that primitive nodes set: node, name of the input, value."""
    by_id = {node["id"]: node for node in nodes}
    for _, origin, _, target, slot, *_ in links:
        source, fed = by_id.get(origin, {}), by_id.get(target, {})
        values, inputs = source.get("widgets_values"), fed.get("inputs") or []
        if source.get("type") == "PrimitiveNode" and values and slot < len(inputs):
            yield str(target), inputs[slot]["name"], values[0]


def _as_array(link: Any) -> Any:
    """Return a link as files of the editor's first format have it."""
    if not isinstance(link, Mapping):
        return link
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    return [link.get(name) for name in names]


def _sources(node: Mapping[str, Any]) -> list[str]:
    """List the nodes that feed a node of a prompt."""
    values = node.get("inputs", {}).values()
    return [str(v[0]) for v in values if isinstance(v, list) and len(v) == 2]
