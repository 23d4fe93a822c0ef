"""The ledger: which prompts of which jobs are done, so that the same command goes on.

A file of JSON Lines beside the list of jobs. A line is on disk before what it tells of counts: that
a prompt is about to begin, with the revision of its stream and the lock of the server that gets it;
that it is done, or has ended without; that its job failed. A line that was cut off by a crash is
removed when the file is opened. One run has it at a time.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from farm.errors import FarmError, JobError

FORMAT = "adastate.farm_ledger"
VERSION = 1


@dataclass(frozen=True)
class Begun:
    """A prompt that was begun, and of which it is not known whether it is done.

    Args:
        number: Which one, from 0.
        revision: Revision of its stream before.
        lock: The lock of the server that got it, unless it is known to have ended.
    """

    number: int
    revision: int
    lock: str | None


@dataclass
class Entry:
    """What is known of a job.

    Args:
        digest: What it was when it began.
        done: Its prompts that are done.
        begun: The one that was begun last, if it is not known to be done.
        revision: Revision of its stream after the last one that is done.
        failed: Why it was given up, if it was.
    """

    digest: str
    done: set[int] = field(default_factory=set)
    begun: Begun | None = None
    revision: int = 0
    failed: str = ""

    def done_of(self, times: int) -> int:
        """Count the prompts that are done of the first ones; a list may have been made shorter."""
        return sum(number < times for number in self.done)


class Ledger:
    """The ledger of a list of jobs; a context manager, since only one run may have it.

    Args:
        path: The file; made when it is missing.

    Raises:
        FarmError: If another run has it, or it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, Entry] = {}
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise FarmError(f"The ledger {path} cannot be opened: {error}.") from error
        try:
            self._lock()
            self._read()
        except BaseException:
            os.close(self._handle)
            raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            os.close(self._handle)

    def entry(self, job: str, digest: str) -> Entry:
        """Return what is known of a job, which begins with this if nothing is.

        Args:
            job: Its name.
            digest: What it is.

        Raises:
            JobError: If it was another one when its first prompts were made.
        """
        found = self.entries.get(job)
        if found is None or (found.digest != digest and not found.done and found.begun is None):
            self._add({"job": job, "digest": digest})
            found = self.entries[job] = Entry(digest)
        if found.digest != digest:
            raise JobError(
                f"job {job}",
                "it was another one when its first prompts were made",
                seen="another workflow, value or stream",
                expected=f"what {self.path.name} has begun",
                remedy="give it another name, or put it back as it was",
            )
        found.failed = ""
        return found

    def begin(self, job: str, number: int, revision: int, lock: str) -> None:
        """Write that a prompt of a stream is about to be queued."""
        self._add({"job": job, "begun": number, "revision": revision, "lock": lock})
        self.entries[job].begun = Begun(number, revision, lock)

    def done(self, job: str, number: int, revision: int, files: tuple[str, ...]) -> None:
        """Write that a prompt is done."""
        self._add({"job": job, "done": number, "revision": revision, "files": files})
        _note_done(self.entries[job], number, revision)

    def ended(self, job: str) -> None:
        """Write that nobody is at work any more on what was begun last, though it is not done."""
        self._add({"job": job, "ended": True})
        _note_ended(self.entries[job])

    def failed(self, job: str, reason: str) -> None:
        """Write why a job is given up; the next run tries it again."""
        self._add({"job": job, "failed": reason})
        self.entries[job].failed = reason

    def _lock(self) -> None:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FarmError(
                f"Another run works on {self.path.name}: wait for it, or stop it."
            ) from error
        except OSError as error:
            raise FarmError(
                f"The file system of {self.path} has no locks ({error}): put the list of jobs on "
                "a local disk, or on NFS version 4."
            ) from error

    def _read(self) -> None:
        end = 0
        with os.fdopen(os.dup(self._handle), "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break  # cut off while it was written
                _apply(self.entries, self.path, number, line)
                end += len(line)
        os.ftruncate(self._handle, end)
        os.lseek(self._handle, end, os.SEEK_SET)
        if not end:
            self._add({"format": FORMAT, "version": VERSION})

    def _add(self, line: Mapping[str, Any]) -> None:
        """Append a line, and flush it to disk.

        Raises:
            FarmError: If it cannot be written; the file ends with the line before.
        """
        data = memoryview(json.dumps(line).encode() + b"\n")
        end = os.lseek(self._handle, 0, os.SEEK_CUR)
        try:
            while data:
                data = data[os.write(self._handle, data) :]
            os.fdatasync(self._handle)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._handle, end)
                os.lseek(self._handle, end, os.SEEK_SET)
            raise FarmError(f"The ledger {self.path} cannot be written: {error}.") from error


def read_ledger(path: Path) -> dict[str, Entry]:
    """Return what a ledger says now, also while a run writes it; nothing if there is none.

    Raises:
        FarmError: If it is damaged.
    """
    entries: dict[str, Entry] = {}
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError:
        return entries
    for number, line in enumerate(lines, 1):
        if line.endswith(b"\n"):
            _apply(entries, path, number, line)
    return entries


def _apply(entries: dict[str, Entry], path: Path, number: int, line: bytes) -> None:
    """Note what a line says."""
    try:
        found = json.loads(line)
        if number == 1:
            if (found["format"], found["version"]) != (FORMAT, VERSION):
                raise ValueError("not a ledger of this version")
            return
        _note(entries, found)
    except (ValueError, KeyError, TypeError) as error:
        raise FarmError(
            f"Line {number} of the ledger {path} is damaged ({error}): remove that line, or move "
            "the file away to begin again; committed streams stay as they are."
        ) from error


def _note(entries: dict[str, Entry], found: Mapping[str, Any]) -> None:
    job = found["job"]
    if "digest" in found:
        entries[job] = Entry(found["digest"])
    elif "begun" in found:
        begun = Begun(int(found["begun"]), int(found["revision"]), str(found["lock"]))
        entries[job].begun = begun
    elif "done" in found:
        _note_done(entries[job], int(found["done"]), int(found["revision"]))
    elif "ended" in found:
        _note_ended(entries[job])
    else:
        entries[job].failed = found["failed"]


def _note_ended(entry: Entry) -> None:
    if entry.begun is not None:
        entry.begun = replace(entry.begun, lock=None)


def _note_done(entry: Entry, number: int, revision: int) -> None:
    entry.done.add(number)
    entry.begun, entry.failed = None, ""
    entry.revision = max(entry.revision, revision)
