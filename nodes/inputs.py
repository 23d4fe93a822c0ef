"""The one socket of our own, and what several nodes share in their schemas."""

from __future__ import annotations

from comfy_api.latest import io

CATEGORY = "AdaState"

AdaStateSocket = io.Custom("ADASTATE")


def state_input(id: str = "state", tooltip: str = "The stream to continue.") -> io.Input:
    """Declare a stream state input."""
    return AdaStateSocket.Input(id, tooltip=tooltip)


def state_output(
    tooltip: str = "The stream after this node; the input stays as it was.",
) -> io.Output:
    """Declare a stream state output."""
    return AdaStateSocket.Output("state", display_name="state", tooltip=tooltip)
