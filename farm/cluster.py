"""Ray: a cluster of this machine's own, or one that is there, and one actor for every worker."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from farm.errors import FarmError
from farm.server import ServerSettings
from farm.shared_folder import SharedFolder
from farm.worker import Outcome, Started, Task

ROOT = Path(__file__).resolve().parent.parent
NAMESPACE = "adastate-farm"
LOOPBACK = "127.0.0.1"
_STORE = 128 * 2**20  # bytes: what passes between processes here are prompts
_RESTARTS = 100
"""How often Ray starts an actor again; a worker that never starts is given up long before."""
_PATIENCE = 10.0
"""Seconds that servers have to end."""


@dataclass(frozen=True)
class ClusterSettings:
    """Which Ray cluster, and what a worker takes of it.

    Args:
        workers: How many workers.
        address: Of a cluster that is there, or None for one of this machine's own.
        interface: IP address of the interface that a cluster of our own listens on.
        gpus: Graphics cards of a worker, 0 for the processor.
        cpus: Cores of a worker, 0 to share those of this machine.
        dashboard: Whether Ray's dashboard is started with a cluster of our own.
    """

    workers: int
    address: str | None = None
    interface: str = LOOPBACK
    gpus: float = 0.0
    cpus: float = 0.0
    dashboard: bool = False

    @property
    def cores(self) -> float:
        """Cores of a worker."""
        return self.cpus or max(1, (os.cpu_count() or 1) // self.workers)


class Cluster:
    """A connection to Ray; a context manager, which ends what it started.

    Args:
        settings: Which cluster.
    """

    def __init__(self, settings: ClusterSettings) -> None:
        self._settings = settings
        self.ray: Any = None
        """The module, once the cluster is there."""

    def __enter__(self) -> Cluster:
        settings = self._settings
        # Ray reads these when it is imported, and its processes inherit them.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if settings.address is None and settings.interface == LOOPBACK:
            # The name is historical: it has Ray use the loopback interface and bind to it alone.
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
        self.ray = _import_ray()
        own: dict[str, Any] = {}
        if settings.address is None:
            own = {
                "num_cpus": max(settings.cores * settings.workers, os.cpu_count() or 1),
                "include_dashboard": settings.dashboard,
                "_node_ip_address": settings.interface,
                "object_store_memory": _STORE,
            }
            if settings.gpus:
                del own["num_cpus"]
        self._init(own)
        self._require_resources()
        return self

    def _init(self, own: Mapping[str, Any]) -> None:
        """Start Ray or join it; on a busy machine it may miss its own deadline of 30 s.

        Raises:
            FarmError: If it does not work repeatedly.
        """
        for last in (False, False, True):
            try:
                self.ray.init(
                    # "local" never joins a cluster that happens to run.
                    self._settings.address or "local",
                    namespace=NAMESPACE,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    **own,
                )
            except Exception as error:  # Ray raises plain ones here
                self.ray.shutdown()
                if last:
                    where = self._settings.address or "on this machine"
                    raise FarmError(f"Ray does not start or answer, {where}: {error}") from error
            else:
                break
        # Ray would print what becomes of its processes, which the driver says in one line; it has
        # no public switch for it.
        self.ray._private.worker._worker_logs_enabled = False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.ray.shutdown()

    @contextmanager
    def workers(self, server: ServerSettings) -> Iterator[list[RemoteWorker]]:
        """Make all workers, somewhere in the cluster, and end them with their servers.

        Args:
            server: What their servers are.
        """
        beacon = SharedFolder(server.output).hold("farm")
        workers: list[RemoteWorker] = []
        try:
            workers.extend(self._worker(server, beacon.name) for _ in range(self._settings.workers))
            yield workers
        finally:
            self._end(workers)
            beacon.release()

    def _end(self, workers: Sequence[RemoteWorker]) -> None:
        """Stop all servers; what takes too long, as a prompt may, is killed."""
        stopping = [worker.stop() for worker in workers]
        with suppress(TimeoutError):
            for future in as_completed(stopping, _PATIENCE):
                future.exception()
        for worker in workers:
            worker.kill()

    def _worker(self, server: ServerSettings, beacon: str) -> RemoteWorker:
        from farm.actor import Actor

        ray, settings = self.ray, self._settings
        kind = ray.remote(concurrency_groups={"watch": 1})(Actor)
        actor = kind.options(
            num_cpus=settings.cores,
            num_gpus=settings.gpus,
            max_restarts=_RESTARTS,
            max_task_retries=0,
        ).remote(server, beacon)
        return RemoteWorker(ray, actor)

    def _require_resources(self) -> None:
        """Refuse to wait for what the cluster does not have.

        Raises:
            FarmError: If it has too few cores or cards for all workers.
        """
        found = self.ray.cluster_resources()
        settings = self._settings
        for name, each in (("CPU", settings.cores), ("GPU", settings.gpus)):
            if each * settings.workers > found.get(name, 0.0):
                self.ray.shutdown()
                raise FarmError(
                    f"{settings.workers} workers take {each * settings.workers:g} {name} and the "
                    f"Ray cluster has {found.get(name, 0.0):g}: start fewer with --workers, or add "
                    "machines."
                )


class RemoteWorker:
    """A worker in another process: every call returns at once, with a future.

    Args:
        ray: The module.
        actor: The handle.
    """

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor

    def start(self) -> Future[Started]:
        """As `Worker.start`."""
        return _future(self._actor.start.remote())

    def run(self, task: Task) -> Future[Outcome]:
        """As `Worker.run`."""
        return _future(self._actor.run.remote(task))

    def look(self, nodes: tuple[str, ...]) -> Future[float]:
        """As `Worker.chunks`, also while a prompt runs."""
        return _future(self._actor.look.remote(nodes))

    def stop(self) -> Future[None]:
        """As `Worker.stop`."""
        return _future(self._actor.stop.remote())

    def renew(self) -> None:
        """End the actor, and with it its server, and have Ray start it again."""
        self._ray.kill(self._actor, no_restart=False)

    def kill(self) -> None:
        """End the actor, and with it its server, without waiting."""
        self._ray.kill(self._actor)


def _future(reference: Any) -> Future[Any]:
    made: Future[Any] = reference.future()
    return made


def reason_of(error: BaseException) -> tuple[str, bool]:
    """Return what went wrong in a worker, and whether its actor is gone for good."""
    from ray.exceptions import ActorDiedError, RayTaskError

    if isinstance(error, RayTaskError):
        cause = error.cause if isinstance(error.cause, FarmError) else error
        return str(cause), False
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return text, isinstance(error, ActorDiedError)


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise FarmError(
            f"The farm needs Ray, which {sys.executable} does not have ({error}): run it as "
            '`make farm ARGS="..."`, or `pip install -r requirements-farm.txt` there.'
        ) from error
    return ray
