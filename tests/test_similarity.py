"Which requests are near each other."
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from javis.similarity import (
    Near, group, has_hangul, installed_embedder, letter_pairs, meaning_pairs, near_pairs, normalise)


def jaccard(a, b, size):
    padded = [f" {normalise(text)} " for text in (a, b)]
    pieces = [{text[i:i + size] for i in range(len(text) + 1 - size)} for text in padded]
    return len(pieces[0] & pieces[1]) / len(pieces[0] | pieces[1])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text("ab c'\"%가나", min_size=1, max_size=12), min_size=2, max_size=5))
def test_the_join_agrees_with_the_definition(texts):
    found = {(n.left, n.right): n.score for n in letter_pairs(texts, texts, floor=0.01)}
    for i, a in enumerate(texts):
        for j, b in enumerate(texts):
            if normalise(a) and normalise(b):
                assert found.get((i, j), 0) == pytest.approx(jaccard(a, b, 3))


def test_case_blanks_and_composition_make_no_difference():
    assert letter_pairs(["Cafe\u0301  MENU"], ["café menu"])[0].score == 1
    assert near_pairs(["디스크 용량"], ["디스크 용량"])[0] == Near(0, 0, "bigrams", 1.0)


def test_nothing_compared_with_anything_is_nothing():
    assert near_pairs([]) == near_pairs([], ["a"]) == near_pairs(["a"], []) == []
    assert near_pairs(["", "?", "!"]) == []
    assert letter_pairs([""], [""]) == []


def test_korean_is_never_embedded():
    seen = []

    def embed(texts):
        seen.extend(texts)
        return [[1.0, 0.0]] * len(texts)
    found = near_pairs(["app.py 보여줘", "show app.py", "list src"], embed=embed)
    assert not any(map(has_hangul, seen))
    assert {(n.left, n.right) for n in found if n.measure == "meaning"} == {(1, 2)}


def test_places_are_those_of_the_lists_given():
    left = ["가나다라", "how full is my drive", "안녕"]
    right = ["안녕", "x", "how full is my disk"]
    assert {(n.left, n.right, n.measure) for n in near_pairs(left, right)} == {
        (1, 2, "trigrams"), (2, 0, "bigrams")}


def test_vectors_of_any_length_and_of_none():
    vectors = {"a": [2, 0], "b": [5, 0.1], "c": [0, 0]}
    found = meaning_pairs(["a", "c"], ["b", "c"], lambda texts: [vectors[t] for t in texts])
    assert [(n.left, n.right) for n in found] == [(0, 0)]
    assert found[0].score <= 1


def test_groups_are_joined_through_others():
    pairs = [Near(3, 4, "m", 1), Near(0, 5, "m", 1), Near(1, 4, "m", 1)]
    assert group(6, pairs) == [0, 1, 2, 1, 1, 0]


def test_six_hundred_requests_take_no_time():
    words = "open run list show find disk file test build log port page".split()
    texts = [f"{words[i % 12]} the {words[i // 12 % 12]} {i} please" for i in range(600)]
    assert near_pairs(texts)


def test_the_embedder_is_looked_for_without_importing_it():
    code = ("import sys; from javis.similarity import installed_embedder; installed_embedder(); "
            "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'duckdb')))")
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(installed_embedder() is None, reason="all-MiniLM-L6-v2 is not installed")
def test_meaning_is_found_where_letters_differ(capfd):
    embed = installed_embedder()
    found = near_pairs(["jobs aren't being picked up, did celery die again", "17% of 2400"],
                       ["did my celery worker die again?"], embed=embed)
    assert [(n.left, n.measure) for n in found] == [(0, "meaning")]
    assert installed_embedder() is embed
    assert "Loading" not in "".join(capfd.readouterr())
