"""Text that is prefilled: once for a prompt, and never where it is not asked for."""

from __future__ import annotations

from dataclasses import replace

import torch

from adastate_core.anchors.presets import preset_config
from adastate_core.attention.block_attention import BlockAttention
from adastate_core.attention.geometry import AttentionGeometry
from adastate_core.attention.kv_cache import KVCache, KVCachePool, KVEntry
from adastate_core.attention.kv_format import KVFormat
from adastate_core.rollout.latent_block import LatentBlock
from adastate_core.rollout.noise import CommitNoise
from adastate_core.rollout.text_prefill import prefilled_text
from tests.support.attention_blocks import JOINT, LAYERS, TEXT, block, call, geometry

SIZE = (1, 4, 1, 2)
RAVEN = preset_config("raven")


class Session:
    """A session of two layers that keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[int, ...], tuple[int, ...], float]] = []

    def commit(self, block: LatentBlock, view: BlockAttention) -> None:
        raise AssertionError("text is no commit")

    def commit_noised(self, block: LatentBlock, view: BlockAttention, noise: CommitNoise) -> None:
        raise AssertionError("text is no commit")

    def prefill(self, given: LatentBlock, view: BlockAttention, noise: CommitNoise) -> None:
        self.asked.append((tuple(given.video.shape), view.conditionings, noise.sigma))
        for conditioning in view.conditionings:
            q, k, v = block(view.frames, TEXT)
            for layer in range(LAYERS):
                at = (conditioning,)
                view.attend(call(q, k + conditioning, v, layer, at=at, how=JOINT["prefix"]))


def text_of(
    session: Session,
    pool: KVCachePool,
    digests: dict[int, str],
    config: object = RAVEN,
    how: AttentionGeometry | None = None,
) -> dict[int, KVCache]:
    how = how or geometry(JOINT["prefix"])
    return prefilled_text(config, digests, SIZE, how, pool, "model", session)  # type: ignore[arg-type]


def test_text_is_made_once_for_a_prompt_and_each_of_two() -> None:
    session, pool = Session(), KVCachePool()
    made = text_of(session, pool, {0: "a cat", 1: "no dog"})
    assert session.asked == [((1, 4, 1, 1, 2), (0, 1), 0.001)]
    keys = [made[i].get(KVEntry(1, "self", "text"))[0] for i in (0, 1)]
    assert torch.equal(keys[1], keys[0] + 1)
    again = text_of(session, pool, {0: "a cat", 1: "no rain"})
    assert session.asked[1:] == [((1, 4, 1, 1, 2), (1,), 0.001)]
    assert again[0] is made[0]
    text_of(session, pool, {0: "a cat"}, replace(RAVEN, commit_sigma=0.0))
    assert len(session.asked) == 3  # another noise, another text


def test_text_that_every_forward_gives_is_not_made_before() -> None:
    session, pool = Session(), KVCachePool()
    for config in (replace(RAVEN, text_sees="text"), replace(RAVEN, text_sees="all")):
        assert text_of(session, pool, {0: "a cat"}, config) == {}
    assert text_of(session, pool, {0: "a cat"}, how=geometry()) == {}  # none beside the video
    assert not session.asked


def test_text_evicts_nothing_and_is_not_rounded() -> None:
    pool = KVCachePool(max_bytes=1, kv_format=KVFormat("fp8"))
    pool.store("needed", KVCache.empty())
    made = text_of(Session(), pool, {0: "a cat"})
    assert pool.find("needed") is not None
    keys, _ = made[0].get(KVEntry(0, "self", "text"))
    assert torch.equal(keys, block(1, TEXT)[1][:, :TEXT])
