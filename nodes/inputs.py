"""The one socket of our own, and the inputs that several nodes share."""

from __future__ import annotations

from comfy_api.latest import io

CATEGORY = "AdaState"
"""The menu of all nodes; below it are load, stream, state and video."""

AdaStateSocket = io.Custom("ADASTATE")

SAMPLING_IDS = (
    *("model", "negative", "cfg", "sampler", "sigmas", "seed"),
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
    return io.Model.Input("model", tooltip="A MODEL that went through Apply AdaState.")


def positive_input() -> io.Input:
    """Declare the prompt of the chunks."""
    return io.Conditioning.Input(
        "positive",
        tooltip=(
            "What happens in these chunks. To change the prompt on the way, chain "
            "several Stream Chunks."
        ),
    )


def negative_input() -> io.Input:
    """Declare the negative prompt of the chunks."""
    return io.Conditioning.Input(
        "negative",
        optional=True,
        tooltip="What to avoid. Needed, and used, with a cfg other than 1.",
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
                "Guidance. Models that stream are mostly distilled to 1.0, which is "
                "also twice as fast."
            ),
        ),
        io.Sampler.Input("sampler", tooltip="Any sampler. Distilled causal models want lcm."),
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
                "Every chunk draws from this and its own number, so the same seed on "
                "one node of 7 chunks and on 7 nodes of one chunk gives the same video."
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
                "The second model of a pair, such as Wan 2.2 14B: it makes the steps at "
                "low noise. It needs an Apply AdaState of its own, with the same settings."
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
                "Noise level below which the low-noise model takes over. Wan 2.2 wants "
                "0.875 for text-to-video and 0.9 for image-to-video."
            ),
        ),
    ]
