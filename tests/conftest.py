"""Shared by all tiers.

No folder under tests/ has an `__init__.py`: with one, pytest would climb to the repository's root,
which is a package as well (ComfyUI loads it), and import it. Helpers are imported as
`tests.support.<module>`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to run tiers together that cannot share a process."""
    tiers = {item.path.relative_to(TESTS).parts[0] for item in session.items}
    if "nodes" in tiers and len(tiers) > 1:
        raise pytest.UsageError(
            "The nodes tier needs a process of its own: run `make test`, or name one folder."
        )


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the repository's root, which is the pack."""
    return TESTS.parent
