"""The folder that all machines of a farm see: ComfyUI's output folder, with its named streams.

A server holds a lock in it as long as it lives (`hold`), also when its owner is gone and when the
machine cannot be reached any more, since it is the file system that keeps it. So before a prompt is
made again, that lock says whether whoever had it can still commit.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from farm.errors import FarmError, JobError

_KEPT = 600.0
"""Seconds after which a lock that nobody holds is removed."""


@dataclass(frozen=True)
class SharedFolder:
    """ComfyUI's output folder, as this machine sees it.

    Args:
        path: The folder.
    """

    path: Path

    @property
    def locks(self) -> Path:
        """The folder of the farm's locks."""
        return self.path / "adastate" / "farm"

    def revision(self, stream: str) -> int:
        """Return how often a stream was committed, 0 while there is none.

        Raises:
            JobError: If its manifest cannot be read.
        """
        manifest = self.path / "adastate" / "streams" / stream / "manifest.json"
        try:
            revision = json.loads(manifest.read_bytes())["revision"]
        except FileNotFoundError:
            return 0
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise JobError(
                f'stream "{stream}"',
                "its manifest cannot be read",
                seen=str(error),
                expected=f"what Commit Stream wrote to {manifest}",
                remedy="restore its folder from a copy, or use another name",
            ) from error
        return int(revision)

    def prepare(self) -> None:
        """Make the folder, and see that locks and exclusive creation work in it.

        Raises:
            FarmError: If they do not, or nothing can be written.
        """
        try:
            self.locks.mkdir(parents=True, exist_ok=True)
            lock = self.hold("probe")
        except OSError as error:
            raise FarmError(_refusal(self.path, error)) from error
        try:
            if not self.is_held(lock.name):
                raise FarmError(
                    f"The file system of {self.path} grants one lock twice, so two servers could "
                    "commit to one stream: use a local disk, or NFS version 4 mounted with locks."
                )
            with suppress(FileExistsError):
                os.close(os.open(self.locks / lock.name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                raise FarmError(
                    f"The file system of {self.path} makes a file twice that must be new: use a "
                    "local disk, or NFS version 4."
                )
        finally:
            lock.release()
        self._clean()

    def hold(self, kind: str) -> Lock:
        """Hold a new lock until it is released and every process that inherited it has ended.

        Args:
            kind: What its name begins with.

        Raises:
            OSError: If it cannot be had.
        """
        name = f"{kind}.{secrets.token_hex(8)}.lock"
        handle = os.open(self.locks / name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            (self.locks / name).unlink(missing_ok=True)
            raise
        return Lock(self.locks / name, handle)

    def is_held(self, name: str) -> bool:
        """Say whether a lock is held; one that was removed is not."""
        try:
            handle = os.open(self.locks / name, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return True
            raise
        finally:
            os.close(handle)
        return False

    def wait_until_free(self, name: str, patience: float) -> bool:
        """Wait until nobody holds a lock, and say whether that came in time.

        Args:
            name: The lock.
            patience: Seconds.
        """
        deadline = time.monotonic() + patience
        while self.is_held(name):
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        return True

    def _clean(self) -> None:
        """Remove locks of processes that ended long ago."""
        for path in self.locks.glob("*.lock"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _KEPT and not self.is_held(path.name):
                    path.unlink()


@dataclass(frozen=True)
class Lock:
    """A lock that this process holds.

    Args:
        path: Its file.
        handle: Its descriptor; a child that inherits it holds the lock too.
    """

    path: Path
    handle: int

    @property
    def name(self) -> str:
        """What others ask for it by."""
        return self.path.name

    def release(self) -> None:
        """Let go of it, and remove its file; safe to call twice."""
        with suppress(OSError):
            os.close(self.handle)
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of it, and leave it to the children that inherited it."""
        with suppress(OSError):
            os.close(self.handle)


def _refusal(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
        return (
            f"The file system of {path} has no locks ({error.strerror}), without which two servers "
            "could commit to one stream: use a local disk, or NFS version 4 mounted with locks."
        )
    return f"The output folder {path} cannot be written: {error}."
