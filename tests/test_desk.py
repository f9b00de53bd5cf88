"What the desk tells pages, whatever a model says and however it comes."
import json
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from javis.config import Settings
from javis.events import Approval, ToolFinished, ToolProposed, ToolRun, Writing
from javis.mentions import Namespace
from javis.session import ChatSession
from javis.store import Store
from javis.tools.base import Toolbox, render_tool_call, tool
from javis.tools.grants import Grants, kind_of
from javis.tools.policy import Decision, Policy, Rules
from javis.turn import scripted_client
from javis.widgets.desk import Desk
from javis.widgets.live import Live, Pieces
from javis.widgets.wire import TAG, Words, proof_of, records, why_of, words_of

PIECES = st.lists(st.one_of(st.text(max_size=12), st.sampled_from([TAG, "<", "<tool", "_call>", "{}", "\n", " "])), max_size=12)


@tool("write")
def put(path: str, text: str) -> str:
    "Put a text somewhere."
    return f"{path}: {text}"


@tool("exec")
def run_shell(command: str) -> str:
    "Run a command."
    return "ran " + command


@tool("read")
def read_file(path: str) -> str:
    "Read a file."
    return "buy milk"


# ------------------------------------------------------------------------------------------- words

@given(PIECES)
def test_words_do_not_depend_on_how_they_come(pieces):
    words, told = Words(), []
    for piece in pieces:
        told.append(words.add(piece))
    told.append(words.add("", ended=True))
    whole = "".join(pieces)
    assert "".join(told) == str(words) == words_of(whole) == whole.partition(TAG)[0].lstrip()


@given(st.lists(st.tuples(st.sampled_from("ab"), st.text(min_size=1, max_size=9)), max_size=20), st.lists(st.booleans(), min_size=20, max_size=20))
def test_no_piece_is_lost_or_changes_places(said, ticks):
    due, sent = [], []

    class Timer:
        def __init__(self, call):
            due.append(call)
            self.call = call

        def cancel(self):
            if self.call in due:
                due.remove(self.call)
    pieces = Pieces("r", sent.append, lambda seconds, call: Timer(call))
    for (part, text), tick in zip(said, ticks):
        pieces.add(part, text)
        if tick and due:
            due.pop(0)()
    pieces.flush()
    assert [one["seq"] for one in sent] == list(range(len(sent)))
    part = None
    for one in sent:
        assert one.get("part") != part  # a part is named where it begins, and only there
        part = one["part"] = one.get("part", part)
    for part in "ab":
        assert "".join(one["s"] for one in sent if one["part"] == part) == "".join(text for p, text in said if p == part)
    order = [part for part, _ in said]
    assert [part for i, part in enumerate(order) if i == 0 or order[i - 1] != part] == [
        one["part"] for i, one in enumerate(sent) if i == 0 or sent[i - 1]["part"] != one["part"]]


@given(st.text())
def test_a_proof_counts_as_javascript_does(text):
    assert proof_of(text)["len"] == sum(2 if ord(letter) > 0xFFFF else 1 for letter in text)


# ------------------------------------------------------------------------------------------- grants

def decided(policy, one, **arguments):
    return kind_of(one, arguments, policy)


@pytest.mark.parametrize("command, kind", [
    ("git log -n 3", "run_shell: git log …"), ("git push", "run_shell: git push …"), ("make test", "run_shell: make test …"),
    ("rm -rf build", "run_shell: rm -rf build"), ("rm notes", "run_shell: rm notes"), ("python -m http.server", "run_shell: python -m http.server"),
    ("sudo ls", "run_shell: sudo ls"), ("ls; rm x", None), ("ls $(pwd)", None), ("cat x > y", None), ("X=1 ls", None), ("cat .env", None)])
def test_the_kind_of_a_command_is_no_wider_than_it_looks(tmp_path, command, kind):
    assert decided(Policy(tmp_path, "edit"), run_shell, command=command) == kind


def test_a_lasting_grant_holds_for_its_folder_and_reason_only(tmp_path):
    with Store(tmp_path / "javis.db") as store:
        here, there = (Grants(store, Policy(tmp_path / name, "edit")) for name in ("here", "there"))
        why, other = Decision("ask", "the default for the effect exec"), Decision("ask", "a rule")
        here.add("pattern", "t", run_shell, {"command": "git log"}, why)
        assert here.cover("u", run_shell, {"command": "git log --all"}, why)
        assert not here.cover("u", run_shell, {"command": "git log --all"}, other)
        assert not there.cover("u", run_shell, {"command": "git log --all"}, why)
        here.add("pattern", "t", run_shell, {"command": "ls | wc"}, why)  # has no kind
        assert len(here.all()) == 1
        there.clear()
        assert len(here.all()) == 1


# ------------------------------------------------------------------------------------------- approval

@pytest.fixture
def session_with(tmp_path):
    opened = []

    def make(*answers, rules=Rules(), approve=None):
        store = Store(tmp_path / "javis.db")
        session = ChatSession(Settings(root=tmp_path), store, Toolbox([put, run_shell, read_file]), Policy(tmp_path, "edit", rules),
                              approve=approve, follow_up=False, client=scripted_client(*answers))
        opened.append((session, store))
        return session
    yield make
    for session, store in opened:
        session.close()
        store.close()


def test_a_yes_for_the_conversation_is_not_asked_for_again(session_with):
    asked = []
    call = render_tool_call("run_shell", {"command": "ls"})
    session = session_with(call, render_tool_call("run_shell", {"command": "rm -rf /tmp/x"}), call,
                           approve=lambda question: asked.append(question) or Approval(True, question.key, scope="thread"))
    assert session.ask("One").tool_calls[0].status == "ok"
    assert session.ask("Two").tool_calls[0].status == "ok" and len(asked) == 1
    session.open_thread()
    session.ask("Three")
    assert len(asked) == 2


def test_edited_arguments_are_judged_by_the_policy_too(session_with):
    rules = Rules.model_validate({"deny": [{"tool": "run_shell", "arguments": {"command": "rm*"}}]})
    session = session_with(render_tool_call("run_shell", {"command": "ls"}), rules=rules,
                           approve=lambda question: Approval(True, question.key, {"command": "rm x"}))
    run = session.ask("One").tool_calls[0]
    assert run.status == "denied" and "with these arguments" in run.result


def test_edited_arguments_must_fit_the_tool(session_with):
    session = session_with(render_tool_call("run_shell", {"command": "ls"}),
                           approve=lambda question: Approval(True, question.key, {"cmd": "ls"}))
    assert session.ask("One").tool_calls[0].status == "error"


def test_what_a_person_decided_is_kept(session_with):
    session = session_with(render_tool_call("run_shell", {"command": "ls"}), approve=lambda question: False)
    answer = session.ask("One")
    kept = session.store.feedback(message_id=answer.message_id)
    assert [(one.kind, one.text) for one in kept] == [("implicit", "denied")]


# ------------------------------------------------------------------------------------------- the desk

@pytest.fixture
def desk(session_with):
    opened = []

    def make(*answers, **options):
        heard = []
        one = Desk(session_with(*answers, approve=lambda question: False), lambda message, buffers: heard.append(message), **options)
        one.heard = heard
        opened.append(one)
        return one
    yield make
    for one in opened:
        one.close()
        one._serving.result(5)


def until(desk, op, count=1, within=10):
    end = time.monotonic() + within
    while len(found := [one for one in list(desk.heard) if one["op"] == op]) < count:
        assert time.monotonic() < end, [one["op"] for one in desk.heard]
        time.sleep(0.005)
    return found[count - 1]


def test_hostile_text_goes_through_unchanged_as_data(desk):
    text = "<script>alert(1)</script>\x1b[31m\u202e <img src=x onerror=alert(1)> \ud800"
    one = desk(text)
    one.receive({"op": "send", "text": "Say it.", "client": "1"})
    done = until(one, "done")
    assert done["message"]["parts"][0]["s"].startswith("<script>")
    json.dumps(one.heard, ensure_ascii=False).encode()  # nothing in it that a kernel could not send


def waiting(desk):
    "The calls as a page knows them last, by name."
    last = {one["part"]: one["call"] for one in list(desk.heard) if one["op"] == "tool"}
    return {call["name"]: call for call in last.values()}


def settled(desk, *states, within=10):
    end = time.monotonic() + within
    while sorted(call["status"] for call in waiting(desk).values()) != sorted(states):
        assert time.monotonic() < end, waiting(desk)
        time.sleep(0.005)
    return waiting(desk)


def test_calls_that_ask_at_once_are_told_with_their_order_and_decided_each_by_its_key(desk):
    one = desk(render_tool_call("put", {"path": "a.txt", "text": "x"}) + render_tool_call("run_shell", {"command": "ls"}))
    one.receive({"op": "send", "text": "Go.", "client": "1"})
    calls = settled(one, "waiting", "waiting")
    order = [calls["run_shell"]["id"], calls["put"]["id"]]
    assert calls["run_shell"]["batch"] == calls["put"]["batch"] == order and calls["put"]["asked"] == 0
    one.receive({"op": "approve", "call": order[0], "key": calls["run_shell"]["key"], "yes": True, "scope": "once"})
    settled(one, "proposed", "waiting")  # nothing runs while the other is not decided
    one.receive({"op": "approve", "call": order[0], "key": calls["run_shell"]["key"], "yes": True, "scope": "once"})
    assert "any more" in until(one, "err")["message"]  # a decision is used once
    one.receive({"op": "approve", "call": order[1], "key": calls["run_shell"]["key"], "yes": True, "scope": "once"})
    calls = settled(one, "ok", "denied")  # the key was that of the other call
    assert calls["run_shell"]["status"] == "ok" and until(one, "done")["status"] == "complete"


def test_many_questions_are_counted_for_the_page_and_a_batch_can_be_stopped(desk):
    one = desk("".join(render_tool_call("run_shell", {"command": f"ls {n}"}) for n in range(7)))
    one.receive({"op": "send", "text": "Go.", "client": "1"})
    until(one, "tool", 14)
    assert sorted(one_["call"]["asked"] for one_ in one.heard if one_["op"] == "tool" and one_["call"]["status"] == "waiting") == [0] * 5 + [6, 7]
    one.receive({"op": "stop"})
    done = until(one, "done")
    assert done["status"] == "cancelled" and {part["call"]["status"] for part in done["message"]["parts"]} == {"cancelled"}


def test_two_at_once_are_refused_and_the_first_goes_on(desk):
    one = desk("word " * 2000, "second")
    one.receive({"op": "send", "text": "One", "client": "1"})
    one.receive({"op": "send", "text": "Two", "client": "2"})
    assert "still answering" in until(one, "err")["message"]
    assert until(one, "done")["status"] == "complete"
    one.receive({"op": "send", "text": "Two", "client": "2"})  # was refused, so it may be said again
    assert until(one, "done", 2)["message"]["parts"][0]["s"] == "second"


def test_messages_may_come_from_many_threads(desk):
    one = desk("Hello.")
    threads = [threading.Thread(target=one.receive, args=({"op": "hello", "view": str(n), "rev": 0},)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(one, "snap", 20)
    assert {snap["view"] for snap in one.heard} == {str(n) for n in range(20)}


def test_a_thread_can_be_left_found_opened_and_exported(desk):
    one = desk("The first answer.", "The second.")
    one.receive({"op": "send", "text": "Where is the zebra?", "client": "1"})
    thread = until(one, "done") and until(one, "title")["thread"]
    one.receive({"op": "new"})
    assert until(one, "snap")["messages"] == []
    one.receive({"op": "threads", "q": 5, "query": "ZEBRA"})
    found = until(one, "threads")["items"]
    assert [item["id"] for item in found] == [thread] and "zebra" in found[0]["snippet"]
    one.receive({"op": "open", "thread": thread})
    assert len(until(one, "snap", 2)["messages"]) == 2
    one.receive({"op": "rename", "title": "Zebras"})
    assert until(one, "snap", 3)["title"] == "Zebras"
    one.receive({"op": "export", "q": 6, "format": "ipynb"})
    notebook = json.loads(until(one, "exported")["s"])
    import nbformat
    nbformat.validate(nbformat.from_dict(notebook))


def test_a_conversation_has_its_title_before_its_first_answer(desk):
    one = desk("Hello.", "Again.")
    one.receive({"op": "send", "text": "Good morning\n\nto you", "client": "1"})
    until(one, "done")
    ops = [message["op"] for message in one.heard]
    assert ops.index("title") < ops.index("run") and until(one, "title")["title"] == "Good morning"
    one.receive({"op": "send", "text": "And again", "client": "2"})
    until(one, "done", 2)
    assert [message["op"] for message in one.heard].count("title") == 1


def test_a_mention_costs_on_the_request_what_its_preview_said(desk):
    one = desk("Two.", namespace=lambda: Namespace({"prices": {"tea": 3, "coffee": 4}, "ns": [1]}))
    text = "Count @prices and @ns, then @prices again"
    one.receive({"op": "preview", "q": 1, "text": text})
    said = {part["label"]: part for part in until(one, "previewed")["parts"]}
    one.receive({"op": "send", "text": text, "client": "1"})
    request = until(one, "msg")["message"]
    assert [one["label"] for one in request["mentions"]] == ["prices", "ns", "prices"]
    for mention in request["mentions"]:
        assert mention["tokens"] == said["@" + mention["label"]]["tokens"] > 0
    sent = one.store.message(request["id"]).content
    assert sent == "".join(part["s"] for part in said.values())


def test_a_snippet_shows_where_it_was_cut(desk):
    one = desk("The zebra " + "runs and " * 60 + "sleeps.")
    one.receive({"op": "send", "text": "A zebra?", "client": "1"})
    until(one, "done")
    one.receive({"op": "threads", "q": 1, "query": "zebra"})
    snippet = until(one, "threads")["items"][0]["snippet"]
    assert snippet.startswith("The zebra runs") and snippet.endswith("…")


def test_what_was_read_names_a_source(desk):
    one = desk(render_tool_call("read_file", {"path": "notes/plan.md"}))
    one.receive({"op": "send", "text": "What is planned?", "client": "1"})
    sources = until(one, "done")["message"]["sources"]
    assert [(source["label"], source["place"], source["text"]) for source in sources] == [("notes/plan.md", "read_file", "buy milk")]


def test_the_rules_that_everybody_meets_are_told_in_parts(tmp_path):
    policy = Policy(tmp_path, "edit", Rules.model_validate({"ask": [{"tool": "put", "arguments": {"path": "x*"}, "why": "x is dear"}]}))

    @tool("write")
    def put_in(path: Path) -> str:
        "Put something into a file."
        return ""
    for one, arguments, parts in [
            (put, {"path": "a", "text": ""}, {"kind": "default", "effect": "write"}),
            (run_shell, {"command": "ls"}, {"kind": "default", "effect": "exec"}),
            (put, {"path": "xy", "text": ""}, {"kind": "asked", "rule": "put(path=x*), x is dear"}),
            (put_in, {"path": "/opt/a.txt"}, {"kind": "outside", "path": "/opt/a.txt"}),
            (put_in, {"path": ".github/ci.yml"}, {"kind": "protected", "path": ".github/ci.yml", "pattern": ".github"})]:
        decision = policy.decide(one, arguments)
        assert decision.verdict == "ask" and why_of(decision.rule) == parts, decision.rule
    assert why_of("something new") == {}


def test_what_happened_to_code_is_kept(desk):
    one = desk("```python\n1\n```")
    one.receive({"op": "send", "text": "Code?", "client": "1"})
    done = until(one, "done")
    one.receive({"op": "used", "id": done["id"], "block": 0, "what": "inserted", "code": "1", "cell": "c"})
    one.receive({"op": "outcome", "id": done["id"], "block": 0, "what": "ok"})
    one.receive({"op": "rate", "id": done["id"], "stars": 4, "comment": "neat"})
    record = until(one, "msg", 2)["message"]  # the first is the request
    assert record["verdict"]["stars"] == 4 and record["verdict"]["comment"] == "neat"
    kept = [(event.kind, event.text) for event in one.store.feedback(message_id=done["id"])]
    assert ("implicit", "inserted") in kept and ("implicit", "ok") in kept


@pytest.mark.parametrize("right, status, kinds", [(True, "ok", {"correction", "reason", "implicit"}), (False, "denied", {"implicit"})])
def test_edited_arguments_are_an_example_only_if_they_ran(desk, right, status, kinds):
    one = desk(render_tool_call("put", {"path": "a", "text": "mlik"}))
    one.receive({"op": "send", "text": "Milk.", "client": "1"})
    end = time.monotonic() + 10
    while not (waiting := [m["call"] for m in list(one.heard) if m["op"] == "tool" and m["call"]["status"] == "waiting"]):
        assert time.monotonic() < end
        time.sleep(0.005)
    call = waiting[0]
    one.receive({"op": "approve", "call": call["id"], "key": call["key"] if right else "0" * 64, "yes": True,
                 "arguments": {"path": "a", "text": "milk"}})
    done = until(one, "done")
    record = done["message"]["parts"][0]["call"]
    assert (record["status"], record["edited"]) == (status, right)
    assert "changed the arguments" not in record["result"] and record["arguments"]["text"] == ("milk" if right else "mlik")
    told = [m["call"] for m in one.heard if m["op"] == "tool"]
    assert told[-1]["result"] == record["result"] and told[-1]["edited"] is right
    assert [m["edited"] for m in told if m["status"] == "running"] == [True] * right  # from the moment of the yes
    assert waiting[0]["why"] == {"kind": "default", "effect": "write"}
    assert {event.kind for event in one.store.feedback(message_id=done["id"])} == kinds


@pytest.mark.parametrize("edited", [False, True])
def test_of_a_very_long_result_a_page_gets_the_ends_and_the_store_has_all(tmp_path, edited):
    result = "first " + "가" * 300_000 + " last" + edited * '\n[the user changed the arguments: {"path": "b"}]'
    with Store(tmp_path / "a.db") as store:
        thread = store.new_thread("t")
        asked = store.add_message(thread, "user", "Read it.")
        answer = store.start_answer(thread, asked, endpoint="e", model="m")
        call = store.add_tool_call(answer, "read_file", {"path": "a"})
        store.finish_answer(answer, "")
        store.finish_tool_call(call, result)
        last = store.add_message(thread, "tool", "short", parent_id=answer, meta={"tool_call": call, "arguments": {"path": "b" if edited else "a"}})
        told = records(store, store.path(last), Toolbox([read_file]))
        shown = told[1]["parts"][0]["call"]["result"]
        assert shown.startswith("first 가") and shown.endswith("가 last") and len(shown) < 20_100 and "characters left out" in shown
        assert len(json.dumps(told, ensure_ascii=False)) < 30_000 and store.tool_calls(answer)[0].result == result


def test_a_very_long_result_that_comes_now_is_told_shortly_too():
    sent = []
    live = Live("r", sent.append, lambda seconds, call: None, Toolbox([read_file]))
    live.take(Writing("a1"), "q1")
    live.take(ToolProposed("c1", "read_file", {"path": "a"}))
    live.take(ToolFinished(ToolRun("c1", "read_file", {"path": "a"}, "ok", "x" * 500_000)))
    assert len(sent[-1]["call"]["result"]) < 20_100 and "480" in sent[-1]["call"]["result"]
