"""Owns where training artefacts live and how a stage logs; holds no hyper-parameters."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
ASSETS = ROOT / "assets" / "demo"
VAE_DIM = 16
CHUNK_FRAMES = 3
STATE_FRAMES = 1


def work_dir() -> Path:
    """The folder of clips, latents, checkpoints and logs, outside version control."""
    path = Path(os.environ.get("ADASTATE_TRAIN_DIR", str(ROOT / ".cache" / "train-demo")))
    path.mkdir(parents=True, exist_ok=True)
    return path


def stage_logger(stage: str) -> logging.Logger:
    """Log a stage to the terminal and to ``<work dir>/<stage>.log``."""
    logger = logging.getLogger(f"adastate.training.{stage}")
    if not logger.handlers:
        logger.setLevel(logging.INFO)
        form = logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S")
        targets = (
            logging.StreamHandler(sys.stdout),
            logging.FileHandler(work_dir() / f"{stage}.log", encoding="utf-8"),
        )
        for handler in targets:
            handler.setFormatter(form)
            logger.addHandler(handler)
    return logger


def use_threads(count: int | None = None) -> None:
    torch.set_num_threads(count or os.cpu_count() or 1)
