"""The farm: rules and files alone, and real workers on Ray with real ComfyUI servers.

`COMFYUI_PATH` names the tree; `make test TIERS=farm` sets it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.support.farm import CHUNKS, SHOWN, STREAMS, Crew, job  # noqa: E402


@pytest.fixture(scope="session")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """Return two workers with their servers, which tests share: a start costs more than most."""
    tree = os.environ.get("COMFYUI_PATH")
    if not tree:
        raise pytest.UsageError("This tier needs ComfyUI: run `make test TIERS=farm`.")
    with Crew.open(tmp_path_factory.mktemp("farm"), Path(tree), workers=2) as crew:
        yield crew


@pytest.fixture(scope="session")
def alone(crew: Crew) -> Crew:
    """Have one server make all streams, each in one prompt."""
    lines = [
        job(f"alone {n}", f"alone {n}", n11_seed=n, n11_chunks=CHUNKS, video=n < SHOWN)
        for n in range(STREAMS)
    ]
    report, _ = crew.run(lines, "alone", workers=1)
    assert not report.failed
    return crew
