"""Every node explains itself: tooltips in its schema, and a help page that agrees with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

PICTURE = re.compile(r"!\[(?P<text>[^\]]*)\]\((?P<target>[^)]+)\)")
LINK = re.compile(r"(?<!!)\[[^\]]+\]\((?P<target>[^)#]+)\)")


@pytest.fixture(scope="session")
def schemas(node_classes: dict[str, Any]) -> dict[str, Any]:
    return {node_id: cls.GET_SCHEMA() for node_id, cls in node_classes.items()}


@pytest.fixture(scope="session")
def pages(repository: Path) -> dict[str, str]:
    folder = repository / "web" / "docs"
    return {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}


def section(page: str, title: str) -> str:
    """Return the text under a heading of the second level, empty without one."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    return found.group(1) if found else ""


def rows(page: str, title: str) -> list[list[str]]:
    """Return the cells of the table in a section, without its head; names without stars."""
    lines = [line for line in section(page, title).splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return [[first.strip("*"), *rest] for first, *rest in cells]


def shown_default(text: str) -> str | None:
    """Return what a row of the table of inputs says of leaving the input alone."""
    if text.startswith("Optional. "):
        return "optional"
    found = re.search(r" Default: (.+)\.$", text)
    return found.group(1) if found else None


def defined_default(item: Any) -> str | None:
    default = getattr(item, "default", None)
    if default not in (None, ""):
        return str(default)
    return "optional" if item.optional else None


def shown_name(output: Any) -> str:
    return output.display_name or output.io_type


def test_every_node_has_a_page_and_every_page_a_node(
    schemas: dict[str, Any], pages: dict[str, str]
) -> None:
    assert set(pages) == set(schemas), "One page a node: web/docs/<NodeId>.md"


def test_page_begins_with_the_name_of_its_node(
    schemas: dict[str, Any], pages: dict[str, str]
) -> None:
    for node_id, schema in schemas.items():
        heading, blank, sentence = pages[node_id].split("\n")[:3]
        assert heading == f"# {schema.display_name}"
        assert not blank
        assert sentence.endswith(".")
        assert section(pages[node_id], "When to use it")


def test_input_tables_agree_with_the_schema(schemas: dict[str, Any], pages: dict[str, str]) -> None:
    for node_id, schema in schemas.items():
        written = [(name, shown_default(text)) for name, text in rows(pages[node_id], "Inputs")]
        defined = [(item.id, defined_default(item)) for item in schema.inputs]
        assert written == defined, f"web/docs/{node_id}.md, table of inputs: name and default"


def test_output_tables_agree_with_the_schema(
    schemas: dict[str, Any], pages: dict[str, str]
) -> None:
    for node_id, schema in schemas.items():
        written = [name for name, _ in rows(pages[node_id], "Outputs")]
        assert written == [shown_name(o) for o in schema.outputs], f"web/docs/{node_id}.md, outputs"


def test_choices_of_an_input_are_explained(schemas: dict[str, Any], pages: dict[str, str]) -> None:
    explained = {("AdaStateApply", "anchor"), ("AdaStateReset", "scope")}
    for node_id, name in explained:
        (item,) = [item for item in schemas[node_id].inputs if item.id == name]
        (text,) = [row[1] for row in rows(pages[node_id], "Inputs") if row[0] == name]
        for option in item.options:
            assert f"*{option}*:" in text, f"web/docs/{node_id}.md does not explain {option}"


def test_everything_in_a_schema_is_described(schemas: dict[str, Any]) -> None:
    for node_id, schema in schemas.items():
        assert schema.description.endswith("."), node_id
        assert schema.category.split("/")[0] == "AdaState", node_id
        for item in [*schema.inputs, *schema.outputs]:
            assert item.tooltip, f"{node_id}: {item.id} has no tooltip"
            assert item.tooltip.rstrip().endswith("."), f"{node_id}: {item.id}"


def test_pictures_exist_are_described_and_small(repository: Path, pages: dict[str, str]) -> None:
    folder = repository / "web" / "docs"
    used = set()
    for node_id, page in pages.items():
        for found in PICTURE.finditer(page):
            path = folder / found["target"]
            assert found["text"], f"{node_id}: say what {found['target']} shows"
            assert path.stat().st_size < 400_000
            with Image.open(path) as picture:
                assert picture.width <= 1600
            used.add(path.name)
    kept = {path.name for path in folder.iterdir() if path.is_file() and path.suffix != ".md"}
    assert kept == used, "Remove pictures that no page shows"


def test_readme_lists_every_node_and_workflow(repository: Path, schemas: dict[str, Any]) -> None:
    readme = (repository / "README.md").read_text(encoding="utf-8")
    for node_id, schema in schemas.items():
        assert f"[{schema.display_name}](web/docs/{node_id}.md)" in readme
    for path in (repository / "workflows").glob("*.json"):
        assert f"[{path.stem}](workflows/{path.name.replace(' ', '%20')})" in readme


@pytest.mark.parametrize(
    "name",
    [
        *("README.md", "CONTRIBUTING.md", "CHANGELOG.md"),
        *("docs/architecture.md", "docs/families.md", "docs/examples/README.md"),
    ],
)
def test_links_of_the_documents_lead_somewhere(repository: Path, name: str) -> None:
    document = repository / name
    text = document.read_text(encoding="utf-8")
    targets = [m["target"] for m in [*LINK.finditer(text), *PICTURE.finditer(text)]]
    missing = [
        target
        for target in targets
        if not target.startswith(("http://", "https://"))
        and not (document.parent / target.replace("%20", " ")).exists()
    ]
    assert not missing
