"""Train State Adapter: what it learns, what it leaves alone, and what it goes on from."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch

from tests.support.harness import NodeHarness, conditioning
from tests.support.tiny_models import WAN_LARGER
from tests.support.training import Bench, moving_clip, train

SIZE = (4, 6)


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN_LARGER)


@pytest.fixture(scope="module")
def trained(harness: NodeHarness, vae: Any) -> tuple[Any, Any, Any]:
    """Return an adapter that has seen one clip often."""
    return train(harness, vae, 50, name="one clip")


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.model.state_dict().items()}


@pytest.mark.newest
def test_loss_falls_on_one_clip(trained: tuple[Any, Any, Any]) -> None:
    lora, losses, steps = trained
    assert steps == len(losses) == 50
    first, last = (sum(part) / 12 for part in (losses[:12], losses[-12:]))
    assert last < 0.9 * first
    assert all(torch.isfinite(value).all() for value in lora.values())


def test_the_base_model_stays_as_it_was(harness: NodeHarness, vae: Any, pack: Any) -> None:
    harness.model.get_attachment("adastate").pool.clear()
    before, weights = harness.step(harness.fresh(), 3)[0].content(), weights_of(harness.model)
    pool_patcher = importlib.import_module(f"{pack.__name__}.adastate_comfy.model.kv_pool_patcher")
    announced = pool_patcher.pool_patcher_of(harness.model).pool.expected_bytes
    train(harness, vae, 2, name="base", gradient_checkpointing=True)
    after = weights_of(harness.model)
    assert weights.keys() == after.keys()
    assert all(torch.equal(weights[name], after[name]) for name in weights)
    parts = harness.model.model.modules()
    assert not [part for part in parts if "forward" in vars(part)], "a layer is still replaced"
    assert not harness.model.patches
    assert not harness.model.injections
    assert pool_patcher.pool_patcher_of(harness.model).pool.expected_bytes == announced
    harness.model.get_attachment("adastate").pool.clear()
    assert torch.equal(harness.step(harness.fresh(), 3)[0].content(), before)


def test_training_predicts_what_the_stream_makes(harness: NodeHarness, pack: Any) -> None:
    """At the first noise level, of the same past and noise: chunk for chunk the same latents."""
    state, _ = harness.step(harness.fresh(), 3, seed=7, sampler="euler", sigmas=(1.0, 0.0))
    bench = Bench(pack, harness.model, conditioning(0))
    rollout = bench.module("adastate_core.training.rollout")
    noise = bench.module("adastate_core.rollout.noise").BlockNoise
    states = torch.cat([chunk.state for chunk in state.chunks], dim=2)
    clip, seen = rollout.TrainingClip(state.content(), states, 0), []

    def body(session: Any) -> None:
        class Watching:
            commit = session.commit

            @staticmethod
            def learn(block: Any, own: Any, level: float, view: Any, weight: float) -> float:
                drawn = noise(7, len(seen), tuple(block.video.shape), 1).initial()
                with torch.enable_grad():
                    seen.append(session.predict(block, drawn, 1.0, view).detach())
                return 0.0

        bench.rollout(clip).step(clip, bench.plan(3), Watching())

    bench.open(clip, body)
    for made, chunk in zip(seen, state.chunks, strict=True):
        expected = torch.cat((chunk.state, chunk.content), dim=2)
        torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)


def test_stock_nodes_save_load_and_plot_it(
    harness: NodeHarness, pack: Any, trained: tuple[Any, Any, Any], base_dir: Any
) -> None:
    from comfy_extras import nodes_train

    import nodes

    lora, losses, steps = trained
    nodes_train.SaveLoRA.execute(lora, "loras/stock", steps)
    (saved,) = (base_dir / "output" / "loras").glob("stock_50_steps_*.safetensors")
    target = base_dir / "models" / "loras" / saved.name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(saved.read_bytes())
    plain, _ = harness.step(harness.fresh(), 2, sampler="euler")
    streams = []
    for bare in (
        nodes.LoraLoaderModelOnly().load_lora_model_only(harness.bare, saved.name, 1.0)[0],
        nodes_train.LoraModelLoader.execute(harness.bare, lora, 1.0).args[0],
    ):
        (model,) = harness.run("AdaStateApply", bare, "adaptive", 3, 3, 1, 3)
        streams.append(harness.step(harness.fresh(), 2, model=model, sampler="euler")[0])
    assert torch.equal(streams[0].content(), streams[1].content())
    assert (streams[0].content() - plain.content()).abs().max() > 1e-2
    from_memory = streamed_while_it_learns(harness, pack, lora)
    torch.testing.assert_close(from_memory, streams[0].content(), atol=1e-4, rtol=0)
    assert nodes_train.LossGraphNode.execute({"loss": losses}, "loss").ui is not None


def streamed_while_it_learns(harness: NodeHarness, pack: Any, lora: Any) -> torch.Tensor:
    """Stream two chunks in a session of training, its adapter injected."""
    bench = Bench(pack, harness.model, conditioning(0), rank=4, begin=lora)
    chunks, attention = (
        bench.module(f"adastate_core.{name}")
        for name in ("rollout.latent_block", "attention.chunk_attention")
    )
    commit = bench.module("adastate_core.attention.commit_attention").CommitAttention
    noise = bench.module("adastate_core.rollout.noise").BlockNoise
    cache = bench.module("adastate_core.attention.kv_cache").KVCache
    bound, made = bench.learner.bound, []
    geometry = bound.traits.geometry(*SIZE)

    def body(session: Any) -> None:
        past = {0: cache.empty()}
        for chunk in range(2):
            common = (bound.config, bound.policy, past, geometry)
            view = attention.ChunkAttention(*common, first_frame=3 * chunk)
            block = session.denoise(noise(0, chunk, (1, 16, 4, *SIZE), 1), view)
            made.append(block.video[:, :, 1:])
            view = commit(*common, first_frame=3 * chunk)
            session.commit(chunks.LatentBlock(block.video), view)
            past = view.committed()

    bench.open(bench.clip(2, SIZE), body)
    return torch.cat(made, dim=2)


def test_the_same_seed_trains_the_same_adapter(harness: NodeHarness, vae: Any) -> None:
    one, losses, _ = train(harness, vae, 3, name="seeds", resume=False)
    torch.randn(5)
    two, again, _ = train(harness, vae, 3, name="seeds", resume=False)
    other, _, _ = train(harness, vae, 3, name="seeds", resume=False, seed=4)
    assert losses == again
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_an_adapter_goes_on_from_another(harness: NodeHarness, vae: Any, core: Any) -> None:
    one, _, _ = train(harness, vae, 2, name="begin")
    nothing, _, _ = train(harness, vae, 1, name="further", lora=one, learning_rate=1e-9)
    for name, value in one.items():
        torch.testing.assert_close(nothing[name], value, atol=1e-6, rtol=0)
    with pytest.raises(core.AdaStateError, match="has rank 4, and rank is 2"):
        train(harness, vae, 1, name="other rank", lora=one, rank=2)


def test_clips_of_several_sizes_each_with_its_prompt(harness: NodeHarness, vae: Any) -> None:
    clips = [moving_clip(), moving_clip(33, 1, 48, 32), moving_clip(21, 2)]
    prompts = [conditioning(seed) for seed in range(3)]
    _, losses, _ = train(harness, vae, 6, name="several", clips=clips, positive=prompts)
    assert len(set(losses)) == 6


@pytest.mark.parametrize("anchor", ["frozen", "none", "ema"])
def test_other_anchors_are_trained_as_they_stream(
    harness: NodeHarness, vae: Any, anchor: str
) -> None:
    (model,) = harness.run("AdaStateApply", harness.bare, anchor, 3, 3, 1, 3)
    _, losses, steps = train(harness, vae, 2, name=anchor, model=model)
    assert steps == 2
    assert all(loss > 0 for loss in losses)


def test_bf16_keeps_the_adapter_in_fp32(harness: NodeHarness, vae: Any) -> None:
    changes = {"training_dtype": "bf16", "gradient_checkpointing": True}
    lora, losses, _ = train(harness, vae, 3, name="bf16", **changes)
    exact, others, _ = train(harness, vae, 3, name="exact")
    assert all(value.dtype == torch.float32 for value in lora.values())
    assert losses != others
    for seen, expected in zip(losses, others, strict=True):
        assert seen == pytest.approx(expected, rel=0.05)
    assert lora.keys() == exact.keys()


def test_weights_in_fp8_are_trained_on(harness: NodeHarness, vae: Any) -> None:
    (bare,) = harness.run("AdaStateLoadModel", WAN_LARGER, "fp8_e4m3fn", 0.0)
    (model,) = harness.run("AdaStateApply", bare, "adaptive", 3, 3, 1, 3)
    _, losses, _ = train(harness, vae, 30, name="fp8", model=model)
    assert sum(losses[-8:]) < sum(losses[:8])
