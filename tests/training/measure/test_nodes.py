"""Streams of shipped files come out of the pack's nodes in the scale that is read."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from training.export import WAN_MEAN, WAN_STD
from training.measure.nodes import NodeStreams
from training.measure.streams import Row

# ComfyUI reads its options once a process, so it gets one of its own.
SCRIPT = """
import sys
import torch
from safetensors.torch import save_file
from training.measure.evaluate import fixed_pairs
from training.measure.nodes import NodeStreams
from training.measure.streams import Row

torch.set_num_threads(1)
pairs = fixed_pairs(2)
prompts, seeds = [prompt for prompt, _ in pairs], [seed for _, seed in pairs]
source = NodeStreams(Row("adaptive", "adaptive"), 2, 1.0)
kept, pack = {}, source._open()[0]
run = pack.run


def spied(name, **inputs):
    outputs = run(name, **inputs)
    if name == "AdaStateStream":
        kept["latent"] = outputs[1]["samples"].clone()
    return outputs


pack.run = spied
both = source(prompts, seeds, 1)
second = kept["latent"]
again = source(prompts[1:], seeds[1:], 1)
save_file({"both": both, "again": again, "second": second}, sys.argv[1])
"""


# Without compiled bytecode, on busy cores, importing ComfyUI alone has taken minutes.
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_streams_are_one_a_prompt_and_in_the_scale_of_the_dit(
    tmp_path: Path, repository: Path
) -> None:
    path = tmp_path / "streams.safetensors"
    environment = {**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)], cwd=repository, env=environment, check=True
    )
    made = load_file(path)
    assert made["both"].shape == (2, 16, 3, 14, 24)
    assert not torch.equal(made["both"][0], made["both"][1])
    assert torch.allclose(made["again"], made["both"][1:], atol=1e-5)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in (WAN_MEAN, WAN_STD))
    assert torch.allclose(made["both"][1:] * std + mean, made["second"].float(), atol=1e-4)


def test_a_source_goes_to_another_process_without_its_models() -> None:
    source = NodeStreams(Row("none", "none"), 4, 1.0)
    source.loaded = object()  # type: ignore[assignment]
    travelled = pickle.loads(pickle.dumps(source))
    assert travelled.loaded is None
    assert travelled.digest == source.digest
    assert NodeStreams(Row("none", "none"), 8, 1.0).digest != source.digest
    assert NodeStreams(Row("frozen", "frozen"), 4, 1.0).digest != source.digest
