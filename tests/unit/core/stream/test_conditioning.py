"""Conditionings as values: recorded, compared, rebuilt, and refused where they cannot be."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from adastate_core.errors import ConfigError
from adastate_core.stream.conditioning import Conditioning


def embedding(seed: int = 1) -> Tensor:
    return torch.randn((1, 8, 16), generator=torch.Generator().manual_seed(seed))


def nested() -> list[Any]:
    """Return a conditioning as hosts have them: pairs of an embedding and extras."""
    x = embedding()
    return [[x, {"pooled": x[0], "sizes": (1, 2), "note": None, "list": [True, 0.5, "a"]}]]


def same(a: Any, b: Any) -> bool:
    """Compare two nested values, types included."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@pytest.mark.parametrize(
    "value",
    [
        nested(),
        embedding(),
        embedding().half(),
        torch.tensor(3),
        torch.zeros((0, 4)),
        [],
        (),
        {},
        ((embedding(), ()), [{"x": (embedding(2),)}]),
        "text",
        None,
    ],
    ids=range(11),
)
def test_what_is_packed_is_rebuilt(value: object) -> None:
    packed = Conditioning.pack(value)
    assert same(packed.unpack(), value)
    json.loads(packed.structure)


def test_writing_to_what_was_rebuilt_leaves_the_record() -> None:
    recorded = Conditioning.pack(nested())
    before = recorded.digest
    ((rebuilt, extras),) = recorded.unpack()  # type: ignore[misc]
    rebuilt.zero_()
    extras["pooled"].fill_(7.0)
    assert Conditioning(recorded.structure, recorded.tensors).digest == before
    assert same(recorded.unpack(), nested())


def test_writing_to_what_was_packed_leaves_the_record() -> None:
    value = nested()
    recorded = Conditioning.pack(value)
    value[0][0].zero_()
    value[0][1]["sizes"] = ()
    assert same(recorded.unpack(), nested())


def test_equal_values_have_equal_digests() -> None:
    digest = Conditioning.pack(nested()).digest
    assert Conditioning.pack(nested()).digest == digest
    assert len(digest) == 32
    # The order of keys is no part of a value.
    reordered = [[embedding(), dict(reversed(list(nested()[0][1].items())))]]
    assert same(Conditioning.pack(reordered).unpack(), nested())


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v[0][0].add_(1e-6),
        lambda v: v[0][1].update(sizes=[1, 2]),
        lambda v: v[0][1].update(note=False),
        lambda v: v[0][1].update(more=1),
        lambda v: v[0][1].update(pooled=v[0][1]["pooled"].double()),
        lambda v: v[0][1].update(pooled=v[0][1]["pooled"][None]),
        lambda v: v.append(v[0]),
    ],
    ids=range(7),
)
def test_other_values_have_other_digests(change: Any) -> None:
    value = nested()
    value[0][1]["pooled"] = value[0][1]["pooled"].clone()
    change(value)
    assert Conditioning.pack(value).digest != Conditioning.pack(nested()).digest


@pytest.mark.parametrize(
    ("value", "path", "kind"),
    [
        ([[embedding(), {"control": object()}]], r"conditioning\[0\]\[1\].control", "object"),
        ({"hooks": ({1, 2},)}, r"conditioning.hooks\[0\]", "set"),
        (lambda: None, "conditioning", "function"),
        ([b"bytes"], r"conditioning\[0\]", "bytes"),
    ],
)
def test_what_cannot_be_recorded_is_named(value: object, path: str, kind: str) -> None:
    with pytest.raises(
        ConfigError, match=f"^A stream cannot keep this part of a prompt: {path}"
    ) as error:
        Conditioning.pack(value)
    assert error.value.seen == kind


def test_what_was_read_from_a_file_is_restored() -> None:
    packed = Conditioning.pack(nested())
    restored = Conditioning.restored(packed.structure, dict(packed.tensors))
    assert restored.digest == packed.digest
    assert same(restored.unpack(), nested())


@pytest.mark.parametrize(
    ("structure", "tensors", "seen"),
    [
        ("{", "", "no structure"),
        ("[" * 10**5 + "]" * 10**5, "", "no structure"),
        ('{"$tensor": 1}', "1", "without a name"),
        ('{"$tuple": 1}', "", "without items"),
        ('{"$tensor": "0"}', "", "other tensors"),
        ('{"$tensor": "0"}', "01", "other tensors"),
        ("[]", "0", "other tensors"),
    ],
    ids=range(7),
)
def test_what_could_not_be_rebuilt_is_refused(structure: str, tensors: str, seen: str) -> None:
    with pytest.raises(ConfigError) as error:
        Conditioning.restored(structure, {name: embedding() for name in tensors})
    assert seen in str(error.value.seen)


def test_a_placeholder_beside_other_keys_is_none() -> None:
    """What only looks like one is a value: both readers agree on it."""
    structure = '{"$tensor": "0", "more": 1}'
    assert Conditioning.restored(structure, {}).unpack() == {"$tensor": "0", "more": 1}


def test_its_text_holds_no_tensor() -> None:
    packed = Conditioning.pack(nested())
    assert repr(packed) == f"Conditioning({packed.digest[:8]}, 2 tensors)"
