"""Names of the files that nodes write: the same prefix gives the same name as in *Save Video*.

ComfyUI fills in `%year%`, `%width%` and the like when a node runs. `%date:...%` and the values of
other nodes' widgets are filled in by its page, but for ComfyUI's own nodes only: here it is done
for ours, by the rules of the page.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import folder_paths

from ..adastate_core.errors import ConfigError, VideoFileError
from ..adastate_core.files.atomic import PARTIAL, claim_numbered

_TOKEN = re.compile(r"%([^%]+)%")
_DATE = re.compile(r"dd?|MM?|hh?|mm?|ss?|yyy?y?")
_NO_NAME = re.compile(r'[/?<>\\:*|"\x00-\x1f\x7f]')
_MOST_BYTES = 255
_PARTIAL_BYTES = len(f"..4194304{PARTIAL}")
"""What `write_durably` adds to a name while it writes."""


@dataclass(frozen=True, slots=True)
class OutputTarget:
    """Where a prefix leads.

    Args:
        folder: The folder; it exists.
        name: Beginning of the file names.
        first: The lowest number that may be free.
        subfolder: The folder below the output folder, as ComfyUI's page wants it.
    """

    folder: Path
    name: str
    first: int
    subfolder: str

    def claim(self, number: str, endings: Sequence[str]) -> Path:
        """Make an empty file under a number that no file with these endings has.

        Args:
            number: How a number is written behind the name, such as `_{:05}_`.
            endings: Endings of the files that will have this number; the first one is made.

        Raises:
            VideoFileError: If it cannot be made.
        """
        first = self.first
        while True:
            try:
                path = claim_numbered(
                    self.folder, lambda n: f"{self.name}{number.format(n)}{endings[0]}", first
                )
            except OSError as error:
                raise VideoFileError(
                    f"a file in {self.folder}",
                    problem=f"no file can be made in {self.folder} ({error.strerror})",
                    seen=f"'{error.strerror}'",
                    expected="a folder that can be written to",
                    remedy="make the folder writable, free some space, or change filename_prefix",
                ) from error
            stem = path.name.removesuffix(endings[0])
            if not any(path.with_name(stem + ending).exists() for ending in endings[1:]):
                return path
            path.unlink()
            first = self._number(stem, number) + 1

    def _number(self, stem: str, number: str) -> int:
        before, after = number.format(1_000_007).split("1000007")
        digits = stem.removeprefix(self.name + before)
        return int(digits.removesuffix(after) if after else digits)


def find_target(
    prefix: str,
    size: tuple[int, int],
    endings: Sequence[str],
    prompt: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> OutputTarget:
    """Return where a prefix leads, and make its folder.

    Args:
        prefix: The widget.
        size: Width and height of the images.
        endings: Endings of the files to write, numbers included.
        prompt: The hidden input of that name.
        extra: The hidden input `extra_pnginfo`, which holds the workflow.

    Raises:
        ConfigError: If it leads out of the output folder, or gives names that are too long.
    """
    prefix = filled_in(prefix, prompt or {}, extra or {})
    if os.path.basename(os.path.normpath(prefix)) in ("", ".", ".."):
        raise _refusal(prefix)
    root = folder_paths.get_output_directory()
    width, height = size
    try:
        folder, name, first, subfolder, _ = folder_paths.get_save_image_path(
            prefix, root, width, height
        )
    except OSError as error:
        raise ConfigError(
            "filename_prefix",
            problem=(
                f'the folder of filename_prefix "{prefix}" cannot be made in the output folder '
                f"({error.strerror})"
            ),
            seen=f"{prefix!r}, '{error.strerror}'",
            expected="a folder that can be made in the output folder",
            remedy="change filename_prefix, or free some space",
        ) from error
    except Exception as error:  # what ComfyUI raises has no type of its own
        raise _refusal(prefix) from error
    length = max(len(os.fsencode(name + ending)) for ending in endings) + _PARTIAL_BYTES
    possible = _max_name_bytes(folder)
    if length > possible:
        raise ConfigError(
            "filename_prefix",
            problem=f"filename_prefix is too long for this disk by {length - possible} bytes",
            seen=f"a name of {len(os.fsencode(name))} bytes",
            expected=f"{len(os.fsencode(name)) - length + possible} at most, so that the "
            "files of a stream fit",
            remedy="shorten filename_prefix",
        )
    return OutputTarget(Path(folder), name, first, subfolder)


def filled_in(prefix: str, prompt: Mapping[str, Any], extra: Mapping[str, Any]) -> str:
    """Replace what ComfyUI's page replaces: `%date:...%` and `%Node.widget%`."""
    now = datetime.now()

    def value(match: re.Match[str]) -> str:
        parts = match[1].split(".")
        if len(parts) == 2:
            found = _widget(parts[0], parts[1], prompt, extra)
            return match[0] if found is None else _NO_NAME.sub("_", found)
        if parts[0].startswith("date:"):
            return _format_date(parts[0].removeprefix("date:"), now)
        return match[0]

    return _TOKEN.sub(value, prefix)


def _format_date(form: str, now: datetime) -> str:
    numbers = {"d": now.day, "M": now.month, "h": now.hour, "m": now.minute, "s": now.second}

    def part(match: re.Match[str]) -> str:
        letters = match[0]
        if letters[0] in numbers:
            return str(numbers[letters[0]]).zfill(len(letters))
        return {"yy": str(now.year)[2:], "yyyy": str(now.year)}.get(letters, letters)

    return _DATE.sub(part, form)


def _widget(
    node: str, widget: str, prompt: Mapping[str, Any], extra: Mapping[str, Any]
) -> str | None:
    """Return the value of a widget as text, or None if there is none of that name."""
    # The page looks for the first node of this alias, and only if there is none, of this title.
    aliases, titles = [], []
    for key, alias, title in _nodes(prompt, extra):
        if alias == node:
            aliases.append(key)
        elif title == node:
            titles.append(key)
    for key in (aliases or titles)[:1]:
        value = prompt.get(key, {}).get("inputs", {}).get(widget, [])
        if not isinstance(value, list):  # a link, or nothing
            return _as_text(value)
    return None


def _nodes(prompt: Mapping[str, Any], extra: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield key, alias and title of the nodes: of the workflow, else as the prompt names them."""
    workflow = extra.get("workflow") or {}
    if isinstance(workflow, dict) and workflow.get("nodes"):
        parts = workflow.get("definitions") or {}
        subgraphs = {part.get("id"): part for part in parts.get("subgraphs") or ()}
        for key, node in _of_graph(workflow, subgraphs, ""):
            # Nodes have their type as an alias unless they were given another.
            alias = (node.get("properties") or {}).get("Node name for S&R", node.get("type"))
            shown = (prompt.get(key, {}).get("_meta") or {}).get("title")
            yield key, alias, node.get("title") or shown
        return
    for key, entry in prompt.items():
        if isinstance(entry, dict):
            yield key, entry.get("class_type"), (entry.get("_meta") or {}).get("title")


def _of_graph(
    graph: Mapping[str, Any], subgraphs: Mapping[Any, Any], prefix: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the nodes of a graph and of the subgraphs in it, by their keys in the prompt."""
    for node in graph.get("nodes") or ():
        key = f"{prefix}{node.get('id')}"
        yield key, node
        if node.get("type") in subgraphs and key.count(":") < 100:
            yield from _of_graph(subgraphs[node["type"]], subgraphs, f"{key}:")


def _as_text(value: object) -> str:
    """Return a value as the page writes it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return str(value)


def _max_name_bytes(folder: str) -> int:
    """Return how many bytes a name may have there."""
    with suppress(OSError, ValueError, AttributeError):
        return min(os.pathconf(folder, "PC_NAME_MAX"), _MOST_BYTES)
    return _MOST_BYTES


def _refusal(prefix: str) -> ConfigError:
    return ConfigError(
        "filename_prefix",
        problem=f'filename_prefix "{prefix}" leads out of the output folder',
        seen=repr(prefix),
        expected="a name inside the output folder",
        remedy="use a name inside the output folder, such as adastate/state",
    )
