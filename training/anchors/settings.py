"""Owns where the artefacts of the panorama live, and which device trains."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from training.settings import ROOT, work_dir

FOLDER_VARIABLE = "ADASTATE_TRAIN_DIR"


def panorama_dir() -> Path:
    """Return the folder of everything trained here; workers that are started find it as well."""
    os.environ.setdefault(FOLDER_VARIABLE, str(ROOT / ".cache" / "panorama"))
    return work_dir()


def pick_device() -> torch.device:
    """Return the card, if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
