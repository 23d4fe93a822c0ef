"""The list of jobs: a file of JSON Lines, checked before anything starts.

A job is a workflow in API format, values to set in it, how often to queue it, and the named stream
that it continues. Jobs that name one stream are made one after the other, as they stand in the
file. Everything that can be wrong with a line is said at once, for all lines.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from adastate_core.errors import AdaStateError
from adastate_core.files.names import check_name
from farm.errors import FarmError, JobError
from farm.paths import named_apart, outside

Prompt = dict[str, dict[str, Any]]

OPEN, COMMIT = "AdaStateOpenStream", "AdaStateCommitStream"
LOOPS = ("StartLoop", "EndLoop")
_MAKES_CHUNKS = ("AdaStateStream", "AdaStateStreamTimeline", "AdaStateRender")
_FIELDS = ("name", "workflow", "set", "times", "stream")
_MOST = 1_000_000


@dataclass(frozen=True)
class Job:
    """One line of the list.

    Args:
        name: Its name in the ledger, on screen and in the names of its files.
        where: File and line, for a person.
        workflow: In API format; shared by the jobs that name one file.
        values: What is set in it, by node and input.
        times: How often it is queued.
        stream: The named stream that it continues.
    """

    name: str
    where: str
    workflow: Mapping[str, Mapping[str, Any]] = field(repr=False)
    values: Mapping[tuple[str, str], Any]
    times: int
    stream: str | None

    @cached_property
    def digest(self) -> str:
        """The sha256 of what a prompt of it is, but for the names of its files."""
        text = json.dumps([self._prompt(), self.stream], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def chunks(self) -> int:
        """Chunks that a prompt makes, as far as the workflow says: for the bars."""
        told = [
            node["inputs"].get("chunks")
            for node in self._prompt().values()
            if node["class_type"] in _MAKES_CHUNKS
        ]
        return sum(chunks for chunks in told if isinstance(chunks, int)) or 1

    @cached_property
    def chunk_nodes(self) -> tuple[str, ...]:
        """The nodes that make its chunks."""
        return tuple(n for n, made in self.workflow.items() if made["class_type"] in _MAKES_CHUNKS)

    def prompt(self, number: int) -> Prompt:
        """Return one of its prompts, numbered from 0, for a server's queue."""
        prompt = self._prompt()
        named_apart(prompt, self.name, number)
        return prompt

    def _prompt(self) -> Prompt:
        prompt: Prompt = {
            key: {**node, "inputs": dict(node["inputs"])} for key, node in self.workflow.items()
        }
        for (node, name), value in self.values.items():
            prompt[node]["inputs"][name] = value
        return prompt


def read_jobs(path: Path) -> list[Job]:
    """Read a list of jobs.

    Raises:
        FarmError: If the file cannot be read, or holds none.
        JobError: For the first line that is wrong; its message also has those of the others.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FarmError(f"The list of jobs {path} cannot be read: {error}.") from error
    reader, jobs, wrong = _Reader(path), [], []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            jobs.append(reader.job(number, line))
        except JobError as error:
            wrong.append(error)
    if wrong:
        first = wrong[0]
        first.args = ("\n".join(map(str, wrong)),)
        raise first
    if not jobs:
        raise FarmError(f"The list of jobs {path} is empty: write one JSON object a line.")
    return jobs


class _Reader:
    """Reads lines of one file, and each workflow once.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._workflows: dict[Path, Mapping[str, Mapping[str, Any]]] = {}
        self._lines: dict[str, int] = {}

    def job(self, number: int, line: str) -> Job:
        """Return the job of a line."""
        where = f"{self._path.name}, line {number}"
        try:
            found = json.loads(line)
        except ValueError as error:
            raise JobError(
                where,
                "this is not JSON",
                seen=str(error),
                expected="one JSON object a line",
                remedy="mend the line",
            ) from error
        if not isinstance(found, dict):
            raise _wrong_kind(where, "the job", found, "an object")
        if unknown := [key for key in found if key not in _FIELDS]:
            raise JobError(
                where,
                f"a job has no {unknown[0]}",
                seen=", ".join(unknown),
                expected=", ".join(_FIELDS),
                remedy="remove it, or correct its spelling",
            )
        name = _name(where, "name", found.get("name", f"job-{number}"))
        if (other := self._lines.setdefault(name.casefold(), number)) != number:
            raise JobError(
                where,
                "two jobs have one name",
                seen=f"{name}, also in line {other}",
                expected="a name of its own for every job",
                remedy="change one of them",
            )
        times = found.get("times", 1)
        if type(times) is not int or not 1 <= times <= _MOST:
            raise _wrong_kind(where, "times", times, f"a whole number from 1 to {_MOST:,}")
        workflow = self._workflow(where, found.get("workflow"))
        values = _values(where, workflow, found.get("set", {}))
        stream = _stream(where, workflow, values, found.get("stream"))
        job = Job(name, where, workflow, values, times, stream)
        for setting, value in outside(job.prompt(0)):
            raise JobError(
                where,
                f"{setting} names a place outside the output folder",
                seen=repr(value),
                expected="a name inside it",
                remedy=f"change it in the workflow, or set {setting}",
            )
        return job

    def _workflow(self, where: str, named: object) -> Mapping[str, Mapping[str, Any]]:
        if isinstance(named, dict):
            return _checked(where, named)
        if not isinstance(named, str) or not named:
            raise _wrong_kind(where, "workflow", named, "a file, or the workflow itself")
        path = (self._path.parent / named).resolve()
        if path not in self._workflows:
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                # What is in a file that is no workflow is nobody's business.
                reason = error.strerror if isinstance(error, OSError) else "no JSON"
                raise JobError(
                    where,
                    "the workflow cannot be read",
                    seen=f"{named} ({reason})",
                    expected="a file that Export (API) wrote, relative to the list of jobs",
                    remedy="correct the path",
                ) from error
            self._workflows[path] = _checked(where, content)
        return self._workflows[path]


def _checked(where: str, content: object) -> Mapping[str, Mapping[str, Any]]:
    nodes = content if isinstance(content, dict) and "nodes" not in content else {}
    if not nodes or not all(
        isinstance(node, dict)
        and isinstance(node.get("class_type"), str)
        and isinstance(node.get("inputs"), dict)
        for node in nodes.values()
    ):
        saved = isinstance(content, dict) and "nodes" in content
        raise JobError(
            where,
            "this is no workflow in API format",
            seen="one that the editor saved" if saved else "something else",
            expected="nodes by number, each with class_type and inputs",
            remedy="save it with Workflow > Export (API)",
        )
    return nodes


def _values(
    where: str, workflow: Mapping[str, Mapping[str, Any]], given: object
) -> dict[tuple[str, str], Any]:
    if not isinstance(given, dict):
        raise _wrong_kind(where, "set", given, 'an object such as {"10.chunks": 4}')
    values: dict[tuple[str, str], Any] = {}
    for setting, value in given.items():
        node, _, name = setting.rpartition(".")
        inputs = workflow.get(node, {}).get("inputs", {})
        if name not in inputs:
            known = ", ".join(f"{node}.{n}" for n, v in inputs.items() if not _is_link(v))
            raise JobError(
                where,
                f"the workflow has no input {setting}",
                seen=setting,
                expected=known or f"a node among {', '.join(workflow)}, a dot, and its input",
                remedy="name a node by its number in the workflow, and one of its inputs",
            )
        if _is_link(inputs[name]) or _kind(inputs[name]) != _kind(value):
            expected = "nothing" if _is_link(inputs[name]) else _kind(inputs[name])
            problem = "comes from another node" if _is_link(inputs[name]) else "is of another kind"
            raise JobError(
                where,
                f"{setting} {problem}",
                seen=f"{_kind(value)} {json.dumps(value)[:80]}",
                expected=expected,
                remedy=f"change or remove {setting}",
            )
        values[node, name] = value
    return values


def _stream(
    where: str,
    workflow: Mapping[str, Mapping[str, Any]],
    values: dict[tuple[str, str], Any],
    given: object,
) -> str | None:
    """Return the stream that a job continues, and set its name in the workflow."""
    kinds = [node["class_type"] for node in workflow.values()]
    opens = [key for key, node in workflow.items() if node["class_type"] == OPEN]
    counts = (len(opens), kinds.count(COMMIT))
    looped = any(kind in LOOPS for kind in kinds)
    if given is None and not any(counts):
        return None
    if counts != (1, 1) or looped:
        raise JobError(
            where,
            "a job continues one stream and commits once a prompt, so that it is known what was "
            "made when a machine is lost",
            seen=f"{counts[0]} Open Stream and {counts[1]} Commit Stream"
            + (" in a loop" if looped else ""),
            expected="one of each, outside a loop",
            remedy="remove the stream from the job, or change the workflow",
        )
    (node,) = opens
    named = values.get((node, "name"), workflow[node]["inputs"].get("name"))
    name = _name(where, "stream", named if given is None else given)
    values[node, "name"] = name
    return name


def _name(where: str, what: str, given: object) -> str:
    try:
        return check_name(given)
    except AdaStateError as error:
        raise JobError(
            where,
            f"{what} cannot be a name",
            seen=repr(error.seen),
            expected=str(error.expected),
            remedy=f"change {what}",
        ) from error


def _wrong_kind(where: str, what: str, seen: object, expected: str) -> JobError:
    shown = json.dumps(seen)
    shown = shown if len(shown) <= 80 else f"{shown[:80]}..."
    return JobError(
        where, f"{what} is not as it should be", seen=shown, expected=expected, remedy="mend it"
    )


def _is_link(value: object) -> bool:
    return isinstance(value, list)


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    names = ((str, "a text"), (dict, "an object"), (list, "a list"))
    return next((name for kind, name in names if isinstance(value, kind)), "nothing")
