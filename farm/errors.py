"""What goes wrong before or between prompts, each in one sentence for a person."""

from __future__ import annotations


class FarmError(RuntimeError):
    """The farm cannot begin or go on; the message is one sentence that says what to do."""


class JobError(FarmError):
    """A job that cannot be run as it is written.

    Args:
        where: The file and the line, or the job.
        problem: What is wrong.
        seen: What is there.
        expected: What should be.
        remedy: What to change.
    """

    def __init__(self, where: str, problem: str, *, seen: str, expected: str, remedy: str) -> None:
        self.where, self.problem = where, problem
        self.seen, self.expected, self.remedy = seen, expected, remedy
        super().__init__(f"{where}: {problem}: found {seen}, expected {expected}; {remedy}.")
