"""What the JSON of state files and named streams may hold, every value with its type and range.

Nothing that is read is trusted: models check the values one by one, `check_events` checks that they
agree with each other and with the shapes of the tensors they name. Both happen before a tensor is
read. In the JSON of state files a tensor is a `NamedTensor`, in that of named streams a `Place`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_type_hints

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
    model_validator,
)
from torch import Tensor

from ..clock import StreamClock
from ..config import StreamConfig
from ..errors import StateFileError
from ..fingerprint import ModelFingerprint
from ..stream.events import (
    LATENTS,
    PROMPT_LENGTH,
    ChunkEvent,
    Event,
    FlushEvent,
    GivenLatentsEvent,
    HoldEvent,
    ResetEvent,
    ResetScope,
    RewindEvent,
    RootReason,
)

Dtype = Literal[
    "F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I64", "I32", "I16", "I8", "U8", "BOOL"
]
DTYPES: dict[Dtype, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""The dtypes that can be kept, by the names of safetensors."""

LATENT_DTYPES = ("F64", "F32", "F16", "BF16")
"""Those that latents may have."""

Count = Annotated[int, Field(ge=0, le=2**40)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Size = Annotated[int, Field(ge=1, le=2**20)]
_Signed = Annotated[int, Field(ge=-(2**40), le=2**40)]
_Seed = Annotated[int, Field(ge=-(2**63), lt=2**64)]
_Text = Annotated[str, Field(max_length=1024)]
_Fraction = Annotated[str, Field(pattern=r"^-?[0-9]{1,9}(/[1-9][0-9]{0,8})?$")]


class Checked(BaseModel):
    """A JSON object of known fields, each of exactly its type."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class NamedTensor(Checked):
    """A tensor of the same safetensors file."""

    tensor: _Text


class Place(Checked):
    """A tensor in a segment of a named stream: where its bytes are, and what they hold."""

    segment: _Text
    at: Count
    dtype: Dtype
    shape: Annotated[tuple[Count, ...], Field(max_length=16)]
    digest: Digest

    @property
    def end(self) -> int:
        """Return where its bytes end."""
        return self.at + math.prod(self.shape) * DTYPES[self.dtype].itemsize


Reference = NamedTensor | Place
Refuse = Callable[[str], StateFileError]
"""Makes the error of a file from what was seen in it."""

Lookup = Callable[[Reference], Tensor]
Shapes = Callable[[Reference], tuple[str, tuple[int, ...]]]


def _config_model() -> type[Checked]:
    """Make a model of the options with the types of `StreamConfig`; older files lack some."""
    hints = get_type_hints(StreamConfig)
    # A whole number stays one: a config and its text are part of cache keys.
    kinds = {name: float | int if kind is float else kind for name, kind in hints.items()}
    fields: dict[str, Any] = {
        name: (kinds[name], field.default)
        for name, field in StreamConfig.__dataclass_fields__.items()
    }
    model: type[Checked] = create_model("ConfigModel", __base__=Checked, **fields)
    return model


if TYPE_CHECKING:

    class ConfigModel(Checked):
        """The JSON of a `StreamConfig`; of its fields, those that are looked at here."""

        anchor: str
        chunk_frames: int
        state_frames: int
else:
    ConfigModel = _config_model()


class ChunkModel(Checked):
    """The JSON of a `ChunkEvent`."""

    kind: Literal["chunk"]
    index: Count
    seed: _Seed
    positive: _Text
    negative: _Text | None
    weights: _Text
    config: ConfigModel
    held: bool = False
    approximate: bool = False
    latents: _Text = ""
    frame: Count = 0
    state: Reference | None = None
    content: Reference | None = None
    sound: Reference | None = None
    prompt: Annotated[str, Field(max_length=PROMPT_LENGTH)] = ""


class GivenLatentsModel(Checked):
    """The JSON of a `GivenLatentsEvent`."""

    kind: Literal["root"]
    reason: RootReason
    raw: bool = False
    latents: Annotated[str, Field(min_length=1, max_length=1024)]
    frame: _Signed = 0
    state: Reference | None = None
    content: Reference | None = None
    sound: Reference | None = None


class ResetModel(Checked):
    """The JSON of a `ResetEvent`."""

    kind: Literal["reset"]
    scope: ResetScope


class HoldModel(Checked):
    """The JSON of a `HoldEvent`."""

    kind: Literal["hold"]
    chunks: Annotated[int, Field(ge=-1, le=2**40)]


class FlushModel(Checked):
    """The JSON of a `FlushEvent`."""

    kind: Literal["flush"]
    frames: Count


class RewindModel(Checked):
    """The JSON of a `RewindEvent`."""

    kind: Literal["rewind"]
    chunk: Count


AnyModel = ChunkModel | GivenLatentsModel | ResetModel | HoldModel | FlushModel | RewindModel
EventModel = Annotated[AnyModel, Field(discriminator="kind")]
EVENT_OF: dict[str, type[Any]] = {
    "chunk": ChunkEvent,
    "root": GivenLatentsEvent,
    "reset": ResetEvent,
    "hold": HoldEvent,
    "flush": FlushEvent,
    "rewind": RewindEvent,
}
KIND_OF = {cls: kind for kind, cls in EVENT_OF.items()}


class FingerprintModel(Checked):
    """The JSON of a `ModelFingerprint`."""

    family: _Text
    latent_channels: _Size
    digest: _Text


class ClockModel(Checked):
    """The JSON of a `StreamClock`: fractions as texts such as 85/3."""

    starts: Annotated[tuple[_Fraction, ...], Field(min_length=1, max_length=64)]
    period: _Fraction
    early: _Fraction
    sound_at: _Fraction

    @model_validator(mode="after")
    def _runs_on(self) -> ClockModel:
        starts = [Fraction(text) for text in self.starts]
        if (
            starts[0] != 0
            or sorted(set(starts)) != starts
            or not starts[-1] < Fraction(self.period)
        ):
            raise ValueError("times that do not follow each other")
        return self

    @property
    def clock(self) -> StreamClock:
        """Return what it describes."""
        return StreamClock(
            tuple(map(Fraction, self.starts)),
            *map(Fraction, (self.period, self.early, self.sound_at)),
        )


class StateFields(Checked):
    """The values of a `StreamState` besides its events and conditionings."""

    latent_shape: tuple[_Size, _Size, _Size, _Size]
    fingerprint: FingerprintModel | None
    latent_format: _Text
    chunk_index: Count
    hold: Annotated[int, Field(ge=-1, le=2**40)]
    history_chunks: Count
    sound_shape: tuple[_Size, _Size] | None = None
    clock: ClockModel | None = None

    def values(self) -> dict[str, Any]:
        """Return them as arguments of `StreamState`."""
        values = {name: getattr(self, name) for name in StateFields.model_fields}
        if self.clock is not None:
            values["clock"] = self.clock.clock
        if self.fingerprint is not None:
            values["fingerprint"] = ModelFingerprint(**dict(self.fingerprint))
        return values


_Model = TypeVar("_Model", bound=BaseModel)


def validated(model: type[_Model], text: str | bytes, refuse: Refuse) -> _Model:
    """Read JSON as a model.

    Raises:
        StateFileError: If it is no JSON, or any value is missing, unknown or out of range.
    """
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))[:120]
        seen = " ".join(f"{place}: {first['msg']}".split()).removeprefix(": ")[:300]
        raise refuse(ascii(seen)[1:-1]) from error


def foreign(what: str, seen: str) -> StateFileError:
    """Make the error of a file whose values are not those of a stream."""
    return StateFileError(
        what,
        problem=f"{what} cannot be read: {seen}",
        seen=seen,
        expected="the values of a stream of AdaState",
        remedy="open another one, save the state again, or update AdaState if a newer one wrote it",
    )


def event_to_json(event: Event, refer: Callable[[str, Tensor], object]) -> dict[str, Any]:
    """Return an event as JSON values.

    Args:
        event: The event.
        refer: Called with the field's name and the tensor; returns the JSON value for it.
    """
    values: dict[str, Any] = {"kind": KIND_OF[type(event)]}
    for name in event.__dataclass_fields__:
        value = getattr(event, name)
        if (name == "prompt" and not value) or (name == "sound" and value is None):
            continue  # as in the files of streams that have none
        if isinstance(value, Tensor):
            values[name] = refer(name, value)
        else:
            values[name] = _config_json(value) if isinstance(value, StreamConfig) else value
    return values


@lru_cache(maxsize=64)
def _config_json(config: StreamConfig) -> dict[str, Any]:
    """Return a config as JSON values, one object for equal ones; not to be changed."""
    return config.to_json()


def event_from_model(model: AnyModel, tensor: Lookup) -> Event:
    """Build an event from a model that was checked.

    Raises:
        ConfigError: If an option is out of range.
    """
    fields = dict(model)
    kind = fields.pop("kind")
    if "config" in fields:
        fields["config"] = _config(fields["config"])
    for name in LATENTS:
        if fields.get(name) is not None:
            fields[name] = tensor(fields[name])
    event: Event = EVENT_OF[kind](**fields)
    return event


@lru_cache(maxsize=64)
def _config(model: ConfigModel) -> StreamConfig:
    """Build a config; equal ones are one object."""
    return StreamConfig(**dict(model))
