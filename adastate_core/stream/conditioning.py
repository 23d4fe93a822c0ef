"""Conditionings as values: nested lists and dicts of tensors that can be stored and compared.

A chunk is replayed under the conditioning it was made with, so a stream carries every
conditioning it used. Only plain data can be stored; anything else is refused by its path.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from ..digest import tensor_digest
from ..errors import ConfigError

_TENSOR, _TUPLE = "$tensor", "$tuple"


@dataclass(frozen=True, repr=False)
class Conditioning:
    """One conditioning as a value: JSON text and named tensors.

    >>> import torch
    >>> prompt = Conditioning.pack([torch.zeros(1, 2), {"strength": 0.5}])
    >>> prompt.unpack()
    [tensor([[0., 0.]]), {'strength': 0.5}]
    >>> prompt.digest == Conditioning.pack(prompt.unpack()).digest
    True

    Args:
        structure: JSON with a placeholder for every tensor.
        tensors: The tensors by placeholder name, on the CPU.
    """

    structure: str
    tensors: Mapping[str, Tensor]

    @cached_property
    def digest(self) -> str:
        """Return what identifies it in events and cache keys."""
        digest = hashlib.sha256(self.structure.encode())
        for name in sorted(self.tensors):
            digest.update(name.encode())
            digest.update(tensor_digest(self.tensors[name]).encode())
        return digest.hexdigest()[:32]

    def __repr__(self) -> str:
        return f"Conditioning({self.digest[:8]}, {len(self.tensors)} tensors)"

    @classmethod
    def pack(cls, value: object) -> Conditioning:
        """Pack a nested structure of lists, tuples, dicts, numbers, text and tensors.

        Raises:
            ConfigError: If a value is of another type; names its path.
        """
        tensors: dict[str, Tensor] = {}
        structure = json.dumps(_flatten(value, "conditioning", tensors), sort_keys=True)
        return cls(structure, tensors)

    @classmethod
    def restored(cls, structure: str, tensors: Mapping[str, Tensor]) -> Conditioning:
        """Build a conditioning from what was read from a file.

        Args:
            structure: JSON that `pack` made.
            tensors: The tensors by placeholder name.

        Raises:
            ConfigError: If `unpack` could not rebuild it from exactly these tensors.
        """
        try:
            named = _placeholders(json.loads(structure))
        except (ValueError, TypeError, RecursionError) as error:
            raise _unusable(f"no structure ({error})") from error
        if named != tensors.keys():
            raise _unusable("other tensors than it names")
        return cls(structure, tensors)

    def unpack(self) -> object:
        """Rebuild the structure that was packed, with tensors of its own."""
        return _rebuild(json.loads(self.structure), self.tensors)


def _flatten(value: object, path: str, tensors: dict[str, Tensor]) -> object:
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().clone()
        return {_TENSOR: name}
    if isinstance(value, dict):
        return {str(k): _flatten(v, f"{path}.{k}", tensors) for k, v in value.items()}
    if isinstance(value, tuple):
        return {_TUPLE: [_flatten(v, f"{path}[{i}]", tensors) for i, v in enumerate(value)]}
    if isinstance(value, list):
        return [_flatten(v, f"{path}[{i}]", tensors) for i, v in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(
        f"{path} cannot be stored in a stream",
        problem=f"a stream cannot keep this part of a prompt: {path} ({type(value).__name__})",
        seen=type(value).__name__,
        expected="text, numbers, tensors, lists or dicts",
        remedy="remove the node that adds it; ControlNets and hooks are not streamed",
    )


def _placeholders(value: object) -> set[str]:
    """Return the names of all placeholders, in the way `_rebuild` finds them."""
    if isinstance(value, list):
        return set().union(*map(_placeholders, value))
    if not isinstance(value, dict):
        return set()
    if set(value) == {_TENSOR}:
        if not isinstance(value[_TENSOR], str):
            raise TypeError("a placeholder without a name")
        return {value[_TENSOR]}
    if set(value) == {_TUPLE} and not isinstance(value[_TUPLE], list):
        raise TypeError("a tuple without items")
    return set().union(*map(_placeholders, value.values()))


def _unusable(seen: str) -> ConfigError:
    return ConfigError(
        "conditioning",
        problem=f"the prompt of this stream is damaged: {seen}",
        seen=seen,
        expected="one that was packed",
        remedy="save the state again",
    )


def _rebuild(value: object, tensors: Mapping[str, Tensor]) -> object:
    if isinstance(value, list):
        return [_rebuild(item, tensors) for item in value]
    if isinstance(value, dict):
        if set(value) == {_TENSOR}:
            return tensors[value[_TENSOR]].clone()
        if set(value) == {_TUPLE}:
            return tuple(_rebuild(item, tensors) for item in value[_TUPLE])
        return {key: _rebuild(item, tensors) for key, item in value.items()}
    return value
