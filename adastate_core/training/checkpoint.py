"""An interrupted training run as one file: adapter, optimiser, losses and what it was made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import ConfigError, StateFileError
from ..files.atomic import write_durably

FORMAT = "adastate training 1"
"""What the file says of itself."""
_ADAPTER, _OPTIMIZER, _LOSSES = "adapter/", "optimizer/", "losses"


@dataclass(frozen=True, slots=True, repr=False)
class TrainingCheckpoint:
    """A training run as far as it has come.

    Args:
        step: Steps that are done.
        identity: What the run was made of, by the words for it; another run goes on from the same.
        adapter: The adapter, as a LoRA.
        optimizer: State of its optimiser.
        losses: The loss of every step.
    """

    step: int
    identity: Mapping[str, str]
    adapter: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    losses: tuple[float, ...]

    def write(self, path: Path) -> None:
        """Write the file whole or not at all.

        Raises:
            OSError: If it cannot be written; an older one stays.
        """
        tensors = {f"{_ADAPTER}{name}": value for name, value in self.adapter.items()}
        tensors |= {f"{_OPTIMIZER}{name}": value for name, value in self.optimizer.items()}
        tensors[_LOSSES] = torch.tensor(self.losses, dtype=torch.float64)
        said = {"format": FORMAT, "step": str(self.step), "identity": json.dumps(self.identity)}
        whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        write_durably(path, lambda partial: save_file(whole, partial, said))

    @classmethod
    def read(cls, path: Path) -> TrainingCheckpoint:
        """Read the file.

        Raises:
            StateFileError: If it is damaged, or no such file.
        """
        try:
            with safe_open(path, "pt") as file:
                said = file.metadata() or {}
                if said.get("format") != FORMAT:
                    raise _damaged(path, "it is of another kind")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            step, identity = int(said["step"]), json.loads(said["identity"])
            losses = tuple(tensors.pop(_LOSSES).tolist())
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            if isinstance(error, StateFileError):
                raise
            raise _damaged(path, type(error).__name__) from error
        if step != len(losses) or not isinstance(identity, dict):
            raise _damaged(path, f"{len(losses)} losses of {step} steps")
        return cls(step, identity, _part(tensors, _ADAPTER), _part(tensors, _OPTIMIZER), losses)

    def require_same(self, identity: Mapping[str, str], name: str) -> None:
        """Refuse to go on with a run that was made of something else.

        Args:
            identity: What this run is made of.
            name: Name of the run.

        Raises:
            ConfigError: If they differ; names what does.
        """
        differs = [key for key in identity if self.identity.get(key) != identity[key]]
        if differs:
            raise ConfigError(
                "resume",
                problem=f'"{name}" was begun with another {" and ".join(differs)}',
                seen=", ".join(f"{key} {identity[key]}" for key in differs),
                expected=", ".join(f"{key} {self.identity.get(key)}" for key in differs),
                remedy="choose another name, or turn resume off to begin again",
            )


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}


def _damaged(path: Path, seen: str) -> StateFileError:
    return StateFileError(
        f"checkpoint {path.name}",
        problem=f"the checkpoint {path.name} is damaged ({seen})",
        seen=seen,
        expected="a file that Train State Adapter has written",
        remedy="delete it or move it away to begin again, or choose another name",
    )
