"""What the browser tier needs: found, installed where that is allowed, else told in one line."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tools import browser, environment

pytestmark = pytest.mark.skipif(not hasattr(browser.os, "geteuid"), reason="needs a Unix")


class Machine:
    """A machine with some commands, which knows what was run on it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, user: int = 0) -> None:
        self.commands: set[str] = set()
        self.broken: set[str] = set()
        self.ran: list[str] = []
        monkeypatch.setattr(browser.shutil, "which", self.which)
        monkeypatch.setattr(browser, "_runs", self.run)
        monkeypatch.setattr(browser.os, "geteuid", lambda: user)
        monkeypatch.delenv("CHROMIUM_PATH", raising=False)

    def which(self, name: str) -> str | None:
        return f"/bin/{name}" if name in self.commands else None

    def run(self, command: Sequence[str]) -> bool:
        name = Path(command[0]).name
        if command[-1] == "--version":
            return name in self.commands - self.broken
        self.ran.append(" ".join(command))
        if name not in self.commands and name != "env":
            return False
        if "install" in command:
            self.commands.add("chromium")
        return True


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_the_given_chromium_goes_before_the_systems(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.commands = {"google-chrome", "mine"}
    assert browser.find_chromium() == Path("/bin/google-chrome")
    monkeypatch.setenv("CHROMIUM_PATH", "/opt/mine")
    assert browser.find_chromium() == Path("/opt/mine")
    monkeypatch.setenv("CHROMIUM_PATH", "/opt/gone")
    with pytest.raises(environment.SetupError, match="/opt/gone, which does not start"):
        browser.find_chromium()


def test_one_that_does_not_start_is_none(machine: Machine) -> None:
    machine.commands = machine.broken = {"chromium"}
    assert browser.find_chromium() is None


def test_root_installs_it_from_the_distribution(machine: Machine) -> None:
    machine.commands = {"apt-get"}
    assert browser.install_chromium() == Path("/bin/chromium")
    assert all(not line.startswith("sudo") for line in machine.ran)


def test_others_install_it_only_where_sudo_asks_for_no_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(monkeypatch, user=1000)
    machine.commands = {"apt-get"}
    assert browser.install_chromium() is None
    assert machine.ran == []
    machine.commands.add("sudo")
    assert browser.install_chromium() == Path("/bin/chromium")
    assert all(line.startswith("sudo -n ") for line in machine.ran)


def test_without_one_a_single_line_says_what_to_install(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(browser.run_tests, "main", lambda _: pytest.fail("has no browser"))
    assert browser.main([]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line == browser.SKIPPED
    assert "apt-get install chromium" in line
    assert machine.ran == []


def test_arguments_reach_the_tier(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.commands = {"chromium"}
    told: list[Sequence[str]] = []
    monkeypatch.setattr(browser.environment, "install", lambda *_: None)
    monkeypatch.setattr(browser, "fetch_page", lambda: None)
    monkeypatch.setattr(browser.run_tests, "main", lambda given: told.append(given) or 0)
    monkeypatch.setenv("CHROMIUM_PATH", "")
    assert browser.main(["--", "-k", "render"]) == 0
    assert told == [["browser", "--", *browser.AGAIN, "-k", "render"]]


def test_another_page_than_the_expected_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "CACHE", tmp_path)

    def pip(*arguments: str) -> bool:
        (Path(arguments[arguments.index("--dest") + 1]) / "page.whl").touch()
        return True

    monkeypatch.setattr(environment, "_pip", pip)
    with pytest.raises(environment.SetupError, match="is not the expected one"):
        browser.fetch_page()
    assert list((tmp_path / "frontend").iterdir()) == []


def test_the_newest_page_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "CACHE", tmp_path)

    def download(package: str, sha256: str, folder: Path) -> Path:
        with zipfile.ZipFile(folder / "page.whl", "w") as archive:
            archive.writestr("comfyui_frontend_package/static/index.html", "page")
            archive.writestr("comfyui_frontend_package/__init__.py", "")
        return folder / "page.whl"

    monkeypatch.setattr(environment, "download", download)
    folder = browser.fetch_page()
    assert [path.name for path in folder.iterdir()] == ["index.html"]
    monkeypatch.delattr(environment, "download")
    assert browser.fetch_page() == folder
