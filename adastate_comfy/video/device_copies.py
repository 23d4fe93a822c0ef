"""Images on their way from a graphics card to the processor, for which no caller has to wait.

A card works through what it is given in the order of a stream, long after the call that gave it has
returned. So a copy can be put behind the work that makes the images, and whoever needs them, in
whichever thread, waits for the copy alone. A processor has no streams: all is there at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import torch
from comfy.cli_args import args
from torch import Tensor


class SideStream:
    """A stream of a device beside the one that the sampler uses; none on a processor.

    What is made on it has to be read by its own work, or after a wait for it: its memory is given
    back in the order of this stream and of no other.

    Args:
        device: The device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def mark(self) -> Any:
        """Return what `after` waits for: all that the calling thread has asked of the device."""
        if self._stream is None:
            return None
        return torch.cuda.current_stream(self._device).record_event()

    @contextmanager
    def after(self, mark: Any, reads: Iterable[Tensor] = ()) -> Iterator[None]:
        """Have what is asked of the device inside done on this stream, once a mark is reached.

        Args:
            mark: The mark.
            reads: Tensors of another stream that are read: should they be let go of meanwhile,
                PyTorch gives their memory to nobody before this stream is done with them.
        """
        if self._stream is None:
            yield
            return
        self._stream.wait_event(mark)
        for tensor in reads:
            if tensor.device.type == "cuda":
                tensor.record_stream(self._stream)
        with torch.cuda.stream(self._stream):
            yield

    def wait(self) -> None:
        """Wait until all is done that was asked of the device on this stream."""
        if self._stream is not None:
            self._stream.synchronize()


def copied_later(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Callable[[], Tensor]:
    """Begin to copy a tensor, and return a function that waits for the copy and returns it.

    Args:
        tensor: What to copy, on the current stream; it may be let go at once.
        device: Where to.
        dtype: What to make of it.
    """
    if tensor.device.type != "cuda":
        copy = tensor.to(device, dtype, copy=True)
        return lambda: copy
    target = _pinned(tensor, dtype) if device.type == "cpu" else None
    if target is None:
        target = tensor.to(device, dtype, copy=True)
    else:
        # Converted on the card first: the copy itself is then of bytes and stops nobody.
        target.copy_(tensor.to(dtype), non_blocking=True)
    arrived, there = torch.cuda.current_stream(tensor.device).record_event(), target

    def wait() -> Tensor:
        arrived.synchronize()
        return there

    return wait


def _pinned(tensor: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Return memory that a card writes to by itself, or None where it cannot be had.

    PyTorch gives it to nobody else before the copy is done, even if it is let go of by then.
    """
    may_go_on = comfy.model_management.device_supports_non_blocking(tensor.device)
    if not may_go_on or args.disable_pinned_memory:
        return None
    try:
        return torch.empty(tensor.shape, dtype=dtype, pin_memory=True)
    except RuntimeError:  # the system gives no more; the copy is then waited for
        comfy.model_management.discard_cuda_async_error()
        return None
