"""The words that the demo model was trained on; any other one is noise to it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from comfy.model_patcher import ModelPatcher

from .demo_world import demo_world
from .keys import DEMO

_SMALL = frozenset(("a", "an", "and", "at", "in", "is", "of", "on", "over", "the", "to", "with"))
"""Words that nobody means anything by here."""
_LETTERS = re.compile(r"[^\W\d_]+")
_STEM = 3
_ALIKE = 0.7
_MOST_NAMED = 6


def mark_demo(model: ModelPatcher) -> ModelPatcher:
    """Mark a MODEL as the demo's; its clones stay marked."""
    model.set_attachments(DEMO, True)
    return model


def demo_note(model: ModelPatcher, texts: Iterable[str]) -> str:
    """Say which words of prompts the demo does not know.

    Args:
        model: The MODEL.
        texts: The prompts.

    Returns:
        Nothing for any other model, and where all words are known.
    """
    if not model.get_attachment(DEMO):
        return ""
    unknown = unknown_words(" ".join(texts))
    if not unknown:
        return ""
    near = [word for each in unknown for word in nearest_words(each)]
    meant = f" Did you mean: {', '.join(dict.fromkeys(near))}?" if near else ""
    more = " and more" if len(unknown) > _MOST_NAMED else ""
    named = ", ".join(unknown[:_MOST_NAMED]) + more
    return f"the demo does not know: {named}.{meant} It knows: {', '.join(demo_world().words)}"


def unknown_words(text: str) -> list[str]:
    """Return the words of a text that the demo was not trained on, each once.

    >>> unknown_words("a cat in the rain, moving left")
    ['cat', 'rain']
    >>> unknown_words("Red circle")  # it tells capitals apart
    ['Red']
    """
    words, known = dict.fromkeys(_LETTERS.findall(text)), demo_world().words
    return [word for word in words if word not in known and word.lower() not in _SMALL]


def nearest_words(word: str) -> list[str]:
    """Return the known word that is most like another one, if any is.

    >>> nearest_words("moves"), nearest_words("Red"), nearest_words("cat")
    (['moving'], ['red'], [])
    """
    word, words = word.lower(), demo_world().words
    begins = [known for known in words if len(word) >= _STEM and known.startswith(word[:_STEM])]
    return begins[:1] or get_close_matches(word, words, n=1, cutoff=_ALIKE)
