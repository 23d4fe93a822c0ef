"""The page of presets is drawn from the layout code, and must be as the code is."""

from __future__ import annotations

from docs.make_layouts import PAGE, page


def test_the_page_is_what_the_layout_code_draws() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m docs.make_layouts"


def test_drawings_show_what_the_methods_are_known_for() -> None:
    text = page()
    assert "chunk 1    AS   W0   W1   W2   C3   C4   C5" in text  # the state's place is its own
    assert "chunk 7    A0  W19  W20  C21  C22  C23" in text  # Infinity-RoPE: six frames in view
    assert "A~0" in text
