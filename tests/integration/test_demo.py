"""`make demo`: the shipped workflow on the shipped models, through a server of its own."""

from __future__ import annotations

import json
from pathlib import Path

import av
import pytest
from PIL import Image

from tools import demo, environment
from tools.server import ComfyServer

CHUNKS = 4


@pytest.mark.slow
def test_the_demo_leaves_a_video_and_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A third of its chunks: the others take a minute and go the same way.
    shipped = environment.ROOT / "workflows" / "api" / demo.DEMO_WORKFLOW
    prompt = json.loads(shipped.read_text(encoding="utf-8"))
    (stream,) = (n for n in prompt.values() if n["class_type"] == "AdaStateStream")
    assert stream["inputs"]["chunks"] == 12
    stream["inputs"]["chunks"] = CHUNKS
    workflow = tmp_path / "shorter.json"
    workflow.write_text(json.dumps(prompt), encoding="utf-8")
    assert demo.main(["--workflow", str(workflow), "--output", str(tmp_path)]) == 0
    video, picture = tmp_path / "adastate-demo.mp4", tmp_path / "adastate-demo.png"
    printed = capsys.readouterr().out
    assert str(video) in printed
    assert str(picture) in printed
    with av.open(str(video)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 12 * CHUNKS - 3
    assert frames[0].shape == (128, 128, 3)
    moved = abs(frames[-1].astype(float) - frames[0].astype(float)).mean()
    assert moved > 3.0  # a still would pass every other line
    with Image.open(picture) as sheet:
        assert sheet.width > CHUNKS * 100


class Running:
    """A server that runs already, in place of one that the demo starts and stops itself."""

    def __init__(self, server: ComfyServer) -> None:
        self.url, self.log_path = server.url, server.log_path
        self.stopped = False

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *failure: object) -> None:
        self.stopped = True


def test_a_broken_workflow_is_one_sentence_and_leaves_no_server(
    server: ComfyServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = Running(server)
    monkeypatch.setattr(demo, "ComfyServer", lambda *_: running)
    workflow = (environment.ROOT / "workflows" / demo.DEMO_WORKFLOW).read_text(encoding="utf-8")
    broken = tmp_path / "broken.json"
    broken.write_text(workflow.replace('"AdaStateApply"', '"AdaStateGone"'), encoding="utf-8")
    assert demo.main(["--workflow", str(broken), "--output", str(tmp_path / "out")]) == 1
    assert "AdaStateGone" in capsys.readouterr().err
    assert running.stopped
