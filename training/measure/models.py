"""The models of an exported run, and an adapter on them, as a stock host loads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tools.inprocess import Pack
from training.export import DIT_FILE, TEXT_FILE, VAE_FILE
from training.settings import ASSETS

FILES = (DIT_FILE, TEXT_FILE, VAE_FILE)


def open_models(
    pack: Pack, folder: Path | None = None, adapter: Path | None = None
) -> tuple[Any, Any, Any]:
    """Return MODEL, CLIP and VAE of the files in a folder; those that ship without one.

    Args:
        pack: The pack.
        folder: Where ``python -m training.anchors export`` wrote.
        adapter: A LoRA for the MODEL, at full strength.
    """
    import comfy.sd
    import comfy.utils

    if folder is None:
        model, clip, vae = pack.run("AdaStateLoadDemo")
    else:
        dit, loading = str(folder / DIT_FILE), pack.part("adastate_comfy.model.loading")
        shift = pack.part("adastate_comfy.model.checkpoint").declared_shift(dit)
        model = loading.with_shift(loading.load_streaming_model(dit, {}), shift)
        clip = pack.part("adastate_comfy.model.demo_models").load_small_umt5(folder / TEXT_FILE)
        vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(folder / VAE_FILE)))
    if adapter is not None:
        lora = comfy.utils.load_torch_file(str(adapter), safe_load=True)
        model, _ = comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0.0)
    return model, clip, vae


def files_of(folder: Path | None, adapter: Path | None) -> list[Path]:
    """Return the files that `open_models` reads."""
    files = [(folder or ASSETS) / name for name in FILES]
    return [*files, *([adapter] if adapter is not None else [])]
