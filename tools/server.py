"""Run a real, headless ComfyUI with this pack for as long as a `with` block lasts.

Owns the base directory's layout, the process and its log. It does not talk to the API beyond
waiting until the server answers (see `client.py`).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType

PACK_FOLDER = "adastate"
_FOLDERS = ("custom_nodes", "input", "models", "output", "temp", "user")
_TAIL_LINES = 40


class ServerError(RuntimeError):
    """ComfyUI did not start, died, or could not import a pack; carries the end of its log."""

    def __init__(self, message: str, log_tail: str = "") -> None:
        self.log_tail = log_tail
        super().__init__(f"{message}\n{log_tail}" if log_tail else message)


class ComfyServer:
    """A ComfyUI process on a free local port, stopped whatever happens in the `with` block.

    Args:
        tree: ComfyUI's root, the folder with `main.py`.
        python: Interpreter that has ComfyUI's requirements.
        base_dir: Folder for models, input, output and custom nodes; created when missing.
        pack_dir: The pack, linked in as `custom_nodes/adastate`.
        args: Further command line flags, such as `--cache-none`.
        extra_packs: Further custom nodes to load, folder name to source folder.
        device_args: Where ComfyUI computes; empty lets it choose.
        ready_timeout: Seconds until the server must answer.
        launcher: What runs ComfyUI's command line, such as `nice`; nothing by default.
        pass_fds: Descriptors that the process inherits.
    """

    def __init__(
        self,
        tree: Path,
        python: Path,
        base_dir: Path,
        pack_dir: Path,
        *,
        args: Sequence[str] = (),
        extra_packs: Mapping[str, Path] | None = None,
        device_args: Sequence[str] = ("--cpu",),
        ready_timeout: float = 180.0,
        launcher: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.tree = Path(tree)
        self.python = Path(python)
        self.base_dir = Path(base_dir).absolute()
        self.packs = {PACK_FOLDER: Path(pack_dir), **(extra_packs or {})}
        self.args = tuple(args)
        self.device_args = tuple(device_args)
        self.ready_timeout = ready_timeout
        self.launcher = tuple(launcher)
        self.pass_fds = tuple(pass_fds)
        self.port = 0
        self.log_path = self.base_dir / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._old_handlers: dict[int, object] = {}

    @property
    def url(self) -> str:
        """Address of the running server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def output_dir(self) -> Path:
        """Folder that saving nodes write to."""
        return self.base_dir / "output"

    @property
    def pid(self) -> int | None:
        """Process id while the server runs."""
        return self._process.pid if self._process else None

    def __enter__(self) -> ComfyServer:
        self._catch_signals()
        try:
            self._lay_out()
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self, patience: float = 10.0) -> None:
        """End the process: politely, then by force. Safe to call twice."""
        process, self._process = self._process, None
        try:
            if process is not None and process.poll() is None:
                process.terminate()
                try:
                    process.wait(patience)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        finally:
            self._restore_signals()

    def log_tail(self, lines: int = _TAIL_LINES) -> str:
        """Return the last lines of the server's log."""
        try:
            text = self.log_path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def is_alive(self) -> bool:
        """Return whether the process still runs."""
        return self._process is not None and self._process.poll() is None

    def _lay_out(self) -> None:
        for folder in _FOLDERS:
            (self.base_dir / folder).mkdir(parents=True, exist_ok=True)
        for name, source in self.packs.items():
            link = self.base_dir / "custom_nodes" / name
            if link.is_symlink() or link.exists():
                continue
            try:
                link.symlink_to(source.resolve(), target_is_directory=True)
            except OSError:  # Windows without the privilege to make links
                ignore = shutil.ignore_patterns(".*", "__pycache__", "output", "tests")
                shutil.copytree(source, link, ignore=ignore)

    def _start(self) -> None:
        # Another process may take the free port before ComfyUI binds it: then try the next one.
        for last in (False, False, True):
            self.port = free_port()
            self._spawn()
            try:
                self._wait_until_ready()
            except ServerError as error:
                if last or "address already in use" not in error.log_tail.lower():
                    raise
                continue
            self._check_imports()
            return

    def _spawn(self) -> None:
        command = [*self.launcher, str(self.python), str(self.tree / "main.py")]
        command += self.device_args
        command += ["--listen", "127.0.0.1", "--port", str(self.port)]
        command += ["--base-directory", str(self.base_dir)]
        command += ["--database-url", "sqlite:///:memory:", "--disable-api-nodes"]
        command += ["--disable-all-custom-nodes", "--whitelist-custom-nodes", *self.packs]
        command += ["--preview-method", "latent2rgb", *self.args]
        # The caller's import path would let this repository's `nodes` folder hide ComfyUI's.
        environment = {k: v for k, v in os.environ.items() if k not in _UNWANTED_VARIABLES}
        environment["PYTHONUNBUFFERED"] = "1"
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.tree,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=self.pass_fds,
            )

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + self.ready_timeout
        while time.monotonic() < deadline:
            code = self._process.poll()
            if code is not None:
                raise ServerError(f"ComfyUI ended at start-up with code {code}.", self.log_tail())
            if self._answers():
                return
            time.sleep(0.1)
        raise ServerError(
            f"ComfyUI did not answer within {self.ready_timeout:g} s.", self.log_tail()
        )

    def _answers(self) -> bool:
        with (
            contextlib.suppress(urllib.error.URLError, OSError, ValueError),
            urllib.request.urlopen(f"{self.url}/system_stats", timeout=5) as reply,
        ):
            return "system" in json.load(reply)
        return False

    def _check_imports(self) -> None:
        """Raise unless the log names every pack among the imported custom nodes."""
        log = self.log_path.read_text(encoding="utf-8", errors="replace")
        lines = log.splitlines()
        for name in self.packs:
            path = str(self.base_dir / "custom_nodes" / name)
            imported = [line for line in lines if " seconds" in line and line.endswith(path)]
            if not imported:
                raise ServerError(f"ComfyUI did not load the pack {name}.", self.log_tail())
            if any("IMPORT FAILED" in line for line in imported):
                start = log.find("Traceback (most recent call last)")
                raise ServerError(
                    f"ComfyUI could not import the pack {name}.", log[start : start + 4000]
                )

    def _catch_signals(self) -> None:
        """Turn a polite kill of this process into an exception, so that `stop` runs."""
        if threading.current_thread() is not threading.main_thread():
            return
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None:
                self._old_handlers[number] = signal.signal(number, _raise_exit)

    def _restore_signals(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._old_handlers.items():
                signal.signal(number, handler)  # type: ignore[arg-type]
        self._old_handlers = {}


_UNWANTED_VARIABLES = ("PYTHONPATH", "PYTHONSAFEPATH", "PYTHONSTARTUP")


def _raise_exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def free_port() -> int:
    """Return a port on which nobody listens just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
