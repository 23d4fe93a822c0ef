"""Measure what the pack costs over the bare model, as ratios within one run.

A mid-size random Wan streams through the real nodes. Next to every chunk the same number of bare
forwards runs, over the same tokens and against keys and values of the same length that lie ready
in memory: so everything the pack does counts as overhead (sampling loop, copies, rotations).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

from tools import host
from tools.inprocess import Pack, open_comfyui

DIM, HEADS, LAYERS, SIDE = 512, 4, 4, 32
SIGMAS = (1.0, 0.7, 0.0)
CHUNKS = 53
EARLY, LATE = range(3, 8), range(48, 53)
TARGETS = {"chunk50_over_5": 1.05, "overhead": 1.10}


def main() -> None:
    """Run the bench, print a table and write `output/bench.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=0, help="torch threads; 0 leaves them")
    arguments = parser.parse_args()
    open_comfyui()
    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    pack = Pack()
    bare = _model()
    (model,) = pack.run(
        "AdaStateApply", model=bare, anchor="adaptive", chunk_frames=3, window_frames=3,
        state_frames=1, anchor_frames=3,
    )  # fmt: skip
    step, forward = _chunk_step(pack, model), _bare_forwards(bare)
    step()  # the first chunk attends to an empty cache and commits nothing
    step()
    forward()
    pairs = [(_seconds(step), _seconds(forward)) for _ in range(2, CHUNKS)]
    chunks = {i + 2: ours for i, (ours, _) in enumerate(pairs)}
    result = {
        "chunk50_over_5": _median(chunks[i] for i in LATE) / _median(chunks[i] for i in EARLY),
        "overhead": _median(ours / theirs for ours, theirs in pairs),
        "chunk_seconds": _median(chunks.values()),
        "bare_seconds": _median(theirs for _, theirs in pairs),
        "setting": {
            "dim": DIM, "layers": LAYERS, "tokens_per_frame": (SIDE // 2) ** 2,
            "forwards_per_chunk": len(SIGMAS), "dtype": "float32", "chunks": CHUNKS,
            "torch": torch.__version__, "threads": torch.get_num_threads(),
        },
    }  # fmt: skip
    _publish(result)


def _publish(result: dict[str, Any]) -> None:
    target = host.ROOT / "output" / "bench.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=2) + "\n")
    print(f"{'ratio':<16} {'measured':>9} {'target':>8}")
    for name, goal in TARGETS.items():
        verdict = "" if result[name] <= goal else "  missed"
        print(f"{name:<16} {result[name]:>9.3f} {goal:>7.2f}{verdict}")
    print(f"one chunk {result['chunk_seconds']:.2f} s, bare {result['bare_seconds']:.2f} s")
    print(target)


def _model() -> Any:
    """Make a random Wan of the stock class in a stock ModelPatcher."""
    import comfy.ops
    import comfy.sd
    import torch
    from comfy.ldm.wan.model import WanModel

    model = WanModel(
        model_type="t2v", dim=DIM, ffn_dim=4 * DIM, num_heads=HEADS, num_layers=LAYERS,
        in_dim=16, out_dim=16, dtype=torch.float32, device="cpu",
        operations=comfy.ops.disable_weight_init,
    )  # fmt: skip
    source = torch.Generator().manual_seed(0)
    weights = {
        name: torch.ones(w.shape)
        if "norm" in name and name.endswith("weight")
        else torch.randn(w.shape, generator=source) * 0.03
        for name, w in model.state_dict().items()
    }
    return comfy.sd.load_diffusion_model_state_dict(weights)


def _chunk_step(pack: Pack, model: Any) -> Callable[[], None]:
    """Return a function that streams one more chunk through Stream Chunks."""
    import comfy.samplers
    import torch

    (state,) = pack.run(
        "AdaStateNewStream", latent={"samples": torch.zeros((1, 16, 1, SIDE, SIDE))},
        history_chunks=2,
    )  # fmt: skip
    prompt = [[torch.randn((1, 512, 4096), generator=torch.Generator().manual_seed(1)), {}]]

    def step() -> None:
        nonlocal state
        state, _ = pack.run(
            "AdaStateStream", model=model, state=state, positive=prompt, cfg=1.0,
            sampler=comfy.samplers.sampler_object("euler"), sigmas=torch.tensor(SIGMAS),
            seed=0, chunks=1,
        )  # fmt: skip

    return step


def _bare_forwards(model: Any) -> Callable[[], None]:
    """Return a function that runs as many bare forwards as a chunk does."""
    import torch

    dit = model.get_model_object("diffusion_model")
    frame = (SIDE // 2) ** 2
    source = torch.Generator().manual_seed(2)
    x = torch.randn((1, 16, 4, SIDE, SIDE), generator=source)
    text = torch.randn((1, 512, 4096), generator=source)
    ready = torch.randn((1, 8 * frame, DIM), generator=source)

    def longer(func: Any, q: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> Any:
        if q.shape == k.shape:
            k = v = ready
        return func(q, k, v, *args, **kwargs)

    def run() -> None:
        with torch.inference_mode():
            for _ in range(len(SIGMAS)):
                options = {"optimized_attention_override": longer}
                dit(x, torch.tensor([500.0]), text, transformer_options=options)

    return run


def _seconds(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _median(values: Any) -> float:
    return statistics.median(list(values))


if __name__ == "__main__":
    main()
