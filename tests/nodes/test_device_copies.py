"""Images on their way from a card: who waits for what, on tensors that claim to be there."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.harness import SMALL, NodeHarness
from tests.support.tiny_models import WAN


@pytest.fixture(scope="module")
def harness(node_classes: dict[str, Any], tiny_models: Any) -> NodeHarness:
    return NodeHarness(node_classes, WAN, SMALL)


class Card:
    """Streams and tensors of a card that does not exist: what is asked of it is noted, in order."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.current = self.stream("main")

    def stream(self, name: str) -> Any:
        def record_event() -> Any:
            self.asked.append(f"{name}: mark")
            return SimpleNamespace(synchronize=lambda: self.asked.append(f"wait for {name}"))

        return SimpleNamespace(
            name=name,
            record_event=record_event,
            wait_event=lambda mark: self.asked.append(f"{name}: wait for a mark"),
            synchronize=lambda: self.asked.append(f"wait for all of {name}"),
        )

    def within(self, stream: Any) -> Any:

        @contextlib.contextmanager
        def entered() -> Iterator[None]:
            before, self.current = self.current, stream
            yield
            self.current = before

        return entered()

    def tensor(self, data: Tensor) -> Tensor:
        """Return a tensor that says it lies on the card; its numbers are on the processor."""
        card = self

        class OnCard(Tensor):
            @staticmethod
            def __new__(cls: Any, held: Tensor) -> Any:
                made = Tensor._make_wrapper_subclass(
                    cls, held.shape, dtype=held.dtype, device="cuda:0"
                )
                made.held = held
                return made

            @classmethod
            def __torch_dispatch__(
                cls, call: Any, types: Any, args: Any, kwargs: Any = None
            ) -> Any:
                kwargs = dict(kwargs or {})
                name = call.__name__.split(".")[0]
                goes_on = args[2] if name == "copy_" and len(args) > 2 else False
                card.asked.append(f"{card.current.name}: {name}{' and go on' * bool(goes_on)}")
                held = [x.held if isinstance(x, cls) else x for x in args]
                stays = "device" not in kwargs and name != "copy_"
                result = call(*held, **kwargs)
                return cls(result) if stays else result

        return OnCard(data)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    made = Card()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: made.current)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: made.stream("side"))
    monkeypatch.setattr(torch.cuda, "stream", made.within)
    return made


def test_a_copy_from_a_card_is_waited_for_by_who_reads_it(
    video: Any, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = video.device_copies
    monkeypatch.setattr(copies, "_pinned", lambda t, dtype: torch.empty(t.shape, dtype=dtype))
    data = torch.rand(3, 4).half()
    later = copies.copied_later(card.tensor(data), torch.device("cpu"), torch.float32)
    assert card.asked == ["main: _to_copy", "main: copy_ and go on", "main: mark"]
    assert torch.equal(later(), data.float())
    assert card.asked[3:] == ["wait for main"]


def test_without_memory_that_a_card_writes_to_the_copy_is_plain(video: Any, card: Card) -> None:
    """Here there is none: PyTorch has no card to ask for it."""
    if torch.cuda.is_available():
        pytest.skip("a card gives it")
    data = torch.rand(3, 4)
    later = video.device_copies.copied_later(card.tensor(data), torch.device("cpu"), torch.half)
    assert not any("go on" in each for each in card.asked)
    assert torch.equal(later(), data.half())


def test_a_side_stream_waits_for_what_was_asked_before(video: Any, card: Card) -> None:
    side = video.device_copies.SideStream(torch.device("cuda:0"))
    mark = side.mark()
    kept: list[Any] = []
    weight = SimpleNamespace(device=torch.device("cuda:0"), record_stream=kept.append)
    with side.after(mark, [weight, torch.rand(2)]):
        card.tensor(torch.rand(2)).add(1)
    side.wait()
    assert [stream.name for stream in kept] == ["side"]
    assert card.asked == [
        "main: mark",
        "side: wait for a mark",
        "side: add",
        "wait for all of side",
    ]
    assert card.current.name == "main"


def test_a_render_decodes_beside_the_sampler_and_reads_its_own_work(
    harness: NodeHarness, render: Any, output: Path, video: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every part is decoded on the one stream, after a mark, and all is waited for in the end."""
    asked: list[str] = []
    copies = video.device_copies

    class Noted(copies.SideStream):
        def mark(self) -> Any:
            asked.append("mark")
            return super().mark()

        def after(self, mark: Any, reads: Any = ()) -> Any:
            asked.append(f"decode, {len(list(reads)) > 100}")
            return super().after(mark)

        def wait(self) -> None:
            asked.append("wait")

    job = importlib.import_module(f"{video.decoders.__package__}.render_job")
    monkeypatch.setattr(job, "SideStream", Noted)
    clip = harness.latent(2, seed=5)
    render(harness.fresh(start_latent=clip), 2, decode_apart=True)
    assert asked == ["mark", "decode, True"] * 3 + ["wait"]
    asked.clear()
    render(harness.fresh(start_latent=clip), 2)
    assert not asked, "the stream of the sampler is the right one for who decodes between chunks"


def test_a_processor_has_no_streams(video: Any) -> None:
    side = video.device_copies.SideStream(torch.device("cpu"))
    with side.after(side.mark()):
        data = torch.rand(2)
    side.wait()
    copy = video.device_copies.copied_later(data, torch.device("cpu"), torch.float32)()
    assert torch.equal(copy, data)
    assert copy.data_ptr() != data.data_ptr()
