"""Stream a MODEL whose forward goes through torch.compile.

torch.compile runs the model's Python while it traces, not in every forward, and ComfyUI has it
take whatever is in the transformer options for constant. So nothing of a chunk may be seen in a
trace: every attention call becomes one operation that torch does not look into, and what it does
for this chunk is looked up when it runs. The graph stays whole and is the same for all chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor
from torch.overrides import BaseTorchFunctionMode

from ...adastate_core.errors import ConfigError, LayoutError
from .keys import KEY

_OVERRIDE = "adastate_override"
"""Transformer option: the attention override that a forward of a compiled model is to use."""
_COUNT = "adastate_count"
_KEY, _KWARGS = "torch.compile", "torch_compile_kwargs"
_BLOCK = ("block_type", "block_index")
Override = Callable[..., Any]


def is_compiled(model: ModelPatcher) -> bool:
    """Say whether a MODEL went through a node that compiles it as ComfyUI's own does."""
    return any(_KEY in named for named in model.wrappers.values())


def runs_compiled(options: dict[str, Any]) -> bool:
    """Say the same for one forward, by its transformer options."""
    return _KEY in options.get("wrappers", {}).get(WrappersMP.APPLY_MODEL, {})


def check_compiled(model: ModelPatcher) -> None:
    """Refuse what a compiled MODEL cannot be streamed with.

    Raises:
        ConfigError: For CUDA graphs, and for a torch that cannot be told to run uncompiled.
    """
    if not is_compiled(model):
        return
    how = model.model_options.get(_KWARGS) or {}
    for recorded, remedy in _recorded_graphs(how):
        raise ConfigError(
            "compiled model",
            problem=f'a stream cannot use "{recorded}" of torch.compile, which records CUDA graphs',
            seen=f"'{recorded}', which replays recorded CUDA graphs",
            expected="no CUDA graphs, since every chunk attends to other keys and values",
            remedy=remedy,
        )
    if not hasattr(torch.compiler, "set_stance"):
        raise ConfigError(
            "compiled model",
            problem=f"a compiled model needs torch 2.6 or newer; this is torch {torch.__version__}",
            seen=f"torch {torch.__version__}",
            expected="2.6 or newer",
            remedy="update torch, or remove the TorchCompileModel node",
        )


def _recorded_graphs(how: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what of the arguments of torch.compile records CUDA graphs, and what to do instead."""
    if how.get("backend") == "cudagraphs":
        yield "cudagraphs", "choose the backend inductor on the node that compiles the model"
    if how.get("mode") in ("reduce-overhead", "max-autotune"):
        other = '"max-autotune-no-cudagraphs"'
        yield how["mode"], f"choose the mode {other} on the node that compiles the model"
    if (how.get("options") or {}).get("triton.cudagraphs"):
        yield "triton.cudagraphs", "turn it off on the node that compiles the model"


@dataclass(frozen=True, slots=True)
class AttentionCall:
    """An attention call without its tensors; the same in every forward of a model.

    Args:
        func: The attention function.
        args: Its arguments after queries, keys and values.
        kwargs: Its options without tensors and transformer options.
        block: The names under which the host keeps the block of the call.
    """

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    block: dict[str, Any]


def use_compiled_override(options: dict[str, Any]) -> bool:
    """Put the override of a compiled forward to use; say whether this is one."""
    if _OVERRIDE not in options:
        return False
    options["optimized_attention_override"] = options[_OVERRIDE]
    return True


def forward_compiled(
    executor: Any,
    inputs: tuple[Any, ...],
    options: dict[str, Any],
    kwargs: dict[str, Any],
    override: Override,
    *,
    wrapped: bool,
) -> Any:
    """Run one forward of a compiled model with an attention override.

    The first one runs uncompiled, to see the attention calls that the model makes.

    Args:
        executor: The rest of the host's call of the model.
        inputs: Its inputs in front of the transformer options.
        options: Transformer options.
        kwargs: Its other inputs.
        override: The attention override of this forward.
        wrapped: Whether the DiT calls wrappers of its own forward, where
            `use_compiled_override` is called.

    Raises:
        LayoutError: If the model does not make the calls that it made the first time.
    """
    calls: list[AttentionCall] = executor.class_obj.current_patcher.get_attachment(KEY).calls

    def forward(extra: dict[str, Any]) -> Any:
        merged = {**options, **extra}
        if not wrapped:
            use_compiled_override(merged)
        return executor(*inputs, merged, **kwargs)

    if not calls:
        seen: list[AttentionCall] = []
        with torch.compiler.set_stance("force_eager"):
            result = forward({_OVERRIDE: _recording(override, seen)})
        calls.extend(seen)
        return result
    count = torch.zeros((), dtype=torch.int64)
    with _set_running(_Running(calls, override, options)), _StreamGraphGuard():
        result = forward({_OVERRIDE: _opaque, _COUNT: count})
    if int(count) != len(calls):
        raise _other_calls(int(count), len(calls))
    return result


def _recording(override: Override, seen: list[AttentionCall]) -> Override:
    def attention(
        func: Callable[..., Any], q: Any, k: Any, v: Any, *args: Any, **kwargs: Any
    ) -> Any:
        options = kwargs.get("transformer_options") or {}
        kept = {n: x for n, x in kwargs.items() if n not in ("mask", "transformer_options")}
        block = {name: options[name] for name in _BLOCK if name in options}
        seen.append(AttentionCall(func, args, kept, block))
        return override(func, q, k, v, *args, **kwargs)

    return attention


@dataclass(frozen=True, slots=True)
class _Running:
    """The forward that runs now."""

    calls: list[AttentionCall]
    override: Override
    options: dict[str, Any]

    def attend(self, number: int, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        if number >= len(self.calls):
            raise _other_calls(number + 1, len(self.calls))
        call = self.calls[number]
        kwargs = {**call.kwargs, "transformer_options": {**self.options, **call.block}}
        if mask is not None:
            kwargs["mask"] = mask
        out: Tensor = self.override(call.func, q, k, v, *call.args, **kwargs)
        return out


_RUNNING: ContextVar[_Running] = ContextVar("adastate_forward")


@contextmanager
def _set_running(running: _Running) -> Iterator[None]:
    token = _RUNNING.set(running)
    try:
        yield
    finally:
        _RUNNING.reset(token)


class _StreamGraphGuard(BaseTorchFunctionMode):
    """A mode that changes nothing, but separates graphs of streams from those of other samplers.

    ComfyUI drops the guards that would tell a forward with our override from one without, and
    torch guards every graph by the modes it was traced under.
    """


def _opaque(func: Callable[..., Any], q: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> Any:
    """Replace the attention override in a trace; `func` and most options are known already."""
    heads = kwargs["heads"] if "heads" in kwargs else args[0]
    count, mask = kwargs["transformer_options"][_COUNT], kwargs.get("mask")
    by_head, output_by_head = kwargs.get("skip_reshape"), kwargs.get("skip_output_reshape")
    return _attention(q, k, v, mask, count, heads, bool(by_head), bool(output_by_head))


# The count is changed by every call, so torch keeps their order: it is how a call is known.
@torch.library.custom_op("adastate::attention", mutates_args=("count",))
def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    count: Tensor,
    heads: int,
    by_head: bool,
    output_by_head: bool,
) -> Tensor:
    number = int(count)
    count.add_(1)
    out = _RUNNING.get().attend(number, q, k, v, mask)
    return out.to(q.dtype).contiguous()


@_attention.register_fake
def _shape(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    count: Tensor,
    heads: int,
    by_head: bool,
    output_by_head: bool,
) -> Tensor:
    batch, tokens = q.shape[0], q.shape[2] if by_head else q.shape[1]
    channels = q.shape[3] if by_head else q.shape[2] // heads
    if output_by_head:
        return q.new_empty((batch, heads, tokens, channels))
    return q.new_empty((batch, tokens, heads * channels))


def _other_calls(seen: int, expected: int) -> LayoutError:
    return LayoutError(
        "attention calls of the compiled model",
        problem=(
            f"the compiled model took another course than in its first pass ({seen} attention "
            f"calls, not {expected})"
        ),
        seen=seen,
        expected=f"{expected}, as in its first forward",
        remedy="remove the TorchCompileModel node",
    )
