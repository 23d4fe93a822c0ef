"""The JSON header of a state and its tensors, without a file."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from adastate_core.digest import tensor_digest
from adastate_core.errors import StateFileError
from adastate_core.files.schema import foreign
from adastate_core.files.serialization import (
    VERSION,
    Header,
    check_header,
    conditioning_from,
    format_version,
    newer_version,
    parse_header,
    state_from_header,
    state_to_header,
)
from adastate_core.stream.state import StreamState
from tests.support.described import described
from tests.support.reference_host import Harness, text

WHAT = "a file"


def refuse(seen: str) -> StateFileError:
    return foreign(WHAT, seen)


@pytest.fixture(scope="module")
def state() -> StreamState:
    harness = Harness()
    clip = torch.randn((1, 4, 2, 2, 3), generator=torch.Generator().manual_seed(0))
    begun = harness.step(harness.fresh.start_with(clip), negative=2).hold_anchor(2)
    return harness.step(begun.flush(1), prompt=1).reset("window", clip)


def infos(tensors: dict[str, Tensor]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: ("F32", tuple(x.shape)) for name, x in tensors.items()}


def read(header_text: str, tensors: dict[str, Tensor]) -> StreamState:
    header = parse_header(header_text, WHAT, refuse)
    check_header(header, infos(tensors), refuse)
    return state_from_header(header, tensors, refuse)


def test_a_state_there_and_back(state: StreamState) -> None:
    header, tensors = state_to_header(state)
    assert described(read(header, tensors)) == described(state)


def test_a_fresh_state_there_and_back() -> None:
    header, tensors = state_to_header(StreamState((1, 4, 2, 3)))
    assert tensors == {}
    assert described(read(header, {})) == described(StreamState((1, 4, 2, 3)))


def test_tensors_have_the_names_that_the_format_says(state: StreamState) -> None:
    header, tensors = state_to_header(state)
    named = {name for name in tensors if not name.startswith("cond.")}
    last = len(state.events) - 1
    assert named == {
        "content.00000",
        "content.00001",
        "state.00000",
        "state.00001",
        "root.00000.content",
        f"root.{last:05d}.content",
        f"root.{last:05d}.state",
    }
    assert {name for name in tensors if name.startswith("cond.")} == {
        f"cond.{text(seed).digest}.0" for seed in (0, 1, 2)
    }
    values = json.loads(header)
    assert (values["format"], values["version"]) == ("adastate.stream", 1)
    assert values["digests"] == {name: tensor_digest(x) for name, x in tensors.items()}


def test_the_origin_is_no_part_of_it(state: StreamState) -> None:
    assert "origin" not in json.loads(state_to_header(state)[0])


@pytest.mark.parametrize(
    ("changes", "seen"),
    [
        ({"format": "other"}, "another format"),
        ({"format": None}, "another format"),
        (
            {"version": VERSION + 1},
            f"newer AdaState .format version {VERSION + 1}.. Update AdaState",
        ),
        ({"version": 0}, "format version 0"),
        ({"version": True}, "format version True"),
        ({"version": "1"}, "format version '1'"),
    ],
)
def test_other_formats_and_newer_versions_are_refused(
    state: StreamState, changes: dict[str, Any], seen: str
) -> None:
    values = {**json.loads(state_to_header(state)[0]), **changes}
    with pytest.raises(StateFileError, match=seen):
        parse_header(json.dumps(values), WHAT, refuse)


def test_a_version_is_told_before_the_rest_is_read() -> None:
    assert (
        format_version('{"format": "adastate.stream", "version": 2, "new": 1}', WHAT, 2, refuse)
        == 2
    )
    assert "Update AdaState" in str(newer_version(WHAT, 3, 1))


def header_of(state: StreamState) -> tuple[Header, dict[str, Tensor]]:
    header, tensors = state_to_header(state)
    return parse_header(header, WHAT, refuse), tensors


def test_tensors_that_are_in_one_place_alone_are_refused(state: StreamState) -> None:
    header, tensors = header_of(state)
    few = dict(list(infos(tensors).items())[1:])
    for there in (few, {**infos(tensors), "content.00009": ("F32", (1,))}):
        with pytest.raises(StateFileError, match="1 tensors in the file or the header alone"):
            check_header(header, there, refuse)


def test_every_tensor_belongs_to_one_event(state: StreamState) -> None:
    values, tensors = json.loads(state_to_header(state)[0]), state_to_header(state)[1]
    chunks = [entry for entry in values["entries"] if entry["kind"] == "chunk"]
    chunks[0]["content"] = chunks[1]["content"]
    with pytest.raises(StateFileError, match="to no event, or to two"):
        check_header(parse_header(json.dumps(values), WHAT, refuse), infos(tensors), refuse)
    chunks[0]["content"] = {"tensor": "content.00009"}
    with pytest.raises(StateFileError, match="whose tensor is not there"):
        check_header(parse_header(json.dumps(values), WHAT, refuse), infos(tensors), refuse)


def test_a_conditioning_is_the_one_of_its_digest() -> None:
    packed = text(0)
    structure, tensors = packed.structure, dict(packed.tensors)
    assert conditioning_from(packed.digest, structure, tensors, refuse).digest == packed.digest
    with pytest.raises(StateFileError, match="differs from its digest"):
        conditioning_from(text(1).digest, structure, tensors, refuse)
    with pytest.raises(StateFileError, match="cannot be used"):
        conditioning_from(packed.digest, structure, {}, refuse)
