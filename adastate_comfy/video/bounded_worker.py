"""A thread that does one thing after the other, while who asks for them goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class BoundedWorker:
    """One thread and the few calls that wait for it, which are made in order.

    After a call that failed none is made any more, and every method but `close` raises its failure.
    One thread at a time may use it.

    Args:
        name: Name of the thread.
        waiting: Calls that wait at most, besides the one that is being made.
    """

    def __init__(self, name: str, *, waiting: int) -> None:
        self._thread = ThreadPoolExecutor(1, name)
        self._pending: deque[Future[None]] = deque()
        self._most = waiting + 1
        self._failure: BaseException | None = None

    def submit(self, call: Callable[[], None]) -> None:
        """Have a call made; waits while too many others do."""
        while len(self._pending) >= self._most:
            self._pending.popleft().result()
        self.check()
        self._pending.append(self._thread.submit(self._make, call))

    def check(self) -> None:
        """Raise the failure of a call, if one has failed; waits for none."""
        if self._failure is not None:
            raise self._failure

    def drain(self) -> None:
        """Wait until all calls are made."""
        while self._pending:
            self._pending.popleft().result()
        self.check()

    def close(self) -> None:
        """End the thread once the calls that wait are made; closing again does nothing."""
        self._thread.shutdown()

    def _make(self, call: Callable[[], None]) -> None:
        if self._failure is not None:
            return
        try:
            call()
        except BaseException as error:
            self._failure = error
            raise
