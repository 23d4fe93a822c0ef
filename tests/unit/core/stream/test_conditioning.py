"""Conditionings as values: what is rebuilt from one is apart from it."""

from __future__ import annotations

import torch

from adastate_core.stream.conditioning import Conditioning


def test_writing_to_what_was_rebuilt_leaves_the_record() -> None:
    text = torch.randn((1, 8, 16), generator=torch.Generator().manual_seed(1))
    recorded = Conditioning.pack([[text, {"pooled": text[0], "sizes": (1, 2)}]])
    before = Conditioning(recorded.structure, {k: v.clone() for k, v in recorded.tensors.items()})
    (rebuilt,) = recorded.unpack()  # type: ignore[misc,attr-defined]
    rebuilt[0].zero_()
    rebuilt[1]["pooled"].fill_(7.0)
    assert Conditioning(recorded.structure, recorded.tensors).digest == before.digest
