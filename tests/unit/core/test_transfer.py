"""Tensors that are sent to a device."""

from __future__ import annotations

import torch

from adastate_core.transfer import sent


def test_what_is_there_is_not_copied() -> None:
    x = torch.ones(3)
    assert sent(x, torch.device("cpu")) is x


def test_another_device_gets_a_copy() -> None:
    assert sent(torch.ones(3), torch.device("meta")).device.type == "meta"
