"""Everything in one go, in given minutes, for a card that is rented: latents, base, variants.

The VAE is the one that the kept base knows, so that no time goes into meeting another; its decoder
alone is trained on. All variants get the same number of updates, as many as the time allows by the
speed of the base. What is whole is packed at the end of every stage, so a lease that is cut short
has brought that.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from training.anchors.latents import FOLDER, SCALE, make_latents
from training.anchors.memory import ANCHORS
from training.anchors.parcels import deliver, pack
from training.anchors.runs import AVERAGE, BASE, Run, run_folder, told
from training.anchors.train import Length, train
from training.anchors.train_vae import ENCODED_BY
from training.anchors.vae_device import VaeSizes, train_vae_on
from training.settings import stage_logger

# Shares of the minutes; the variants get what is left, but for a little.
SHARES = {"latents": 0.12, "openings": 0.04, "polish": 0.08, "base": 0.3}
SPARE = 0.02
# An update of a variant is dearer than one of the base: half of them make their own past.
DEARER = 1.4
SEEDS, ALPHAS = (1, 2), (0.0, 1.0, 4.0)
PARCELS = "parcels"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much a step sees.

    Args:
        clips: Clips of an update.
        copies: Noise levels of each chunk.
        openings: First chunks of an update that learns these alone.
        vae: Sizes of the decoder's training.
        shards: Most shards of latents.
    """

    clips: int = 48
    copies: int = 2
    openings: int = 384
    vae: VaeSizes = field(default_factory=VaeSizes)
    shards: int = 1000

    @classmethod
    def tiny(cls) -> Sizes:
        """Sizes to rehearse with on a CPU."""
        return cls(clips=1, copies=1, openings=2, vae=VaeSizes(pool=2, times=1), shards=1)


def variants(sizes: Sizes) -> list[Run]:
    """All variants, the most needed first: every anchor, with two seeds, and then other alphas."""
    options = {"clips": sizes.clips, "copies": sizes.copies}
    runs = [Run.variant(anchor, seed, **options) for seed in SEEDS for anchor in ANCHORS]
    return runs + [Run.variant(ANCHORS[0], SEEDS[0], alpha, **options) for alpha in ALPHAS]


def lease(
    folder: Path, minutes: float, out: Path, device: torch.device, sizes: Sizes
) -> tuple[int, int]:
    """Train everything in ``minutes`` and deliver the first parcels to ``out``.

    Returns:
        How many parcels went, and how many are left for ``collect``.
    """
    log, begin, parcels = stage_logger("lease"), time.monotonic(), folder / PARCELS

    def left(until: float) -> float:
        return minutes * until - (time.monotonic() - begin) / 60.0

    def packed(*files: Path) -> None:
        for file in files:
            pack(folder, file, parcels)
        log.info("%.0f s: %s", time.monotonic() - begin, ", ".join(file.name for file in files))

    until = SHARES["latents"]
    make_latents(folder, left(until), 1, device, sizes.shards)
    packed(folder / ENCODED_BY, folder / FOLDER / SCALE)
    until += SHARES["openings"]
    make_latents(folder, left(until), 1, device, sizes.shards, kind="opening")
    until += SHARES["polish"]
    packed(train_vae_on(folder, max(1e-3, left(until)), device, sizes.vae, stage="polish"))
    until += SHARES["base"]
    base = Run.base(clips=sizes.clips, copies=sizes.copies, openings=sizes.openings)
    if not (run_folder(folder, BASE) / AVERAGE).exists():
        length = Length(max(left(until), 1e-3)) if left(until) > 0 else Length(updates=1)
        train(folder, base, length, 1, device)
    average = run_folder(folder, BASE) / AVERAGE
    packed(average)
    header, runs = told(average), variants(sizes)
    pace = DEARER * float(header["seconds"]) / max(1, int(header["updates"]))
    seconds = 60.0 * left(1.0 - SPARE) / len(runs)
    updates = max(2, int(seconds / pace)) if pace else 2
    log.info("%d updates for each of %d variants", updates, len(runs))
    for run in runs:
        if left(1.0 - SPARE) <= 0.0:
            log.info("no time is left for %s", run.name)
            continue
        packed(train(folder, run, Length(updates=updates), 1, device))
    sent = deliver(parcels, out)
    log.info("%.0f s: %d parcels in %s, %d left", time.monotonic() - begin, sent[0], out, sent[1])
    return sent
