"""What ComfyUI writes into the files that it makes: the workflow and the prompt they came from.

Its page opens the workflow of such a file when it is dropped there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy.cli_args import args

from ..adastate_core.files.strict_json import strict_json


def page_metadata(
    prompt: Mapping[str, Any] | None, extra: Mapping[str, Any] | None
) -> dict[str, str]:
    """Return what ComfyUI's own nodes write into a file, unless the user has forbidden it.

    Args:
        prompt: The hidden input of that name.
        extra: The hidden input `extra_pnginfo`.
    """
    if args.disable_metadata:
        return {}
    values = dict(extra or {})
    if prompt:
        values["prompt"] = prompt
    return {key: strict_json(value) for key, value in values.items()}
