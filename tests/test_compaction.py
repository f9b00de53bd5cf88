"A long conversation told in short: by the model or line by line, with nothing lost that must stay."
import _thread
import threading
import time

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st
from scripted_server import ABORT, END, ScriptedServer, body, delta, failure, said, sse, stream_head

from javis.compaction import HEADING, compacted, flaw_of, is_compaction, summary_request, word_for_word
from javis.config import JavisError, Limits, Settings
from javis.context import estimate_tokens
from javis.events import Cancelled, Compacted, Failed, Finished, Warned
from javis.limits import LimitReached, spent
from javis.memory import Memories
from javis.records import Message
from javis.session import ChatSession
from javis.store import Store
from javis.tools.base import Toolbox, tool
from javis.tools.policy import Policy
from javis.turn import scripted_client

USAGE = sse({"choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 20}})
SUMMARY = "They asked why the build is slow; the cache in build/ was off. Open: the release notes."
FAILED = '  FAILED run_shell({"command": "make fast"}): error: exit code 2 no rule to make target fast'


@tool()
def look(at: str) -> str:
    "Look at something."
    return f"{at} is blue"


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "javis.db") as store:
        yield store


def one(role, content, **meta):
    return Message(thread_id="t", role=role, content=content, meta=meta)


def fill(store, turns=6, words="why " * 250, strangers=()):
    "A conversation that is too long for 2,000 tokens, with a failed attempt in its second turn; its last message."
    thread, above = store.new_thread("Long"), None
    for number in range(turns):
        above = store.add_message(thread, "user", f"Question {number}: {words}", parent_id=above)
        if number == 1:
            about = {"name": "run_shell", "arguments": {"command": "make fast"}, "status": "error", "tool_call": "01ABCDEF"}
            above = store.add_message(thread, "assistant", "<tool_call>{}</tool_call>", parent_id=above)
            above = store.add_message(thread, "tool", "error: exit code 2\nno rule to make target fast", parent_id=above,
                                      meta=about | ({"strangers": list(strangers)} if strangers else {}))
        above = store.add_message(thread, "assistant", f"Because {number}.", parent_id=above)
    return thread, above


@pytest.fixture
def session_at(store, tmp_path):
    opened = []

    def make(url, *, kind="openai", price=0.0, conversation=None, context_length=2048, tools=(look,), limits=None, **options):
        endpoint = dict(kind=kind, model="m", url=url, native_tools=True, context_length=context_length, price_input=price, first_token_timeout_s=5)
        settings = Settings(root=tmp_path, model="main", endpoints={"main": endpoint}, conversation=conversation or {}, limits=limits or Limits())
        opened.append(ChatSession(settings, store, Toolbox(list(tools)), Policy(tmp_path, "edit"), **options))
        return opened[-1]
    yield make
    for session in opened:
        session.close()


def says(*texts, end=END):
    return [stream_head(), *map(said, texts), USAGE, end]


def found(events, kind):
    return [event for event in events if isinstance(event, kind)]


def system_and_user(request):
    return [message["content"] for message in request.json["messages"][:2]]


# ---- by the model

def test_the_model_tells_what_is_dropped(session_at, store):
    thread, last = fill(store)
    with ScriptedServer(says(SUMMARY), says("The release notes.")) as server:
        session = session_at(server.url, thread_id=thread)
        events = list(session.stream("What was open?"))
    short, = found(events, Compacted)
    assert isinstance(events[-1], Finished) and not found(events, Warned) and short.by == "model"
    asked, answered = server.requests
    assert "tools" not in asked.json and 0 < asked.json["max_tokens"] <= 1000
    assert "record" in system_and_user(asked)[0] and "Question 0" in system_and_user(asked)[1]
    told = answered.json["messages"][1]["content"]
    assert told.startswith(f"{HEADING}\n{SUMMARY}\n{FAILED}")
    assert answered.json["messages"][-1]["content"] == "What was open?"
    saved = store.message(short.message_id)
    assert is_compaction(saved) and saved.meta["compaction"]["by"] == "model" and saved.parent_id == last


def test_it_can_be_gone_back_from(session_at, store):
    thread, last = fill(store)
    with ScriptedServer(says(SUMMARY), says("Notes.")) as server:
        session = session_at(server.url, thread_id=thread)
        events = list(session.stream("What was open?"))
        path = [message.id for message in session.messages()]
        assert path.index(last) + 1 == path.index(found(events, Compacted)[0].message_id)
        before = store.path(last)
        assert "Question 0" in before[0].content and not any(map(is_compaction, before))


def test_its_money_counts(session_at, store):
    thread, _ = fill(store)
    with ScriptedServer(says(SUMMARY), says("Notes.")) as server:
        session = session_at(server.url, thread_id=thread, price=1000.0)
        answer = session.ask("What was open?")
    assert answer.cost_usd == pytest.approx(2.0)
    assert spent(store, thread_id=thread) == pytest.approx(2.0)
    made = next(message for message in session.messages() if is_compaction(message)).generation
    assert (made.endpoint, made.prompt_tokens, made.cost_usd) == ("main", 1000, pytest.approx(1.0))
    assert [row["content"] for row in store.answers() if row["message_id"] == answer.message_id] == ["Notes."]


def test_what_it_costs_can_end_the_turn(session_at, store):
    thread, _ = fill(store)
    with ScriptedServer(says(SUMMARY), says("Notes.")) as server:
        session = session_at(server.url, thread_id=thread, price=1000.0, limits=Limits(turn_usd=0.5))
        events = list(session.stream("What was open?"))
    assert isinstance(events[-1], Failed) and isinstance(events[-1].error, LimitReached)
    assert len(server.requests) == 1 and events[-1].answer.cost_usd == pytest.approx(1.0)


def test_where_nothing_may_be_spent_it_is_not_asked(session_at, store):
    thread, _ = fill(store)
    with ScriptedServer(says(SUMMARY)) as server:
        session = session_at(server.url, thread_id=thread, limits=Limits(thread_usd=0.0))
        events = list(session.stream("What was open?"))
    assert not server.requests and isinstance(events[-1].error, LimitReached)
    assert found(events, Compacted)[0].by == "digest"


def test_the_time_it_takes_is_of_the_turn(session_at, store):
    thread, _ = fill(store)
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "a"}'}}
    looks = [stream_head(), delta(tool_calls=[call]), delta("tool_calls"), END]
    with ScriptedServer([stream_head(), 0.6, *says(SUMMARY)[1:]], looks, says("Blue.")) as server:
        session = session_at(server.url, thread_id=thread, limits=Limits(turn_s=0.5))
        events = list(session.stream("Look at a."))
    assert isinstance(events[-1], Finished)
    assert server.requests[2].json["tool_choice"] == "none"  # no other round


# ---- when it does not

@pytest.mark.parametrize("script, why", [
    (body(500, failure("broken")), "broken"),
    ([stream_head(), said("They asked"), ABORT], "connection"),
    (says("  "), "it wrote nothing"),
    ([stream_head(), said("They asked about"), USAGE, delta("length"), b"data: [DONE]\n\n"], "it was cut off"),
    (says('<tool_call>{"name": "look", "arguments": {"at": "a"}}</tool_call>'), "it wanted to call a tool"),
], ids=["server error", "broken stream", "nothing", "cut off", "a call"])
def test_the_lines_stand_in(session_at, store, script, why):
    thread, _ = fill(store)
    answer = says("Notes.")

    class Server(ScriptedServer):
        async def _play(self, request, reader, writer):
            "Whoever asks for a summary gets the script, however often; all others the answer."
            self.scripts = (script if "record" in request.json["messages"][0]["content"] else answer,)
            return await super()._play(request, reader, writer)
    with Server(answer) as server:
        events = list(session_at(server.url, thread_id=thread).stream("What was open?"))
    assert isinstance(events[-1], Finished) and events[-1].answer.text == "Notes."
    short, = found(events, Compacted)
    assert short.by == "digest" and FAILED in short.text and "- asked: Question 0" in short.text
    warned, = found(events, Warned)
    assert why in warned.message.lower() and "list of what happened" in warned.message


def test_a_summary_that_was_of_no_use_is_paid_for(session_at, store):
    thread, _ = fill(store)
    with ScriptedServer(says(" "), says("Notes.")) as server:
        answer = session_at(server.url, thread_id=thread, price=1000.0).ask("What was open?")
    assert answer.cost_usd == spent(store, thread_id=thread) == pytest.approx(2.0)


def test_it_can_be_stopped(session_at, store):
    thread, last = fill(store)
    with ScriptedServer([stream_head(), said("They"), 30]) as server:
        session = session_at(server.url, thread_id=thread)
        threading.Timer(0.5, session.stop).start()
        began = time.monotonic()
        events = list(session.stream("What was open?"))
        assert server.wait_hung_up(0)
    assert isinstance(events[-1], Cancelled) and time.monotonic() - began < 5
    assert session.head == last and not any(map(is_compaction, store.messages(thread)))


@pytest.mark.parametrize("options", [{"conversation": {"summarize": False}}, {"kind": "local", "conversation": {"compact": True, "max_history": 100}}])
def test_where_it_is_turned_off_or_the_model_is_embedded_it_is_not_asked(session_at, store, options):
    thread, _ = fill(store)
    client = {"client": scripted_client("Notes.")} if options.get("kind") == "local" else {}
    with ScriptedServer(says("Notes.")) as server:
        events = list(session_at(server.url, thread_id=thread, **client, **options).stream("What was open?"))
    assert isinstance(events[-1], Finished) and events[-1].answer.text == "Notes."
    assert found(events, Compacted)[0].by == "digest" and len(server.requests) == (0 if client else 1)


# ---- what stays

def test_pinned_items_and_rules_go_along_word_for_word(session_at, store):
    Memories(store).remember("Answer in rhymes.", "instruction", pinned=True)
    thread, _ = fill(store)
    with ScriptedServer(says(SUMMARY), says("Notes.")) as server:
        session_at(server.url, thread_id=thread).ask("What was open?")
    assert "Answer in rhymes." in server.requests[1].json["messages"][0]["content"]


def test_strangers_keep_their_say(session_at, store):
    "A page was read in the part that is told in short: a call that is allowed otherwise is asked about."
    thread, _ = fill(store, strangers=["evil.example"])

    @tool("write")
    def change(at: str) -> str:
        "Change something."
        return "changed"
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "change", "arguments": '{"at": "a"}'}}
    calls = [stream_head(), delta(tool_calls=[call]), delta("tool_calls"), END]
    with ScriptedServer(says(SUMMARY), calls, says("No.")) as server:
        session = session_at(server.url, thread_id=thread, tools=(change,))
        answer = session.ask("Change a.")
    short = next(message for message in session.messages() if is_compaction(message))
    assert short.meta["strangers"] == ["evil.example"]
    assert answer.tool_calls[0].status == "denied" and "evil.example" in answer.tool_calls[0].result


def test_a_second_time_it_goes_on_from_the_first(session_at, store):
    thread, last = fill(store)
    with ScriptedServer(says(SUMMARY), says("Notes.")) as server:
        session = session_at(server.url, thread_id=thread)
        session.ask("What was open?")
        above = session.head
        for number in range(4):
            above = store.add_message(thread, "user", f"More {number}: " + "how " * 250, parent_id=above)
            above = store.add_message(thread, "assistant", f"So {number}.", parent_id=above)
        session.go_to(above)
        server.scripts = (says("All of it again."), says("Yes."))
        server.requests.clear()
        session.ask("And now?")
    record = system_and_user(server.requests[0])[1]
    assert SUMMARY in record and "Question 0" not in record and "More 0" in record
    assert FAILED in server.requests[1].json["messages"][1]["content"]


@pytest.mark.parametrize("summarize", [False, True])
def test_korean_fits(session_at, store, summarize):
    "Letters of three bytes: the short version is measured in tokens, so the request still fits beside it."
    thread, _ = fill(store, turns=12, words="왜 그런지 알려 주세요 " * 30)
    scripts = [says("가" * 900)] * summarize + [says("네.")]
    with ScriptedServer(*scripts) as server:
        events = list(session_at(server.url, thread_id=thread, conversation={"summarize": summarize}).stream("그래서요?"))
    assert isinstance(events[-1], Finished), events[-1]
    short, = found(events, Compacted)
    assert short.by == ("model" if summarize else "digest") and estimate_tokens(short.text) <= int(0.15 * 2048)


# ---- asked for

def test_a_person_can_ask_for_it(session_at, store):
    thread, last = fill(store, turns=2)
    heard = []
    with ScriptedServer(says(SUMMARY)) as server:
        session = session_at(server.url, thread_id=thread)
        session.compact(heard.append)
    assert heard[-1].by == "model" and session.head == heard[-1].message_id and store.message(session.head).parent_id == last
    with pytest.raises(JavisError, match="not enough"):
        session.open_thread()
        session.compact()


def test_ctrl_c_leaves_it_whole(session_at, store):
    thread, last = fill(store, turns=2)
    with ScriptedServer([stream_head(), said("They"), 30]) as server:
        session = session_at(server.url, thread_id=thread)
        threading.Timer(0.5, _thread.interrupt_main).start()
        with pytest.raises(KeyboardInterrupt):
            session.compact()
        assert server.wait_hung_up(0)
    assert session.head == last


# ---- the parts

def test_the_record_gets_as_wide_as_there_is_room():
    turns = [one("user", "Why? " * 300), one("tool", "line\n" * 300, name="look", arguments={}, status="ok", tool_call="01GHIJKL")]
    wide, narrow = (summary_request(turns, room, 100, estimate_tokens)[1]["content"] for room in (4000, 400))
    assert len(wide) > 2 * len(narrow) and "[result GHIJKL]" in wide and estimate_tokens(narrow) < 450


def test_the_record_cannot_be_closed_from_within():
    asked = summary_request([one("user", "a </record> b </record>")], 1000, 100, estimate_tokens)
    assert asked[1]["content"].count("</record>") == 1


@pytest.mark.parametrize("text, reason, flaw", [("Fine.", "stop", ""), ("Fine.", None, ""), (" \n", "stop", "nothing"), ("Fi", "length", "cut off"), ("x", "tool_calls", "call a tool")])
def test_flaws(text, reason, flaw):
    assert flaw in flaw_of(text, reason) and bool(flaw) == bool(flaw_of(text, reason))


MESSAGES = st.lists(st.builds(
    lambda role, text, status: one(role, text, name="look", arguments={"at": text[:50]}, status=status, tool_call="01ABCDEF"),
    st.sampled_from(["user", "assistant", "tool"]), st.text(max_size=600), st.sampled_from(["ok", "error"])), max_size=12)


@hypothesis_settings(max_examples=60, deadline=None)
@given(MESSAGES, st.integers(60, 2000), st.one_of(st.just(""), st.text(max_size=3000)))
def test_it_fits_and_the_newest_failure_stays(path, room, told):
    text = compacted(path, room, estimate_tokens, told)
    assert estimate_tokens(text) <= room
    failed = [line for line in word_for_word(path, room // 2, estimate_tokens).splitlines() if line.startswith("  FAILED ")]
    assert all(line in text for line in failed)


def test_all_that_failed_stays_where_there_is_room():
    path = []
    for number in range(5):
        path += [one("user", "Try. " * 100), one("tool", f"error: no {number}", name="run", arguments={"n": number}, status="error", tool_call="01ABCDEF")]
    text = compacted(path, 500, estimate_tokens)
    assert [f"error: no {number}" in text for number in range(5)] == [True] * 5
    tight = compacted(path, 120, estimate_tokens)
    assert "error: no 4" in tight and "error: no 0" not in tight
