import io
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from rich.console import Console

from javis.chance import Score
from javis.comparison import Change, Row, compare, learning_curve, markdown_text
from javis.config import JavisError
from javis.evaluation import Evaluation, Result
from javis.gate import Gate
from javis.pictures import Markup, curve_picture, interval_picture, tag
from javis.report import headline, report_html, write_report

HOSTILE = ("</pre><script>alert(1)</script><img src=x onerror=alert(2)> ![p](http://evil/p.png) | a | `b` "
           "[red]markup[/red] \x1b[31mred\x1b[0m \u202eoverride \x00 <!-- --> &amp; ]]> {{x}} $x$")


def results(calls, words, n=20, m=10, answer="an answer"):
    rows = [Result(f"c{i}", "call", "ko" if i % 4 == 0 else "en", ["read_file", "run_shell"][i % 2],
                   f"request {i}", "read_file()", answer, i < calls, i < calls, i < calls,
                   True if i < calls else None, "" if i < calls else "no tool call") for i in range(n)]
    return rows + [Result(f"n{i}", "no_call", "en", None, f"thanks {i}", "an answer in words", answer, i < words)
                   for i in range(m)]


def evaluation(calls, words, name="m", **more):
    return Evaluation({"model": name, "fingerprint": "f"}, results(calls, words, **more))


BASE, CANDIDATE = evaluation(0, 10, "base"), evaluation(14, 9, "candidate")


def test_rows():
    found = compare(BASE, CANDIDATE)
    calls, words, form, tool, arguments = found.rows
    assert (calls.base, calls.candidate) == (Score(0, 20), Score(14, 20))
    assert (calls.pairs.gained, calls.pairs.lost, words.pairs.lost) == (14, 0, 1)
    assert arguments.pairs is None and arguments.texts[3:] == ["", ""] and arguments.n == "0, 14"
    assert len(calls.cells) == len(found.head) == 6 and found.head[2:4] == ["base", "candidate"]
    assert [row.label for row in found.by_tool] == ["read_file", "run_shell"]
    assert [row.label for row in found.by_lang] == [
        "en, right calls", "en, no call where none fits", "ko, right calls"]
    assert sum(row.base.n for row in found.by_tool) == 20
    assert found.verdict.decision == "better"


def test_disagreements_come_first_and_losses_before_gains():
    kinds = [change.kind for change in compare(BASE, CANDIDATE).changes]
    assert kinds == ["lost"] + ["gained"] * 14 + ["both wrong"] * 6 + ["both right"] * 9


def test_only_cases_that_both_answered_count():
    failed = Evaluation(BASE.about, [replace(result, right=None, error="down") if result.id in ("c0", "n0")
                                     else result for result in BASE.results])
    shorter = Evaluation(CANDIDATE.about, CANDIDATE.results[1:])
    found = compare(failed, shorter)
    assert found.rows[0].base.n == 19 and found.rows[1].base.n == 9
    assert any("2 requests to base failed" in note for note in found.notes)
    back = compare(shorter, failed)
    assert back.rows[0].base.n == 19 and back.rows[1].base.n == 9
    with pytest.raises(JavisError, match="nothing to compare"):
        compare(BASE, Evaluation({}, []))


def test_notes():
    found = compare(BASE, CANDIDATE)
    assert len(found.notes) == 1 and "hardly ever calls" in found.notes[0]
    assert compare(CANDIDATE, CANDIDATE).notes == []
    other = Evaluation({"fingerprint": "g"}, CANDIDATE.results)
    assert "not asked the same" in compare(CANDIDATE, other).notes[0]
    clustered = Evaluation(CANDIDATE.about, [replace(result, cluster="one") for result in CANDIDATE.results])
    assert "wider than those shown" in compare(CANDIDATE, clustered).notes[0]


def test_names():
    assert compare(BASE, BASE).names == ("base (before)", "base (after)")
    adapter = Evaluation(CANDIDATE.about | {"adapter": "javis-v0.1"}, CANDIDATE.results)
    assert compare(BASE, adapter).names == ("base", "javis-v0.1")
    assert compare(BASE, adapter, ("a", "b")).names == ("a", "b")
    assert compare(Evaluation({}, BASE.results), Evaluation({}, BASE.results)).names == ("base", "candidate")


def test_hostile_names_stay_in_their_cell_of_markdown():
    found = compare(BASE, CANDIDATE, (HOSTILE, "b")).markdown()
    lines = found.splitlines()
    unescaped = lines[0].replace("\\|", "")
    assert unescaped.count("|") == 7 and "<script" not in found and "\x1b" not in found
    assert "![" not in found.replace("\\!\\[", "") and "\u202e" not in found
    assert markdown_text("a\n# b\r\n|") == "a \\# b \\|"


def test_hostile_names_are_no_markup_in_a_terminal():
    screen = io.StringIO()
    Console(file=screen, width=400, force_terminal=True).print(compare(BASE, CANDIDATE, (HOSTILE, "b")).table(HOSTILE))
    shown = screen.getvalue()
    assert "[red]markup[/red]" in shown and "\x1b[31mred" not in shown and "\u202e" not in shown


def test_the_table_of_a_terminal_has_all_rows():
    table = compare(BASE, CANDIDATE).table("before and after")
    assert table.row_count == 5 and len(table.columns) == 6


def test_learning_curve_draws_intervals():
    pytest.importorskip("matplotlib")
    figure = learning_curve([(0, BASE.summary), (120, CANDIDATE.summary)], "rows")
    (axes,) = figure.axes
    assert axes.get_xlabel() == "rows" and len(axes.containers) == 2
    line = axes.containers[0][0]
    assert list(line.get_xdata()) == [0, 120] and list(line.get_ydata()) == pytest.approx([0, 70])


# Pictures and the page

class Page(HTMLParser):
    "What a browser would find in a page."

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, name, attributes):
        self.tags.append(name)
        self.attributes += [(name, *pair) for pair in attributes]

    def handle_data(self, data):
        self.words.append(data)

    def handle_comment(self, data):
        self.tags.append("comment")


def test_tags_escape_whatever_is_not_markup():
    assert tag("p", HOSTILE).count("<") == 2
    assert tag("p", 3, None, False, "<", Markup("<b></b>")) == "<p>3&lt;<b></b></p>"
    assert tag("a", title='" onclick="x', href=None) == '<a title="&quot; onclick=&quot;x"></a>'
    assert "\u202e" not in tag("p", HOSTILE) and "\x00" not in tag("p", HOSTILE)
    assert "<" not in tag("p", "\udc80<").removeprefix("<p>").removesuffix("</p>")


def test_pictures_are_well_formed_and_say_their_numbers():
    rows = [Row(HOSTILE, Score(0, 20), Score(20, 20)), Row("none", Score(0, 0), Score(1, 1))]
    picture = interval_picture(rows, [HOSTILE, "b" * 100], floors={"none": 0.8}, standalone=True)
    root = ElementTree.fromstring(picture)
    assert {element.tag.split("}")[1] for element in root.iter()} <= {
        "svg", "title", "desc", "style", "rect", "line", "circle", "text", "tspan"}
    assert "0 % (0–16), then 100 % (84–100)" in root[1].text
    circles = [element for element in root.iter() if element.tag.endswith("circle")]
    assert len(circles) == 2 + 3  # the legend, and no dot for none of none
    assert all(0 <= float(circle.get("cx")) <= 760 for circle in circles)


@pytest.mark.parametrize("points", [[(1, 2.0), (2, 1.0)], [(1, 0.0), (2, 0.0)], [(0, 5), (100, 0.001)],
                                    [(i, 1e6 / (i + 1)) for i in range(500)]])
def test_curves_stay_inside(points):
    root = ElementTree.fromstring(curve_picture(points, second=points[:2], standalone=True))
    for line in [element for element in root.iter() if element.tag.endswith("polyline")]:
        for pair in line.get("points").split():
            x, y = map(float, pair.split(","))
            assert 50 <= x <= 760 and 10 <= y <= 205


@pytest.fixture
def hostile_page():
    base = Evaluation({"model": HOSTILE, "fingerprint": "f"}, results(0, 10, answer=HOSTILE))
    rows = [replace(result, request=HOSTILE, expected=HOSTILE, why=HOSTILE, lang="<i>", tool=result.tool and HOSTILE)
            for result in results(14, 9, answer=HOSTILE * 100)]
    candidate = Evaluation({"adapter": HOSTILE, "sampling": {"<u>": HOSTILE}, "fingerprint": "f"}, rows)
    return report_html(compare(base, candidate), gate=Gate(False, [f"no: {HOSTILE}"], HOSTILE, HOSTILE),
                       metrics=[{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}, {"event": HOSTILE}],
                       provenance={HOSTILE: {HOSTILE: HOSTILE}})


def test_hostile_answers_are_text_on_the_page(hostile_page):
    page = Page(hostile_page)
    assert not {"script", "img", "iframe", "object", "link", "form", "a", "i", "u", "comment"} & set(page.tags)
    names = {name for _, name, _ in page.attributes}
    assert not [name for name in names if name.startswith("on")] and not {"src", "href"} & names
    assert any("<script>alert(1)</script>" in words for words in page.words)
    assert "\u202e" not in hostile_page and "\x1b" not in hostile_page
    assert page.tags.count("html") == page.tags.count("body") == page.tags.count("main") == 1


def test_the_page_loads_nothing_from_elsewhere(hostile_page):
    page = Page(hostile_page)
    policy = [value for name, key, value in page.attributes if (name, key) == ("meta", "content")]
    assert any(value.startswith("default-src 'none'") for value in policy)
    addresses = [(name, key) for name, key, value in page.attributes if value and "://" in value]
    assert set(addresses) <= {("svg", "xmlns")}
    style = hostile_page[hostile_page.index("<style>"):hostile_page.index("</style>")]
    assert "url(" not in style and "@import" not in style and "prefers-color-scheme: dark" in style


def test_all_parts_are_on_the_page(tmp_path):
    found = compare(BASE, CANDIDATE)
    gate = Gate(True, ["yes: it calls better", "yes: floor"], "base", "candidate")
    path = write_report(tmp_path / "report", found, gate=gate, provenance={"Dataset": {"version": "v0.7"}},
                        metrics=[{"step": i, "loss": 2 / i} for i in range(1, 9)])
    text = path.read_text(encoding="utf-8")
    words = " ".join(Page(text).words)
    for part in ("It may serve", "70 %", "By tool", "run_shell", "By language", "Wrong before, right now",
                 "Training", "v0.7", "request 3", "hardly ever calls", "How to read this"):
        assert part in words
    assert words.count("request 3") == 1 and len(text) < 100_000
    ElementTree.fromstring((tmp_path / "report/picture.svg").read_text(encoding="utf-8"))
    assert "Training" not in report_html(found) and "It may" not in report_html(found)


def test_headlines_say_what_may_be_chance():
    sentence = lambda base, candidate: headline(compare(base, candidate).verdict)
    assert "rose from 0 % to 70 % of 20" in sentence(BASE, CANDIDATE)
    assert "fell from 70 % to 0 %" in sentence(CANDIDATE, BASE)
    assert "too few to tell" in sentence(CANDIDATE, evaluation(15, 9))
    assert "no difference is shown" in sentence(evaluation(300, 0, n=400), evaluation(302, 0, n=400))
    assert headline(compare(evaluation(0, 3, n=0), evaluation(0, 3, n=0)).verdict)


def test_a_change_knows_its_kind():
    row = CANDIDATE.results[0]
    kinds = [Change(replace(row, right=a), replace(row, right=b)).kind for a in (True, False) for b in (True, False)]
    assert kinds == ["both right", "lost", "gained", "both wrong"]
