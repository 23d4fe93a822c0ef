"""Rules about the repository as a whole; each failure says what to do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import tomllib
from PIL import Image

SHIPPED = {
    *(
        "__init__.py",
        "adastate_comfy",
        "adastate_core",
        "assets",
        "locales",
        "nodes",
        "subgraphs",
        "web",
        "workflows",
    ),
    *("LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "requirements.txt"),
}
# The registry flags a version for any of these, wherever it finds them.
TRIPWIRES = re.compile(
    r"^\s*(import|from)\s+(subprocess|urllib|requests|socket|pickle|marshal|ctypes)\b"
    r"|\bos\.(environ|getenv|system|popen)\b|\btorch\.load\(|(?<![.\w])(eval|exec)\(|__import__"
)


def listed(repository: Path, *options: str) -> set[str]:
    command = ["git", "ls-files", "--cached", "--others", *options]
    try:
        done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git and a working copy")
    return {name for name in done.stdout.splitlines() if (repository / name).is_file()}


@pytest.fixture(scope="module")
def sources(repository: Path) -> set[str]:
    """Return all files that are, or could be, committed."""
    return listed(repository, "--exclude-standard")


@pytest.fixture(scope="module")
def archive(repository: Path, sources: set[str]) -> set[str]:
    """Return the files a published archive holds."""
    return sources - listed(repository, "--ignored", "--exclude-from=.comfyignore")


def test_no_link_is_versioned(repository: Path) -> None:
    command = ["git", "ls-files", "--stage"]
    try:
        done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs git and a working copy")
    links = [line for line in done.stdout.splitlines() if line.startswith("120000")]
    assert not links, f"A link in place of a folder empties it where it is merged: {links}"


def test_archive_holds_only_what_users_need(archive: set[str]) -> None:
    extra = {name for name in archive if name.split("/")[0] not in SHIPPED}
    assert not extra, f"Add these to .comfyignore, or to SHIPPED here: {sorted(extra)}"
    assert "__init__.py" in archive


def test_archive_holds_all_that_users_need(archive: set[str], sources: set[str]) -> None:
    folders = (
        "nodes/",
        "adastate_comfy/",
        "adastate_core/",
        "web/",
        "workflows/",
        "subgraphs/",
        "assets/",
        "locales/",
    )
    needed = {n for n in sources if n.startswith(folders) and not n.endswith("ruff.toml")}
    assert needed <= archive, sorted(needed - archive)
    assert {"web/docs/AdaStateStream.md", "README.md", "LICENSE"} <= archive


def test_archive_trips_no_security_scan(repository: Path, archive: set[str]) -> None:
    found = [
        f"{name}:{number}: {line.strip()}"
        for name in sorted(archive)
        if name.endswith((".py", ".js", ".mjs"))
        for number, line in enumerate((repository / name).read_text("utf-8").splitlines(), 1)
        if TRIPWIRES.search(line)
    ]
    assert not found, "Shipped code must do without these:\n" + "\n".join(found)


def test_python_sources_are_ascii(repository: Path, sources: set[str]) -> None:
    bad = [
        name
        for name in sources
        if name.endswith(".py") and not (repository / name).read_bytes().isascii()
    ]
    assert not bad, f"Keep .py files ASCII (some Windows set-ups read them as cp1252): {bad}"


def test_python_sources_stay_readable(repository: Path, sources: set[str]) -> None:
    long = {
        name: lines
        for name in sources
        if name.endswith(".py")
        and (lines := len((repository / name).read_text("utf-8").splitlines())) > 400
    }
    assert not long, f"Split these by concept, 400 lines are the ceiling: {long}"


def test_python_sources_are_laid_out_by_the_formatter_alone(
    repository: Path, sources: set[str]
) -> None:
    exempt = [
        f"{name}:{number}"
        for name in sorted(sources)
        if name.endswith(".py")
        for number, line in enumerate((repository / name).read_text("utf-8").splitlines(), 1)
        if re.search(r"#\s*fmt:\s*(skip|off)", line)
    ]
    assert not exempt, f"Let the formatter have its way here: {exempt}"


def test_test_folders_are_no_packages(sources: set[str]) -> None:
    allowed = {"tests/support/test_nodes_pack/__init__.py"}
    packages = {n for n in sources if n.startswith("tests/") and n.endswith("__init__.py")}
    assert packages <= allowed, "pytest would import the pack's root; see tests/conftest.py"


def test_every_module_of_the_core_has_its_tests(sources: set[str]) -> None:
    modules = {
        name.removeprefix("adastate_core/")
        for name in sources
        if name.startswith("adastate_core/") and name.endswith(".py")
    }
    modules = {name for name in modules if not name.endswith("__init__.py")}
    tests = {
        name.removeprefix("tests/unit/core/").replace("test_", "", 1)
        for name in sources
        if re.fullmatch(r"tests/unit/core/(.+/)?test_\w+\.py", name)
    }
    missing = sorted(modules - tests)
    assert not missing, f"Write tests/unit/core/<folder>/test_<module>.py for {missing}"
    # A second file of one module has its name and an aspect: test_named_stream_folder.py.
    stems = tuple(name.removesuffix(".py") for name in modules)
    stray = sorted(name for name in tests - modules if not name.startswith(stems))
    assert not stray, f"Name these after the module that they test: {stray}"


def test_requirements_are_the_same_in_both_files(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    lines = (repository / "requirements.txt").read_text().splitlines()
    assert project["dependencies"] == [line for line in lines if not line.startswith("#")]


def test_hooks_and_checks_use_the_same_ruff(repository: Path, sources: set[str]) -> None:
    pins = {
        name: found
        for name in sources
        if name.endswith((".yaml", ".toml", ".txt"))
        and (found := set(re.findall(r"\bruff==([\d.]+)", (repository / name).read_text("utf-8"))))
    }
    assert len(pins) > 1, "Pin ruff for `make check` and in .pre-commit-config.yaml."
    assert len(set().union(*pins.values())) == 1, f"Pin one ruff everywhere: {pins}"


def test_changelog_has_a_dated_section_for_the_version(repository: Path) -> None:
    version = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["version"]
    changelog = (repository / "CHANGELOG.md").read_text("utf-8")
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}$", changelog, re.MULTILINE)
    named = re.findall(r"^## \[(.+?)\]", changelog, re.MULTILINE)
    assert named == ["Unreleased", *released], "Every version but the next one has a date."
    assert released[0] == version
    assert set(named) == set(re.findall(r"^\[(.+?)\]: https://", changelog, re.MULTILINE))


def test_images_of_the_registry_have_the_sizes_it_asks_for(repository: Path) -> None:
    pyproject = tomllib.loads((repository / "pyproject.toml").read_text())
    home = pyproject["project"]["urls"]["Repository"].removeprefix("https://github.com/")
    for field in ("Icon", "Banner"):
        where = pyproject["tool"]["comfy"][field]
        begin = f"https://raw.githubusercontent.com/{home}/main/"
        assert where.startswith(begin)
        file = repository / where.removeprefix(begin)
        assert file.stat().st_size < 250_000
        with Image.open(file) as image:
            if field == "Icon":
                assert image.width == image.height <= 400
            else:
                assert image.width * 9 == image.height * 21
