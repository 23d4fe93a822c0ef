"""Convert a saved workflow (the graph the editor shows) into the API format that servers run.

Follows what ComfyUI's front end does when it queues a graph, with the definitions from
`/object_info`. Subgraphs are not supported and say so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_MUTED, _BYPASSED = 2, 4
_NOTES = frozenset({"Note", "MarkdownNote"})
_REROUTE, _PRIMITIVE = "Reroute", "PrimitiveNode"
# Links by name, of KJNodes and others: both exist in the editor only.
_SET, _GET = "SetNode", "GetNode"

_DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
_WIDGET_TYPES = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR", _DYNAMIC_COMBO})
_SEED_NAMES = frozenset({"seed", "noise_seed"})
_CONTROL_VALUES = frozenset({"fixed", "increment", "decrement", "randomize", "increment-wrap"})
_UPLOADS = ("image_upload", "video_upload", "animated_image_upload", "audio_upload")
# The editor appends its own display widgets to these and saves their values.
_DISPLAY_NODES = frozenset({"PreviewAny"})


class GraphError(ValueError):
    """The workflow cannot be converted; names the node and the reason."""


@dataclass(frozen=True)
class _Link:
    origin: str
    slot: int


@dataclass(frozen=True)
class _Constant:
    value: Any


def to_api(
    workflow: Mapping[str, Any], object_info: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return the API-format prompt of a UI-format workflow.

    Args:
        workflow: The parsed JSON of a saved workflow.
        object_info: The server's answer to `/object_info`.

    Raises:
        GraphError: If the workflow uses a node the server lacks or a subgraph, or if its widget
            values do not fit the node definitions.
    """
    return _Converter(workflow, object_info).convert()


class _Converter:
    def __init__(self, workflow: Mapping[str, Any], object_info: Mapping[str, Any]) -> None:
        if not isinstance(workflow.get("nodes"), list):
            raise GraphError("This is not a workflow saved by the editor: it has no list of nodes.")
        self.object_info = object_info
        self.nodes = {str(node["id"]): node for node in workflow["nodes"]}
        self.links = dict(_read_links(workflow.get("links") or []))
        self.subgraphs = {
            str(part["id"]): part.get("name", "")
            for part in (workflow.get("definitions") or {}).get("subgraphs") or []
        }

    def convert(self) -> dict[str, dict[str, Any]]:
        prompt = {}
        for node_id, node in self.nodes.items():
            kind = str(node["type"])
            if kind in self.subgraphs:
                raise GraphError(
                    f'Node {node_id} is the subgraph "{self.subgraphs[kind]}"; '
                    "subgraphs are not supported, unpack it in the editor first."
                )
            if kind in _NOTES or kind in (_REROUTE, _PRIMITIVE, _SET, _GET):
                continue
            if node.get("mode") in (_MUTED, _BYPASSED):
                continue
            if kind not in self.object_info and not (node.get("inputs") or node.get("outputs")):
                continue  # a decoration of another pack's
            if kind not in self.object_info:
                raise GraphError(f"Node {node_id} has the type {kind}, which the server lacks.")
            info = self.object_info[kind]
            inputs = _WidgetReader(node, info).read()
            inputs.update(self._linked_inputs(node))
            title = node.get("title") or info.get("display_name") or kind
            prompt[node_id] = {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}
        return prompt

    def _linked_inputs(self, node: Mapping[str, Any]) -> dict[str, Any]:
        linked: dict[str, Any] = {}
        for socket in node.get("inputs") or []:
            source = self._source(socket.get("link"))
            if isinstance(source, _Constant):
                linked[socket["name"]] = source.value
            elif source is not None:
                linked[socket["name"]] = [source.origin, source.slot]
        return linked

    def _source(self, link_id: int | None) -> _Link | _Constant | None:
        """Follow a link through virtual and bypassed nodes to what really feeds it."""
        seen: set[str] = set()
        while link_id is not None:
            link = self.links.get(link_id)
            if link is None or link.origin not in self.nodes:
                return None
            node = self.nodes[link.origin]
            if link.origin in seen:
                raise GraphError(f"Node {link.origin} feeds itself.")
            if node.get("mode") == _MUTED:
                return None
            if node["type"] == _PRIMITIVE:
                return _Constant((node.get("widgets_values") or [None])[0])
            if node["type"] == _GET:
                node = self._setter(node)
            if node["type"] in (_REROUTE, _SET):
                link_id = node["inputs"][0].get("link")
            elif node.get("mode") == _BYPASSED:
                link_id = _bypass(node, link.slot)
            else:
                return link
            seen.add(link.origin)
        return None

    def _setter(self, getter: Mapping[str, Any]) -> Mapping[str, Any]:
        """Find the node that sets the name which a Get node reads."""
        name = (getter.get("widgets_values") or [None])[0]
        for node in self.nodes.values():
            if node["type"] == _SET and (node.get("widgets_values") or [None])[0] == name:
                return node
        raise GraphError(f"Node {getter['id']} gets {name!r}, which no node sets.")


class _WidgetReader:
    """Assign a node's saved widget values, which have positions, to input names."""

    def __init__(self, node: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        self.node = node
        self.info = info
        self.inputs: dict[str, Any] = {}
        self.shown = {
            socket["widget"]["name"] for socket in node.get("inputs") or [] if socket.get("widget")
        }
        self.values: list[Any] = []

    def read(self) -> dict[str, Any]:
        saved = self.node.get("widgets_values") or []
        if isinstance(saved, Mapping):
            names = {name for _, name, _ in _ordered_inputs(self.info)}
            return {name: value for name, value in saved.items() if name in names}
        self.values = list(saved)
        self._read_inputs(self.info, prefix="")
        if self.values and self.node["type"] not in _DISPLAY_NODES:
            raise self._error(f"has {len(self.values)} widget values too many: {self.values}")
        return self.inputs

    def _read_inputs(self, info: Mapping[str, Any], prefix: str) -> None:
        uploads = False
        section_before = "required"
        for section, name, spec in _ordered_inputs(info):
            if section != section_before and uploads:
                self._skip_upload()
                uploads = False
            section_before = section
            kind, options = spec[0], (spec[1] if len(spec) > 1 else None) or {}
            if not self._is_widget(prefix + name, kind, options):
                continue
            self._read_one(prefix + name, kind, options)
            uploads = uploads or any(options.get(key) for key in _UPLOADS)
        if uploads:
            self._skip_upload()

    def _read_one(self, name: str, kind: Any, options: Mapping[str, Any]) -> None:
        value = self.values.pop(0) if self.values else None
        if value is None:
            value = _default(kind, options)
            if value is None:
                return
        else:
            self._check(name, kind, value)
        # A plain list would be read as a link.
        self.inputs[name] = {"__value__": value} if isinstance(value, list) else value
        if kind == _DYNAMIC_COMBO:
            self._read_option(name, value, options["options"])
        if self.values and _has_control(name, kind, options):
            control = self.values.pop(0)
            if control not in _CONTROL_VALUES:
                raise self._error(
                    f"has {control!r} where the value of control_after_generate for {name} belongs"
                )
            if kind == "COMBO" or isinstance(kind, list):
                del self.values[:1]  # the filter text that belongs to a combo's control

    def _read_option(self, name: str, key: Any, options: Sequence[Mapping[str, Any]]) -> None:
        chosen = [option for option in options if option["key"] == key]
        if not chosen:
            known = ", ".join(str(option["key"]) for option in options)
            raise self._error(f"has {key!r} for {name}, known are {known}")
        self._read_inputs({"input": chosen[0].get("inputs") or {}}, prefix=f"{name}.")

    def _is_widget(self, name: str, kind: Any, options: Mapping[str, Any]) -> bool:
        if options.get("forceInput"):
            return False
        declared = options.get("widgetType") or kind
        return isinstance(kind, list) or declared in _WIDGET_TYPES or name in self.shown

    def _skip_upload(self) -> None:
        """Drop the value of the upload button, which follows the required inputs."""
        del self.values[:1]

    def _check(self, name: str, kind: Any, value: Any) -> None:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = {
            "INT": number and float(value).is_integer(),
            "FLOAT": number,
            "BOOLEAN": isinstance(value, bool),
            "STRING": isinstance(value, str),
        }
        if isinstance(kind, str) and not fits.get(kind, True):
            raise self._error(f"has {value!r} for {name}, which takes {kind}")

    def _error(self, text: str) -> GraphError:
        return GraphError(f"Node {self.node['id']} ({self.node['type']}) {text}.")


def _read_links(links: Sequence[Any]) -> Iterator[tuple[int, _Link]]:
    """Yield links by id; saved either as arrays or as objects, depending on the file's version."""
    for link in links:
        if isinstance(link, Mapping):
            yield link["id"], _Link(str(link["origin_id"]), int(link["origin_slot"]))
        elif link:
            yield link[0], _Link(str(link[1]), int(link[2]))


def _ordered_inputs(info: Mapping[str, Any]) -> Iterator[tuple[str, str, Sequence[Any]]]:
    order = info.get("input_order") or {}
    for section in ("required", "optional"):
        specs = info["input"].get(section) or {}
        for name in order.get(section) or specs:
            yield section, name, specs[name]


def _bypass(node: Mapping[str, Any], slot: int) -> int | None:
    """Return the link that passes through a bypassed node to its output slot."""
    inputs = node.get("inputs") or []
    wanted = node["outputs"][slot]["type"]
    same_slot = inputs[slot : slot + 1]
    for socket in [*same_slot, *inputs]:
        if socket["type"] == wanted or "*" in (socket["type"], wanted):
            link = socket.get("link")
            return int(link) if link is not None else None
    return None


def _has_control(name: str, kind: Any, options: Mapping[str, Any]) -> bool:
    declared = options.get("control_after_generate")
    if declared is not None:
        return bool(declared)
    # Older definitions do not declare it: the editor then goes by the name.
    return kind == "INT" and name in _SEED_NAMES


def _default(kind: Any, options: Mapping[str, Any]) -> Any:
    if options.get("default") is not None:
        return options["default"]
    choices = kind if isinstance(kind, list) else options.get("options")
    if kind == _DYNAMIC_COMBO:
        return choices[0]["key"] if choices else None
    return choices[0] if choices else None
