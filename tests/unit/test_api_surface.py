"""What `adastate_core` exports is public: who streams a model of his own depends on it.

A difference is a decision. To accept one, run this file with ADASTATE_ACCEPT=1 and say in the
changelog what has to be written in another way.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import adastate_core

GOLDEN = Path(__file__).parents[1] / "golden" / "api_surface.json"


def signature(function: Any) -> str:
    """Return a signature as text that is the same in every process."""
    text = re.sub(r"<function .+? at 0x[0-9a-fA-F]+>", "...", str(inspect.signature(function)))
    return text.replace("(self, ", "(").replace("(self)", "()")


def field_text(field: Field[Any]) -> str:
    if field.default_factory is not MISSING or callable(field.default):
        return f"{field.type} = ..."
    return str(field.type) + ("" if field.default is MISSING else f" = {field.default!r}")


def members(cls: type) -> dict[str, str]:
    """Describe the public methods and properties that a class itself defines."""
    found = {}
    for name, member in vars(cls).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property | cached_property):
            getter = member.fget if isinstance(member, property) else member.func
            found[name] = f"property -> {inspect.signature(getter).return_annotation}"
        elif isinstance(member, classmethod | staticmethod) or inspect.isfunction(member):
            found[name] = signature(getattr(cls, name))
    return found


def described(item: Any) -> Any:
    if not isinstance(item, type):
        return signature(item) if callable(item) else type(item).__name__
    made: dict[str, Any] = {"bases": [base.__name__ for base in item.__bases__]}
    if is_dataclass(item):
        made["fields"] = {field.name: field_text(field) for field in fields(item) if field.init}
    elif "__init__" in vars(item) and not getattr(item, "_is_protocol", False):
        made["made_with"] = signature(item.__init__)
    return {**made, "members": dict(sorted(members(item).items()))}


def test_surface_is_as_recorded() -> None:
    seen = {name: described(getattr(adastate_core, name)) for name in adastate_core.__all__}
    if os.environ.get("ADASTATE_ACCEPT"):
        GOLDEN.write_text(json.dumps(seen, indent=2) + "\n")
    assert seen == json.loads(GOLDEN.read_text())


def test_import_needs_no_host() -> None:
    code = (
        "import sys, adastate_core; "
        "print(*{name.partition('.')[0] for name in sys.modules} & {'comfy', 'nodes', 'kornia',"
        " 'PIL', 'av', 'adastate_comfy'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
