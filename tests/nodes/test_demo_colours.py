"""Colours of the demo's latents: those of its pictures, in the panel and in ComfyUI's preview."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from tests.nodes.test_join import DemoHarness

ALIKE, NEAR, FAR = 0.85, 0.08, 0.2
"""Least correlation of true colours, their largest mean difference, and the least of false ones."""


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any]) -> DemoHarness:
    return DemoHarness(node_classes)


@pytest.fixture(scope="module")
def streamed(harness: DemoHarness) -> tuple[Any, Any]:
    return harness.streamed(seed=3, chunks=1, size=16)


@pytest.fixture(scope="module")
def latent(streamed: tuple[Any, Any]) -> dict[str, Any]:
    return streamed[1]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def seen(harness: DemoHarness, latent: dict[str, Any]) -> Tensor:
    """Return the mean colours of the pictures where each latent is, (T, H, W, 3)."""
    small = avg_pool2d(harness.frames(latent).permute(0, 3, 1, 2), 8)
    return torch.cat([small[:1], small[1:].unflatten(0, (-1, 4)).mean(1)]).movedim(1, -1)


@pytest.fixture
def form(harness: DemoHarness) -> Any:
    return harness.model.get_model_object("latent_format")


def likeness(one: Tensor, other: Tensor) -> float:
    """Return the least correlation of a colour channel over all places."""
    pairs = zip(one.flatten(0, -2).T, other.flatten(0, -2).T, strict=True)
    return min(float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in pairs)


def test_the_panel_shows_its_true_colours(
    pack: Any, latent: dict[str, Any], seen: Tensor, form: Any
) -> None:
    panel = importlib.import_module(f"{pack.__name__}.adastate_comfy.panel.latent_colours")
    samples, plain = form.process_in(latent["samples"]), type(form)()
    assert type(form).__name__ == "Wan21"  # what a stream records
    colours = panel.colours_of(samples, form)
    assert likeness(colours, seen) > ALIKE
    assert (colours - seen).abs().mean() < NEAR
    assert (panel.colours_of(samples, plain) - seen).abs().mean() > FAR


def test_comfyuis_own_preview_shows_them(
    latent: dict[str, Any], seen: Tensor, form: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import latent_preview
    from comfy.cli_args import LatentPreviewMethod, args

    monkeypatch.setattr(args, "preview_method", LatentPreviewMethod.Latent2RGB)
    previewer = latent_preview.get_previewer(torch.device("cpu"), form)
    last = form.process_in(latent["samples"])[:, :, -1:]
    image = previewer.decode_latent_to_preview(last)
    shown = torch.from_numpy(np.array(image)).float() / 255
    assert likeness(shown, seen[-1]) > ALIKE
    assert (shown - seen[-1]).abs().mean() < NEAR


def test_a_recorded_stream_keeps_them(pack: Any, streamed: tuple[Any, Any], form: Any) -> None:
    recorded = importlib.import_module(f"{pack.__name__}.adastate_comfy.thumbnails").recorded_form
    state = streamed[0]
    ours, plain = recorded(state), recorded(replace(state, fingerprint=None))
    for name in ("latent_rgb_factors", "latent_rgb_factors_bias"):
        assert getattr(ours, name) == getattr(form, name) != getattr(plain, name)
