"""Runs go on where they stopped, and keep what they have."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.tiny_anchors import TINY, fill_folder
from training.anchors.latents import shard_path
from training.anchors.progress import progress_table
from training.anchors.runs import AVERAGE, BASE, RESUME, START, Run, first_params, run_folder, told
from training.anchors.train import Length, train
from training.anchors.words import tokenizer
from training.settings import ROOT

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ADASTATE_TRAIN_DIR", str(tmp_path))
    torch.set_num_threads(1)
    fill_folder(tmp_path)
    return tmp_path


def variant(anchor: str = "adaptive", **options: object) -> Run:
    return Run.variant(anchor, 1, clips=1, copies=1, config=TINY, **options)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_resumed_run_equals_one_that_was_not_stopped(folder: Path, tmp_path: Path) -> None:
    length = Length(updates=4)
    whole = load_file(train(folder, variant(), length, 1, CPU))
    home = run_folder(folder, variant().name)
    whole_params = torch.load(home / RESUME, weights_only=True)["params"]
    for path in home.iterdir():
        path.unlink()
    # Stopped in its first half, on the past of clips, and again in its second, on its own.
    for _ in range(2):
        train(folder, variant(), length, 1, CPU, stop_after=1)
    assert told(home / AVERAGE)["updates"] == "2"
    resumed = load_file(train(folder, variant(), length, 1, CPU))
    params = torch.load(home / RESUME, weights_only=True)["params"]
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
    assert all(torch.equal(params[name], value) for name, value in whole_params.items())
    begun = first_params(folder, variant())
    assert not torch.equal(params["dit.head.head.weight"], begun["dit.head.head.weight"].detach())
    line = next(x for x in progress_table(folder).splitlines() if x.startswith("adaptive"))
    assert line.split()[:5] == ["adaptive-seed1-alpha2", "adaptive", "1", "2", "4"]


def test_every_layout_sees_every_kind_of_update() -> None:
    for run, steps, count in ((Run.base(), 16, 4 * 3), (variant(), 2, 2)):
        seen = {(run.task(step, 0.0).anchor, run.kind(step)) for step in range(steps)}
        assert len(seen) == count
    with pytest.raises(ValueError, match="kind 'closing', expected departing, passing, opening"):
        Run.base(kinds=("closing",))
    # Openings are many clips at few levels, with more noise.
    tasks = {Run.base().kind(step): Run.base().task(step, 0.0) for step in range(16)}
    assert tasks["opening"].copies == 1 < tasks["departing"].copies
    assert tasks["opening"].shift > tasks["departing"].shift == tasks["passing"].shift


@pytest.mark.slow
def test_openings_alone_are_learned(folder: Path) -> None:
    run = Run.base(kinds=("opening", "passing"), openings=2, clips=1, copies=1, config=TINY)
    run = replace(run, begins_with=BASE, name="openings")
    begun = first_params(folder, run)
    path = train(folder, run, Length(updates=5), 1, CPU)
    assert not torch.equal(load_file(path)["dit.head.head.weight"], begun["dit.head.head.weight"])
    assert told(path)["first"] == "nan"  # of openings none is told: they are at other noise
    assert float(told(path)["later"]) > 0
    shard_path(folder, 0, "opening").unlink()
    with pytest.raises(FileNotFoundError, match="make some with stage openings"):
        train(folder, run, Length(updates=6), 1, CPU)


def test_the_second_half_is_on_its_own_past() -> None:
    run, base = variant(), Run.base()
    assert [run.task(0, share).own_past for share in (0.0, 0.49, 0.5, 0.99)] == [False] * 2 + [
        True
    ] * 2
    assert not base.task(0, 0.99).own_past


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_workers_share_one_run(folder: Path) -> None:
    path = train(folder, variant("none"), Length(updates=4), 2, CPU)
    assert int(told(path)["updates"]) >= 4
    assert torch.isfinite(load_file(path)["dit.head.head.weight"]).all()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_stopped_process_keeps_its_work(folder: Path) -> None:
    code = (
        "import torch; from pathlib import Path; "
        "from tests.support.tiny_anchors import TINY; "
        "from training.anchors.runs import Run; "
        "from training.anchors.train import Length, train; "
        "torch.set_num_threads(1); "
        "run = Run.variant('none', 1, clips=1, copies=1, config=TINY); "
        f"train(Path({str(folder)!r}), run, Length(60.0), 1, torch.device('cpu'))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    log = folder / "none-seed1-alpha2.log"
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=ROOT)
    try:
        deadline = time.monotonic() + 200.0
        while not (log.exists() and "update 20," in log.read_text("utf-8")):
            assert process.poll() is None, "training ended early"
            assert time.monotonic() < deadline
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
    assert int(told(run_folder(folder, "none-seed1-alpha2") / AVERAGE)["updates"]) >= 20


def test_what_is_missing_is_named(folder: Path) -> None:
    (run_folder(folder, BASE) / AVERAGE).unlink()
    with pytest.raises(FileNotFoundError, match="train stage base first"):
        first_params(folder, variant())


def test_the_base_begins_with_what_is_kept(folder: Path) -> None:
    params, kept = first_params(folder, Run.base()), load_file(START)
    assert params.keys() == kept.keys()
    assert all(torch.equal(value.detach(), kept[name].float()) for name, value in params.items())
    assert params["text.shared.weight"].shape[0] == tokenizer().size
