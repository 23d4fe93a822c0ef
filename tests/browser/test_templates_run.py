"""Every template that needs no downloads: opened, queued from the page and finished."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.editor import Editor
from tests.support.shipped import RUNNABLE, open_short

pytestmark = pytest.mark.browser


@pytest.mark.timeout(900)
def test_templates_run(editor: Editor, subtests: Any) -> None:
    for name in RUNNABLE:
        with subtests.test(name):
            open_short(editor, name)
            editor.run()
            assert editor.failed_nodes() == []
            editor.shoot(name)
