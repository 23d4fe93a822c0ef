"""Run a list of jobs on a farm, or say how far it is.

python -m farm run jobs.jsonl --workers 2
python -m farm status jobs.jsonl
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from farm.cluster import LOOPBACK, Cluster, ClusterSettings, reason_of
from farm.driver import Driver, Report
from farm.errors import FarmError
from farm.jobs import read_jobs
from farm.ledger import Ledger, read_ledger
from farm.progress import Bars
from farm.schedule import Rules
from farm.server import ServerSettings
from farm.shared_folder import SharedFolder
from farm.summary import as_json, prompts_left, show_jobs, show_report
from tools import environment

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the commands; return 0 if all jobs are done."""
    options = parse(arguments)
    console = Console()
    try:
        if options.command == "status":
            jobs = read_jobs(options.jobs)
            show_jobs(console, jobs, read_ledger(ledger_path(options.jobs)))
            return 0
        return run(options, console)
    except FarmError as error:
        print(f"farm: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nfarm: stopped; the same command goes on", file=sys.stderr)
        return INTERRUPTED


def run(options: argparse.Namespace, console: Console) -> int:
    """Make what is left of a list of jobs.

    Raises:
        FarmError: If that is impossible.
    """
    if sys.platform != "linux":
        raise FarmError("The farm runs on Linux, whose kernel ends a server with its worker.")
    jobs = read_jobs(options.jobs)
    folder = SharedFolder(options.output.absolute())
    folder.prepare()
    settings = ClusterSettings(
        options.workers,
        options.address,
        options.interface,
        options.gpus,
        options.cpus,
        options.dashboard,
    )
    with Ledger(ledger_path(options.jobs)) as ledger:
        for job in jobs:
            ledger.entry(job.name, job.digest)  # refuses before anything starts
        if not prompts_left(jobs, ledger.entries):
            console.print(
                f"nothing is left to make: {ledger.path.name} says that all prompts are done; "
                "raise times or add jobs for more",
                highlight=False,
            )
            return 0
        console.print(f"{len(jobs)} jobs, {options.workers} workers; starting Ray and ComfyUI")
        with (
            tempfile.TemporaryDirectory(prefix="adastate-farm-") as scratch,
            Cluster(settings) as cluster,
            cluster.workers(server_settings(options, Path(scratch))) as workers,
            Bars(jobs, ledger.entries, console) as bars,
        ):
            driver = Driver(
                jobs,
                ledger,
                folder,
                workers,
                reason_of,
                bars,
                rules=Rules(options.streams, options.queue, options.retries),
                timeout=options.timeout * 3600,
            )
            report = driver.run()
        finish(options, console, report, as_json(report, jobs, ledger.entries))
        if report.stopped:
            console.print("stopped; the same command goes on")
            return INTERRUPTED
    return 1 if report.failed else 0


def finish(
    options: argparse.Namespace, console: Console, report: Report, summary: dict[str, object]
) -> None:
    """Print what was done, and write it to a file."""
    show_report(console, report)
    for name, reason in report.failed.items():
        console.print(f"job {name} failed: {reason}", markup=False, highlight=False)
    path = options.summary or options.jobs.with_suffix(".summary.json")
    path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    console.print(f"summary  {path}", highlight=False)


def ledger_path(jobs: Path) -> Path:
    """Return where the ledger of a list of jobs is: beside it."""
    return jobs.with_name(f"{jobs.name}.ledger")


def server_settings(options: argparse.Namespace, scratch: Path) -> ServerSettings:
    """Return what the servers are."""
    tree = (options.comfyui or environment.tree_path()).absolute()
    if not (tree / "main.py").is_file():
        raise FarmError(
            f"{tree} holds no ComfyUI (no main.py): run `make setup`, or name yours with --comfyui."
        )
    packs = {}
    for pack in options.pack:
        packs[pack.name] = pack.absolute()
    return ServerSettings(
        tree=tree,
        pack=environment.ROOT,
        output=options.output.absolute(),
        scratch=scratch,
        models=options.models.absolute() if options.models else None,
        inputs=options.input.absolute() if options.input else None,
        python=options.python.absolute() if options.python else None,
        args=("--preview-method", "none", *options.comfyui_args.split()),
        packs=packs,
        on_cpu=not options.gpus,
    )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="farm", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    status = commands.add_parser("status", help="say how far a list of jobs is")
    status.add_argument("jobs", type=Path, help="the list: JSON Lines, a job a line")
    run = commands.add_parser("run", help="make what is left of a list of jobs")
    run.add_argument("jobs", type=Path, help="the list: JSON Lines, a job a line")
    run.add_argument("--workers", type=_count, default=1, help="ComfyUI servers (1)")
    run.add_argument(
        "--output",
        type=Path,
        default=environment.ROOT / "output",
        help="ComfyUI's output folder, which all machines see under this path (output)",
    )
    server = run.add_argument_group("ComfyUI")
    server.add_argument("--comfyui", type=Path, help="its folder; that of make setup by default")
    server.add_argument("--python", type=Path, help="the interpreter that runs it")
    server.add_argument("--models", type=Path, help="its folder of models; none by default")
    server.add_argument("--input", type=Path, help="its folder of inputs; none by default")
    server.add_argument(
        "--pack", type=Path, action="append", default=[], help="further custom nodes to load"
    )
    server.add_argument("--comfyui-args", default="", help='more flags of it, as in "--lowvram"')
    ray = run.add_argument_group("Ray")
    ray.add_argument("--address", help="of a cluster to join, as host:port or auto")
    ray.add_argument(
        "--interface", default=LOOPBACK, help=f"what a cluster of its own listens on ({LOOPBACK})"
    )
    ray.add_argument("--gpus", type=float, default=0.0, help="graphics cards a worker (0: none)")
    ray.add_argument("--cpus", type=float, default=0.0, help="cores a worker (0: its share)")
    ray.add_argument("--dashboard", action="store_true", help="start Ray's dashboard")
    rules = run.add_argument_group("rules")
    default = Rules()
    rules.add_argument(
        "--streams",
        type=_count,
        default=default.streams,
        help=f"streams that a worker serves in turn ({default.streams})",
    )
    rules.add_argument(
        "--queue",
        type=int,
        default=default.queue,
        help="prompts that may wait at a busy worker while another has nothing to do "
        f"({default.queue})",
    )
    rules.add_argument(
        "--retries",
        type=int,
        default=default.retries,
        help=f"how often a prompt is made again that was lost ({default.retries})",
    )
    rules.add_argument("--timeout", type=float, default=24.0, help="hours a prompt may take (24)")
    run.add_argument("--summary", type=Path, help="where to write it; beside the list by default")
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("has to be 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
