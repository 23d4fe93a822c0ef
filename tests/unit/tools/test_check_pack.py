"""The import rules see what they are there to forbid, in a pack of the real names and no code."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("importlinter")

from tools import check_pack


@pytest.fixture
def view(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a pack of all modules, of which none imports another."""
    for part in ("nodes", "adastate_comfy", "adastate_core"):
        for source in (repository / part).rglob("*.py"):
            module = tmp_path / check_pack.NAME / source.relative_to(repository)
            module.parent.mkdir(parents=True, exist_ok=True)
            module.touch()
    (tmp_path / check_pack.NAME / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def test_a_pack_without_imports_passes(view: Path) -> None:
    assert check_pack.check_imports(view)


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("adastate_core/layout.py", "from .. import adastate_comfy", "nodes over adastate_comfy"),
        ("adastate_comfy/sockets.py", "from ..nodes import load", "nodes over adastate_comfy"),
        ("adastate_core/rollout/noise.py", "from ...nodes import load", "nodes over"),
        ("nodes/stream.py", "from .load import x", "no node reads another"),
        ("nodes/stream.py", "def f():\n    from . import load", "no node reads another"),
        ("adastate_core/layout.py", "from .stream import state", "packages of adastate_core"),
        (
            "adastate_core/files/names.py",
            "from ..rollout import noise",
            "packages of adastate_core",
        ),
    ],
)
def test_an_import_against_the_rules_is_reported(
    view: Path, capsys: pytest.CaptureFixture[str], module: str, line: str, broken: str
) -> None:
    (view / check_pack.NAME / module).write_text(line + "\n")
    assert not check_pack.check_imports(view)
    said = " ".join(capsys.readouterr().out.split())
    assert broken in said.partition("Broken contracts")[2]
    assert module.removesuffix(".py").replace("/", ".").rpartition(".")[2] in said


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("nodes/stream.py", "from ..adastate_comfy import sockets\nfrom .. import adastate_core"),
        ("adastate_core/rollout/noise.py", "from ..stream import state"),
        ("adastate_core/files/names.py", "from .schema import x"),
    ],
)
def test_imports_that_go_down_pass(view: Path, module: str, line: str) -> None:
    (view / check_pack.NAME / module).write_text(line + "\n")
    assert check_pack.check_imports(view)


def test_the_view_is_the_pack_under_its_fixed_name(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "old").touch()
    check_pack.make_view(tmp_path / "pack")
    assert [path.name for path in (tmp_path / "pack").iterdir()] == [check_pack.NAME]
    made = tmp_path / "pack" / check_pack.NAME
    assert {path.name for path in made.iterdir()} == set(check_pack.PARTS)
    for part in ("__init__.py", "adastate_core/layout.py"):
        assert (made / part).read_bytes() == (repository / part).read_bytes()
