"""JSON that every reader takes."""

from __future__ import annotations

import json

import pytest

from adastate_core.files.strict_json import strict_json


def refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


@pytest.mark.parametrize("value", [{"a": [1, 2.5, None, True, "x"]}, [], "text", 0, {"b": {}}])
def test_plain_values_are_as_in_any_json(value: object) -> None:
    assert strict_json(value) == json.dumps(value)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_does_not_know_are_null(number: float) -> None:
    value = {"loss": number, "rows": [1.5, (number, {"deep": number})], "kept": 2.0}
    read = json.loads(strict_json(value), parse_constant=refuse)
    assert read == {"loss": None, "rows": [1.5, [None, {"deep": None}]], "kept": 2.0}


def test_keys_that_are_numbers_become_texts() -> None:
    assert json.loads(strict_json({1: float("nan")}), parse_constant=refuse) == {"1": None}


def test_what_is_no_json_at_all_is_an_error() -> None:
    with pytest.raises(TypeError):
        strict_json({"x": object()})
