"""Every text of the page's scripts can be said in every language that the pack has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tools.script_texts import JOINED, offered_texts, script_texts, scripts, unquote

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "web" / "js"
LANGUAGES = sorted(path.name for path in (ROOT / "locales").iterdir())
PLACE = re.compile(r"<\w+>")
BARE = re.compile(
    r"\b(?:text|title|textContent|placeholder|ariaLabel|summary)\b:\s*[\"'`][A-Za-z]"
    r"|\"(?:aria-label|aria-roledescription)\"[:,]\s*[\"'`]"
    r"|\bsay\(\s*\"\w+\",\s*[\"'`]"
)
"""A text that is shown as it stands, in English for all."""


def read(language: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        (ROOT / "locales" / language / f"{name}.json").read_text("utf-8")
    )
    return found


def test_strings_of_scripts_are_read_as_scripts_mean_them() -> None:
    assert unquote(r'"a \"b\" \u00b7 " +' + "\n  'c\\'s'") == 'a "b" \u00b7 c\'s'
    assert re.fullmatch(JOINED, '"a" +\n    "b"')


def test_english_has_what_the_scripts_say() -> None:
    texts = script_texts(SCRIPTS)
    assert len(texts) > 100
    assert read("en", "main")["adastate"] == {text: text for text in texts}, (
        "Run tools/export_locales.py"
    )


def test_settings_and_commands_are_called_what_the_scripts_call_them() -> None:
    known = [*read("en", "settings").values(), *read("en", "commands").values()]
    assert {text for each in known for text in each.values()} == offered_texts(SCRIPTS)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_has_its_translation_with_the_same_values(language: str) -> None:
    said = read(language, "main")["adastate"]
    assert set(said) == set(read("en", "main")["adastate"]), "the same texts"
    for text, translation in said.items():
        # "1 chunk" may need no number in words, but these languages write it.
        assert sorted(PLACE.findall(text)) == sorted(PLACE.findall(translation)), text


def test_no_text_is_shown_as_it_stands() -> None:
    for script in scripts(SCRIPTS):
        assert not (bare := BARE.search(script)), script[bare.start() :][:80]
