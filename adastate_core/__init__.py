"""AdaState core: streaming video diffusion with a self-evolving anchor, free of any host.

What is imported from here is public. `docs/examples/stream_reference_model.py` streams a model with
it. The packages, from the ground up; each says in its `__init__` where to start reading:

    config, layout, errors   what can be chosen, where frames are placed, what can be wrong
    anchors                  how slot 0 evolves: one policy a file, and the presets
    attention                the self-attention of one chunk over the KV cache
    families                 what must be known about a model: one descriptor a file
    stream                   the stream as a value: events, state, prompts
    rollout                  the recurrence: `stream_chunks`, and the replay of a lost cache
    files                    streams on disk: one file, or a folder
    vae                      decoders and encoders that take a video part by part
    metrics                  how lively a video is, and how far it drifts
"""

from .anchors.presets import PRESETS, preset_config
from .attention.block_attention import BlockAttention, SelfAttention
from .attention.geometry import AttentionGeometry
from .attention.kv_cache import KVCachePool
from .attention.kv_format import KVFormat
from .attention.layers import AttentionCalls, LayerCall, LayerCounter
from .attention.rope import SpatialRope, TemporalRope, rope_frequencies, spatial_frequencies
from .config import StreamConfig
from .errors import (
    AdaStateError,
    ConfigError,
    LayoutError,
    NonFiniteError,
    StateFileError,
    StateMismatchError,
    UnsupportedFamilyError,
)
from .families import ModelTraits, describe_model
from .files.named_stream import commit_stream, open_stream
from .files.state_file import load_state, save_state
from .fingerprint import ModelFingerprint, fingerprint_model
from .rollout.latent_block import LatentBlock
from .rollout.noise import BlockNoise, CommitNoise
from .rollout.replay import NoisedSession
from .rollout.stream_chunks import Host, Session, StreamRequest, stream_chunks
from .stream.conditioning import Conditioning
from .stream.events import Conditions
from .stream.state import StreamState
from .stream.summary import describe_stream
from .stream.timeline import parse_timeline

__all__ = [
    "PRESETS",
    "AdaStateError",
    "AttentionCalls",
    "AttentionGeometry",
    "BlockAttention",
    "BlockNoise",
    "CommitNoise",
    "Conditioning",
    "Conditions",
    "ConfigError",
    "Host",
    "KVCachePool",
    "KVFormat",
    "LatentBlock",
    "LayerCall",
    "LayerCounter",
    "LayoutError",
    "ModelFingerprint",
    "ModelTraits",
    "NoisedSession",
    "NonFiniteError",
    "SelfAttention",
    "Session",
    "SpatialRope",
    "StateFileError",
    "StateMismatchError",
    "StreamConfig",
    "StreamRequest",
    "StreamState",
    "TemporalRope",
    "UnsupportedFamilyError",
    "commit_stream",
    "describe_model",
    "describe_stream",
    "fingerprint_model",
    "load_state",
    "open_stream",
    "parse_timeline",
    "preset_config",
    "rope_frequencies",
    "save_state",
    "spatial_frequencies",
    "stream_chunks",
]
