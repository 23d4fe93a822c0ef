"""Stream a model of your own with the core alone: this one is a tiny transformer, untrained."""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2]))  # the core is a folder of this repository
import adastate_core as ada

CHANNELS, ROWS, COLUMNS, HEADS, WIDTH = 4, 6, 10, 2, 32
ROPE = ada.TemporalRope((ada.rope_frequencies(WIDTH // HEADS // 2, base=10000.0),))
torch.manual_seed(0)
EMBED, UNEMBED = nn.Linear(CHANNELS, WIDTH), nn.Linear(WIDTH, CHANNELS)
LAYERS = nn.ModuleList(nn.Linear(WIDTH, 3 * WIDTH) for _ in range(2))


def velocity(x: Tensor, sigma: float, text: Tensor, view: ada.BlockAttention) -> Tensor:
    """Run the transformer on latents (1, C, T, H, W); `view` computes its self-attention."""
    tokens = EMBED(x.flatten(2).transpose(1, 2)) + text + sigma
    times = tuple(range(view.origin, view.origin + view.frames))
    for layer, project in enumerate(LAYERS):
        q, k, v = project(tokens).unflatten(-1, (3, HEADS, -1)).unbind(2)
        q, k = ROPE.rotate(q, times), ROPE.rotate(k, times)
        tokens = tokens + view.attend(ada.SelfAttention(layer, (0,), q, k, v)).flatten(2)
    out: Tensor = UNEMBED(tokens)
    return out.transpose(1, 2).reshape(x.shape)


class Sampler:
    """What the core asks of a host: a session under some text, chunks, and their commits."""

    def run(self, conditions: ada.Conditions, body: Callable[[ada.Session], object]) -> None:
        """Open a session."""
        self.text = torch.as_tensor(conditions.positive.unpack())
        body(self)

    def denoise(self, noise: ada.BlockNoise, view: ada.BlockAttention) -> ada.LatentBlock:
        """Make one chunk in three steps."""
        x = noise.initial().video
        for sigma, following in ((1.0, 0.6), (0.6, 0.3), (0.3, 0.0)):
            x = x + (following - sigma) * velocity(x, sigma, self.text, view)
        return ada.LatentBlock(x)

    def commit(self, block: ada.LatentBlock, view: ada.BlockAttention) -> None:
        """Run a clean chunk once more, so that the core can cache its keys and values."""
        velocity(block.video, 0.0, self.text, view)


geometry = ada.AttentionGeometry(len(LAYERS), ROWS * COLUMNS, COLUMNS, ROPE, can_shift=True)
model, pool = ada.ModelFingerprint("tiny", CHANNELS, digest="1"), ada.KVCachePool()
state = ada.StreamState((1, CHANNELS, ROWS, COLUMNS))
for prompt in torch.randn(3, WIDTH):  # three prompts, two chunks each
    given = ada.Conditions(ada.Conditioning.pack(prompt))
    request = ada.StreamRequest(2, 0, given, ada.StreamConfig(), model, geometry)
    state = ada.stream_chunks(state, request, Sampler(), pool)
    print(f"{state}, made {tuple(state.newest_content().shape)}, KV cache {pool.nbytes >> 10} KiB")
