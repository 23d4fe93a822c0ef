"""Shipped workflows on tiny random models, as small as they can be."""

from __future__ import annotations

import json
import zlib
from typing import Any

from tests.support import tiny_models

Graph = dict[str, dict[str, Any]]

TIMELINE, RENDER = "AdaStateStreamTimeline", "AdaStateRender"
TRAINING = "AdaStateTrainAdapter"
STREAMING = ("AdaStateStream", TIMELINE, RENDER)
EMPTY = ("EmptyHunyuanLatentVideo", "EmptyLTXVLatentVideo", "EmptyMiniMaxH3LatentAV")
LOOP = 6
"""Frames over which a short video loops."""
TINY = {"i2v_high_noise": tiny_models.WAN_I2V, "i2v_low_noise": tiny_models.WAN_22_I2V}


TEXTS = {
    "UNETLoader": {"width": 40},
    "CheckpointLoaderSimple": {"width": 96, "flag": "unprocessed_ltxav_embeds"},
}
"""What the text of tiny models is like, by the node that loads them."""


def of_type(graph: Graph, class_type: str) -> list[str]:
    return [key for key, node in graph.items() if node["class_type"] == class_type]


def on_tiny_models(graph: Graph) -> Graph:
    """Swap the loaders for tiny random models and make everything as small as it can be.

    What encodes its prompts inside needs a text encoder, so it keeps the demo models.
    """
    graph = json.loads(json.dumps(graph))
    reads = [node for node in graph.values() if node["class_type"] in (TIMELINE, RENDER)]
    swapped = not any("clip" in node["inputs"] for node in reads)
    (text,) = [t for kind, t in TEXTS.items() if of_type(graph, kind)] or [{"width": 4096}]
    replaced: dict[tuple[str, int], list[Any]] = {}
    for key, node in list(graph.items()):
        kind, inputs = node["class_type"], node["inputs"]
        if kind == "AdaStateLoadDemo" and swapped:
            replaced[key, 0], replaced[key, 2] = ["tiny_model", 0], ["tiny_vae", 0]
            model = {"model_name": tiny_models.WAN_CAUSAL, "weight_dtype": "default", "shift": 0.0}
            graph["tiny_model"] = {"class_type": "AdaStateLoadModel", "inputs": model}
            vae = {"vae_name": tiny_models.WAN_VAE}
            graph["tiny_vae"] = {"class_type": "VAELoader", "inputs": vae}
            del graph[key]
        elif kind == "AdaStateLoadModel":
            tiny = [t for part, t in TINY.items() if part in inputs["model_name"]]
            inputs["model_name"] = tiny[0] if tiny else tiny_models.WAN_CAUSAL
        elif kind == "LoadImage":
            node["class_type"] = "EmptyImage"
            node["inputs"] = {"width": 64, "height": 64, "batch_size": 1, "color": 0x3366AA}
        elif kind == "WanImageToVideo":
            inputs.update(width=64, height=64, length=9)
        elif kind == "UNETLoader":
            inputs["unet_name"] = tiny_models.MINIMAX_H3
        elif kind in ("CheckpointLoaderSimple", "LTXVAudioVAELoader"):
            inputs["ckpt_name"] = tiny_models.LTX23_WHOLE
        elif kind == "VAELoader" and "minimax" in inputs["vae_name"]:
            sound = "audio" in inputs["vae_name"]
            node["class_type"] = "AdaStateTestVAE"
            node["inputs"] = {"name": "minimax_h3_sound" if sound else "minimax_h3_video"}
        elif kind == "VAELoader":
            inputs["vae_name"] = tiny_models.WAN_VAE
        elif kind in ("CLIPLoader", "LTXAVTextEncoderLoader"):
            del graph[key]
        elif kind == "CLIPTextEncode" and swapped:
            node["class_type"] = "AdaStateTestConditioning"
            seed = zlib.crc32(inputs["text"].encode()) % 2**31
            node["inputs"] = {"seed": seed, "tokens": 8, **text}
        elif kind in EMPTY:
            inputs.update(width=64, height=64)
        elif kind == "ManualSigmas":
            inputs["sigmas"] = "1.0, 0.7, 0.0"
        elif kind == "BasicScheduler":
            inputs["steps"] = 2
        elif kind in STREAMING:
            inputs.update(chunks=2, seconds=0.0)
        elif kind == TRAINING:
            inputs.update(steps=2, rank=2)
        elif kind == "AdaStateEncode":
            inputs.update(width=64, height=64)
        elif kind == "AdaStateDecode" and inputs["loop"]:
            inputs["loop"] = LOOP
    for node in graph.values():
        for name, value in node["inputs"].items():
            if isinstance(value, list):
                node["inputs"][name] = replaced.get((value[0], value[1]), value)
    return graph
