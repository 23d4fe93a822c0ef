"""What the page's scripts say, as it stands in them.

`web/js/words.js` looks a text up by its English words. `tr` and `later` are called with a text,
`trCount` with one for a single thing and one for several.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

STRING = r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'"""
JOINED = rf"(?:{STRING})(?:\s*\+\s*(?:{STRING}))*"
ONE = re.compile(rf"\b(?:tr|later)\(\s*({JOINED})")
TWO = re.compile(rf"\btrCount\(\s*({JOINED})\s*,\s*({JOINED})")
OFFERED = re.compile(rf"\b(?:name|tooltip|label):\s*({JOINED})")
ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)")
MEANINGS = {"n": "\n", "t": "\t"}


def script_texts(folder: Path) -> list[str]:
    """Return the texts of all scripts below a folder, sorted."""
    found: set[str] = set()
    for script in scripts(folder):
        found.update(unquote(match[1]) for match in ONE.finditer(script))
        for match in TWO.finditer(script):
            found.update((unquote(match[1]), unquote(match[2])))
    return sorted(found)


def offered_texts(folder: Path) -> set[str]:
    """Return what settings and commands are called; the page translates that itself."""
    return {
        unquote(match[1])
        for script in scripts(folder)
        for match in OFFERED.finditer(script)
        if unquote(match[1])[0].isupper()
    }


def scripts(folder: Path) -> Iterator[str]:
    """Yield the scripts below a folder."""
    for path in sorted(folder.rglob("*.js")):
        yield path.read_text(encoding="utf-8")


def unquote(joined: str) -> str:
    """Return the text of JavaScript strings that are joined by plus signs."""
    return "".join(ESCAPE.sub(_meaning, literal[1:-1]) for literal in re.findall(STRING, joined))


def _meaning(escape: re.Match[str]) -> str:
    code = escape[1]
    return chr(int(code[1:], 16)) if len(code) == 5 else MEANINGS.get(code, code)
