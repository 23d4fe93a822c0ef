"""JSON that every reader takes: Python's own writes NaN and Infinity, which are no JSON."""

from __future__ import annotations

import json
import math


def strict_json(value: object) -> str:
    """Return a value as JSON, with null in place of numbers that JSON does not know.

    >>> strict_json({"loss": float("nan"), "step": 3})
    '{"loss": null, "step": 3}'
    """
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        # Keys that are numbers become texts, "NaN" among them, which are JSON.
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
