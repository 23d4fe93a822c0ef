"""A worker as an actor of Ray. Importing this imports Ray."""

from __future__ import annotations

import ray

from farm.worker import Started, Worker


class Actor(Worker):
    """A worker in a process of its own: what is asked about it does not wait for its prompt."""

    # It waits while Ray starts the actor again.
    @ray.method(max_task_retries=-1)  # type: ignore[untyped-decorator]
    def start(self) -> Started:
        """As `Worker.start`."""
        return super().start()

    @ray.method(concurrency_group="watch")  # type: ignore[untyped-decorator]
    def look(self, nodes: tuple[str, ...]) -> float:
        """As `Worker.chunks`, also while a prompt runs."""
        return self.chunks(nodes)
