"""Starting, watching and stopping a server process; a small stand-in plays ComfyUI."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tools.server import ComfyServer, ServerError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="asks for POSIX signals")

STAND_IN = """
import http.server, json, os, sys
def option(name):
    return sys.argv[sys.argv.index(name) + 1]
mode = open(os.path.join(os.path.dirname(__file__), "mode")).read()
print("arguments", json.dumps(sys.argv[1:]), flush=True)
if mode == "dies":
    print("no module named missing", flush=True)
    sys.exit(3)
if mode == "taken once":
    open(os.path.join(os.path.dirname(__file__), "mode"), "w").write("works")
    print("OSError: [Errno 98] address already in use", flush=True)
    sys.exit(1)
if mode == "stubborn":
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
mark = " (IMPORT FAILED)" if mode == "broken pack" else ""
if mode == "broken pack":
    print("Traceback (most recent call last):\\nImportError: no such thing", flush=True)
if mode != "no pack":
    pack = os.path.join(option("--base-directory"), "custom_nodes", "adastate")
    print(f"   0.0 seconds{mark}: {pack}", flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"system": {}}')
    def log_message(self, *args):
        pass
if mode != "silent":
    http.server.HTTPServer(("127.0.0.1", int(option("--port"))), Handler).serve_forever()
import time
time.sleep(60)
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "main.py").write_text(STAND_IN)
    (folder / "mode").write_text("works")
    return folder


def make(tree: Path, mode: str = "works", **options: object) -> ComfyServer:
    (tree / "mode").write_text(mode)
    pack = tree.parent / "pack"
    pack.mkdir(exist_ok=True)
    (pack / "__init__.py").touch()
    python = Path(sys.executable)
    return ComfyServer(tree, python, tree.parent / "base", pack, **options)  # type: ignore[arg-type]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_serves_inside_the_block_and_is_gone_after_it(tree: Path) -> None:
    with make(tree, args=("--cache-none",)) as server:
        pid = server.pid
        assert pid is not None
        assert is_running(pid)
        assert urllib.request.urlopen(server.url).status == 200
        assert (server.base_dir / "custom_nodes" / "adastate" / "__init__.py").is_file()
        assert server.output_dir.is_dir()
        assert '"--cache-none"' in server.log_tail()
        assert '"--cpu"' in server.log_tail()
    assert not is_running(pid)
    assert not server.is_alive()


def test_is_stopped_when_the_block_raises(tree: Path) -> None:
    server = make(tree)
    pids = []

    def use() -> None:
        with server:
            pids.append(server.pid)
            raise KeyError

    with pytest.raises(KeyError):
        use()
    assert pids[0] is not None
    assert not is_running(pids[0])


def test_is_killed_when_it_ignores_the_polite_way(tree: Path) -> None:
    with make(tree, "stubborn") as server:
        pid = server.pid
        server.stop(patience=0.3)
    assert pid is not None
    assert not is_running(pid)


def test_is_stopped_when_the_caller_is_terminated(tree: Path, repository: Path) -> None:
    make(tree)
    code = (
        "import sys, time; from pathlib import Path; from tools.server import ComfyServer\n"
        f"root = Path({str(tree.parent)!r})\n"
        "python, folders = Path(sys.executable), (root / 'base', root / 'pack')\n"
        "with ComfyServer(root / 'tree', python, *folders) as s:\n"
        "    print(s.pid, flush=True); time.sleep(60)\n"
    )
    caller = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(repository)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert caller.stdout is not None
    pid = int(caller.stdout.readline())
    assert is_running(pid)
    caller.send_signal(signal.SIGTERM)
    assert caller.wait(20) == 128 + signal.SIGTERM
    caller.stdout.close()
    assert not is_running(pid)


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("dies", "ended at start-up with code 3(.|\n)*no module named missing"),
        ("broken pack", "could not import the pack adastate(.|\n)*no such thing"),
        ("no pack", "did not load the pack adastate"),
    ],
)
def test_failure_at_start_up_says_why(tree: Path, mode: str, message: str) -> None:
    server = make(tree, mode)
    with pytest.raises(ServerError, match=message), server:
        pass
    assert not server.is_alive()


def test_silence_ends_at_the_timeout(tree: Path) -> None:
    begin = time.monotonic()
    with pytest.raises(ServerError, match="did not answer within 1 s"):
        make(tree, "silent", ready_timeout=1.0).__enter__()
    assert time.monotonic() - begin < 10


def test_a_port_taken_in_the_meantime_is_tried_again(tree: Path) -> None:
    with make(tree, "taken once") as server:
        assert server.is_alive()


def test_callers_import_path_does_not_reach_the_server(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "main.py").write_text("import os\nprint('path', os.environ.get('PYTHONPATH'))\n")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    with pytest.raises(ServerError, match="path None"):
        make(tree).__enter__()
