"""Where a training run is kept: what it goes on from, and the newest adapter as a LoRA."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import folder_paths
from safetensors.torch import save_file

from ...adastate_core.errors import AdaStateError, ConfigError, StateFileError
from ...adastate_core.files.atomic import write_durably
from ...adastate_core.files.names import check_name
from ...adastate_core.training.checkpoint import TrainingCheckpoint

_ENDING = ".safetensors"


@dataclass(frozen=True, slots=True)
class TrainingFiles:
    """The two files of a run.

    Args:
        checkpoint: What it goes on from, with its optimiser.
        adapter: The newest adapter, where Load LoRA looks for files.
    """

    checkpoint: Path
    adapter: Path

    @classmethod
    def named(cls, name: str) -> TrainingFiles:
        """Return the files of a run, which need not exist.

        Raises:
            ConfigError: If the name cannot be that of a file.
        """
        try:
            name = check_name(name)
        except AdaStateError as error:
            raise ConfigError(
                "name",
                problem=f'the adapter cannot have the name "{name}"',
                seen=repr(name),
                expected="letters, digits, spaces, dots, - and _",
                remedy="change name on Train State Adapter",
            ) from error
        root = Path(folder_paths.get_output_directory())
        return cls(
            root / "adastate" / "training" / f"{name}{_ENDING}",
            root / "loras" / "adastate" / f"{name}{_ENDING}",
        )

    def found(self, identity: Mapping[str, str]) -> TrainingCheckpoint | None:
        """Return the checkpoint of an earlier part of the same run, or None.

        Args:
            identity: What this run is made of.

        Raises:
            ConfigError: If there is one of another run.
            StateFileError: If it is damaged.
        """
        if not self.checkpoint.exists():
            return None
        checkpoint = TrainingCheckpoint.read(self.checkpoint)
        checkpoint.require_same(identity, self.checkpoint.stem)
        return checkpoint

    def write(self, checkpoint: TrainingCheckpoint) -> None:
        """Write both files.

        Raises:
            StateFileError: If the disk has no room for them, or may not be written to.
        """
        lora = dict(checkpoint.adapter)
        try:
            for path in (self.checkpoint, self.adapter):
                path.parent.mkdir(parents=True, exist_ok=True)
            checkpoint.write(self.checkpoint)
            write_durably(self.adapter, lambda partial: save_file(lora, partial, _said(checkpoint)))
        except OSError as error:
            raise StateFileError(
                "checkpoint",
                problem=f"the checkpoint cannot be written ({error.strerror or error})",
                seen=str(error),
                expected="a folder with room that can be written to",
                remedy="free some space in ComfyUI's output folder",
            ) from error

    @property
    def shown(self) -> str:
        """Return the path of the adapter as one reads it."""
        return f"output/loras/adastate/{self.adapter.name}"


def _said(checkpoint: TrainingCheckpoint) -> dict[str, str]:
    return {"adastate_steps": str(checkpoint.step)}
