"The demo in parts that take no minutes: what it leaves to others, and what a stop in the middle leaves behind."
import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from javis import demo, feedback
from javis.basics import JavisError
from javis.config import load_settings
from javis.curation import Curation
from javis.demo import (
    DemoError, Lesson, Walk, accept_lessons, correct_all, evaluate, import_others, run_demo)
from javis.feedback import correct, rate, verdicts
from javis.store import Store

LESSONS = [Lesson(f"s{i}", f"show me file{i}.py", "read_file", {"path": f"file{i}.py"})
           for i in range(6)]


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "javis.db") as store:
        yield store


@pytest.fixture
def walk(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "_ASKED", 3)
    console = Console(file=io.StringIO())
    return Walk(load_settings(root=tmp_path, env={}), console, LESSONS, toolbox=None,
                facts={"model": "small", "system": "You are JAVIS."})


def ask(store, request, answer="nonsense"):
    thread = store.new_thread()
    asked = store.add_message(thread, "user", request)
    return store.add_message(thread, "assistant", answer, parent_id=asked)


def stop_at_call(monkeypatch, number, name):
    "Ctrl-C at the so-many-th call of a function of `javis.feedback`."
    real, calls = getattr(feedback, name), []

    def stopping(*arguments, **named):
        calls.append(1)
        if len(calls) == number:
            raise KeyboardInterrupt
        return real(*arguments, **named)
    monkeypatch.setattr(feedback, name, stopping)


def test_an_import_that_was_stopped_is_completed(walk, store, monkeypatch):
    stop_at_call(monkeypatch, 2, "correct")
    with pytest.raises(KeyboardInterrupt):
        import_others(walk, store)
    assert import_others(walk, store) == 2 and import_others(walk, store) == 0
    assert len(store.feedback(kinds=["correction"])) == 3


@pytest.mark.parametrize("name", ["correct", "rate"])
def test_corrections_that_were_stopped_are_completed(walk, store, monkeypatch, name):
    answers = {lesson.request: ask(store, lesson.request) for lesson in LESSONS[:3]}
    stop_at_call(monkeypatch, 2, name)
    with pytest.raises(KeyboardInterrupt):
        correct_all(walk, store, answers)
    for _ in range(2):
        assert correct_all(walk, store, answers) == {"no tool call": 3}
    found = verdicts(store)
    assert all(found[id].corrected and found[id].good is False for id in answers.values())
    assert len(store.feedback(kinds=["correction"])) == len(store.feedback(kinds=["thumb"])) == 3


def test_what_a_person_said_is_left_alone(walk, store):
    answers = {lesson.request: ask(store, lesson.request) for lesson in LESSONS[:3]}
    rate(store, answers[LESSONS[0].request], up=True)
    correct_all(walk, store, answers)
    assert [found.good for found in verdicts(store).values()] == [True, False, False]


def test_rows_of_its_owner_wait_for_a_decision(store, tmp_path):
    correct(store, ask(store, LESSONS[0].request), text=LESSONS[0].wanted)
    correct(store, ask(store, "what is my secret plan?"), text="World peace.")
    curation = Curation(tmp_path / "c.duckdb", embed=None)
    curation.collect(store)
    assert accept_lessons(curation, LESSONS) == 1
    assert [row.request for row in curation.candidates("candidate")] == ["what is my secret plan?"]


def test_again_measures_again(walk, tmp_path, monkeypatch):
    from javis import evaluation
    made = []
    monkeypatch.setattr(evaluation, "engine_asker", lambda *_: SimpleNamespace(about={}))
    monkeypatch.setattr(evaluation, "conditions", lambda *_: {"fingerprint": "same"})

    async def run_suite(*_, **__):
        made.append(evaluation.Evaluation({"suite": "tools"}, []))
        return made[-1]
    monkeypatch.setattr(evaluation, "run_suite", run_suite)
    for again, asked in [(False, 1), (False, 1), (True, 2)]:
        walk.again = again
        evaluate(walk, None, None, None)
        assert len(made) == asked


@pytest.mark.parametrize("number", [1, 2])
def test_ctrl_c_says_in_which_step(walk, number):
    with pytest.raises(KeyboardInterrupt, match=f"Stopped in step {number}; what is finished is kept"):
        for name in range(number):
            with walk.step(f"step {name}"):
                if name == number - 1:
                    raise KeyboardInterrupt


def test_a_tracker_that_fails_is_told_and_changes_nothing(walk, monkeypatch):
    def track(*_):
        raise JavisError("wandb is not installed.")
    monkeypatch.setattr("javis.training.tracking.track", track)
    demo._tracked(walk, None, "offline")
    assert "W&B was left out: wandb is not installed." in walk.console.file.getvalue()


def test_outside_of_the_repository_it_says_where_to_go(tmp_path):
    with pytest.raises(DemoError, match="run it in a copy of the JAVIS repository"):
        run_demo(load_settings(root=tmp_path, env={}), None)
