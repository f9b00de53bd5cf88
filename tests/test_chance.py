import random

import pytest
from scipy.stats import binomtest, multinomial

from javis.chance import (Pairs, Score, cluster_note, mcnemar, needed_cases, p_text, pair,
                          paired_interval, points, score, verdict, wilson)


@pytest.mark.parametrize("right, n", [(0, 1), (1, 1), (0, 20), (3, 20), (10, 20), (20, 20), (97, 117), (1, 3000)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
def test_wilson_agrees_with_scipy(right, n, confidence):
    ours = wilson(right, n, confidence)
    theirs = binomtest(right, n).proportion_ci(confidence, method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert 0 <= ours.low <= right / n <= ours.high <= 1


def test_mcnemar_agrees_with_scipy():
    for gained in range(0, 30, 3):
        for lost in range(0, 30, 3):
            theirs = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
            assert mcnemar(gained, lost) == pytest.approx(theirs, abs=1e-12)
    assert mcnemar(2600, 2400) == pytest.approx(binomtest(2600, 5000).pvalue, rel=1e-9)
    assert mcnemar(5000, 0) < 1e-300 or mcnemar(5000, 0) == 0


def test_paired_intervals_stay_in_range_and_hold_the_difference():
    for a in range(4):
        for b in range(4):
            for c in range(4):
                for d in range(4):
                    pairs = Pairs(a, b, c, d)
                    found = paired_interval(pairs)
                    assert -1 <= found.low <= pairs.difference <= found.high <= 1
                    mirrored = paired_interval(Pairs(a, c, b, d))
                    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))


def test_paired_interval_of_a_published_table():
    "Bentur et al. 2009, as worked by Fagerland, Lydersen and Laake: -0.507 to -0.026, sign turned."
    found = paired_interval(Pairs(both=1, lost=1, gained=7, neither=12))
    assert (found.low, found.high) == pytest.approx((0.026, 0.507), abs=0.0005)


@pytest.mark.parametrize("shares", [(0.5, 0.1, 0.2, 0.2), (0.05, 0.05, 0.6, 0.3), (0.8, 0.05, 0.05, 0.1)])
def test_paired_intervals_cover_the_truth_about_as_often_as_they_say(shares):
    truth, n, covered, total = shares[2] - shares[1], 25, 0.0, 0.0
    for a in range(n + 1):
        for b in range(n + 1 - a):
            for c in range(n + 1 - a - b):
                counts = (a, b, c, n - a - b - c)
                weight = multinomial.pmf(counts, n, shares)
                found = paired_interval(Pairs(*counts))
                covered += weight * (found.low <= truth <= found.high)
                total += weight
    assert total == pytest.approx(1) and 0.92 < covered < 0.995


def test_needed_cases_give_the_power_that_they_promise():
    random.seed(0)
    n, shown = needed_cases(0.2, 0.3), 0
    for _ in range(2000):
        draws = random.choices(("gained", "lost", "same"), (0.25, 0.05, 0.7), k=n)
        gained, lost = draws.count("gained"), draws.count("lost")
        shown += mcnemar(gained, lost) < 0.05 and gained > lost
    assert 0.7 < shown / 2000 < 0.9


def test_verdicts():
    assert verdict([False] * 20, [True] * 12 + [False] * 8).decision == "better"
    assert verdict([True] * 20, [True] * 8 + [False] * 12).decision == "worse"
    assert verdict([True] * 20, [True] * 20).decision == "too few cases"
    assert verdict([True] * 200, [True] * 200).decision == "no difference shown"
    few = verdict([], [])
    assert few.decision == "too few cases" and few.needed > 0 and "about" in str(few)
    with pytest.raises(ValueError, match="3 outcomes cannot be paired with 2"):
        pair([True] * 3, [True] * 2)


def test_scores_and_words():
    assert score([]) == Score(0, 0) and Score(0, 0).rate is None and str(Score(0, 0)) == "no cases"
    assert score([True, None, False]) == Score(1, 2)
    assert Score(0, 0).as_dict() == {"right": 0, "n": 0, "rate": None, "low": 0.0, "high": 1.0}
    assert [points(x) for x in (0.004, -0.004, 0.1, -0.25, 1)] == ["0", "0", "+10", "−25", "+100"]
    assert [p_text(p) for p in (1.0, 0.04, 0.0043, 1e-9)] == ["1.00", "0.04", "0.0043", "< 0.0001"]


def test_clusters():
    assert cluster_note([]) == cluster_note([None, None]) == cluster_note(["a", None, "b"]) == ""
    assert "belong to 2 groups (the largest has 3)" in cluster_note(["a", "a", "a", None])
