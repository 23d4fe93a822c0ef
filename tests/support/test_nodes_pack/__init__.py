"""A custom node pack for tests only: inputs no stock node gives, and looks inside a run."""

from __future__ import annotations

import gc
import hashlib
import importlib.util
from collections import Counter
from pathlib import Path
from typing import Any

import comfy.patcher_extension
import torch
from aiohttp import web
from comfy_api.latest import ComfyExtension, io
from server import PromptServer

_forwards: Counter[str] = Counter()


class TestConditioning(io.ComfyNode):
    """Random text conditioning, because a text encoder is too large for a test."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateTestConditioning",
            category="AdaState/test",
            inputs=[
                io.Int.Input("seed", default=0, min=0, max=2**31),
                io.Int.Input("tokens", default=8, min=1, max=512),
                io.Int.Input("width", default=4096, min=1, max=8192),
                io.String.Input("flag", default="", optional=True),
            ],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def execute(cls, seed: int, tokens: int, width: int, flag: str = "") -> io.NodeOutput:
        generator = torch.Generator().manual_seed(seed)
        text = torch.randn(1, tokens, width, generator=generator)
        return io.NodeOutput([[text, {flag: True} if flag else {}]])


class TestVAE(io.ComfyNode):
    """A small VAE whose class ComfyUI's loader makes in its full size only."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateTestVAE",
            category="AdaState/test",
            inputs=[io.Combo.Input("name", options=["minimax_h3_video", "minimax_h3_sound"])],
            outputs=[io.Vae.Output()],
        )

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        path = Path(__file__).resolve().parents[1] / "tiny_vaes.py"
        spec = importlib.util.spec_from_file_location("adastate_tiny_vaes", path)
        assert spec is not None
        assert spec.loader is not None
        made = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made)
        options = {"kernels": (3,)} if name == "minimax_h3_sound" else {}
        return io.NodeOutput(getattr(made, name)(**options))


class TestCountForwards(io.ComfyNode):
    """Count a model's forwards under a name; read them at /adastate_test/forwards."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateTestCountForwards",
            category="AdaState/test",
            inputs=[io.Model.Input("model"), io.String.Input("name", default="model")],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model: Any, name: str) -> io.NodeOutput:
        def count(executor: Any, *args: Any, **kwargs: Any) -> Any:
            _forwards[name] += 1
            return executor(*args, **kwargs)

        counted = model.clone()
        kind = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
        counted.add_wrapper_with_key(kind, f"adastate_test.{name}", count)
        return io.NodeOutput(counted)


class TestDigest(io.ComfyNode):
    """Report shape and sha256 of a latent or an image batch as the node's UI output."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateTestDigest",
            category="AdaState/test",
            inputs=[io.MultiType.Input("value", [io.Latent, io.Image])],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, value: Any) -> io.NodeOutput:
        tensor = value["samples"] if isinstance(value, dict) else value
        return io.NodeOutput(ui={"shape": list(tensor.shape), "sha256": [_digest(tensor)]})


class TestRandomState(io.ComfyNode):
    """Report a digest of torch's global random state, after whatever is wired in has run."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateTestRandomState",
            category="AdaState/test",
            inputs=[io.AnyType.Input("after", optional=True)],
            outputs=[io.AnyType.Output("passed_on")],
            is_output_node=True,
            not_idempotent=True,
        )

    @classmethod
    def execute(cls, after: Any = None) -> io.NodeOutput:
        return io.NodeOutput(after, ui={"sha256": [_digest(torch.get_rng_state())]})


def _digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


@PromptServer.instance.routes.get("/adastate_test/forwards")
async def _read_forwards(request: web.Request) -> web.Response:
    return web.json_response(dict(_forwards))


@PromptServer.instance.routes.post("/adastate_test/reset")
async def _reset_forwards(request: web.Request) -> web.Response:
    _forwards.clear()
    return web.json_response({})


@PromptServer.instance.routes.get("/adastate_test/kv")
async def _read_kv(request: web.Request) -> web.Response:
    """Count the pools and K/V sets that are alive anywhere in the process, by class name."""
    gc.collect()
    alive = [o for o in gc.get_objects() if type(o).__name__ in ("KVCachePool", "KVCache")]
    sets = [o for o in alive if type(o).__name__ == "KVCache"]
    return web.json_response(
        {
            "pools": len(alive) - len(sets),
            "sets": len(sets),
            "bytes": sum(o.nbytes for o in sets),
            "largest": max((o.nbytes for o in sets), default=0),
        }
    )


class TestExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [TestConditioning, TestVAE, TestCountForwards, TestDigest, TestRandomState]


async def comfy_entrypoint() -> TestExtension:
    return TestExtension()
