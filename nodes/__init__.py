"""The nodes, in menu order: each class is a schema and a short `execute`."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from ..adastate_comfy.panel.routes import add_panel_route
from ..adastate_comfy.routes.streams import add_stream_routes
from .apply import AdaStateApply
from .compare import AdaStateCompare
from .decode import AdaStateDecode
from .edits import AdaStateBlend, AdaStateRewind, AdaStateTransition
from .encode import AdaStateEncode
from .files import AdaStateLoad, AdaStateSave
from .load import AdaStateLoadDemo, AdaStateLoadModel
from .named_streams import AdaStateCommitStream, AdaStateOpenStream
from .render import AdaStateRender
from .report import AdaStateReport
from .state import AdaStateHold, AdaStateNewStream, AdaStateRead, AdaStateReset
from .stream import AdaStateStream
from .timeline import AdaStateStreamTimeline
from .train import AdaStateTrainAdapter

NODES: tuple[type[io.ComfyNode], ...] = (
    AdaStateLoadDemo,
    AdaStateLoadModel,
    AdaStateApply,
    AdaStateNewStream,
    AdaStateEncode,
    AdaStateStream,
    AdaStateStreamTimeline,
    AdaStateRender,
    AdaStateRead,
    AdaStateDecode,
    AdaStateReset,
    AdaStateHold,
    AdaStateTransition,
    AdaStateBlend,
    AdaStateRewind,
    AdaStateSave,
    AdaStateLoad,
    AdaStateOpenStream,
    AdaStateCommitStream,
    AdaStateReport,
    AdaStateCompare,
    AdaStateTrainAdapter,
)


class AdaStateExtension(ComfyExtension):
    """The pack, as ComfyUI asks for its nodes."""

    async def on_load(self) -> None:
        """Add what the page asks the server for."""
        add_panel_route()
        add_stream_routes()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """List the nodes."""
        return list(NODES)


async def comfy_entrypoint() -> AdaStateExtension:
    """Return the extension, as ComfyUI asks for it."""
    return AdaStateExtension()
