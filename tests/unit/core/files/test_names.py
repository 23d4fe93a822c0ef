"""Names of streams and their folders."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from adastate_core.errors import ConfigError, StateFileError
from adastate_core.files.names import MAX_LENGTH, check_name, damaged, stream_folder


@pytest.mark.parametrize(
    "name", ["walk", "My stream 2", "a.b", "a-b_c", "x" * MAX_LENGTH, "\u6c34", "CONSOLE", "COM"]
)
def test_names_that_are_kept(name: str) -> None:
    assert check_name(name) == name


def test_a_name_has_one_spelling() -> None:
    assert check_name("e\u0301") == check_name("\u00e9") == "\u00e9"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, "text typed"),
        (3, "text typed"),
        ("", "a name"),
        ("x" * (MAX_LENGTH + 1), "at most"),
        ("\u6c34" * 90, "fewer of long scripts"),
        ("a/b", "without separators"),
        ("a\\b", "without separators"),
        ("a\nb", "letters, digits"),
        ("a:b", "letters, digits"),
        ("a*", "letters, digits"),
        ("\u202ea", "letters, digits"),
        (".hidden", "no dot or space"),
        ("end.", "no dot or space"),
        (" a", "no dot or space"),
        ("a ", "no dot or space"),
        ("a..b", "no two dots"),
        ("CON", "Windows device"),
        ("con.txt", "Windows device"),
        ("lpt9", "Windows device"),
        ("COM\u00b9", "Windows device"),
        ("nul .x", "Windows device"),
    ],
)
def test_names_that_are_no_folder_everywhere(name: object, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_name(name)
    assert expected in error.value.expected
    assert "\n" not in str(error.value)


def test_a_stream_is_one_folder_below_the_root(tmp_path: Path) -> None:
    assert stream_folder(tmp_path, "walk") == tmp_path / "walk"
    assert not (tmp_path / "walk").exists()
    (tmp_path / "walk").mkdir()
    assert stream_folder(tmp_path, "walk") == tmp_path / "walk"
    with pytest.raises(ConfigError):
        stream_folder(tmp_path, "../walk")


def test_a_root_that_is_a_link_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "real" / "walk").mkdir(parents=True)
    (tmp_path / "root").symlink_to(tmp_path / "real", target_is_directory=True)
    assert stream_folder(tmp_path / "root", "walk").samefile(tmp_path / "real" / "walk")


def test_files_and_links_in_place_of_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "out").symlink_to(tmp_path.parent, target_is_directory=True)
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    for name in ("file", "out", "broken"):
        with pytest.raises(StateFileError, match=f'The stream "{name}" is damaged: a '):
            stream_folder(tmp_path, name)


def test_a_stream_that_is_renamed_meanwhile_is_not_damaged(tmp_path: Path) -> None:
    (tmp_path / "walk").mkdir()
    stop = threading.Event()

    def rename_to_and_fro() -> None:
        while not stop.is_set():
            (tmp_path / "walk").rename(tmp_path / "tale")
            (tmp_path / "tale").rename(tmp_path / "walk")

    renaming = threading.Thread(target=rename_to_and_fro)
    renaming.start()
    try:
        for _ in range(3000):
            assert stream_folder(tmp_path, "walk").name == "walk"
    finally:
        stop.set()
        renaming.join()


def test_the_error_of_a_damaged_folder_says_what_can_be_done() -> None:
    error = damaged("walk", "half a file")
    assert (error.what, error.seen) == ("stream 'walk'", "half a file")
    assert "Restore its folder" in str(error)
