"""Measures streams of the panorama: ``python -m training.measure [table | reader]``.

``reader --minutes M`` trains what reads latents; it has to be trained again for another VAE.
``table`` (the default) writes a table, its numbers as JSON and two pictures. Rows are given as
``--rows adaptive=FILE frozen=FILE``; with ``--through-nodes`` the shipped files are streamed by
the pack's own nodes under each anchor, and rows need no file: ``--rows adaptive frozen none``.
There a row may also name the folder of an export, and an adapter: ``--rows adaptive=FOLDER,LORA``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from training.anchors.latents import FOLDER, ROTATION, SCALE
from training.anchors.settings import panorama_dir
from training.anchors.train_vae import ENCODED_BY
from training.export import VAE_FILE
from training.measure.evaluate import Bench, Plan, evaluate, fixed_pairs
from training.measure.plane import draw_plane
from training.measure.reader import Reader
from training.measure.space import Space
from training.measure.streams import Row, Source, TrainedStreams
from training.measure.strip import draw_strip
from training.measure.table import write_result
from training.measure.train_reader import READER, train_reader
from training.settings import ASSETS


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.measure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("task", nargs="?", choices=("table", "reader"), default="table")
    parser.add_argument("--rows", nargs="*", type=Row.parse, default=[], metavar="ANCHOR=FILE")
    parser.add_argument("--folder", type=Path, help="default: measure/ beside what was trained")
    parser.add_argument("--vae", type=Path, help="default: the trained one, or as shipped")
    parser.add_argument("--scale", type=Path, help="scale of latents; a shipped VAE needs none")
    parser.add_argument("--through-nodes", action="store_true")
    parser.add_argument("--minutes", type=float, default=30.0, help="to train the reader")
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--chunks", type=int, default=60)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--cfg", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=8, help="streams made at once")
    parser.add_argument("--decode-every", type=int, default=15, help="chunks between looks")
    parser.add_argument("--controls", type=int, default=4, help="clips of the world itself")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread")
    return parser.parse_args(arguments)


def open_space(options: argparse.Namespace) -> tuple[Space, Path | None]:
    """Open what the options name, else what training keeps, else what ships.

    Returns:
        The space, and the folder of latents that training keeps in it.
    """
    if options.vae is not None:
        return Space.open(options.vae, options.scale), None
    # Training copies its VAE beside the latents: these are what its DiT speaks.
    latents = panorama_dir() / FOLDER
    own, scale = panorama_dir() / ENCODED_BY, latents / SCALE
    shipped = options.through_nodes and not any(row.weights for row in options.rows)
    if shipped or not (own.exists() and scale.exists()):
        return Space.open(ASSETS / VAE_FILE, None), None
    return Space.open(own, scale), latents


def source_of(row: Row, options: argparse.Namespace) -> Source:
    if not options.through_nodes:
        return TrainedStreams(row, options.steps, options.cfg, options.batch)
    # Needs a ComfyUI, which streams of training do without.
    from training.measure.nodes import NodeStreams

    basis = panorama_dir() / FOLDER / ROTATION if row.weights is not None else None
    return NodeStreams(row, options.steps, options.cfg, basis)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    torch.set_num_threads(1)
    folder = options.folder or panorama_dir() / "measure"
    folder.mkdir(parents=True, exist_ok=True)
    space, latents = open_space(options)
    if options.task == "reader":
        print(train_reader(folder, space, options.minutes, options.workers, latents))
        return
    if not (folder / READER).exists():
        print(f"no reader in {folder}: training one for {options.minutes:g} minutes")
        train_reader(folder, space, options.minutes, options.workers, latents)
    reader, trained = Reader.load(folder / READER, space.digest)
    plan = Plan(
        folder=folder,
        pairs=fixed_pairs(options.prompts),
        chunks=options.chunks,
        decode_every=options.decode_every,
        controls=options.controls,
        workers=options.workers,
    )
    rows = [(row, source_of(row, options)) for row in options.rows]
    about: dict[str, object] = {
        "command": "python -m training.measure " + " ".join(arguments or sys.argv[1:]),
        "streams": f"{options.prompts} unseen prompts x {options.chunks} chunks a row, "
        f"{options.steps} steps, cfg {options.cfg:g}",
        "reader": f"{trained['chunks']} chunks of the world, {trained['steps']} steps",
        "its errors on unseen prompts": trained["errors"],
        "and under noise": trained["errors_in_noise"],
    }
    result = evaluate(Bench(plan, space, reader), rows, about)
    paths = write_result(result, folder)
    paths.append(draw_plane(result, folder / "plane.png"))
    paths.append(draw_strip(space, plan, rows, folder / "strip.png"))
    for path in paths:
        print(path)


if __name__ == "__main__":
    main()
