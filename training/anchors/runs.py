"""Runs of training: what each is, where it begins, and what is kept of it on disk."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from training.anchors.latents import write_whole
from training.anchors.memory import ANCHORS, EMA_RATE
from training.anchors.rollout import SHIFT, Task
from training.anchors.train_words import taught
from training.dit import DitConfig, Params, parameter_shapes
from training.optim import Average, TwoOptimizers
from training.train_dit import CONFIG, is_hidden

# What the base begins with, so that training does not begin anew on another machine.
START = Path(__file__).with_name("base_start.safetensors")
AVERAGE, RESUME = "average.safetensors", "resume.pt"
BASE = "base"
UpdateKind = Literal["departing", "passing", "opening"]
"""Clips that begin at departure or somewhere on a way, or first chunks alone."""
# Openings are learned at more noise: what a prompt says is decided there.
OPENING_SHIFT = 5.0
# Updates over which progress is told.
RECENT = 100


@dataclass(frozen=True, slots=True)
class Run:
    """What one run trains, and how.

    Args:
        name: Folder of the run, and what it is called.
        anchors: Policies, in turn.
        begins_with: Run whose average it begins with; None for `START`.
        seed: Seed of all draws. Runs of one seed see the same clips and noise.
        alpha: By how much more the last chunk of a clip counts than the first.
        own_from: Share of the run from which on the past is what the model makes.
        guide_from: Share of the run from which on the target is guided.
        clips: Clips of an update.
        copies: Noise levels at which each chunk is learned.
        kinds: What updates learn, in turn, all anchors one after another.
        openings: First chunks of an update that learns these alone.
        ema_rate: Rate of the averaged anchor.
        rate: Factor on the learning rates.
        config: Sizes of the DiT.
    """

    name: str
    anchors: tuple[str, ...]
    begins_with: str | None
    seed: int = 0
    alpha: float = 2.0
    own_from: float = 0.5
    guide_from: float = 0.0
    clips: int = 2
    copies: int = 2
    kinds: tuple[UpdateKind, ...] = ("departing", "passing")
    openings: int = 16
    ema_rate: float = EMA_RATE
    rate: float = 1.0
    muon_lr: float = 2e-3
    adam_lr: float = 1e-3
    config: DitConfig = CONFIG

    def __post_init__(self) -> None:
        known = get_args(UpdateKind)
        if unknown := [kind for kind in self.kinds if kind not in known]:
            raise ValueError(f"updates are of kind {unknown[0]!r}, expected {', '.join(known)}")

    @classmethod
    def base(cls, **options: object) -> Run:
        """The run that all variants begin with: every layout in turn, on the past of clips.

        What a prompt means has to be found in first chunks: whatever follows copies them.
        """
        kinds = ("departing", "opening", "passing", "opening")
        given = {"own_from": 1.0, "guide_from": 0.5, "alpha": 0.0, "kinds": kinds} | options
        return cls(BASE, ANCHORS, None, **given)  # type: ignore[arg-type]

    @classmethod
    def variant(cls, anchor: str, seed: int, alpha: float = 2.0, **options: object) -> Run:
        """One anchor, trained from the base on."""
        name = variant_name(anchor, seed, alpha)
        given = {"muon_lr": 1e-3, "adam_lr": 5e-4} | options
        return cls(name, (anchor,), BASE, seed=seed, alpha=alpha, **given)  # type: ignore[arg-type]

    def task(self, step: int, share: float) -> Task:
        """Return what update ``step`` does, at a share of the run."""
        opening = self.kind(step) == "opening"
        return Task(
            anchor=self.anchors[step % len(self.anchors)],
            own_past=share >= self.own_from,
            guided=share >= self.guide_from,
            alpha=self.alpha,
            copies=1 if opening else self.copies,
            shift=OPENING_SHIFT if opening else SHIFT,
            ema_rate=self.ema_rate,
        )

    def kind(self, step: int) -> UpdateKind:
        """Return what update ``step`` learns; each policy sees every kind."""
        return self.kinds[step // len(self.anchors) % len(self.kinds)]


def variant_name(anchor: str, seed: int, alpha: float) -> str:
    """Name a variant, ``adaptive-seed1-alpha2``.

    >>> variant_name("ema", 1, 2.0)
    'ema-seed1-alpha2'
    """
    return f"{anchor}-seed{seed}-alpha{alpha:g}"


def run_folder(folder: Path, name: str) -> Path:
    return folder / "runs" / name


def start_params() -> Params:
    """Return what the base begins with: DiT and text encoder as far as they have come."""
    return {name: value.float() for name, value in load_file(START).items()}


def first_params(folder: Path, run: Run) -> Params:
    """Return what a run begins with.

    Raises:
        FileNotFoundError: The run that it begins with is not there.
        ValueError: The sizes differ.
    """
    if run.begins_with is None:
        params = start_params() | taught(folder)
    else:
        path = run_folder(folder, run.begins_with) / AVERAGE
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing, train stage {run.begins_with} first")
        params = load_file(path)
    for name, shape in parameter_shapes(run.config).items():
        if (seen := tuple(params[f"dit.{name}"].shape)) != shape:
            raise ValueError(f"{name} is {seen}, expected {shape}")
    # The text encoder stays as it was taught, see `train_words`.
    return {
        name: value.float().clone().requires_grad_(name.startswith("dit."))
        for name, value in params.items()
    }


@dataclass(slots=True)
class Losses:
    """The newest losses of a run: of first chunks, and of later ones."""

    first: list[float] = field(default_factory=list)
    later: list[float] = field(default_factory=list)

    def add(self, losses: tuple[float, ...], kind: UpdateKind) -> None:
        later = losses if kind == "passing" else losses[1:]
        if kind == "departing":  # those of openings are at other levels of noise
            self.first = [*self.first, losses[0]][-RECENT:]
        if later:
            self.later = [*self.later, sum(later) / len(later)][-RECENT:]

    def means(self) -> tuple[float, float]:
        """Return both means, NaN where there is none yet."""
        means = [sum(x) / len(x) if x else float("nan") for x in (self.first, self.later)]
        return means[0], means[1]


@dataclass(slots=True)
class Kept:
    """What a run is at one moment, and how it is written and read."""

    run: Run
    params: Params
    optimizer: TwoOptimizers
    average: Average
    losses: Losses
    updates: int = 0
    seconds: float = 0.0

    @classmethod
    def begin(cls, run: Run, params: Params) -> Kept:
        rates = run.rate * run.muon_lr, run.rate * run.adam_lr
        trained = [(name, value) for name, value in params.items() if value.requires_grad]
        optimizer = TwoOptimizers(trained, is_hidden, *rates)
        return cls(run, params, optimizer, Average(0.995), Losses())

    def save(self, folder: Path) -> None:
        """Write everything aside and rename it: a stop may come at any moment."""
        folder.mkdir(parents=True, exist_ok=True)
        first, later = self.losses.means()
        meta = {
            "run": json.dumps(asdict(self.run)),
            "anchors": " ".join(self.run.anchors),
            "seed": str(self.run.seed),
            "ema_rate": f"{self.run.ema_rate:g}",
            "alpha": f"{self.run.alpha:g}",
            "updates": str(self.updates),
            "seconds": f"{self.seconds:.1f}",
            "first": f"{first:.5f}",
            "later": f"{later:.5f}",
        }
        resume = {
            "params": {name: value.detach() for name, value in self.params.items()},
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.values,
            "averaged": self.average.steps,
            "first": self.losses.first,
            "later": self.losses.later,
            "updates": self.updates,
            "seconds": self.seconds,
        }
        torch.save(resume, folder / f"{RESUME}.part")
        (folder / f"{RESUME}.part").rename(folder / RESUME)
        values = self.average.values or dict(self.params)
        values = {name: value.detach().cpu() for name, value in values.items()}
        write_whole(values, folder / AVERAGE, meta)

    def restore(self, folder: Path, device: torch.device, params: bool = True) -> bool:
        """Go on from what is on disk; False if nothing is.

        Args:
            folder: Folder of the run.
            device: Where it is trained.
            params: Whether to read the parameters; workers that share them read the rest alone.
        """
        if not (folder / RESUME).exists():
            return False
        saved = torch.load(folder / RESUME, weights_only=True, map_location=device)
        with torch.no_grad():
            for name, value in self.params.items() if params else ():
                value.copy_(saved["params"][name])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.average = Average(0.995, saved["average"], saved["averaged"])
        self.losses = Losses(saved["first"], saved["later"])
        self.updates, self.seconds = saved["updates"], saved["seconds"]
        return True


def told(path: Path) -> dict[str, str]:
    """Return the header of a run's average."""
    with safe_open(path, "pt") as file:
        return dict(file.metadata())
