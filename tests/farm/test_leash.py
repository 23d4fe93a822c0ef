"""A server ends with its worker, also when that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil

from farm.server import LEASH

PARENT = f"""
import os, subprocess, sys, time
command = [sys.executable, "-I", {str(LEASH)!r}, str(os.getpid())]
child = subprocess.Popen([*command, sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


def test_a_command_ends_with_its_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    deadline = time.monotonic() + 20
    while "sleep(60)" not in child.cmdline()[-1] or len(child.cmdline()) > 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    gone, _ = psutil.wait_procs([child], timeout=20)
    assert gone or child.status() == psutil.STATUS_ZOMBIE


def test_a_command_whose_parent_has_ended_does_not_begin() -> None:
    command = [sys.executable, "-I", str(LEASH), "1", sys.executable, "-c", "print('begun')"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
