"""The place that a run is shown at: the node an artist sees, in the workflow it belongs to."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from comfy_api.latest import io
from comfy_execution.utils import get_executing_context


@dataclass(frozen=True, slots=True)
class NodePlace:
    """A node on the page, and the run it works in.

    Args:
        workflow: Id of the workflow, empty for a prompt without one.
        node: The node that is shown; for a node that another one has expanded into, that one.
        own: The node that runs.
        run: Id of the prompt's run.
    """

    workflow: str
    node: str
    own: str
    run: str

    @property
    def is_part(self) -> bool:
        """Whether the node is part of another one, which is shown in its place."""
        return self.node != self.own


def place_of(hidden: io.HiddenHolder) -> NodePlace | None:
    """Return the place of a node from its hidden inputs, or None if they do not name it."""
    if hidden.unique_id is None:
        return None
    own = str(hidden.unique_id)
    shown = hidden.dynprompt.get_display_node_id(own) if hidden.dynprompt is not None else own
    context = get_executing_context()
    run = context.prompt_id if context is not None else uuid.uuid4().hex
    return NodePlace(_workflow_id(hidden.extra_pnginfo), str(shown), own, str(run))


def _workflow_id(extra: object) -> str:
    workflow = extra.get("workflow") if isinstance(extra, dict) else None
    name = workflow.get("id") if isinstance(workflow, dict) else None
    return name if isinstance(name, str) else ""
