"""Workflows that were saved before inputs moved still run as they did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

SAVED = Path(__file__).parents[1] / "data" / "older_workflows"
NAMES = sorted(path.stem for path in SAVED.glob("*.json") if not path.stem.endswith(".api"))
LATER_DEFAULTS = {"seconds": 0, "fps": 16, "timeline": "", "attention": "as ComfyUI"}
"""What inputs that came after these files must say for a run to stay what it was."""

pytestmark = pytest.mark.browser

PROMPT_OF = """async (workflow) => {
    await app.loadGraphData(workflow, true, true, "older");
    return (await app.graphToPrompt()).output;
}"""


@pytest.mark.parametrize("name", NAMES)
def test_an_older_workflow_gives_the_same_prompt(page: Any, name: str) -> None:
    """Links go by the name of an input and values by the place of a widget: both are as saved."""
    workflow = json.loads((SAVED / f"{name}.json").read_text(encoding="utf-8"))
    before = json.loads((SAVED / f"{name}.api.json").read_text(encoding="utf-8"))
    made = page.evaluate(PROMPT_OF, workflow)
    assert set(made) == set(before)
    for key, node in before.items():
        assert made[key]["class_type"] == node["class_type"]
        kept = {name: made[key]["inputs"].get(name) for name in node["inputs"]}
        assert kept == node["inputs"], node["class_type"]
        added = {name: made[key]["inputs"][name] for name in set(made[key]["inputs"]) - set(kept)}
        assert added.items() <= LATER_DEFAULTS.items()
    assert not page.problems
