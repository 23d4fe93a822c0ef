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

from training.export import TEXT_FILE, WAN_MEAN, WAN_STD
from training.measure.nodes import NodeStreams
from training.measure.streams import Row
from training.settings import ASSETS

# ComfyUI reads its options once a process, so it gets one of its own.
SCRIPT = """
import sys
from pathlib import Path
import torch
from safetensors.torch import load_file, save_file
from training.export import DIT_FILE
from training.measure.evaluate import fixed_pairs
from training.measure.nodes import NodeStreams
from training.measure.streams import Row
from training.settings import ASSETS

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

# A run as it is exported, with an adapter on it: the shipped files stand for one.
folder, weights = Path(sys.argv[1]).parent, load_file(ASSETS / DIT_FILE)
key = "blocks.0.self_attn.q.weight"
down, up = torch.randn(4, weights[key].shape[1]), torch.randn(weights[key].shape[0], 4)
adapter = folder / "adapter.safetensors"
save_file({f"diffusion_model.{key[:-7]}.lora_{n}.weight": v for n, v in (("A", down), ("B", up))},
          adapter)
rotation = torch.linalg.qr(torch.randn(16, 16))[0].contiguous()
save_file({"rotation": rotation}, folder / "rotation.safetensors")


def streamed(adapter, basis):
    row = Row("adaptive", "adaptive", ASSETS, adapter)
    source = NodeStreams(row, 2, 1.0, basis)
    source.loaded = source._open_with(pack)
    return source(prompts[1:], seeds[1:], 1)


save_file(
    {
        "both": both,
        "again": again,
        "second": second,
        "exported": streamed(None, None),
        "adapted": streamed(adapter, None),
        "turned": streamed(None, folder / "rotation.safetensors"),
        "rotation": rotation,
    },
    sys.argv[1],
)
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
    # The same files, out of a folder.
    assert torch.allclose(made["exported"], made["again"], atol=1e-5)
    assert not torch.allclose(made["adapted"], made["again"], atol=1e-2)
    turned = torch.einsum("ij,bjthw->bithw", made["rotation"], made["turned"])
    assert torch.allclose(turned, made["again"], atol=1e-4)


def test_a_source_goes_to_another_process_without_its_models() -> None:
    source = NodeStreams(Row("none", "none"), 4, 1.0)
    source.loaded = object()  # type: ignore[assignment]
    travelled = pickle.loads(pickle.dumps(source))
    assert travelled.loaded is None
    assert travelled.digest == source.digest
    assert NodeStreams(Row("none", "none"), 8, 1.0).digest != source.digest
    assert NodeStreams(Row("frozen", "frozen"), 4, 1.0).digest != source.digest
    assert NodeStreams(Row("none", "none", ASSETS), 4, 1.0).digest == source.digest
    adapted = Row("none", "none", None, ASSETS / TEXT_FILE)
    assert NodeStreams(adapted, 4, 1.0).digest != source.digest
