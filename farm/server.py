"""One ComfyUI server of a worker: it dies with the worker, and a lock says whether it lives."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from farm.shared_folder import Lock, SharedFolder
from tools.server import ComfyServer

LEASH = Path(__file__).with_name("leash.py")


@dataclass(frozen=True)
class ServerSettings:
    """What all servers of a farm have in common.

    Args:
        tree: ComfyUI's root, the folder with `main.py`.
        pack: This pack.
        output: The folder that all workers share.
        models: ComfyUI's folder of models, if the workflows need more than the demo models.
        inputs: ComfyUI's folder of inputs.
        scratch: Where a server's own folders go, on its own machine.
        python: The interpreter that runs ComfyUI; the worker's own by default.
        args: Further flags of ComfyUI.
        packs: Further custom nodes to load, folder name to source folder.
        on_cpu: Whether it computes on the processor.
        ready_timeout: Seconds until a server must answer.
    """

    tree: Path
    pack: Path
    output: Path
    scratch: Path
    models: Path | None = None
    inputs: Path | None = None
    python: Path | None = None
    args: tuple[str, ...] = ()
    packs: Mapping[str, Path] = field(default_factory=dict)
    on_cpu: bool = True
    ready_timeout: float = 300.0


class OwnedServer:
    """A ComfyUI server that the system kills when this process ends.

    Args:
        settings: What it is.
        base: A folder of its own.
    """

    def __init__(self, settings: ServerSettings, base: Path) -> None:
        self._settings, self._base = settings, base
        self._folder = SharedFolder(settings.output)
        self._server: ComfyServer | None = None
        self._lock: Lock | None = None
        # The signal comes when the thread ends that started the process: this one never does.
        self._starter = ThreadPoolExecutor(1, "server-starter")

    @property
    def url(self) -> str:
        """Address of the running server."""
        assert self._server is not None
        return self._server.url

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._server is not None
        return self._server.pid or 0

    @property
    def lock(self) -> str:
        """Name of the lock that is held while it lives."""
        assert self._lock is not None
        return self._lock.name

    def is_alive(self) -> bool:
        """Say whether the process still runs."""
        return self._server is not None and self._server.is_alive()

    def log_tail(self, lines: int) -> str:
        """Return the last lines of its log."""
        return self._server.log_tail(lines) if self._server else ""

    def start(self) -> None:
        """Start it, in place of one that ran before.

        Raises:
            ServerError: If it does not start; with the end of its log.
            OSError: If its folders or its lock cannot be made.
        """
        self.stop()
        try:
            self._starter.submit(self._start).result()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it; safe to call twice."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def _start(self) -> None:
        settings = self._settings
        self._link_folders()
        python = settings.python or Path(sys.executable)
        lock = self._lock = self._folder.hold("server")
        self._server = ComfyServer(
            settings.tree,
            python,
            self._base,
            settings.pack,
            args=("--output-directory", str(settings.output), *settings.args),
            extra_packs=settings.packs,
            device_args=("--cpu",) if settings.on_cpu else (),
            ready_timeout=settings.ready_timeout,
            launcher=(str(python), "-I", str(LEASH), str(os.getpid())),
            pass_fds=(lock.handle,),
        )
        self._server.__enter__()

    def _link_folders(self) -> None:
        self._base.mkdir(parents=True, exist_ok=True)
        for name, source in (("models", self._settings.models), ("input", self._settings.inputs)):
            link = self._base / name
            if source is not None and not link.exists():
                link.symlink_to(source, target_is_directory=True)
