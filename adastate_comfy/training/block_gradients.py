"""How the blocks of a model keep what their gradients need: as made, copied, or made again.

A block that is made again has to find its place in the forward: what tells attention calls apart is
put back to where it was. Some of the host's blocks write over what they have read, which torch's
own checkpoints would take for what was read; here a block is always given copies of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from ..model.attention_override import AttentionOverride
from ..model.keys import VIEW

_OVERRIDE = "optimized_attention_override"
Forward = Callable[..., Any]
Precision = Callable[[], AbstractContextManager[object]]


@dataclass(slots=True)
class BlockGradients:
    """How blocks keep what their gradients need.

    Args:
        again: Whether they are run again in place of keeping all that they made.
        copied: Whether what they keep is copied, since they write over it.
        precision: The precision in which the model computes, as a context.
    """

    again: bool
    copied: bool
    precision: Precision

    @contextmanager
    def of(self, blocks: Sequence[nn.Module]) -> Iterator[None]:
        """Have blocks keep it so for as long as this lasts."""
        for block in blocks:
            block.forward = self._followed(block.forward)
        try:
            yield
        finally:
            for block in blocks:
                del block.forward  # that of its class is below

    def _followed(self, forward: Forward) -> Forward:
        def run(*args: Any, **kwargs: Any) -> Any:
            if not torch.is_grad_enabled():
                return forward(*args, **kwargs)
            if self.again:
                return _run_again_later(self._keeping(forward), self.precision, args, kwargs)
            return self._keeping(forward)(*args, **kwargs)

        return run

    def _keeping(self, forward: Forward) -> Forward:
        def run(*args: Any, **kwargs: Any) -> Any:
            if not self.copied:
                return forward(*args, **kwargs)
            with saved_tensors_hooks(_copy, lambda x: x):
                return forward(*args, **kwargs)

        return run


def _copy(x: Tensor) -> Tensor:
    """Copy what an operation keeps, but for weights, which nothing writes over."""
    base = x if x._base is None else x._base
    return x if isinstance(base, nn.Parameter) else x.detach().clone()


def _run_again_later(
    forward: Forward, precision: Precision, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    given: dict[Any, Any] = {**dict(enumerate(args)), **kwargs}
    names = [n for n, x in given.items() if isinstance(x, Tensor) and x.is_floating_point()]
    options = next((x for x in given.values() if isinstance(x, dict) and VIEW in x), {})
    override, was = options.get(_OVERRIDE), dict(options)
    layers = override.layers if isinstance(override, AttentionOverride) else None
    mark = None if layers is None else layers.mark()

    def run(tensors: Sequence[Tensor], *, again: bool) -> Any:
        # Copies: a block may write over what it is given.
        own = {**given, **{n: x.clone() for n, x in zip(names, tensors, strict=True)}}
        if again:  # the model has gone on, and its options say where it is now
            own = {n: dict(was) if x is options else x for n, x in own.items()}
            if layers is not None and mark is not None:
                layers.restore(mark)
        positional = [own.pop(n) for n in range(len(args))]
        return forward(*positional, **{str(n): x for n, x in own.items()})

    begin = torch.zeros((), requires_grad=True)  # what comes first may need no gradient
    out = _Rerun.apply(run, precision, begin, *(given[n] for n in names))
    return out


class _Rerun(torch.autograd.Function):
    """A block that is run without keeping anything, and again for its gradients."""

    @staticmethod
    def forward(ctx: Any, run: Any, precision: Precision, begin: Tensor, *tensors: Tensor) -> Any:
        ctx.run, ctx.precision = run, precision
        ctx.save_for_backward(*tensors)
        with torch.no_grad():
            return run(tensors, again=False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        needed = ctx.needs_input_grad[3:]
        tensors = [
            x.detach().requires_grad_(wanted)
            for x, wanted in zip(ctx.saved_tensors, needed, strict=True)
        ]
        with torch.enable_grad(), ctx.precision():
            out = ctx.run(tensors, again=True)
        made = out if isinstance(out, tuple) else (out,)
        pairs = [
            (x, gradient)
            for x, gradient in zip(made, gradients, strict=True)
            if gradient is not None and isinstance(x, Tensor) and x.requires_grad
        ]
        if pairs:
            torch.autograd.backward([x for x, _ in pairs], [gradient for _, gradient in pairs])
        return None, None, None, *(x.grad for x in tensors)
