"""Modules that have the name and the attributes of a host's class, and nothing else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

attributes = SimpleNamespace


def stand_in(name: str, **values: object) -> Any:
    """Make an object of a class of this name."""
    return type(name, (), values)()
