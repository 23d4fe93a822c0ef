"""Set-up decisions that need no network."""

from __future__ import annotations

import platform
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools import environment
from tools.environment import SetupError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "CACHE", tmp_path)
    monkeypatch.setattr(environment, "VENV", tmp_path / "venv")
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.delenv("COMFYUI_PYTHON", raising=False)


@pytest.fixture
def trees(tmp_path: Path) -> None:
    for version in environment.TREES:
        fake_tree(tmp_path / "comfyui" / version)


class Machine:
    """A virtual environment in which nothing is installed, but all of it is recorded."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / environment._SCRIPTS
        self.has_uv = True
        self.uv_works = True
        self.up_to_date = False
        self.installed: list[str] = []

    def make(self) -> None:
        self.bin.mkdir(parents=True, exist_ok=True)
        (self.bin / f"python{environment._SUFFIX}").touch()
        version = f"version = {platform.python_version()}\n"
        (self.bin.parent / "pyvenv.cfg").write_text(version)

    def run(
        self,
        command: Sequence[str],
        settings: Mapping[str, str] | None = None,
        *,
        quiet: bool = False,
    ) -> bool:
        by, pins = Path(command[0]).stem, [Path(part).stem for part in command if ".txt" in part]
        if pins == ["uv"]:
            if self.has_uv:
                (self.bin / f"uv{environment._SUFFIX}").touch()
            return self.has_uv
        if "--offline" in command:
            return self.up_to_date
        if by == "uv" and not self.uv_works:
            return False
        self.installed.append(f"{by}: {' '.join(pins)}")
        return True


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine(tmp_path / "venv")
    monkeypatch.setattr(environment, "_succeeds", machine.run)
    monkeypatch.setattr(environment, "_uv_settings", dict)
    monkeypatch.setattr(environment, "_setup_venv", machine.make)
    return machine


def fake_tree(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "main.py").touch()
    return path


def test_override_replaces_only_the_primary_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path / "mine"))
    assert environment.tree_path() == tmp_path / "mine"
    assert environment.tree_path(environment.FLOOR) == tmp_path / "comfyui" / environment.FLOOR


def test_override_without_comfyui_is_refused_before_packages_are_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: Machine
) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(SetupError, match=r"COMFYUI_PATH names .* holds no ComfyUI"):
        environment.setup()
    assert machine.installed == []


@pytest.mark.usefixtures("trees")
def test_packages_are_installed_by_uv_until_nothing_is_missing(machine: Machine) -> None:
    environment.setup(dev=True)
    assert machine.installed == ["uv: host dev farm", "uv: convert"]
    machine.up_to_date = True
    environment.setup(dev=True)
    assert len(machine.installed) == 2


@pytest.mark.usefixtures("trees")
@pytest.mark.parametrize("broken", ["has_uv", "uv_works"])
def test_pip_stands_in_for_uv(machine: Machine, broken: str) -> None:
    setattr(machine, broken, False)
    environment.setup()
    assert machine.installed == ["python: host", "python: convert"]


@pytest.mark.usefixtures("trees")
def test_without_an_index_the_reason_is_one_sentence(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environment, "_succeeds", lambda *_, **__: False)
    assert environment.main(["setup"]) == 1
    assert "check the network connection or pip's index settings" in capsys.readouterr().err


def test_what_pip_is_told_is_told_to_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = (
        ":env:.index-url='https://one.example/simple'\n"
        "global.extra-index-url='https://two.example/simple\\nhttps://three.example/simple'\n"
        "global.find-links='wheels more'\n"
        "global.index-url='https://other.example/simple'\n"
        "global.trusted-host='two.example'\n"
        "install.timeout='60'\n"
    )
    monkeypatch.setattr(
        environment.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=listed)
    )
    assert environment._uv_settings() == {
        "UV_DEFAULT_INDEX": "https://one.example/simple",
        "UV_INDEX": "https://two.example/simple https://three.example/simple",
        "UV_FIND_LINKS": "wheels,more",
        "UV_INSECURE_HOST": "two.example",
        "UV_HTTP_TIMEOUT": "60",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


@pytest.mark.usefixtures("trees")
def test_a_second_set_up_waits_for_the_first(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    holding, finish = threading.Event(), threading.Event()

    def hold() -> None:
        with environment._only_one():
            holding.set()
            finish.wait(20)

    first = threading.Thread(target=hold)
    first.start()
    assert holding.wait(20)
    second = threading.Thread(target=environment.setup)
    second.start()
    second.join(0.3)
    assert second.is_alive()
    assert machine.installed == []
    finish.set()
    first.join(20)
    second.join(20)
    assert machine.installed == ["uv: host", "uv: convert"]
    assert "waiting for another set-up" in capsys.readouterr().out


def test_an_environment_is_made_again_for_another_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Machine(tmp_path / "venv")
    calls: list[object] = []
    monkeypatch.setattr(environment.subprocess, "run", lambda *a, **_: calls.append(a))
    made.make()
    environment._setup_venv()
    assert calls == []
    (tmp_path / "venv" / "pyvenv.cfg").write_text("version = 3.9.1\n")
    environment._setup_venv()
    assert len(calls) == 1


def test_own_interpreter_is_used_and_nothing_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: Machine
) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(fake_tree(tmp_path / "mine")))
    monkeypatch.setenv("COMFYUI_PYTHON", sys.executable)
    monkeypatch.setattr(environment, "_check_host_python", lambda python: None)
    environment.setup()
    assert machine.installed == []
    assert environment.host_python() == Path(sys.executable)


def test_interpreter_that_does_not_run_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYUI_PYTHON", str(tmp_path / "nothing"))
    with pytest.raises(SetupError, match=r"COMFYUI_PYTHON names .*nothing, which does not run"):
        environment.setup()


def test_old_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment.sys, "version_info", (3, 9, 1))
    with pytest.raises(SetupError, match=r"Python 3\.11 or newer is needed"):
        environment.setup()


def test_every_pin_names_one_version() -> None:
    for pins in environment.PINS.glob("*.txt"):
        lines = [line for line in pins.read_text().splitlines() if not line.startswith("#")]
        assert lines
        assert all(line.count("==") == 1 for line in lines), pins
