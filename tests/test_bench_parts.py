"The benchmarks run, do what they say, and give numbers; how long anything takes is not judged here."
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from javis import bench, bench_assistant, bench_guards, bench_peers, bench_search
from javis.bench_figures import Figure, Others, in_turn, p95
from javis.config import load_settings
from javis.store import Store


def all_finite(figures):
    assert figures
    for figure in figures:
        assert figure.values and all(map(math.isfinite, figure.values)), figure
        assert figure.peer_values is None or len(figure.peer_values) == len(figure.values), figure
        assert len(figure.row()) == 7
    return {figure.name: figure for figure in figures}


@pytest.fixture
def sessions(monkeypatch):
    "The sessions that a benchmark opens."
    from javis import session
    opened, real = [], session.open_session

    def remember(*arguments, **options):
        opened.append(real(*arguments, **options))
        return opened[-1]
    monkeypatch.setattr(session, "open_session", remember)
    return opened


def test_starts():
    found = all_finite(bench_assistant.bench_start({}, rounds=1))
    assert set(found) == {"javis --version", "javis --help", "import javis"}
    assert {figure.peer for figure in found.values()} == {"python -c pass"}


def test_starts_of_peers(tmp_path):
    for name in ("llm", "python"):
        (tmp_path / name).write_text(f"#!{sys.executable}\n")
        (tmp_path / name).chmod(0o755)
    figures = bench_assistant.bench_start({"llm": tmp_path}, rounds=1)
    assert {"llm --version", "llm --help", "import llm"} < {figure.peer for figure in figures}
    all_finite(figures)


def test_turns():
    found = all_finite(bench_assistant.bench_turn({}, rounds=1, memories=3, messages=4))
    assert len(found) == 4 and all(min(figure.values) > 0 for figure in found.values())


def test_a_turn_goes_on_from_what_was_there(sessions):
    with bench_assistant.turns(["Yes."] * 2, memories=5, messages=6) as turn:
        turn(), turn()
        [session] = sessions
        assert [one.role for one in session.messages()] == ["system", *["user", "assistant"] * 4]
        assert session.messages()[-1].content.strip() == "Yes."
        assert len(session.memories.all()) == 5


@pytest.mark.parametrize("undo", [True, False])
def test_a_turn_that_writes_is_kept_or_not(sessions, undo):
    with bench_assistant.turns(bench_assistant._writing(2), undo=undo) as turn:
        turn(), turn()
        [session] = sessions
        assert (session.policy.root / "0.txt").read_text() == "Number 1\n"
        assert len(session.checkpoints.history()) == (2 if undo else 0)


def test_every_round_of_the_loop_reads_a_file(sessions):
    with bench_assistant.turns(bench_assistant._reading(30), large=True, max_rounds=100) as turn:
        turn()
        results = [one for one in sessions[0].messages() if one.role == "tool"]
    assert [one.meta["arguments"]["path"] for one in results] == [f"{number}.txt" for number in range(30)]
    assert all(one.meta["status"] == "ok" and "A line of a file." in one.content for one in results)


def test_calls():
    found = all_finite(bench_assistant.bench_calls({}, rounds=1, calls=3))
    together = found["8 reads of 20 ms in one answer"]
    assert together.peer_values[0] >= 160 and together.values[0] >= 40


def test_search():
    found = all_finite(bench_search.bench_search(80, each=2, size=200))
    assert len(found) == 8 and all("80 messages" in name for name in found)


def test_what_is_searched_for_is_there(tmp_path):
    path = tmp_path / "javis.db"
    Store(path).close()
    words = {language: bench_search.words_of(language, 60) for language in ("English", "Korean")}
    bench_search.fill(path, 400, words)
    with Store(path) as store:
        for language, known in words.items():
            for kind, texts in bench_search.questions(known, language, 3).items():
                for text in texts:
                    found = [one.content for one in store.search(text)]
                    assert bool(found) == (kind != "words that are nowhere"), (kind, text)
                    assert all(word in content for content in found for word in text.split())


def test_guards(monkeypatch):
    monkeypatch.setattr(bench_guards.bench_snapshots, "__defaults__", (1, (40,)))
    found = all_finite(bench_guards.bench_guards(load_settings(), rounds=1))
    assert {"40 files kept before a call", "router: a request", "masks, 20 secrets"} < set(found)


def test_both_keep_what_has_changed():
    with bench_guards._looks(40) as (ours, git, spent):
        for _ in range(3):
            assert ours() > 0 and git() > 0
    assert [len(values) for values in spent] == [3, 3, 3, 3]


def test_a_peer_that_cannot_be_installed_is_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(bench_peers, "PEERS", {"other": "no-such-program-of-javis==1"})
    assert bench_peers.find_peers(tmp_path) == {}
    assert "no peer: no-such-program-of-javis==1 cannot be installed" in capsys.readouterr().err
    assert not (tmp_path / "other/ready.txt").exists()


def test_a_peer_is_installed_once(tmp_path, monkeypatch):
    (tmp_path / "ready.txt").write_text("llm==1")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it is there already"))
    assert bench_peers.install(tmp_path, "llm==1").parent == tmp_path


def test_a_peer_does_not_see_the_home_of_who_runs_it(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    home = "import os\nprint(len(os.environ['HOME']) * ('OPENAI_API_KEY' not in os.environ), flush=True)\ninput()"
    with bench_peers.Worker(Path(sys.executable), home) as worker:
        assert worker.ask("") == len(worker._home.name)


def test_a_peer_that_ends_is_told():
    with bench_peers.Worker(Path(sys.executable), "pass") as worker, pytest.raises(bench_peers.NoPeer, match="ended"):
        worker.ask("0")


def test_figures():
    order = []
    first, second = in_turn(2, lambda: order.append("a") or 1, lambda: order.append("b") or 2)
    assert order == ["a", "b"] * 3 and (first, second) == ([1, 1], [2, 2])
    assert p95([1.0]) == 1 and p95(list(range(200))) == 189
    assert Figure("x", "ms", [2, 6], "y", [1, 2]).ratio == 2.5


def test_what_others_use_is_seen():
    with Others() as others:
        subprocess.run([sys.executable, "-c", "sum(range(10**6))"], check=True)
    assert 0 <= others.share <= 1


def test_main(monkeypatch, capsys):
    def broken():
        raise bench_peers.NoPeer("it ended")
    parts = {"one": lambda: [Figure("start", "ms", [2.0], "other", [1.0])], "two": broken}
    monkeypatch.setattr(bench, "_parts", lambda settings: parts)
    assert bench.main(["one", "--json"]) == 0
    [figure] = json.loads(capsys.readouterr().out)
    assert (figure["name"], figure["peer_values"]) == ("start", [1.0]) and 0 <= figure["others"] <= 1
    assert bench.main([]) == 1
    out, err = capsys.readouterr()
    assert "| start (ms) | 2 |" in out and "two could not be measured: it ended" in err
    with pytest.raises(SystemExit):
        bench.main(["three"])
