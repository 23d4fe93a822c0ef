"""Cosmos Predict2: cross-attended text, rotary axes time | height | width, pairs in halves.

With d channels a head, height and width have 2 (d // 6) each and time the rest; pair i of its p
pairs rotates by theta^(-i/p) radians a frame, theta = 10000 x the temporal NTK factor. Pair i is
channels i and i + d / 2 (`VideoRopePosition3DEmb` in nvidia-cosmos/cosmos-predict2). Cosmos 1 adds
a learned absolute position in every block, which no rotation can move.
"""

from __future__ import annotations

from typing import Any, cast

from ..attention.layers import AttentionCalls
from ..attention.rope import SpatialRope, TemporalRope, rope_frequencies, spatial_frequencies
from .family import ModelTraits, refuse, width_read


class CosmosPredict2Family:
    """The Cosmos Predict2 text-to-video transformer."""

    label = "Cosmos Predict2 text-to-video"
    sound = None

    def matches(self, model: object) -> bool:
        """Recognise the class by name; Cosmos 1 and image-to-video are refused."""
        name, dit = type(model).__name__, cast(Any, model)
        if name == "GeneralDIT":
            refuse(name, "Cosmos 1 adds absolute positions in every block", self.label)
        if name != "MiniTrainDIT":
            return False
        if dit.extra_per_block_abs_pos_emb:
            refuse(name, "it adds absolute positions in every block", self.label)
        if dit.in_channels != dit.out_channels:
            refuse(name, "image-to-video weights expect a mask with every frame", self.label)
        return True

    def describe(self, model: object) -> ModelTraits:
        """Read sizes and rotary frequencies off the module."""
        dit = cast(Any, model)
        head = dit.model_channels // dit.num_heads
        pairs, place = (head - 2 * (head // 6 * 2)) // 2, dit.pos_embedder
        down = rope_frequencies(head // 6, 10000.0 * place.h_ntk_factor)
        along = rope_frequencies(head // 6, 10000.0 * place.w_ntk_factor)
        return ModelTraits(
            family="cosmos-predict2",
            latent_channels=dit.in_channels,
            layers=dit.num_blocks,
            width=dit.model_channels,
            heads=dit.num_heads,
            patch=(dit.patch_spatial, dit.patch_spatial),
            rope=TemporalRope((rope_frequencies(pairs, 10000.0 * place.t_ntk_factor),), "half"),
            calls=AttentionCalls(blocks=((None, 0),), per_block=2),
            time_stride=4,
            frame_rate=float(place.base_fps),
            spatial_rope=SpatialRope(*spatial_frequencies(pairs, down, along), "half"),
            fills_up=True,
            text_width=width_read(dit, "blocks.0.cross_attn.k_proj"),
        )
