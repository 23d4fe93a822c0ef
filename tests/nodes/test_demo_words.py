"""What is said of words that the demo model does not know."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.tiny_models import WAN_CAUSAL

PROMPTS = {
    "a cat in the rain": "the demo does not know: cat, rain. It knows: red, yellow, ",
    "Red circle moves left": (
        "the demo does not know: Red, moves. Did you mean: red, moving? It knows: red, yellow, "
    ),
    "blue triangle moving right, camera still, golden hills": "",
    "": "",
}


class OnePrompt:
    """A prompt of one node with a text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def get_display_node_id(self, node_id: str) -> str:
        return node_id

    def get_node(self, node_id: str) -> dict[str, Any]:
        return {"class_type": "AdaStateStream", "inputs": {"positive": self._text}}


@pytest.fixture(scope="module")
def words(pack: Any) -> Any:
    return importlib.import_module(f"{pack.__name__}.adastate_comfy.model.demo_words")


@pytest.fixture(scope="module")
def demo(node_classes: dict[str, Any]) -> Any:
    return node_classes["AdaStateLoadDemo"].execute().args


def test_they_are_those_of_its_text_encoder(pack: Any) -> None:
    import sentencepiece
    from safetensors import safe_open

    path = Path(__file__).parents[2] / "assets" / "demo" / "adastate_demo_umt5.safetensors"
    with safe_open(path, framework="pt") as file:
        vocabulary = file.get_tensor("spiece_model").numpy().tobytes()
    pieces = sentencepiece.SentencePieceProcessor(model_proto=vocabulary)
    known = [pieces.id_to_piece(number) for number in range(pieces.vocab_size())]
    whole = [piece[1:] for piece in known if piece.startswith("\u2581") and len(piece) > 2]
    world = importlib.import_module(f"{pack.__name__}.adastate_comfy.model.demo_world")
    assert sorted(world.demo_world().words) == sorted(whole)


def test_its_examples_are_true(words: Any) -> None:
    result = doctest.testmod(words)
    assert result.attempted == 3
    assert result.failed == 0


@pytest.mark.parametrize(("text", "said"), PROMPTS.items())
def test_unknown_ones_are_said_of_the_demo_alone(
    words: Any, demo: Any, text: str, said: str, tiny_models: Any, node_classes: dict[str, Any]
) -> None:
    note = words.demo_note(demo[0].clone(), [text])
    assert note.startswith(said)
    assert bool(note) == bool(said)
    other = node_classes["AdaStateLoadModel"].execute(WAN_CAUSAL, "default", 0.0).args[0]
    assert words.demo_note(other, [text]) == ""


def test_the_node_says_them_while_it_streams(
    pack: Any,
    demo: Any,
    node_classes: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import comfy.samplers
    from comfy_api.latest import io
    from server import PromptServer

    written: list[str] = []
    for name in ("progress", "video.live_pictures"):
        module = importlib.import_module(f"{pack.__name__}.adastate_comfy.{name}")
        monkeypatch.setattr(module, "write_under", lambda _, text: written.append(text))
    panels: list[dict[str, Any]] = []

    def send(event: str, data: Any, sid: str | None = None) -> None:
        if event == "adastate.panel" and data["what"] == "begin":
            panels.append(data["panel"])

    monkeypatch.setattr(PromptServer.instance, "send_sync", send)

    def run(node: str, *args: Any, **kwargs: Any) -> Any:
        text = {io.Hidden.unique_id: "3", io.Hidden.dynprompt: OnePrompt("a cat")}
        prepared = node_classes[node].PREPARE_CLASS_CLONE({"hidden_inputs": text})
        with torch.inference_mode():
            return prepared.execute(*args, **kwargs).args

    (model,) = run("AdaStateApply", demo[0], "adaptive", 3, 3, 1, 3)
    (state,) = run("AdaStateNewStream", {"samples": torch.zeros((1, 16, 1, 8, 8))}, 0)
    positive = [[torch.zeros((1, 8, 256)), {}]]
    run(
        "AdaStateStream",
        model,
        state,
        positive=positive,
        cfg=1.0,
        sampler=comfy.samplers.sampler_object("euler"),
        sigmas=torch.tensor((1.0, 0.0)),
        seed=0,
        chunks=1,
    )
    assert all("the demo does not know: cat. It knows: red, yellow" in text for text in written)
    assert len(written) > 1
    assert panels[0]["note"].startswith("the demo does not know: cat. It knows: red, yellow")
    assert "AdaState: the demo does not know: cat." in caplog.text
