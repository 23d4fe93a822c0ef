"""Stream Report: measure a decoded stream."""

from __future__ import annotations

import json

import torch
from comfy_api.latest import io
from torch import Tensor

from ..adastate_core.metrics.chart import draw_chart
from ..adastate_core.metrics.measures import measure_stream
from .inputs import CATEGORY


class AdaStateReport(io.ComfyNode):
    """Measure how a video moves, drifts and jumps."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateReport",
            display_name="Stream Report",
            category=f"{CATEGORY}/state",
            description="Measure motion, drift and seams of a video.",
            inputs=[
                io.Image.Input("images", tooltip="The decoded video, two frames or more."),
            ],
            outputs=[
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="Motion, seams, and drift of light, colour and sharpness, as JSON.",
                ),
                io.Image.Output(
                    "chart",
                    display_name="chart",
                    tooltip="Motion, brightness, colour and sharpness over time.",
                ),
            ],
        )

    @classmethod
    def execute(cls, images: Tensor) -> io.NodeOutput:
        """Measure and draw."""
        measures = measure_stream(images[..., :3].cpu())
        chart = torch.from_numpy(draw_chart(measures))[None]
        return io.NodeOutput(json.dumps(measures.summary(), indent=2), chart)
