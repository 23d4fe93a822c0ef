"""From nothing to a finished video: run the demo workflow on a real ComfyUI server.

Uses only what an artist has: the pack, the workflow file as it ships, and ComfyUI's HTTP API.
Leaves `output/adastate-demo.mp4` and a picture of its frames and hidden states.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from tools import contact_sheet, environment
from tools.client import ComfyClient
from tools.events import PromptError, PromptResult
from tools.graph import load_prompt
from tools.progress_bar import PromptBar
from tools.server import ComfyServer, ServerError

DEMO_WORKFLOW = "01 Stream the demo world.json"
STATE_PREFIX = "demo_state"
OUTPUT = environment.ROOT / "output"
NAME = "adastate-demo"


class DemoError(RuntimeError):
    """The demo workflow ran but did not save what the demo shows."""


def run_demo(workflow_file: Path, output: Path) -> tuple[Path, Path]:
    """Run a workflow and return the video and the picture it leaves in `output`.

    Raises:
        ServerError, PromptError, DemoError, OSError, ValueError: If a step fails.
    """
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="adastate-demo-") as scratch:
        server = ComfyServer(
            environment.tree_path(), Path(sys.executable), Path(scratch), environment.ROOT
        )
        print("starting ComfyUI", flush=True)
        try:
            with server, ComfyClient(server.url) as client:
                prompt = load_prompt(workflow_file, client)
                print(f'running "{workflow_file.stem}"', flush=True)
                bar = PromptBar(prompt)
                result = client.run(prompt, bar.update)
                bar.close()
        except Exception:
            _keep_log(server, output)
            raise
        return _collect(prompt, result, Path(scratch), output)


def _collect(
    prompt: Mapping[str, Any], result: PromptResult, base_dir: Path, output: Path
) -> tuple[Path, Path]:
    files = result.files(base_dir)
    videos = [file for file in files if file.suffix == ".mp4"]
    if len(videos) != 1:
        raise DemoError(f"The workflow should save one .mp4 file, it saved {len(videos)}.")
    video = output / f"{NAME}.mp4"
    shutil.copyfile(videos[0], video)
    frames = contact_sheet.read_frames(video)
    states = [Image.open(f) for f in sorted(files) if f.name.startswith(STATE_PREFIX)]
    chunks = contact_sheet.split_chunks(
        frames,
        states,
        chunks=int(_input(prompt, "AdaStateStream", "chunks")),
        chunk_frames=int(_input(prompt, "AdaStateApply", "chunk_frames")),
    )
    picture = output / f"{NAME}.png"
    contact_sheet.compose(
        chunks,
        title=f"AdaState: {len(chunks)} chunks, {len(frames)} frames",
        subtitle="The hidden state is denoised along with every chunk and never shown.",
    ).save(picture)
    return video, picture


def _input(prompt: Mapping[str, Any], class_type: str, name: str) -> Any:
    """Return a constant input of the workflow's only node of a type."""
    found = [n["inputs"][name] for n in prompt.values() if n["class_type"] == class_type]
    if len(found) != 1 or isinstance(found[0], list):
        raise DemoError(f"The workflow should set {name} in exactly one {class_type} node.")
    return found[0]


def _keep_log(server: ComfyServer, output: Path) -> None:
    if server.log_path.is_file():
        log = output / f"{NAME}.log"
        shutil.copyfile(server.log_path, log)
        print(f"The server's log is in {_shown(log)}.", file=sys.stderr)


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo from the command line."""
    parser = argparse.ArgumentParser(prog="tools.demo", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--workflow", type=Path, default=environment.ROOT / "workflows" / "api" / DEMO_WORKFLOW
    )
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args(arguments)
    begin = time.monotonic()
    try:
        video, picture = run_demo(options.workflow, options.output)
    except (ServerError, PromptError, DemoError, OSError, ValueError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted", file=sys.stderr)
        return 130
    print(f"done in {time.monotonic() - begin:.0f} s")
    print(f"video    {_shown(video)}")
    print(f"picture  {_shown(picture)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
