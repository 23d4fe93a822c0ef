"""Set-up decisions that need no network."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import pytest

from tools import host
from tools.host import SetupError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "CACHE", tmp_path)
    monkeypatch.setattr(host, "VENV", tmp_path / "venv")
    monkeypatch.setattr(host, "LOG", tmp_path / "setup.log")
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.delenv("COMFYUI_PYTHON", raising=False)


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Record what pip would be asked, and give the environment an interpreter."""
    calls: list[tuple[str, ...]] = []

    def create() -> None:
        host.venv_python().parent.mkdir(parents=True)
        host.venv_python().touch()

    monkeypatch.setattr(host, "_pip", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(host, "_create_venv", create)
    return calls


def fake_tree(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "main.py").touch()
    return path


def installed(calls: list[tuple[str, ...]]) -> list[str]:
    return [Path(call[-1]).stem for call in calls]


def test_override_replaces_only_the_primary_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path / "mine"))
    assert host.tree_path() == tmp_path / "mine"
    assert host.tree_path(host.FLOOR) == tmp_path / "comfyui" / host.FLOOR


def test_override_without_comfyui_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pip: list[tuple[str, ...]]
) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(SetupError, match=r"COMFYUI_PATH names .* holds no ComfyUI"):
        host.setup()
    assert pip == []  # found out before minutes go into packages


def test_a_second_set_up_waits_for_the_first(
    tmp_path: Path, pip: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    fake_tree(tmp_path / "comfyui" / host.PRIMARY)
    holding, finish = threading.Event(), threading.Event()

    def hold() -> None:
        with host._only_one():
            holding.set()
            finish.wait(20)

    first = threading.Thread(target=hold)
    first.start()
    assert holding.wait(20)
    second = threading.Thread(target=host.setup)
    second.start()
    second.join(0.3)
    assert second.is_alive()
    assert pip == []
    finish.set()
    first.join(20)
    second.join(20)
    assert installed(pip) == ["torch", "host", "convert"]
    assert "waiting for another set-up" in capsys.readouterr().out


def test_unchanged_pins_are_installed_once(tmp_path: Path, pip: list[tuple[str, ...]]) -> None:
    fake_tree(tmp_path / "comfyui" / host.PRIMARY)
    host.setup()
    assert installed(pip) == ["torch", "host", "convert"]
    host.setup()
    assert len(pip) == 3
    host.setup(dev=True)
    assert installed(pip)[3:] == ["dev"]


def test_another_interpreter_makes_a_new_environment(
    tmp_path: Path, pip: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tree(tmp_path / "comfyui" / host.PRIMARY)
    host.setup()
    stamp = host.VENV / "adastate-stamp.json"
    stamp.write_text(json.dumps({**json.loads(stamp.read_text()), "python": "2.7"}))
    monkeypatch.setattr(host, "_create_venv", lambda: None)
    host.setup()
    assert installed(pip) == ["torch", "host", "convert"] * 2


def test_own_interpreter_is_used_and_nothing_installed(
    tmp_path: Path, pip: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(fake_tree(tmp_path / "mine")))
    monkeypatch.setenv("COMFYUI_PYTHON", sys.executable)
    monkeypatch.setattr(host, "_check_host_python", lambda python: None)
    host.setup()
    assert pip == []
    assert host.host_python() == Path(sys.executable)


def test_interpreter_that_does_not_run_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYUI_PYTHON", str(tmp_path / "nothing"))
    with pytest.raises(SetupError, match=r"COMFYUI_PYTHON names .*nothing, which does not run"):
        host.setup()


def test_old_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.sys, "version_info", (3, 9, 1))
    with pytest.raises(SetupError, match=r"Python 3\.11 or newer is needed"):
        host.setup()


def test_unknown_version_is_refused() -> None:
    with pytest.raises(SetupError, match=r"Unknown ComfyUI version 0\.1"):
        host.setup(versions=["0.1"])


@pytest.mark.parametrize(
    ("output", "calls", "message"),
    [
        ("Failed to establish a new connection: refused", 2, "package index cannot be reached"),
        ("ERROR: No matching distribution found for x", 1, "pip failed"),
    ],
)
def test_pip_failure_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, calls: int, message: str
) -> None:
    counter = tmp_path / "calls"
    script = tmp_path / "venv" / "bin" / "python"
    script.parent.mkdir(parents=True)
    script.write_text(f"#!/bin/sh\necho x >> {counter}\necho '{output}'\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(host, "ROOT", tmp_path)
    with pytest.raises(SetupError, match=message):
        host._pip("install", "x")
    assert counter.read_text().count("x") == calls


def test_every_pin_names_one_version() -> None:
    for pins in host.PINS.glob("*.txt"):
        lines = [line for line in pins.read_text().splitlines() if not line.startswith("#")]
        assert lines
        assert all(line.count("==") == 1 for line in lines), pins
