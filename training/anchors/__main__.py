"""``python -m training.anchors STAGE``: trains four anchors alike on the panorama.

Artefacts live in .cache/panorama; ADASTATE_TRAIN_DIR moves them. A stopped stage goes on from its
last checkpoint, which is at most a minute old.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from training.anchors.memory import ANCHORS, EMA_RATE
from training.anchors.settings import panorama_dir, pick_device


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m training.anchors", description=__doc__)
    stages = parser.add_subparsers(dest="stage", required=True)

    def stage(name: str, about: str, minutes: float | None = None) -> argparse.ArgumentParser:
        added = stages.add_parser(name, help=about, description=about)
        if minutes is not None:
            added.add_argument("--minutes", type=float, default=minutes, help="of training time")
            added.add_argument("--workers", type=int, default=2, help="processes on a CPU")
        return added

    def trained(name: str, about: str, minutes: float) -> argparse.ArgumentParser:
        added = stage(name, about, minutes)
        added.add_argument("--updates", type=int, help="length of the run, instead of minutes")
        added.add_argument("--clips", type=int, help="clips of an update")
        added.add_argument("--copies", type=int, help="noise levels of each chunk")
        added.add_argument("--kinds", nargs="+", help="what updates learn, in turn")
        added.add_argument("--rate", type=float, help="factor on the learning rates")
        added.add_argument("--ema-rate", type=float, default=EMA_RATE, help="of the anchor ema")
        return added

    stage("vae", "train the VAE of the panorama on", 60.0)
    stage("polish", "train only its decoder on: latents stay valid", 30.0)
    latents = stage("latents", "encode clips, shard by shard", 60.0)
    latents.add_argument("--shards", type=int, default=100_000, help="no more than these")
    stage("words", "teach a fresh text encoder the grammar, before a base begins")
    stage("openings", "encode first chunks alone, of more journeys", 15.0)
    trained("base", "train what all variants begin with", 120.0)
    variant = trained("variant", "train one anchor from the base on", 60.0)
    variant.add_argument("--anchor", choices=ANCHORS, required=True)
    variant.add_argument("--seed", type=int, default=1)
    variant.add_argument("--alpha", type=float, default=2.0)
    export = stage("export", "write a run as files that a stock host loads")
    export.add_argument("--variant", required=True, help="name of the run, as progress lists it")
    export.add_argument("--to", type=Path, required=True, help="folder")
    stage("progress", "say what there is")
    obeyed = stage("obedience", "say which words a run takes notice of")
    obeyed.add_argument("--run", default="base", help="name of the run, as progress lists it")
    lease = stage("lease", "everything in one go, on a card", 13.0)
    lease.add_argument("--out", type=Path, required=True, help="folder for the first parcels")
    lease.add_argument("--tiny", action="store_true", help="tiny sizes, to rehearse")
    collect = stage("collect", "deliver further parcels of a lease")
    collect.add_argument("--out", type=Path, required=True, help="folder")
    collect.add_argument("--skip", type=int, default=0, help="parcels that went before")
    restore = stage("restore", "put the files of a lease together from parcels")
    restore.add_argument("--from", type=Path, required=True, dest="source", help="folder")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Run one stage."""
    options = parser().parse_args(arguments)
    folder, device = panorama_dir(), pick_device()
    if device.type == "cpu":
        torch.set_num_threads(1)
    run_stage(options, folder, device)


def run_stage(options: argparse.Namespace, folder: Path, device: torch.device) -> None:
    # Imported late: workers must not pay for what they do not use.
    if options.stage in ("vae", "polish"):
        if device.type == "cuda":
            from training.anchors.vae_device import VaeSizes, train_vae_on

            train_vae_on(folder, options.minutes, device, VaeSizes(), stage=options.stage)
        else:
            from training.anchors.train_vae import train_vae

            train_vae(folder, options.minutes, options.workers, stage=options.stage)
    elif options.stage == "latents":
        from training.anchors.latents import make_latents

        make_latents(folder, options.minutes, options.workers, device, options.shards)
    elif options.stage == "words":
        from training.anchors.train_words import teach

        teach(folder)
    elif options.stage == "openings":
        from training.anchors.latents import make_latents

        make_latents(folder, options.minutes, options.workers, device, kind="opening")
    elif options.stage in ("base", "variant"):
        from training.anchors.runs import Run
        from training.anchors.train import Length, train

        names = ("clips", "copies", "rate", "ema_rate")
        given = {n: getattr(options, n) for n in names if getattr(options, n) is not None}
        if options.kinds is not None:
            given["kinds"] = tuple(options.kinds)
        if options.stage == "base":
            run = Run.base(**given)
        else:
            run = Run.variant(options.anchor, options.seed, options.alpha, **given)
        train(folder, run, Length(options.minutes, options.updates), options.workers, device)
    elif options.stage == "export":
        from training.anchors.export import export

        export(folder, options.variant, options.to)
    elif options.stage == "progress":
        from training.anchors.progress import progress_table

        print(progress_table(folder))
    elif options.stage == "obedience":
        from training.anchors.obedience import obedience_table

        print(obedience_table(folder, options.run))
    else:
        run_lease(options, folder, device)


def run_lease(options: argparse.Namespace, folder: Path, device: torch.device) -> None:
    """Run a stage of a lease."""
    from training.anchors.lease import PARCELS, Sizes, lease
    from training.anchors.parcels import deliver, unpack

    if options.stage == "lease":
        sizes = Sizes.tiny() if options.tiny else Sizes()
        lease(folder, options.minutes, options.out, device, sizes)
    elif options.stage == "collect":
        sent, left = deliver(folder / PARCELS, options.out, options.skip)
        print(f"{sent} parcels in {options.out}, {left} left")
    else:
        files, missing = unpack(options.source, folder)
        print("\n".join([*(str(file) for file in files), *(f"missing: {m}" for m in missing)]))


if __name__ == "__main__":
    main()
