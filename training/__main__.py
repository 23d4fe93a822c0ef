"""``python -m training [stage ...]``: vae, latents, dit, polish, export; all of them by default.

``unpack`` alone puts the shipped models into an empty work folder, to train them further.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

STAGES = ("vae", "latents", "dit", "polish", "export")
OTHERS = ("unpack",)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument(
        "stages", nargs="*", metavar="stage", help=f"any of {', '.join(STAGES + OTHERS)}"
    )
    parser.add_argument("--work-dir", help="overrides ADASTATE_TRAIN_DIR")
    parser.add_argument("--minutes", type=float, help="training time of the one stage that is run")
    options = parser.parse_args()
    stages = tuple(options.stages) or STAGES
    if unknown := set(stages) - set(STAGES + OTHERS):
        parser.error(f"unknown stage {sorted(unknown)}, expected any of {STAGES + OTHERS}")
    if options.minutes is not None and len(stages) != 1:
        parser.error("--minutes needs exactly one stage")
    if options.work_dir:
        os.environ["ADASTATE_TRAIN_DIR"] = options.work_dir
    for stage in stages:
        run_stage(stage, options.minutes)


def run_stage(stage: str, minutes: float | None) -> None:
    # Imported late: the latent workers must not pay for what they do not use.
    from training.export import export
    from training.latents import make_latents
    from training.train_dit import DitRun, train_dit
    from training.train_vae import train_vae
    from training.unpack import unpack

    timed: dict[str, Callable[[float], object]] = {
        "vae": train_vae,
        "latents": make_latents,
        "polish": lambda m: train_vae(m, stage="polish"),
        "dit": lambda m: train_dit(DitRun(minutes=m)),
    }
    if stage == "export":
        export()
    elif stage == "unpack":
        unpack()
    else:
        timed[stage](minutes if minutes is not None else DEFAULT_MINUTES[stage])


DEFAULT_MINUTES = {"vae": 26.0, "latents": 14.0, "dit": 145.0, "polish": 10.0}


if __name__ == "__main__":
    main()
