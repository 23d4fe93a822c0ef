"""The tiers as nox runs them, and the table of what they counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

import noxfile
from noxfile import FLOOR, PRIMARY, TIERS, Tier
from tools import run_tests

NOXFILE = """
import sys
import nox

nox.options.default_venv_backend = "none"

def tier(session):
    name = session.name
    command = (sys.executable, "-m", "pytest", f"test_{name}.py", "-q", "-p", "no:cacheprovider")
    session.run(*command, f"--junitxml=reports/{name}.xml", *session.posargs)

for name in ("one", "two"):
    nox.session(tier, name=name, allow_parallel=True)
"""


class Recorded:
    """A session that records how pytest would be started."""

    def __init__(self, *posargs: str) -> None:
        self.posargs = posargs
        self.command: tuple[str, ...] = ()
        self.options: dict[str, Any] = {}

    def run(self, *command: str, **options: Any) -> None:
        self.command, self.options = command, options


def start(tier: Tier, *posargs: str) -> Recorded:
    session = Recorded(*posargs)
    tier.run(cast(Any, session))
    return session


def test_every_tier_has_the_import_path_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    seen = {tier.name: start(tier).options["env"] for tier in TIERS}
    assert {env["PYTHONSAFEPATH"] for env in seen.values()} == {"1"}
    assert {env["OMP_NUM_THREADS"] for env in seen.values()} == {"1"}
    without_root = {name for name, env in seen.items() if env["PYTHONPATH"] == ""}
    assert without_root == {f"nodes-{PRIMARY}", f"nodes-{FLOOR}"}
    trees = {name: Path(env["COMFYUI_PATH"] or "none").name for name, env in seen.items()}
    assert trees == {
        "unit": "none",
        "farm": PRIMARY,
        "training": PRIMARY,
        "browser-pinned": PRIMARY,
        "browser-newest": PRIMARY,
        **{
            f"{tier}-{version}": version
            for tier in ("nodes", "integration")
            for version in (PRIMARY, FLOOR)
        },
    }


def test_no_tests_are_a_failure_unless_they_were_chosen() -> None:
    tier = TIERS[0]
    assert start(tier).options["success_codes"] == [0]
    chosen = start(tier, "-k", "other")
    assert chosen.options["success_codes"] == [0, 5]
    assert "-k" in chosen.command


def test_every_tier_has_its_folder(repository: Path) -> None:
    assert all(any((repository / tier.folder).rglob("test_*.py")) for tier in noxfile.TIERS)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(run_tests.environment, "ROOT", tmp_path)
    monkeypatch.setattr(run_tests, "REPORTS", tmp_path / "reports")
    monkeypatch.setattr(run_tests, "NAMES", ("one", "two"))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # nothing here needs one
    (tmp_path / "noxfile.py").write_text(NOXFILE)
    (tmp_path / "test_one.py").write_text("def test_a(): pass\ndef test_b(): pass\n")
    (tmp_path / "test_two.py").write_text("def test_a(): pass\ndef test_b(): assert False\n")
    return tmp_path


def table(printed: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:4] for line in printed.splitlines() if line}


def test_the_browser_is_started_on_demand_only(project: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(run_tests, "ON_DEMAND", "tw")
    assert run_tests.main([]) == 0
    assert run_tests.main(["two"]) != 0


def test_counts_and_exit_code(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_tests.main([]) != 0
    printed = capsys.readouterr().out
    assert table(printed)["one"] == ["2", "0", "0"]
    assert table(printed)["two"] == ["1", "1", "0"]
    assert printed.splitlines()[-1] == "3 passed, 1 failed"
    assert run_tests.main(["on", "--", "-k", "test_a or nothing"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 0 failed"


def test_pytest_that_breaks_off_counts_as_a_failure(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "test_two.py").write_text("import os\nos._exit(3)\n")
    assert run_tests.main(["two"]) != 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 passed, 1 failed"


def test_unknown_tiers_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_tests.main(["nope"])
    assert "there is no tier nope; known are nodes-0.30.0" in capsys.readouterr().err
