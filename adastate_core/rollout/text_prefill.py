"""The text of a prompt, prefilled: its keys and values as every chunk under it attends to them.

They depend on the prompt and on nothing of the stream, so they are computed once for each and kept
in the pool beside the caches of past frames.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ..attention.geometry import AttentionGeometry
from ..attention.kv_cache import KVCache, KVCachePool
from ..attention.text_tokens import TextPrefill
from ..config import StreamConfig
from ..digest import text_digest
from .latent_block import LatentBlock
from .noise import CommitNoise
from .replay import CommitSession, with_noise


def prefilled_text(
    config: StreamConfig,
    digests: Mapping[int, str],
    size: tuple[int, int, int, int],
    geometry: AttentionGeometry,
    pool: KVCachePool,
    model: str,
    session: CommitSession,
) -> dict[int, KVCache]:
    """Return keys and values of the text under each conditioning, from the pool or made now.

    Text attends to itself at the noise of a commit; it comes with a block, as the model takes it,
    of one blank frame that it does not see.

    Args:
        config: Options of the stream.
        digests: Digests of the conditionings, by index.
        size: (B, C, H, W) of one latent frame.
        geometry: How the model orders, numbers and rotates tokens.
        pool: KV caches of the model.
        model: What identifies the model with all that is on it.
        session: A session under these conditionings.

    Returns:
        Nothing if the text of every forward counts, or none is in a sequence with the video.
    """
    if config.text_sees != "prefill" or not geometry.has_text:
        return {}
    sigma = config.commit_sigma
    keys = {
        i: text_digest("\n".join(("text", model, d, str(sigma), str(size))))
        for i, d in digests.items()
    }
    found = {index: pool.find(key) for index, key in keys.items()}
    missing = tuple(index for index, kv in found.items() if kv is None)
    made: dict[int, KVCache] = {index: kv for index, kv in found.items() if kv is not None}
    if missing:
        batch, channels, height, width = size
        blank = LatentBlock(torch.zeros((batch, channels, TextPrefill.frames, height, width)))
        view = TextPrefill(geometry, missing, pool.kv_format.exact)
        with_noise(session).prefill(blank, view, CommitNoise(sigma, blank))
        for index, kv in view.prefilled().items():
            made[index] = kv
            # Whatever else is there may be needed by the run that goes on.
            pool.store(keys[index], kv, keep=tuple(pool.sets))
    return made
