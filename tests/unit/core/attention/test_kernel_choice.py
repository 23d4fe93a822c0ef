"""The kernel of a shape: measured once, exact or refused, and kept."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from adastate_core.attention.kernel_choice import Kernel, KernelChoice, seconds_of

SCALE = 16**-0.5


def values(seed: int, tokens: int, heads: int = 2) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn((1, tokens, heads, 16), generator=source)


QKV = values(0, 70), values(1, 100), values(2, 100)


def exact(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale).transpose(1, 2)


def rounded(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    q, k, v = (x.bfloat16() for x in (q, k, v))
    return exact(q, k, v, mask, scale).float()


class Watched:
    """A kernel that is counted."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel, self.calls = kernel, 0

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float
    ) -> Tensor:
        self.calls += 1
        return self.kernel(q, k, v, mask, scale)


class Trial:
    """A choice between kernels with given seconds, and what it was asked for."""

    def __init__(self, host: Kernel = exact, **others: tuple[Kernel, float]) -> None:
        self.host = Watched(host)
        self.others = {name: Watched(kernel) for name, (kernel, _) in others.items()}
        self.seconds = [1.0, *(seconds for _, seconds in others.values())]
        self.timed = 0
        self.asked = 0
        self.choice = KernelChoice(self.time)

    def time(self, run: Callable[[], object], device: torch.device) -> float:
        """Give the seconds of whoever is called inside."""
        kernels = [self.host, *self.others.values()]
        before = [kernel.calls for kernel in kernels]
        run()
        self.timed += 1
        (ran,) = (i for i, kernel in enumerate(kernels) if kernel.calls > before[i])
        return self.seconds[ran]

    def candidates(self, q: Tensor, mask: Tensor | None) -> dict[str, Kernel]:
        self.asked += 1
        return dict(self.others)

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, scale: float = SCALE
    ) -> Tensor:
        return self.choice.attend(self.host, self.candidates, q, k, v, mask, scale)

    @property
    def chosen(self) -> list[str]:
        return [choice.name for choice in self.choice.choices]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def test_a_faster_exact_kernel_is_kept_and_never_measured_again(
    log: pytest.LogCaptureFixture,
) -> None:
    trial = Trial(fast=(exact, 0.5), faster=(exact, 0.4))
    out = trial.attend(*QKV)
    assert trial.chosen == ["faster"]
    timed, calls = trial.timed, trial.others["faster"].calls
    assert torch.equal(trial.attend(*QKV), out)  # the first call gives what later ones give
    assert (trial.timed, trial.asked) == (timed, 1)
    assert trial.others["faster"].calls == calls + 1
    (choice,) = trial.choice.choices
    assert (choice.seconds, choice.host_seconds) == (0.4, 1.0)
    assert choice is trial.choice.largest
    assert sum("70 queries to 100 keys by faster" in line for line in log.messages) == 1


@pytest.mark.parametrize("seconds", [2.0, 1.0, 0.96])
def test_what_gains_next_to_nothing_is_not_taken(seconds: float) -> None:
    trial = Trial(other=(exact, seconds))
    trial.attend(*QKV)
    assert trial.chosen == [""]
    other, host = trial.others["other"].calls, trial.host.calls
    trial.attend(*QKV)
    assert (trial.others["other"].calls, trial.host.calls) == (other, host + 1)


def test_a_less_exact_kernel_is_refused_however_fast(log: pytest.LogCaptureFixture) -> None:
    trial = Trial(rounds=(rounded, 0.01))
    assert torch.equal(trial.attend(*QKV), exact(*QKV, None, SCALE))
    assert trial.chosen == [""]
    assert sum("rounds is not exact enough" in line for line in log.messages) == 1


@pytest.mark.parametrize("bad", [0.0, float("nan")])
def test_one_bad_token_between_those_that_are_looked_at_is_enough(bad: float) -> None:
    def spoiled(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        return exact(q, k, v, mask, scale).index_fill(1, torch.tensor([500]), bad)

    trial = Trial(spoiled=(spoiled, 0.1), other=(exact, 0.5))
    trial.attend(values(0, 1000), *QKV[1:])
    assert trial.chosen == ["other"]


class Unheard(Exception):
    """What a compiler of kernels may raise."""


@pytest.mark.parametrize("kind", [RuntimeError, torch.OutOfMemoryError, Unheard])
def test_a_kernel_that_cannot_take_the_call_is_dropped(
    log: pytest.LogCaptureFixture, kind: type[Exception]
) -> None:
    def refusing(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        raise kind("No available kernel.\nAborting execution.")

    trial = Trial(refusing=(refusing, 0.1), other=(exact, 0.5))
    trial.attend(*QKV)
    assert trial.chosen == ["other"]
    trial.attend(*QKV)
    assert trial.others["refusing"].calls == 1
    (line,) = (line for line in log.messages if "refusing" in line)
    assert line.endswith("cannot take this call: No available kernel.")


def test_every_shape_type_and_kind_of_mask_has_its_own_kernel() -> None:
    trial = Trial(other=(exact, 0.5))
    q, k, v = QKV
    calls = [(q, k, v), (q, k[:, :80], v[:, :80]), (q[:, :9], k, v)]
    calls.append((q.double(), k.double(), v.double()))
    for _ in range(2):
        for call in calls:
            trial.attend(*call)
        trial.attend(*QKV, mask=torch.zeros((1, 1, 1, 100)))
        trial.attend(*QKV, scale=1.0)
    assert trial.asked == len(trial.choice.choices) == 6


@pytest.mark.parametrize(
    "mask",
    [
        torch.linspace(-2, 2, 100)[None, None, None],
        torch.full((1, 1, 1, 100), -torch.inf).masked_fill(torch.arange(100) > 30, 0.5),
        (torch.arange(100) % 3 > 0)[None, None, None],
        torch.randn((70, 100), generator=torch.Generator().manual_seed(4)),
        torch.randn((1, 2, 70, 100), generator=torch.Generator().manual_seed(4)),
    ],
)
def test_masks_are_part_of_what_is_compared(mask: Tensor) -> None:
    def unmasked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        return exact(q, k, v, None, scale)

    trial = Trial(unmasked=(unmasked, 0.1), other=(exact, 0.5))
    trial.attend(*QKV, mask=mask)
    assert trial.chosen == ["other"]
    assert trial.choice.choices[0].host_error < 1e-6


def test_a_host_that_computes_something_else_is_left_alone() -> None:
    def twice(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        return 2 * exact(q, k, v, mask, scale)

    trial = Trial(twice, other=(exact, 0.1))
    assert torch.equal(trial.attend(*QKV), twice(*QKV, None, SCALE))
    assert trial.chosen == [""]


def test_equal_values_decide_nothing() -> None:
    """As in a trial run over zeros: any kernel would get them right."""
    q, k, v = QKV
    trial = Trial(rounds=(rounded, 0.1))
    trial.attend(q, k, torch.ones_like(v))
    assert not trial.timed
    assert trial.choice.largest is None
    trial.attend(*QKV)
    assert trial.chosen == [""]


def test_where_there_is_nothing_else_nothing_is_measured() -> None:
    trial = Trial()
    assert torch.equal(trial.attend(*QKV), exact(*QKV, None, SCALE))
    trial.attend(*QKV)
    assert (trial.timed, trial.host.calls, trial.asked) == (0, 2, 1)
    assert trial.choice.largest is None


def test_seconds_on_this_device() -> None:
    ran: list[int] = []
    assert seconds_of(lambda: ran.append(1), torch.device("cpu")) > 0
    assert ran == [1]
