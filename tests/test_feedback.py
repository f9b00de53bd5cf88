"What may be said about an answer, and what it adds up to."
import threading

import pytest

from javis.feedback import (
    FeedbackError, Verdict, answer_text, canonical_answer, correct, prefer, rate, verdict, verdicts)
from javis.store import Store
from javis.tools.base import Toolbox, ToolSyntaxError, tool

CALL = '<tool_call>{"name": "read_file", "arguments": {"path": "a.py", "start": 1}}</tool_call>'


@tool()
def read_file(path: str, start: int | None = None, end: int | None = None) -> str:
    "Read a file."
    return path


TOOLBOX = Toolbox([read_file])


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "javis.db") as store:
        yield store


@pytest.fixture
def question(store):
    return store.add_message(store.new_thread(), "user", "show a.py from line 1")


@pytest.fixture
def answer(store, question):
    thread = store.message(question).thread_id
    return store.add_message(thread, "assistant", "Here you are.", parent_id=question)


def kinds(store, message_id):
    return [event.kind for event in store.feedback(message_id=message_id)]


def test_every_kind_of_rating_is_an_event(store, answer):
    ids = rate(store, answer, True, stars=4, reason=" wrong tool ", comment="hm", actor="ann")
    events = store.feedback(message_id=answer)
    assert [event.id for event in events] == ids
    assert [(e.kind, e.value, e.text, e.actor) for e in events] == [
        ("thumb", 1.0, None, "ann"), ("rating", 4.0, None, "ann"),
        ("reason", None, "wrong tool", "ann"), ("comment", None, "hm", "ann")]


@pytest.mark.parametrize("given", [
    {}, {"comment": "  "}, {"stars": 0}, {"stars": 6}, {"stars": 2.5}, {"stars": True}])
def test_what_cannot_be_rated_saves_nothing(store, answer, given):
    with pytest.raises(FeedbackError):
        rate(store, answer, **given)
    assert kinds(store, answer) == []


def test_only_finished_answers_take_feedback(store, question):
    thread = store.message(question).thread_id
    streaming = store.start_answer(thread, question, endpoint="local", model="m")
    with pytest.raises(FeedbackError, match="still being written"):
        rate(store, streaming, up=True)
    with pytest.raises(FeedbackError, match="from the user"):
        correct(store, question, text="no")
    with pytest.raises(Exception, match="nowhere"):
        rate(store, "nowhere", up=True)


@pytest.mark.parametrize("given, message", [
    ({}, "either a text or a tool"),
    ({"text": "a", "tool": "b"}, "either a text or a tool"),
    ({"text": "a", "arguments": {}}, "either a text or a tool"),
    ({"text": " \n"}, "is empty"),
    ({"tool": " "}, "has no name"),
    ({"text": '<tool_call>{"name": "x"'}, "will not do"),
    ({"tool": "read_file", "arguments": {"file": "a"}}, "argument 'path' is missing"),
    ({"tool": "open_file", "arguments": {"path": "a"}}, "no tool 'open_file'"),
])
def test_a_correction_that_will_not_do_is_refused(store, answer, given, message):
    with pytest.raises(FeedbackError, match=message):
        correct(store, answer, toolbox=TOOLBOX, **given)
    assert kinds(store, answer) == []


def test_calls_read_the_same_whoever_wrote_them(store, answer):
    arguments = {"start": 1, "path": "a.py"}
    correct(store, answer, tool="read_file", arguments=arguments, toolbox=TOOLBOX)
    spaced = CALL.replace(": ", " :\n").replace("<tool_call>", "<tool_call>\n")
    correct(store, answer, text=spaced, toolbox=TOOLBOX)
    events = store.feedback(message_id=answer, kinds=["correction"])
    assert [event.text for event in events] == [CALL, CALL]


def test_korean_and_prose_before_a_call_survive():
    text = '볼게요.  <tool_call>{"arguments":{"path":"문서.md"},"name":"read_file"}</tool_call>\n끝'
    assert canonical_answer(text) == (
        '볼게요.\n<tool_call>{"name": "read_file", "arguments": {"path": "문서.md"}}</tool_call>')
    with pytest.raises(ToolSyntaxError):
        canonical_answer("<tool_call>nonsense</tool_call>")


def test_the_original_stays_beside_the_correction(store, answer):
    correct(store, answer, text=" Better. ", reason="vague")
    correction, reason = store.feedback(message_id=answer)
    assert correction.payload == {"original": "Here you are.", "corrected": "Better."}
    assert (reason.kind, reason.text) == ("reason", "vague")


def test_a_broken_call_can_be_corrected(store, question):
    thread = store.message(question).thread_id
    broken = store.add_message(thread, "assistant", '<tool_call>{"name": ', parent_id=question)
    assert answer_text(store, store.message(broken)) == '<tool_call>{"name":'
    correct(store, broken, text=CALL)
    assert verdicts(store)[broken].corrected == CALL


def test_native_calls_count_as_text_once(store, question):
    thread = store.message(question).thread_id
    native = store.add_message(thread, "assistant", "Looking.", parent_id=question)
    store.add_tool_call(native, "read_file", {"path": "a.py", "start": 1})
    store.add_tool_call(native, "read_file", "{not json")
    assert answer_text(store, store.message(native)) == f"Looking.\n{CALL}"
    both = store.add_message(thread, "assistant", CALL, parent_id=question)
    store.add_tool_call(both, "read_file", {"path": "a.py", "start": 1})
    assert answer_text(store, store.message(both)) == CALL


def test_correcting_to_the_same_is_a_thumb_up(store, answer):
    correct(store, answer, text="Wrong.")
    correct(store, answer, text="Here you are.")
    assert kinds(store, answer) == ["correction", "thumb"]
    assert verdicts(store)[answer] == Verdict(good=True)


def test_the_latest_correction_counts(store, answer):
    for text in ("first", "second", "third"):
        correct(store, answer, text=text)
    rate(store, answer, up=True)
    assert verdict(reversed(store.feedback(message_id=answer))) == Verdict(True, "third")


@pytest.mark.parametrize("stars, good", [(1, False), (2, False), (3, None), (4, True), (5, True)])
def test_stars_speak_as_thumbs_do(store, answer, stars, good):
    rate(store, answer, up=stars < 3)
    rate(store, answer, stars=stars)
    assert verdicts(store)[answer].good is good


def test_preferences_compare_answers_to_one_request(store, question, answer):
    thread = store.message(question).thread_id
    other = store.add_message(thread, "assistant", "Sure.", parent_id=question)
    elsewhere = store.add_message(thread, "user", "thanks", parent_id=answer)
    later = store.add_message(thread, "assistant", "Welcome.", parent_id=elsewhere)
    prefer(store, answer, over=other, reason="shorter")
    assert verdicts(store)[answer] == Verdict(preferred_over=(other,), reasons=("shorter",))
    for wrong in (answer, later):
        with pytest.raises(FeedbackError, match="not two answers"):
            prefer(store, answer, over=wrong)


def test_many_threads_lose_no_event(store, answer):
    def work():
        for _ in range(10):
            rate(store, answer, up=True)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kinds(store, answer)) == 40
