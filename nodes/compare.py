"""Compare Streams: a labelled video with a row for each stream, and its anchor beside it."""

from __future__ import annotations

from comfy.sd import VAE
from comfy_api.latest import io

from ..adastate_comfy.video.comparison import ComparedStream, compare_streams
from ..adastate_core.stream.state import StreamState
from .inputs import CATEGORY, AdaStateSocket

LABELS = "adaptive, held, frozen, none"


class AdaStateCompare(io.ComfyNode):
    """Show streams side by side."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="AdaStateCompare",
            display_name="Compare Streams",
            category=f"{CATEGORY}/video",
            description=(
                "Show streams in rows, each with its name and with what it looks back at, as one "
                "video."
            ),
            search_aliases=["side by side", "grid", "labels", "hidden state", "anchors"],
            inputs=[
                io.Vae.Input("vae", tooltip="The VAE of the model."),
                AdaStateSocket.Input("stream_1", tooltip="The stream of the first row."),
                *(
                    AdaStateSocket.Input(
                        f"stream_{number}",
                        optional=True,
                        tooltip="Another row, of the same model.",
                    )
                    for number in (2, 3, 4)
                ),
                io.String.Input(
                    "labels",
                    default=LABELS,
                    tooltip="Names of the rows, with commas between them.",
                ),
                io.Int.Input(
                    "height",
                    default=192,
                    min=32,
                    max=2048,
                    tooltip="Height of the pictures of a row, in pixels.",
                ),
            ],
            outputs=[io.Image.Output(tooltip="The frames of the comparison.")],
        )

    @classmethod
    def execute(
        cls,
        vae: VAE,
        stream_1: StreamState,
        labels: str,
        height: int,
        stream_2: StreamState | None = None,
        stream_3: StreamState | None = None,
        stream_4: StreamState | None = None,
    ) -> io.NodeOutput:
        """Decode each stream and draw the rows."""
        names = [name.strip() for name in labels.split(",")]
        rows = []
        for number, state in enumerate((stream_1, stream_2, stream_3, stream_4)):
            if state is not None:
                name = names[number] if number < len(names) else ""
                rows.append(ComparedStream.of(name or f"stream {number + 1}", state, vae))
        return io.NodeOutput(compare_streams(rows, height))
