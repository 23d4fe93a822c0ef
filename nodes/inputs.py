"""The one socket of our own, and the inputs that several nodes share."""

from __future__ import annotations

from comfy_api.latest import io

CATEGORY = "AdaState"
"""The menu of all nodes; below it are load, stream, state and video."""

AdaStateSocket = io.Custom("ADASTATE")

DEFAULT_FPS = 16.0
"""Frames per second of Wan 2.1 and of the demo model."""

SAMPLING_IDS = (
    *("model", "negative", "vae", "cfg", "sampler", "sigmas", "seed"),
    *("model_low_noise", "switch_sigma"),
)
"""Ids of the inputs that every node which makes chunks has, but for the prompt."""


def state_input(id: str = "state", tooltip: str = "The stream to continue.") -> io.Input:
    """Declare a stream state input."""
    return AdaStateSocket.Input(id, tooltip=tooltip)


def state_output(
    tooltip: str = "The stream after this node; the input stays as it was.",
) -> io.Output:
    """Declare a stream state output."""
    return AdaStateSocket.Output("state", display_name="state", tooltip=tooltip)


def model_input() -> io.Input:
    """Declare the model that makes chunks."""
    return io.Model.Input("model", tooltip="A model from Apply AdaState.")


def positive_input(
    tooltip: str = (
        "What happens in these chunks. To change the prompt on the way, chain several Stream "
        "Chunks or use Stream Timeline."
    ),
    *,
    optional: bool = False,
) -> io.Input:
    """Declare the prompt of the chunks."""
    return io.Conditioning.Input("positive", optional=optional, tooltip=tooltip)


def clip_input(
    tooltip: str = "The text encoder that goes with the model.", *, optional: bool = False
) -> io.Input:
    """Declare the text encoder of a timeline."""
    return io.Clip.Input("clip", optional=optional, tooltip=tooltip)


TIMELINE_HELP = (
    "One line for each prompt: when it begins, how the stream changes to it, and the prompt.\n"
    "0: a red circle moves left\n"
    "chunk 4 blend 2: a red circle moves right\n"
    "6.5s recache: a blue square in the fog\n"
    "1:10: a green square on a hill\n"
    "Chunk numbers and times count from the start of the stream. blend mixes the prompts over some "
    "chunks, recache computes the memory again under the new prompt, flush 1 keeps the anchor and "
    "the newest frame."
)


def timeline_input(
    default: str, tooltip: str = TIMELINE_HELP, *, optional: bool = False
) -> io.Input:
    """Declare the prompts of a stream as text."""
    return io.String.Input(
        "timeline",
        multiline=True,
        default=default,
        optional=optional,
        socketless=True,
        tooltip=tooltip,
    )


def negative_input() -> io.Input:
    """Declare the negative prompt of the chunks."""
    return io.Conditioning.Input(
        "negative",
        optional=True,
        tooltip="What to avoid. Needed when cfg is not 1; at 1 it has no effect.",
    )


def preview_vae_input() -> io.Input:
    """Declare the VAE that shows chunks while they are made."""
    return io.Vae.Input(
        "vae",
        optional=True,
        tooltip=(
            "Decodes each chunk while the stream is made, to show it in its true colours. Use a "
            "tiny VAE: a full one can take as long as the chunk, and several times that on a CPU. "
            "Without one the colours are estimated from latents, which costs nothing."
        ),
    )


def fps_input(
    tooltip: str, *, minimum: float = 1.0, maximum: float = 240.0, optional: bool = False
) -> io.Input:
    """Declare the frames per second of the video."""
    return io.Float.Input(
        "fps",
        optional=optional,
        default=DEFAULT_FPS,
        min=minimum,
        max=maximum,
        step=0.01,
        tooltip=tooltip,
    )


def seconds_input() -> io.Input:
    """Declare the length in seconds, which takes the place of a number of chunks."""
    return io.Float.Input(
        "seconds",
        optional=True,
        default=0.0,
        min=0.0,
        max=1_000_000.0,
        step=0.5,
        round=0.01,
        tooltip=(
            "How many seconds of video to add, rounded up to whole chunks. 0 uses chunks instead."
        ),
    )


def sampling_inputs() -> list[io.Input]:
    """Declare how one chunk is sampled: cfg, sampler, sigmas and seed."""
    return [
        io.Float.Input(
            "cfg",
            default=1.0,
            min=0.0,
            max=100.0,
            step=0.1,
            round=0.01,
            tooltip=(
                "How strictly to follow the prompt. Most models that stream are distilled for "
                "1.0, which is also twice as fast."
            ),
        ),
        io.Sampler.Input(
            "sampler", tooltip="Any sampler. Distilled causal models work best with lcm."
        ),
        io.Sigmas.Input(
            "sigmas", tooltip="The noise levels of one chunk, ending at 0. Any scheduler."
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=True,
            tooltip=(
                "Each chunk's noise depends on this and on the chunk's number, so one node of 7 "
                "chunks and 7 nodes of one chunk with the same seed make the same video."
            ),
        ),
    ]


def pair_inputs() -> list[io.Input]:
    """Declare the second model of a pair, and where it takes over."""
    return [
        io.Model.Input(
            "model_low_noise",
            optional=True,
            tooltip=(
                "The second model of a pair, such as Wan 2.2 14B, which makes the steps at low "
                "noise. It needs its own Apply AdaState with the same settings."
            ),
        ),
        io.Float.Input(
            "switch_sigma",
            optional=True,
            default=0.875,
            min=0.0,
            max=1.0,
            step=0.005,
            round=0.0001,
            advanced=True,
            tooltip=(
                "Noise level below which the low-noise model takes over. For Wan 2.2, use 0.875 "
                "for text-to-video and 0.9 for image-to-video."
            ),
        ),
    ]
