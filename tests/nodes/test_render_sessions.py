"""How many sampling sessions a render opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.harness import SMALL, NodeHarness, pool_of
from tests.support.rendered import luma
from tests.support.tiny_models import WAN


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN, SMALL)


def sessions_of(harness: NodeHarness, render: Any) -> int:
    """Render four chunks; return how often a sampling session was opened."""
    from comfy.patcher_extension import WrappersMP

    opened = []

    def wrapper(executor: Any, *args: Any, **kwargs: Any) -> Any:
        opened.append(executor)
        return executor(*args, **kwargs)

    pool_of(harness.model).clear()
    watched = harness.model.clone()
    watched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "watch", wrapper)
    render(harness.fresh(), 4, model=watched)
    return len(opened)


def test_one_session_makes_all_chunks_while_the_vae_stays_beside_the_model(
    harness: NodeHarness, render: Any, output: Path, video: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sessions_of(harness, render) == 1
    # Without room for both, whatever has to be loaded is loaded between sessions.
    monkeypatch.setattr(video.decoders.ChunkDecoder, "_is_ready", lambda self: False)
    assert sessions_of(harness, render) == 4
    one, each = (list(luma(path)) for path in sorted(output.glob("*.mp4")))
    assert len(one) == 45
    assert all((a == b).all() for a, b in zip(one, each, strict=True))
