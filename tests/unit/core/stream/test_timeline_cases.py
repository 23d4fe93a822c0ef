"""The cases that the page's reader of timelines is held to are what Python makes of them.

A difference is a decision. To accept one, run this file with ADASTATE_ACCEPT=1 and change
web/js/timeline/read.js alike.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adastate_core.stream.pace import Pace
from adastate_core.stream.timeline import order_problems, read_timeline

CASES = Path(__file__).parents[3] / "golden" / "timeline_cases.json"


def answer(case: dict[str, Any]) -> dict[str, Any]:
    """Return a case with what Python makes of its text."""
    cues, problems = read_timeline(case["text"])
    made = {
        "text": case["text"],
        "cues": [asdict(cue) for cue in cues],
        "problems": [[problem.line, problem.sentence] for problem in problems],
    }
    if "pace" in case:
        pace = Pace(**case["pace"])
        order = order_problems(cues, pace, case["first"])
        made |= {
            "pace": case["pace"],
            "first": case["first"],
            "chunks": [cue.chunk(pace) for cue in cues],
            "order": [[problem.line, problem.sentence] for problem in order],
        }
    return made


def test_the_cases_are_what_python_makes_of_them() -> None:
    cases = json.loads(CASES.read_text(encoding="utf-8"))
    made = [answer(case) for case in cases]
    if os.environ.get("ADASTATE_ACCEPT"):
        CASES.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
        return
    assert cases == made
    assert sum(bool(case["problems"]) for case in cases) > 40
    assert sum(bool(case["cues"]) for case in cases) > 100
