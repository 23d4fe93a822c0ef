"""What the page's console says against a pack: everything but the noise of a page without it."""

from __future__ import annotations

import re
from typing import Any

NOISE = {
    r"404 .*/user\.css": "nobody has a style sheet of their own",
    r"ComfyApp graph accessed before initialization": "the pinned page does so itself at its start",
    r"404 .*/templates/index(_logo)?\.json": "the package of ComfyUI's own templates is not there",
    r"Error loading core workflow templates": "the same, once more",
    r"huggingface\.co/": "the page looks up the size of models, which the server's policy forbids",
    r"api\.comfy\.org/": "the page looks up packs whose nodes failed, which the policy forbids too",
    r"/docs/\w+/en\.md": "help is looked up in the user's language first; ours has none",
}
"""What a page says that has no pack at all, and why; all else is a problem."""

REFUSED = (r"400 .*/prompt", "PromptExecutionError")
"""What it says besides where a prompt is refused, as some tests want it."""

_NOISE = re.compile("|".join(NOISE))


class Console:
    """The errors of one page, with the warnings that name this pack.

    Args:
        page: Playwright's page, before it opens anything.
    """

    def __init__(self, page: Any) -> None:
        self.problems: list[str] = []
        page.on("pageerror", lambda error: self._add(f"page error: {error}"))
        page.on("console", self._hear)

    def _hear(self, message: Any) -> None:
        text = f"{message.type}: {message.text} ({message.location.get('url', '')})"
        warns_of_us = message.type == "warning" and "adastate" in text.lower()
        if message.type == "error" or warns_of_us:
            self._add(text)

    def _add(self, text: str) -> None:
        if not _NOISE.search(text):
            self.problems.append(text)
