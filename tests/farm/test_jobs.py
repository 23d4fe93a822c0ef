"""What a list of jobs may say, and the sentence for everything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from farm.errors import FarmError, JobError
from farm.jobs import Job, read_jobs

NAMED = "workflows/api/09 Continue a named stream.json"
RENDER = "workflows/api/02 Render a long video.json"


def written(folder: Path, *lines: object) -> Path:
    path = folder / "jobs.jsonl"
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
    return path


def jobs_of(folder: Path, *lines: object) -> list[Job]:
    return read_jobs(written(folder, *lines))


def refusal(folder: Path, *lines: object) -> str:
    with pytest.raises(JobError) as error:
        jobs_of(folder, *lines)
    return str(error.value)


@pytest.fixture
def named(repository: Path) -> str:
    return str(repository / NAMED)


def test_a_job_is_a_workflow_with_values(tmp_path: Path, named: str) -> None:
    line = {"name": "a", "workflow": named, "set": {"11.chunks": 4, "6.text": "a blue star"}}
    (job,) = jobs_of(tmp_path, "# a remark", "", {**line, "times": 7, "stream": "walk"})
    expected = json.loads(Path(named).read_text("utf-8"))
    expected["11"]["inputs"]["chunks"] = 4
    expected["6"]["inputs"]["text"] = "a blue star"
    expected["10"]["inputs"]["name"] = "walk"
    expected["14"]["inputs"]["filename_prefix"] = "adastate/named.a.00003"
    assert job.prompt(2) == expected
    assert (job.times, job.stream, job.chunks, job.chunk_nodes) == (7, "walk", 4, ("11",))


def test_jobs_share_a_workflow_and_do_not_change_it(tmp_path: Path, named: str) -> None:
    lines = [
        {"name": name, "workflow": named, "set": {"11.seed": seed}, "stream": name}
        for name, seed in (("a", 1), ("b", 2))
    ]
    first, second = jobs_of(tmp_path, *lines)
    assert first.workflow is second.workflow
    before = first.digest
    assert first.prompt(0)["11"]["inputs"]["seed"] == 1
    assert second.prompt(0)["11"]["inputs"]["seed"] == 2
    assert before != second.digest
    assert jobs_of(tmp_path, *lines)[0].digest == before
    # How often is no part of what it is: a longer one goes on.
    assert jobs_of(tmp_path, {**lines[0], "times": 9})[0].digest == before


def test_every_prompt_saves_under_a_name_of_its_own(tmp_path: Path, repository: Path) -> None:
    workflow = str(repository / RENDER)
    jobs = jobs_of(
        tmp_path,
        {"name": "a", "workflow": workflow, "times": 2},
        {"name": "b", "workflow": workflow},
    )
    prompts = [jobs[0].prompt(0), jobs[0].prompt(1), jobs[1].prompt(0)]
    prefixes = [p[node]["inputs"]["filename_prefix"] for p in prompts for node in ("10", "11")]
    assert len(set(prefixes)) == 3  # two nodes of one prompt may well share theirs
    assert all(prefix.startswith("adastate/long.") for prefix in prefixes)


def test_a_workflow_may_stand_in_the_line_and_names_its_stream(tmp_path: Path, named: str) -> None:
    workflow = json.loads(Path(named).read_text("utf-8"))
    (job,) = jobs_of(tmp_path, {"workflow": workflow})
    assert (job.name, job.stream, job.times) == ("job-1", "my stream", 1)


def test_a_path_is_relative_to_the_list(tmp_path: Path, named: str) -> None:
    (tmp_path / "w.json").write_text(Path(named).read_text("utf-8"))
    assert jobs_of(tmp_path, {"workflow": "w.json"})[0].stream == "my stream"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{", "this is not JSON"),
        ("[]", "the job is not as it should be: found [], expected an object"),
        ({"wrkflow": "x"}, "a job has no wrkflow: found wrkflow, expected name, workflow"),
        ({}, "workflow is not as it should be: found null"),
        ({"workflow": "gone.json"}, "found gone.json (No such file or directory)"),
        ({"workflow": {"1": {}}}, "this is no workflow in API format"),
        ({"workflow": {"nodes": []}}, "found one that the editor saved"),
        ({"workflow": NAMED, "times": 0}, "times is not as it should be: found 0"),
        ({"workflow": NAMED, "times": True}, "times is not as it should be: found true"),
        ({"workflow": NAMED, "set": {"11.chunk": 1}}, "the workflow has no input 11.chunk"),
        ({"workflow": NAMED, "set": {"11.chunk": 1}}, "expected 11.cfg, 11.seed, 11.chunks"),
        ({"workflow": NAMED, "set": {"chunks": 1}}, "the workflow has no input chunks"),
        ({"workflow": NAMED, "set": {"11.chunks": "1"}}, "11.chunks is of another kind: found a"),
        ({"workflow": NAMED, "set": {"11.model": 1}}, "11.model comes from another node"),
        ({"workflow": NAMED, "set": []}, "set is not as it should be"),
        ({"workflow": NAMED, "stream": "../up"}, "stream cannot be a name: found"),
        ({"workflow": NAMED, "name": "a/b"}, "name cannot be a name"),
        ({"workflow": RENDER, "stream": "s"}, "found 0 Open Stream and 0 Commit Stream"),
        (
            {"workflow": NAMED, "set": {"14.filename_prefix": "../../etc/x"}},
            "14.filename_prefix names a place outside the output folder: found '../../etc/x",
        ),
        ({"workflow": NAMED, "set": {"14.filename_prefix": "/etc/x"}}, "found '/etc/x"),
        ({"workflow": NAMED, "set": {"6.text": "see ..\\..\\x"}}, "6.text names a place outside"),
    ],
)
def test_a_wrong_line_is_one_sentence(
    tmp_path: Path, repository: Path, line: Any, expected: str
) -> None:
    if isinstance(line, dict) and line.get("workflow") in (NAMED, RENDER):
        line = {**line, "workflow": str(repository / line["workflow"])}
    said = refusal(tmp_path, {"workflow": str(repository / RENDER)}, line)
    assert said.startswith("jobs.jsonl, line 2: ")
    assert expected in said
    assert said.endswith(".")
    assert "\n" not in said


def test_all_wrong_lines_are_said_at_once(tmp_path: Path, named: str) -> None:
    said = refusal(tmp_path, "{", {"workflow": named}, {"workflow": 3}).splitlines()
    assert [line.partition(":")[0] for line in said] == [f"jobs.jsonl, line {n}" for n in (1, 3)]


def test_two_jobs_of_one_name_are_refused(tmp_path: Path, named: str) -> None:
    lines = [{"name": name, "workflow": named} for name in ("a", "A")]
    assert "line 2: two jobs have one name: found A, also in line 1" in refusal(tmp_path, *lines)


def test_a_loop_that_commits_is_refused(tmp_path: Path, named: str) -> None:
    workflow = json.loads(Path(named).read_text("utf-8"))
    workflow["20"] = {"class_type": "StartLoop", "inputs": {}}
    assert "in a loop" in refusal(tmp_path, {"workflow": workflow})


def test_what_a_workflow_file_holds_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("password")
    said = refusal(tmp_path, {"workflow": "secret"})
    assert "secret (no JSON)" in said
    assert "password" not in said


def test_an_empty_or_missing_list_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FarmError, match="is empty"):
        jobs_of(tmp_path, "# nothing")
    with pytest.raises(FarmError, match="cannot be read"):
        read_jobs(tmp_path / "gone.jsonl")
