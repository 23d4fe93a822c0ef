"""LTX-2.5 for tests: from its file where ComfyUI knows it, else the marks alone on an LTX-2.3."""

from __future__ import annotations

from typing import Any

import torch

from tests.support.harness import NodeHarness
from tests.support.tiny_models import LTX23, LTX25

_MARK = "keyframes_abs_pos_embedding"


def ltx2_harness(nodes: dict[str, Any], file: str) -> NodeHarness:
    """Load a tiny LTX-2; where ComfyUI does not know LTX-2.5, an LTX-2.3 with marks stands in."""
    if file != LTX25 or knows_marks():
        return NodeHarness(nodes, file)
    harness = NodeHarness(nodes, LTX23)
    _add_marks(harness.bare.get_model_object("diffusion_model"))
    return NodeHarness(nodes, harness.bare)


def knows_marks() -> bool:
    """Say whether the ComfyUI under test marks frames that stand for one picture."""
    from comfy.ldm.lightricks.model import LTXVModel

    return hasattr(LTXVModel, "apply_keyframes_abs_pos_embedding")


def _add_marks(dit: Any) -> None:
    """Have a model of older versions mark tokens as newer ones do."""
    kind = type(dit)

    def process(self: Any, x: Any, keyframes: Any, mask: Any, **kwargs: Any) -> Any:
        tracks, places, more = kind._process_input(self, x, keyframes, mask, **kwargs)
        video = places[0][:, 0] if isinstance(places, list) else places[:, 0]
        begins = video[..., 0] if video.ndim == 3 else video
        marked, alone = begins == 0, kwargs.get("generated_keyframes")
        if alone is not None:
            size = alone["tokens_per_frame"]
            first = alone["first_latent_frame"] * size
            marked[:, first : first + alone["num_keyframes"] * size] = True
        mark = marked[..., None].to(tracks[0].dtype) * getattr(self, _MARK)
        return [tracks[0] + mark, *tracks[1:]], places, more

    # Streams know a family by the name of its class.
    dit.__class__ = type(kind.__name__, (kind,), {"_process_input": process})
    source = torch.Generator().manual_seed(25)
    mark = torch.randn((1, dit.inner_dim), generator=source)
    dit.register_parameter(_MARK, torch.nn.Parameter(mark, requires_grad=False))
