"Several calls of one answer that need a person: shown together, decided one by one, run in the order of the answer."
import asyncio
import threading

import pytest
from scripted_server import END, ScriptedServer, delta, said, stream_head

from javis.calling import danger_of
from javis.config import Settings
from javis.events import MANY_QUESTIONS, Approval, ApprovalNeeded, Cancelled, Finished, ToolFinished, ToolStarted
from javis.session import ChatSession
from javis.store import Store
from javis.tools.base import Toolbox, render_tool_call, tool
from javis.tools.grants import call_key
from javis.tools.policy import Policy, Rule, Rules
from javis.verbs.talk import event_record


@pytest.fixture
def done():
    return []


@pytest.fixture
def toolbox(tmp_path, done):
    from pathlib import Path

    @tool("read")
    def look(path: Path) -> str:
        "Look."
        done.append(f"look {path}")
        return "blue"

    @tool("write", preview=lambda path, text: f"{(tmp_path / path).read_text() if (tmp_path / path).exists() else ''} -> {text}")
    def put(path: Path, text: str) -> str:
        "Put a text into a file."
        done.append(f"put {path} {text}")
        (tmp_path / path).write_text(text)
        return "put"

    @tool("exec")
    def run(command: str) -> str:
        "Run."
        done.append(f"run {command}")
        return "ran"

    @tool("net")
    def fetch(url: str) -> str:
        "Fetch."
        done.append(f"fetch {url}")
        return "a page"
    return Toolbox([look, put, run, fetch])


ASK_ALL = Rules(ask=[Rule(tool="*")])


@pytest.fixture
def session_for(tmp_path, toolbox):
    opened = []

    def make(server, approve=lambda question: True, rules=ASK_ALL, native=False):
        endpoint = dict(kind="openai", model="m", url=server.url, native_tools=native, context_length=16000)
        settings = Settings(root=tmp_path, model="main", endpoints={"main": endpoint}, tools={"mode": "edit"})
        store = Store(tmp_path / "javis.db")
        session = ChatSession(settings, store, toolbox, Policy(tmp_path, "edit", rules), approve=approve)
        opened.append((session, store))
        return session
    yield make
    for session, store in opened:
        session.close()
        store.close()


def says(*calls, text=""):
    return [stream_head(), said(text + "".join(render_tool_call(name, given) for name, given in calls)), END]


def over(text="That is all."):
    return [stream_head(), said(text), END]


FOUR = [("look", {"path": "notes.txt"}), ("put", {"path": "a.txt", "text": "one"}), ("run", {"command": "make"}),
        ("fetch", {"url": "https://example.org/"})]


def test_calls_of_one_answer_ask_together_the_most_dangerous_first_and_run_in_their_order(session_for, done, tmp_path):
    seen = []

    def approve(question):
        assert not done  # nothing runs before the last is decided
        seen.append(question)
        return Approval(True, question.key)
    with ScriptedServer(says(*FOUR), over()) as server:
        answer = session_for(server, approve).ask("Go.")
    assert [one.name for one in seen] == ["run", "fetch", "put", "look"]
    assert [one.name for one in seen[0].also] == ["fetch", "put", "look"] and not any(one.also for one in seen[1:])
    assert [one.asked for one in seen] == [1, 2, 3, 4]
    assert seen[2].preview == " -> one"
    assert [one.key for one in seen] == [call_key(one.name, one.arguments, tmp_path) for one in seen]
    assert [(run.name, run.status) for run in answer.tool_calls] == [(name, "ok") for name, _ in FOUR]
    assert done[1:] == ["put a.txt one", "run make", "fetch https://example.org/"]


def test_native_calls_ask_together_too(session_for, done):
    pieces = [delta(tool_calls=[{"index": n, "id": f"c{n}", "function": {"name": "run", "arguments": '{"command": "%s"}' % word}}])
              for n, word in enumerate(["one", "two"])]
    seen = []
    with ScriptedServer([stream_head(), *pieces, END], over()) as server:
        session_for(server, lambda one: seen.append(one) or one.arguments["command"] == "two", native=True).ask("Go.")
    assert len(seen[0].also) == 1 and done == ["run two"]


def test_each_decision_is_for_its_own_call_even_where_two_are_alike(session_for, done):
    with ScriptedServer(says(*[("run", {"command": "make"})] * 2, FOUR[1]), over()) as server:
        answers = iter([True, False, True])
        answer = session_for(server, lambda question: Approval(next(answers), question.key)).ask("Go.")
    assert [run.status for run in answer.tool_calls] == ["ok", "denied", "ok"]
    assert done == ["run make", "put a.txt one"]


def test_a_yes_that_is_bound_to_another_call_of_the_batch_is_a_no(session_for, done):
    with ScriptedServer(says(FOUR[2], FOUR[1]), over()) as server:
        session = session_for(server, lambda question: Approval(True, (question.also or [question])[0].key))
        answer = session.ask("Go.")
    assert [run.status for run in answer.tool_calls] == ["denied", "ok"] and done == ["put a.txt one"]


def test_what_need_not_be_asked_is_not_and_a_single_question_waits_for_its_turn(session_for, done):
    seen = []
    rules = Rules(allow=[Rule(tool="put")], ask=[Rule(tool="run")], deny=[Rule(tool="fetch")])
    with ScriptedServer(says(FOUR[1], FOUR[2], FOUR[3]), over()) as server:
        answer = session_for(server, lambda one: seen.append((one, list(done))) or True, rules).ask("Go.")
    [(question, before)] = seen
    assert question.name == "run" and not question.also and before == ["put a.txt one"]
    assert [run.status for run in answer.tool_calls] == ["ok", "ok", "denied"]


def test_calls_that_are_wrong_have_their_own_error_and_do_not_ask(session_for, done):
    with ScriptedServer(says(("run", {"cmd": "x"}), ("jump", {}), FOUR[2], FOUR[1]), over()) as server:
        seen = []
        answer = session_for(server, lambda one: seen.append(one.name) or True).ask("Go.")
    assert seen == ["run", "put"] and [run.status for run in answer.tool_calls] == ["error", "error", "ok", "ok"]


def test_a_change_of_what_was_shown_asks_again_and_a_no_stays_a_no(session_for, done, tmp_path):
    seen = []
    same = [("put", {"path": "a.txt", "text": text}) for text in ("one", "two", "three")]
    with ScriptedServer(says(*same), over()) as server:
        def approve(question):
            seen.append((question.arguments["text"], question.preview, "has changed since you saw it" in question.rule))
            return Approval(question.arguments["text"] != "three" and len(seen) < 4, question.key)
        answer = session_for(server, approve).ask("Go.")
    assert seen == [("one", " -> one", False), ("two", " -> two", False), ("three", " -> three", False), ("two", "one -> two", True)]
    assert [run.status for run in answer.tool_calls] == ["ok", "denied", "denied"]
    assert (tmp_path / "a.txt").read_text() == "one"


def test_arguments_of_one_call_may_be_changed_and_are_checked(session_for, done):
    change = {"run": {"command": "make test"}, "put": {"path": "b.txt"}}
    with ScriptedServer(says(FOUR[1], FOUR[2]), over()) as server:
        session = session_for(server, lambda one: Approval(True, one.key, change[one.name]))
        answer = session.ask("Go.")
        kept = [one.text for one in session.store.feedback(kinds=["implicit"])]
    assert [run.status for run in answer.tool_calls] == ["error", "ok"] and done == ["run make test"]
    assert kept == ["edited", "edited"]


def test_many_questions_are_counted_over_the_rounds_of_a_turn_and_anew_in_the_next(session_for):
    asked = []
    with ScriptedServer(says(*[("run", {"command": str(n)}) for n in range(4)]), says(("run", {"command": "x"})),
                        says(("run", {"command": "y"}), ("run", {"command": "z"})), over(), says(("run", {"command": "w"})),
                        over()) as server:
        session = session_for(server, lambda one: asked.append(one.asked) or True)
        session.ask("Go.")
        session.ask("Again.")
    assert asked == [1, 2, 3, 4, 5, 6, 7, 1] and asked[5] > MANY_QUESTIONS


@pytest.mark.parametrize("place", [0, 1])
def test_a_stop_ends_the_turn_and_every_call_has_a_result(session_for, done, place):
    seen = []

    def approve(question):
        seen.append(question)
        return Approval(False, question.key, stop=True) if len(seen) == place + 1 else Approval(True, question.key)
    with ScriptedServer(says(FOUR[1], FOUR[2]), over()) as server:
        session = session_for(server, approve)
        events = list(session.stream("Go."))
        assert len(server.requests) == 1
        stored = session.store.tool_calls(events[-1].answer.steps[0])
    assert isinstance(events[-1], Cancelled) and not done
    assert [one.status for one in stored] == ["cancelled", "cancelled"]
    assert [type(one) for one in events].count(ApprovalNeeded) == 2


def test_a_stop_from_outside_while_a_batch_waits(session_for, done):
    with ScriptedServer(says(*FOUR), over()) as server:
        session, asked = session_for(server), threading.Event()
        heard = []
        control = session.begin("Go.", lambda event: heard.append(event) or isinstance(event, ApprovalNeeded) and asked.set())
        assert asked.wait(10)
        control.stop()
        control.wait()
    assert isinstance(heard[-1], Cancelled) and not done
    assert [one.run.status for one in heard if isinstance(one, ToolFinished)] == ["cancelled"] * 4
    assert not any(isinstance(one, ToolStarted) for one in heard)


def test_decisions_may_come_in_any_order_and_from_events(session_for, done):
    "As a page does it, which has a button on each card."
    with ScriptedServer(says(FOUR[2], FOUR[1], FOUR[0]), over()) as server:
        session, heard, asked = session_for(server), [], []

        def hear(event):
            heard.append(event)
            if isinstance(event, ApprovalNeeded):
                asked.append(event)
                if len(asked) == 3:
                    for one in reversed(asked):
                        control.decide(one.id, Approval(one.name != "run", one.key))
        control = session.begin("Go.", hear)
        control.wait()
    assert isinstance(heard[-1], Finished) and [run.status for run in heard[-1].answer.tool_calls] == ["denied", "ok", "ok"]


def test_in_a_loop_of_its_own_too(session_for, done):
    async def go(session):
        return [event async for event in session.events("Go.")]
    with ScriptedServer(says(FOUR[2], FOUR[1]), over()) as server:
        asyncio.run(go(session_for(server)))
    assert done == ["run make", "put a.txt one"]


def test_events_of_a_batch_are_json(session_for):
    import json
    with ScriptedServer(says(FOUR[2], FOUR[1]), over()) as server:
        records = [event_record(one) for one in session_for(server).stream("Go.")]
    first, second = [one for one in json.loads(json.dumps(records)) if one["event"] == "approval_needed"]
    assert first["also"][0] == {name: value for name, value in second.items() if name != "event"} and second["also"] == []


def test_what_lies_outside_comes_first_among_its_kind(toolbox, tmp_path):
    policy = Policy(tmp_path, "edit")
    order = [("run", {"command": "ls"}), ("fetch", {"url": "https://example.org"}), ("put", {"path": "/etc/x", "text": ""}),
             ("put", {"path": "x", "text": ""}), ("look", {"path": "../x"}), ("look", {"path": "x"})]
    found = [danger_of(toolbox[name], given, policy) for name, given in order]
    assert found == sorted(found) and len(set(found)) == len(found)
