"""Drive the pack's nodes in process, as ComfyUI's executor would."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

SMALL = (2, 4)
"""Pictures of 16 x 32: what is decoded costs by the pixel, and time does not care."""


class NodeHarness:
    """A loaded tiny model and the nodes around it.

    Args:
        nodes: Node classes by id.
        model: A file for *Load Streaming Model*, or a MODEL.
        size: Height and width of a fresh stream's latent. What decodes many chunks takes `SMALL`.
    """

    def __init__(self, nodes: dict[str, Any], model: Any, size: tuple[int, int] = (4, 6)) -> None:
        self.nodes = nodes
        self.size = size
        self.hidden: dict[Any, Any] = {}
        """What ComfyUI tells nodes about the prompt, by `io.Hidden`."""
        self.bare = model
        if isinstance(model, str):
            (self.bare,) = self.run("AdaStateLoadModel", model, "default", 0.0)
        (self.model,) = self.run("AdaStateApply", self.bare, "adaptive", 3, 3, 1, 3)

    def run(self, node_id: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Execute a node on a sanitised clone, in inference mode, and return its outputs."""
        node = self.nodes[node_id].PREPARE_CLASS_CLONE({"hidden_inputs": self.hidden})
        with torch.inference_mode(), same_rng():
            return node.execute(*args, **kwargs).args

    def latent(self, frames: int, seed: int | None = None, batch: int = 1) -> dict[str, Any]:
        """Return a latent of the harness's size, random if there is a seed."""
        shape = (batch, 16, frames, *self.size)
        if seed is None:
            return {"samples": torch.zeros(shape)}
        source = torch.Generator().manual_seed(seed)
        return {"samples": torch.randn(shape, generator=source)}

    def fresh(self, *, batch: int = 1, history: int = 0, **kwargs: Any) -> Any:
        latent = self.latent(5, batch=batch)
        return self.run("AdaStateNewStream", latent, history, **kwargs)[0]

    def step(
        self,
        state: Any,
        chunks: int = 1,
        *,
        model: Any = None,
        seed: int = 0,
        prompt: int = 0,
        cfg: float = 1.0,
        negative: int | None = None,
        sampler: str = "lcm",
        sigmas: tuple[float, ...] = (1.0, 0.6, 0.0),
        **options: Any,
    ) -> tuple[Any, Any]:
        import comfy.samplers

        return self.run(
            "AdaStateStream",
            model or self.model,
            state,
            positive=conditioning(prompt),
            negative=conditioning(negative) if negative is not None else None,
            cfg=cfg,
            sampler=comfy.samplers.sampler_object(sampler),
            sigmas=torch.tensor(sigmas),
            seed=seed,
            chunks=chunks,
            **options,
        )


def conditioning(seed: int) -> list[Any]:
    source = torch.Generator().manual_seed(seed)
    return [[torch.randn((1, 8, 4096), generator=source), {}]]


@contextlib.contextmanager
def same_rng() -> Iterator[None]:
    """Fail if the global random state changes inside."""
    before = torch.random.get_rng_state()
    yield
    assert torch.equal(before, torch.random.get_rng_state()), "the global RNG was touched"


def pool_of(model: Any) -> Any:
    return model.get_attachment("adastate").pool
