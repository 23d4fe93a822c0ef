"""Every word on screen has its translation, and every translation belongs to a word.

English is what translations are made from: `locales/en` has all keys. A text is changed in all
languages at once, which is why numbers and choices of both have to agree.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FILES = ("commands", "main", "nodeDefs", "settings")
ROOT = Path(__file__).parents[2]
TRANSLATED = sorted(path.name for path in (ROOT / "locales").iterdir() if path.name != "en")
PAGES = sorted((ROOT / "web" / "docs").glob("*/*.md"))

NAMES = {*("CLIP", "VAE", "clip", "vae", "cfg", "crf", "fps", "a", "b"), "Latent", "AdaState"}
"""What is called the same in every language."""
SYNTAX = re.compile(r"[{}@|]")
"""What vue-i18n reads as placeholder, link or plural; all else is text, as its compiler says."""
NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
CHOICE = re.compile(r"^(\w+): ", re.MULTILINE)
HEADING = re.compile(r"^(#+) ", re.MULTILINE)
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")
CODE = re.compile(r"```.*?```", re.DOTALL)
EMPHASIS = re.compile(r"(?<!\*)(\*{1,2})(?=[^\s*])(.+?)\1(?!\*)")


def texts(content: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every text with its keys, joined by slashes."""
    if isinstance(content, dict):
        for key, inner in content.items():
            yield from texts(inner, f"{where}/{key}")
    else:
        yield where, content


def words(language: str, name: str) -> dict[str, Any]:
    file = ROOT / "locales" / language / f"{name}.json"
    return dict(texts(json.loads(file.read_text("utf-8")))) if file.exists() else {}


def numbers(text: str) -> list[str]:
    """Return the numbers of a text in order of size; languages put them in other places."""
    plain = text.translate(str.maketrans({"\u3002": " ", "\uff0c": " ", "\uff1a": " "}))
    found = {match.replace(",", "") for match in NUMBER.findall(plain)}
    return sorted(found)


def test_page_is_translated_into_chinese_and_japanese() -> None:
    assert {"ja", "zh"} <= set(TRANSLATED)


@pytest.mark.parametrize("language", ["en", *TRANSLATED])
def test_files_are_those_that_the_host_reads(language: str) -> None:
    folder = ROOT / "locales" / language
    assert {path.name for path in folder.iterdir()} <= {f"{name}.json" for name in FILES}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("language", TRANSLATED)
def test_all_languages_have_the_same_keys(language: str, name: str) -> None:
    english, translated = words("en", name), words(language, name)
    missing = sorted(set(english) - set(translated))
    stray = sorted(set(translated) - set(english))
    assert not missing, f"Translate these in locales/{language}/{name}.json: {missing}"
    assert not stray, f"No English text has these of locales/{language}/{name}.json: {stray}"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("language", ["en", *TRANSLATED])
def test_texts_are_texts_to_the_page(language: str, name: str) -> None:
    bad = {
        where: text
        for where, text in words(language, name).items()
        if not isinstance(text, str) or not text.strip() or SYNTAX.search(text)
    }
    assert not bad, f"locales/{language}/{name}.json: empty, or vue-i18n reads syntax: {bad}"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("language", TRANSLATED)
def test_nothing_is_left_in_english(language: str, name: str) -> None:
    english = words("en", name)
    left = {
        where: text
        for where, text in words(language, name).items()
        if text == english.get(where) and text not in NAMES
    }
    assert not left, f"Translate these, or add what is a name to NAMES here: {left}"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("language", TRANSLATED)
def test_translations_say_the_same_numbers(language: str, name: str) -> None:
    """What is usually forgotten when a default or a limit changes."""
    english = words("en", name)
    other = {
        where: (numbers(english[where]), numbers(text))
        for where, text in words(language, name).items()
        if where in english and numbers(english[where]) != numbers(text)
    }
    assert not other, f"locales/{language}/{name}.json: numbers there, and here: {other}"


@pytest.mark.parametrize("language", TRANSLATED)
def test_choices_keep_their_names(language: str) -> None:
    """A list offers the values in English, so that is what a tooltip has to explain."""
    golden = json.loads((ROOT / "tests/golden/node_definitions.json").read_text("utf-8"))
    english, translated = words("en", "nodeDefs"), words(language, "nodeDefs")
    for node_id, node in golden.items():
        for item in node["inputs"]:
            where = f"/{node_id}/inputs/{item['id']}/tooltip"
            for choice in set(item["options"] or ()) & set(CHOICE.findall(english[where])):
                assert choice in translated[where], f"locales/{language}{where}: no {choice}"


def test_every_node_input_and_output_has_english_words(repository: Path) -> None:
    golden = json.loads((repository / "tests/golden/node_definitions.json").read_text("utf-8"))
    english = json.loads((repository / "locales/en/nodeDefs.json").read_text("utf-8"))
    assert set(english) == set(golden), "Run tools/export_locales.py"
    for node_id, node in golden.items():
        own = english[node_id]
        assert own["display_name"] == node["display_name"], "Run tools/export_locales.py"
        assert own["description"]
        assert set(own["inputs"]) == {item["id"] for item in node["inputs"]}, node_id
        assert set(own["outputs"]) == {str(n) for n in range(len(node["outputs"]))}, node_id
        for item in (*own["inputs"].values(), *own["outputs"].values()):
            assert set(item) == {"name", "tooltip"}, node_id


def test_every_node_has_a_help_page_in_chinese(repository: Path) -> None:
    ours = {path.stem for path in (repository / "web" / "docs").glob("*.md")}
    assert ours == {path.parent.name for path in PAGES if path.stem == "zh"}


def page_of(path: Path) -> tuple[str, str]:
    """Return a translated help page and the English one."""
    return path.read_text("utf-8"), (path.parent.parent / f"{path.parent.name}.md").read_text(
        "utf-8"
    )


def table_of_inputs(page: str) -> list[tuple[str, str]]:
    """Return name and id of the inputs a translated page lists; the id stands below the name."""
    rows = re.findall(r"^\| \*\*(.+?)\*\*(?:<br>(\w+))? \|", page.split("\n## ")[2], re.MULTILINE)
    return [(name, key or name) for name, key in rows]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_translated_help_page_says_what_the_english_one_says(path: Path) -> None:
    page, english = page_of(path)
    assert HEADING.findall(page) == HEADING.findall(english), "the same headings"
    # The page looks for pictures beside the English pages, whatever the language.
    assert [p[1] for p in PICTURE.findall(page)] == [p[1] for p in PICTURE.findall(english)]
    assert all(p[0] for p in PICTURE.findall(page))
    assert CODE.findall(page) == CODE.findall(english)
    for start in ("|", "- ", "!", "> "):
        ours, theirs = (
            [line for line in text.splitlines() if line.startswith(start)]
            for text in (page, english)
        )
        assert len(ours) == len(theirs), f"as many lines that begin with {start!r}"
        for our, their in zip(ours, theirs, strict=True):
            assert numbers(our) == numbers(their), f"numbers:\n{our}\n{their}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_translated_help_page_uses_the_names_on_the_node(path: Path) -> None:
    page, english = page_of(path)
    defs = json.loads((ROOT / "locales" / path.stem / "nodeDefs.json").read_text("utf-8"))
    node = defs[path.parent.name]
    begin = english.split("\n", 1)[0].removeprefix("# ")
    assert page.startswith(f"# {node['display_name']} \u00b7 {begin}\n")
    inputs = table_of_inputs(page)
    assert inputs == [(node["inputs"][key]["name"], key) for _, key in inputs]
    assert {key for _, key in inputs} == set(node["inputs"])
    outputs = re.findall(r"^\| \*\*(.+?)\*\* \|", page.split("\n## ")[3], re.MULTILINE)
    assert outputs == [item["name"] for item in node["outputs"].values()]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_emphasis_in_a_translated_help_page_shows(path: Path) -> None:
    """Markdown leaves stars as they are between punctuation and a letter, with no space there."""
    text = re.sub(r"`[^`]*`", "", CODE.sub("", path.read_text("utf-8")))
    for stars, inner in (found for line in text.split("\n") for found in EMPHASIS.findall(line)):
        assert re.fullmatch(r"\w|\w.*\w", inner), f"{path}: {stars}{inner}{stars}"
        assert stars == "**" or inner.isascii(), f"{path}: quote {inner}, in place of italics"
