"""Every template that needs no downloads: opened, queued from the page and finished."""

from __future__ import annotations

import pytest

from tests.support.editor import Editor
from tests.support.shipped import RUNNABLE, open_short

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("name", RUNNABLE)
def test_template_runs(editor: Editor, name: str) -> None:
    open_short(editor, name)
    editor.run()
    assert editor.failed_nodes() == []
    editor.shoot(name)
