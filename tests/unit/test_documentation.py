"""What the documents say of the code is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FLOORS = ("", "adastate_core", "adastate_comfy", "nodes", "docs", "tests/unit")
NAMED = re.compile(r"`([\w./-]+\.(?:py|ini|toml|md)|[\w-]+(?:/[\w-]+)*/)`")
CLASS = re.compile(r"`([\w/]+\.py)`: `(\w+)`")


@pytest.mark.parametrize(
    ("name", "least"), [("CONTRIBUTING.md", 50), ("docs/architecture.md", 50), ("README.md", 1)]
)
def test_files_that_a_document_names_exist(repository: Path, name: str, least: int) -> None:
    """A bare file name may be of any folder: a paragraph about a package names its modules so."""
    text = (repository / name).read_text("utf-8")
    known = {path.name for floor in FLOORS[1:4] for path in (repository / floor).rglob("*.py")}
    known |= {f"{path.name}/" for floor in FLOORS[1:4] for path in (repository / floor).rglob("*/")}
    tails = {
        "/".join(path.parts[-2:]) for f in FLOORS[1:4] for path in (repository / f).rglob("*.py")
    }
    named = NAMED.findall(text)
    assert len(named) >= least
    missing = {
        found
        for found in named
        if not any((repository / floor / found).exists() for floor in FLOORS)
        and found not in known | tails
    }
    # Tests leave their pictures there; a fresh clone has no such folder.
    missing -= {"output/browser/"}
    assert missing <= {"__init__.py"}, f"{name} names what is not there: {sorted(missing)}"


def test_classes_of_the_glossary_exist(repository: Path) -> None:
    found = CLASS.findall((repository / "CONTRIBUTING.md").read_text("utf-8"))
    assert len(found) > 5
    for path, name in found:
        source = (repository / "adastate_core" / path).read_text("utf-8")
        assert re.search(rf"^class {name}\b", source, re.MULTILINE), f"{path} has no {name}"
