"""Set up what the browser tier needs besides the others, and run it: `make test-browser`.

Three things: Playwright, the newest page of ComfyUI beside the pinned one, and a Chromium, which is
taken from `CHROMIUM_PATH` or the system, or installed from the distribution where that is allowed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from tools import environment, run_tests
from tools.environment import SetupError

NEWEST_PAGE = "1.58.1"
_PAGE_PACKAGE = f"comfyui-frontend-package=={NEWEST_PAGE}"
_PAGE_SHA256 = "37912597537a731a8f421179618a736c24184c5bdbfa327f38b2fb7c291852d9"
_PAGE_FOLDER = "comfyui_frontend_package/static/"

AGAIN = ("--reruns", "1", "-rfER")
"""A busy processor draws a page late at times: what fails is tried again, and named in the end."""

_COMMANDS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
SKIPPED = (
    "browser tests skipped: no Chromium here. Install one (on Debian and Ubuntu: apt-get install "
    "chromium) or name one in CHROMIUM_PATH, then run make test-browser again."
)


def find_chromium() -> Path | None:
    """Return a Chromium that starts: the one in `CHROMIUM_PATH`, else the system's, else None.

    Raises:
        SetupError: If `CHROMIUM_PATH` names one that does not start.
    """
    given = os.environ.get("CHROMIUM_PATH")
    if given:
        if _starts(given):
            return Path(given)
        raise SetupError(f"CHROMIUM_PATH names {given}, which does not start.")
    found = [path for name in _COMMANDS if (path := shutil.which(name))]
    return next((Path(path) for path in (*found, str(_MAC)) if _starts(path)), None)


def install_chromium() -> Path | None:
    """Install Chromium from the distribution, if this user may; else return None."""
    if not shutil.which("apt-get"):
        return None
    as_root: list[str] = []
    if os.geteuid() != 0:
        as_root = ["sudo", "-n"]
        if not shutil.which("sudo") or not _runs([*as_root, "true"]):
            return None
    print("setup: installing Chromium from the distribution", flush=True)
    # Nobody is there to answer, and a fresh machine may not have looked for packages yet.
    apt = [*as_root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    install = [*apt, "install", "--yes", "--no-install-recommends", "chromium", "fonts-dejavu-core"]
    if not _runs(install):
        _runs([*apt, "update"])
        _runs(install)
    # On Ubuntu the package is a stub that needs a service which containers do not have.
    return find_chromium()


def page_folder() -> Path:
    """Return where the newest page is, or is to be, for the server's `--front-end-root`."""
    return environment.CACHE / "frontend" / NEWEST_PAGE


def fetch_page() -> Path:
    """Download and unpack the newest page, unless it is there.

    Raises:
        SetupError: If it cannot be had, or is not the expected one.
    """
    target = page_folder()
    if (target / "index.html").is_file():
        return target
    print(f"setup: downloading ComfyUI's page {NEWEST_PAGE}", flush=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Same file system as the target, so that the final rename is atomic.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="unpack-") as scratch:
        wheel = environment.download(_PAGE_PACKAGE, _PAGE_SHA256, Path(scratch))
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.startswith(_PAGE_FOLDER)]
            archive.extractall(scratch, names)
        shutil.rmtree(target, ignore_errors=True)
        (Path(scratch) / _PAGE_FOLDER).rename(target)
    return target


def main(arguments: Sequence[str] | None = None) -> int:
    """Set up and run the tier; without a Chromium say so in one line and succeed."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        chromium = find_chromium() or install_chromium()
        if chromium is None:
            print(SKIPPED, flush=True)
            return 0
        environment.install("browser")
        fetch_page()
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    os.environ["CHROMIUM_PATH"] = str(chromium)
    for_pytest = given[given.index("--") + 1 :] if "--" in given else given
    return run_tests.main(["browser", "--", *AGAIN, *for_pytest])


def _starts(path: str) -> bool:
    return _runs([path, "--version"])


def _runs(command: Sequence[str]) -> bool:
    """Run a command quietly; a failure to start counts as one."""
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=600)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


if __name__ == "__main__":
    raise SystemExit(main())
