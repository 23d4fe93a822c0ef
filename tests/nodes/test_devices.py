"""Global generators are left as they were, on every kind of device, and no other is touched."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch


@pytest.fixture(scope="module")
def devices(pack: ModuleType) -> ModuleType:
    return importlib.import_module(f"{pack.__name__}.adastate_comfy.devices")


class Accelerator(SimpleNamespace):
    """Two devices with a generator each, by the functions of `torch.cuda` and `torch.xpu`."""

    def __init__(self) -> None:
        self.generators = [torch.Generator().manual_seed(index) for index in range(2)]
        self.touched: set[int] = set()
        self.current = 0

    def of(self, device: Any) -> torch.Generator:
        index = torch.device(device).index
        index = self.current if index is None else index
        self.touched.add(index)
        return self.generators[index]

    def get_rng_state(self, device: Any = "xpu") -> torch.Tensor:
        return self.of(device).get_state()

    def set_rng_state(self, state: torch.Tensor, device: Any = "xpu") -> None:
        self.of(device).set_state(state)

    def manual_seed(self, seed: int) -> None:
        self.of("xpu").manual_seed(seed)

    @contextlib.contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        before, self.current = self.current, device.index or 0
        yield
        self.current = before

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return self.current


class OneDevice(SimpleNamespace):
    """One device, by the functions that `torch.mps` has: none of them asks for which."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    def get_rng_state(self) -> torch.Tensor:
        return self.generator.get_state()

    def set_rng_state(self, state: torch.Tensor) -> None:
        self.generator.set_state(state)

    def manual_seed(self, seed: int) -> None:
        self.generator.manual_seed(seed)

    def is_available(self) -> bool:
        return True


class NamedOneDevice(OneDevice):
    """The same in newer releases of torch: states take a device, but there is none to choose."""

    def get_rng_state(self, device: Any = "mps") -> torch.Tensor:
        return super().get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: Any = "mps") -> None:
        super().set_rng_state(state)


@contextlib.contextmanager
def left_alone(*generators: torch.Generator) -> Iterator[None]:
    """Fail if a generator is another one after an error inside."""
    every = (torch.default_generator, *generators)
    before = [source.get_state() for source in every]
    with pytest.raises(ZeroDivisionError):
        yield
    for source, state in zip(every, before, strict=True):
        assert torch.equal(source.get_state(), state)


@pytest.mark.parametrize("name", ["cpu", "privateuseone:0", "meta"])
def test_devices_without_a_generator(devices: ModuleType, name: str) -> None:
    with left_alone(), devices.private_rng(torch.device(name), 3):
        assert torch.equal(torch.rand(2), torch.rand(2, generator=torch.Generator().manual_seed(3)))
        raise ZeroDivisionError


@pytest.mark.parametrize("index", [0, 1])
def test_one_of_several_devices(
    devices: ModuleType, monkeypatch: pytest.MonkeyPatch, index: int
) -> None:
    kind = Accelerator()
    monkeypatch.setattr(torch, "xpu", kind)
    with left_alone(*kind.generators), devices.private_rng(torch.device("xpu", index), 3):
        assert kind.generators[index].initial_seed() == 3
        torch.rand(2, generator=kind.generators[index])
        torch.rand(2)
        raise ZeroDivisionError
    assert kind.touched == {index}


@pytest.mark.parametrize("functions", [OneDevice, NamedOneDevice])
@pytest.mark.parametrize("name", ["mps", "mps:0"])
def test_a_kind_of_one_device(
    devices: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str, functions: type[OneDevice]
) -> None:
    kind = functions()
    monkeypatch.setattr(torch, "mps", kind)
    with left_alone(kind.generator), devices.private_rng(torch.device(name), 3):
        assert kind.generator.initial_seed() == 3
        raise ZeroDivisionError


def test_without_a_seed_generators_go_on(devices: ModuleType) -> None:
    expected = torch.rand(2, generator=torch.default_generator.clone_state())
    with left_alone(), devices.private_rng(torch.device("cpu")):
        assert torch.equal(torch.rand(2), expected)
        raise ZeroDivisionError


def test_names_of_one_device(devices: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = Accelerator()
    monkeypatch.setattr(torch, "xpu", kind)
    kind.current = 1

    def same(one: str, other: str) -> bool:
        said: bool = devices.same_device(torch.device(one), torch.device(other))
        assert said == devices.same_device(torch.device(other), torch.device(one))
        return said

    assert same("mps", "mps:0")
    assert same("cpu", "cpu:0")
    assert same("privateuseone", "privateuseone:0")
    assert same("xpu", "xpu:1")
    assert not same("xpu", "xpu:0")
    assert not same("cpu", "mps")
    assert not same("cuda:0", "cuda:1")
    assert same("cuda", "cuda:0")
