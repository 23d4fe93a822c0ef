"""Machines of a Ray cluster, each by the documented command, all of them on this one."""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tools.server import free_port

ROOT = Path(__file__).parents[2]
_MEMORY = str(128 * 2**20)
_TRIES = 3


@dataclass(frozen=True)
class Machine:
    """What `ray start` started, and all that was started by it since."""

    command: subprocess.Popen[bytes]

    def processes(self) -> list[psutil.Process]:
        try:
            root = psutil.Process(self.command.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def holds(self, lock: Path) -> bool:
        """Say whether a process on it has a lock open."""
        for process in self.processes():
            with suppress(psutil.Error):
                if any(Path(file.path) == lock for file in process.open_files()):
                    return True
        return False

    def serves(self) -> bool:
        """Say whether a ComfyUI server runs on it."""
        return any(_is_server(process) for process in self.processes())

    def end(self) -> None:
        """Kill everything on it, as a power cut does."""
        found = self.processes()
        for process in found:
            _send(process, signal.SIGKILL)
        psutil.wait_procs(found, 30)
        self.command.wait(30)

    def lose_touch(self) -> None:
        """Stop everything on it but its servers, as a cut cable does to whoever looks at it."""
        for process in self.processes():
            if not _is_server(process):
                _send(process, signal.SIGSTOP)

    def be_back(self) -> None:
        for process in self.processes():
            _send(process, signal.SIGCONT)


@dataclass(frozen=True)
class Machines:
    """A cluster of them.

    Args:
        address: What joins it.
        environment: Of whoever joins it: Ray's token.
        all_: Those with a core.
    """

    address: str
    environment: dict[str, str]
    all_: list[Machine]

    @classmethod
    @contextmanager
    def start(cls, base: Path, count: int) -> Iterator[Machines]:
        """Start a head without cores, and so many machines with a core each."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
        environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        # So that a machine out of reach is given up in seconds, not in a minute.
        for name, milliseconds in (("period", 1000), ("timeout", 2000), ("initial_delay", 1000)):
            environment[f"RAY_health_check_{name}_ms"] = str(milliseconds)
        # A farm of this process's own sets it, and a head that listens on loopback is not joined.
        environment.pop("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", None)
        head = ("--head", "--port", str(free_port()), "--num-cpus", "0")
        head += ("--include-dashboard", "false")
        started: list[Machine] = []
        try:
            machine, address = _start(
                base / "head.log", environment, head, r"ray start --address='([^']+)'"
            )
            started.append(machine)
            for number in range(count):
                log = base / f"machine {number}.log"
                given = ("--address", address, "--num-cpus", "1")
                started.append(_start(log, environment, given, "(--block)")[0])
            yield cls(address, environment, started[1:])
        finally:
            for machine in reversed(started):
                machine.be_back()
                machine.end()


def _start(
    log: Path, environment: dict[str, str], arguments: Sequence[str], pattern: str
) -> tuple[Machine, str]:
    """Start a machine, and return it with what it says once it is there.

    A busy computer misses Ray's own deadline, so it gets three tries, as the farm's own cluster.
    """
    ray = Path(sys.executable).with_name("ray")
    command = [str(ray), "start", *arguments, "--object-store-memory", _MEMORY, "--block"]
    for _ in range(_TRIES):
        with log.open("wb") as out:
            machine = Machine(
                subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
            )
        while machine.command.poll() is None:
            if said := re.search(pattern, log.read_text("utf-8")):
                return machine, said[1]
            time.sleep(0.2)
    raise AssertionError(log.read_text("utf-8"))


def _is_server(process: psutil.Process) -> bool:
    try:
        return "--output-directory" in process.cmdline()
    except psutil.Error:
        return False


def _send(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)
