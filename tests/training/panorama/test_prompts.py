"""The grammar of the panorama reads back, and its unseen part is fair."""

import pytest

from training.panorama import prompts


def test_every_prompt_reads_back() -> None:
    every = prompts.all_prompts()
    assert len({prompt.text for prompt in every}) == len(every) == 6 * 4 * 4 * 2 * 6 * 8 * 3
    assert all(prompts.parse_prompt(prompt.text) == prompt for prompt in every)


def test_the_text_is_plain_english() -> None:
    prompt = prompts.Prompt(
        "red", "balloon", "circling left", "right", "steady", "coast", "forest", "as night falls"
    )
    assert prompt.text == (
        "a red balloon circling left, travelling right at a steady pace "
        "from the coast to the forest, as night falls"
    )
    assert (prompt.hops, prompt.distance) == (2, 960)


def test_the_ring_closes_both_ways() -> None:
    words = ("green", "kite", "bobbing")
    right = prompts.Prompt(*words, "right", "slow", "mountains", "coast", "by day")
    left = prompts.Prompt(*words, "left", "slow", "coast", "mountains", "by day")
    assert right.hops == left.hops == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a orange kite bobbing, travelling left at a slow pace from the hills to the coast, by day",
        "a red kite bobbing, travelling left at a slow pace from the coast to the hills, by day",
        "a red kite bobbing, travelling left at a slow pace from the coast to the coast, by day",
        "a red kite bobbing, travelling left at a slow pace from the hills to the coast, by day ",
    ],
)
def test_text_outside_the_grammar_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"grammar|regions"):
        prompts.parse_prompt(text)


def test_unseen_prompts_are_a_fair_share_of_every_word() -> None:
    unseen, seen = prompts.split(True), prompts.split(False)
    assert not set(unseen) & set(seen)
    assert 0.05 < len(unseen) / (len(unseen) + len(seen)) < 0.07
    for name, words in (
        ("colour", prompts.COLOURS),
        ("subject", prompts.SUBJECTS),
        ("action", prompts.ACTIONS),
        ("heading", prompts.HEADINGS),
        ("pace", prompts.PACES),
        ("origin", prompts.REGIONS),
        ("destination", prompts.REGIONS),
        ("light", prompts.LIGHTS),
    ):
        for word in words:
            held = sum(getattr(prompt, name) == word for prompt in unseen)
            kept = sum(getattr(prompt, name) == word for prompt in seen)
            assert 0.04 < held / (held + kept) < 0.08, (name, word)
