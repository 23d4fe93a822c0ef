"""Drive the pack's nodes in process, as ComfyUI's executor would."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


class NodeStudio:
    """A loaded tiny model and the nodes around it."""

    def __init__(self, nodes: dict[str, Any], model: Any) -> None:
        self.nodes = nodes
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

    def fresh(self, *, batch: int = 1, height: int = 4, width: int = 6, **kwargs: Any) -> Any:
        latent = {"samples": torch.zeros((batch, 16, 5, height, width))}
        return self.run("AdaStateNewStream", latent, 0, **kwargs)[0]

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
