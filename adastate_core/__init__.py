"""AdaState core: streaming video diffusion with a self-evolving anchor, free of any host.

Read in this order: `config` - `layout` - `anchors` - `record` - `memory` - `state` - `packing` -
`cache` - `rope` - `calls` - `text` - `attention` - `families` - `presets` - `noise` - `history` -
`replay` - `rollout` - `timeline` - `schema` - `header` - `storage` - `manifest` - `stream_log` -
`segments` - `revision` - `committing` - `named_stream` - `vae_kinds` - `decoding` - `encoding` -
`receipts` - `metrics` - `errors`.
"""

from .config import StreamConfig
from .errors import AdaStateError
from .families import describe_model
from .files.state_file import load_state, save_state
from .rollout.stream_chunks import StreamRequest, stream_chunks
from .stream.state import StreamState

__all__ = [
    "AdaStateError",
    "StreamConfig",
    "StreamRequest",
    "StreamState",
    "describe_model",
    "load_state",
    "save_state",
    "stream_chunks",
]
