"""The text behind a conditioning: a walk back along the links of the prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...adastate_core.stream.events import PROMPT_LENGTH

_LONGEST_WALK = 64
_TEXTS = ("text", "prompt", "positive_prompt", "clip_l", "t5xxl", "text_g", "string", "value")
"""Inputs that hold a text, or the link to one."""
_PASSED_ON = (
    "conditioning",
    "conditioning_to",
    "conditioning_1",
    "cond",
    "any",
    "input",
    "source",
    "",
)
"""Inputs that a node passes on, changed or not."""
_EMPTYING = ("ConditioningZeroOut",)
"""Nodes that leave nothing of the text."""


@dataclass(frozen=True, slots=True)
class PromptText:
    """What is known of the text behind a conditioning.

    Args:
        text: The text, empty where it cannot be told.
        blended: Whether another one is mixed in.
    """

    text: str = ""
    blended: bool = False


def prompt_behind(dynprompt: Any, node_id: str, name: str = "positive") -> PromptText:
    """Find the text behind an input of a node; empty where it cannot be told.

    Args:
        dynprompt: The prompt as it runs, with the nodes that others have expanded into.
        node_id: The node.
        name: The input.
    """
    try:
        return _walk(dynprompt, dynprompt.get_node(node_id)["inputs"].get(name))
    except Exception:  # another pack's node may look like anything, and this is but a caption
        return PromptText()


def _walk(dynprompt: Any, link: Any) -> PromptText:
    blended = False
    for _ in range(_LONGEST_WALK):
        if isinstance(link, str):
            return PromptText(_clean(link), blended)
        if not _is_link(link):
            break
        node = dynprompt.get_node(link[0])
        if node["class_type"] in _EMPTYING:
            break
        inputs: Mapping[str, Any] = node["inputs"]
        if _is_link(inputs.get("conditioning_from")):
            blended = blended or inputs.get("conditioning_to_strength") != 1.0
        link = next(_onwards(inputs, link[1]), None)
    return PromptText()


def _onwards(inputs: Mapping[str, Any], output: int) -> Iterator[Any]:
    """Yield the inputs that an output may come from, the likeliest first."""
    if "positive" in inputs and "negative" in inputs:
        yield inputs["negative" if output == 1 else "positive"]
    for name in _TEXTS:
        given = inputs.get(name)
        if _is_link(given) or (isinstance(given, str) and given.strip()):
            yield given
    for name in _PASSED_ON:
        if _is_link(inputs.get(name)):
            yield inputs[name]
    if _is_link(inputs.get("positive")):
        yield inputs["positive"]


def _is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def _clean(text: str) -> str:
    """Return a text of one line that any file can hold."""
    return " ".join(text.encode("utf-8", "replace").decode().split())[:PROMPT_LENGTH]
