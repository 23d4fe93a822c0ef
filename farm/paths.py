"""Paths in a prompt: nothing may be written outside the output folder, or under a name twice."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

PREFIX = "filename_prefix"
"""The input by which saving nodes, ComfyUI's and ours, name their files."""

_NAMES_A_PATH = re.compile(r"prefix|path|file|folder|dir(ectory)?$|^output", re.IGNORECASE)
_CLIMBS = re.compile(r"(^|[\\/])\.\.([\\/]|$)")
_ABSOLUTE = re.compile(r"^\s*([\\/~]|[A-Za-z]:|file:)")


def leaves_folder(name: str, value: object) -> bool:
    r"""Say whether an input names a place outside the folder that it is relative to.

    Args:
        name: Name of the input. A text may begin with a slash, the name of a file may not.
        value: Its value.

    Examples:
        >>> leaves_folder("filename_prefix", "clips/../../home"), leaves_folder("text", "either/or")
        (True, False)
        >>> leaves_folder("output_path", "C:\\clips"), leaves_folder("filename_prefix", "clips/a")
        (True, False)
    """
    if not isinstance(value, str):
        return False
    if _CLIMBS.search(value) or "\0" in value:
        return True
    return bool(_NAMES_A_PATH.search(name) and _ABSOLUTE.search(value))


def outside(prompt: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield the inputs of a prompt that name a place outside, as `node.input`, and their values."""
    for node, made in prompt.items():
        for name, value in made.get("inputs", {}).items():
            if leaves_folder(name, value):
                yield f"{node}.{name}", value


def named_apart(prompt: dict[str, dict[str, Any]], job: str, number: int) -> None:
    """Give the files of one prompt names that no other prompt has.

    ComfyUI numbers files by what is in the folder, so two servers that save under one prefix would
    take the same number at the same time.

    Args:
        prompt: In API format; changed in place.
        job: Name of the job.
        number: Which of its prompts this is, from 0.
    """
    for node in prompt.values():
        if isinstance(node["inputs"].get(PREFIX), str):
            prefix = f"{node['inputs'][PREFIX]}.{job}.{number + 1:05d}"
            node["inputs"] = {**node["inputs"], PREFIX: prefix}
