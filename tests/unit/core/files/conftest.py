"""A named stream on disk, for the tests that look into its folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.named_streams import relay
from tests.support.reference_host import Harness


@pytest.fixture(scope="session")
def stream_of_three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of streams; one of three commits is in it. Not to be changed."""
    root = tmp_path_factory.mktemp("streams")
    relay(root, 3, Harness().fresh)
    return root


@pytest.fixture
def root(stream_of_three: Path, tmp_path: Path) -> Path:
    """Return a copy of it."""
    return Path(shutil.copytree(stream_of_three, tmp_path / "streams"))
