"A request finds its route in a session: what is shown, which tools go along, what a correction changes."
import json
import threading
import time

import pytest
from scripted_server import END, ScriptedServer, delta, said, stream_head

from javis.config import Settings
from javis.events import Finished, Started, Warned
from javis.router import by_rule, correct_route, corrected_routes, is_sure, router_for, tools_for
from javis.session import ChatSession
from javis.store import Store
from javis.tools.base import Toolbox, tool
from javis.tools.policy import Policy
from javis.tools.system import default_toolbox, families
from javis.turn import scripted_client

NAMES = [name for family in families() for name in family.tools]  # all there are
SEED = [{"request": "list the files in src", "tool": "list_dir"}, {"request": "what is in the folder docs?", "tool": "list_dir"},
        {"request": "how full is the disk?", "tool": "disk_usage"}, {"request": "tell me a joke", "tool": None},
        {"request": "thank you", "tool": None}]


def named(name, effect="read"):
    def work(at: str = "here") -> str:
        "Do something."
        return f"{name} was run"
    work.__name__ = name
    return tool(effect)(work)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "javis.db") as store:
        yield store


@pytest.fixture
def session_at(store, tmp_path):
    opened = []
    (tmp_path / "data/seed").mkdir(parents=True)
    (tmp_path / "data/seed/corrections.jsonl").write_text("\n".join(map(json.dumps, SEED)), encoding="utf-8")

    def make(url, *, native=True, kind="openai", names=(*NAMES, "jira_search"), conversation=None, **options):
        endpoints = {"main": dict(kind=kind, model="m", url=url, native_tools=native, context_length=16384, first_token_timeout_s=5)}
        settings = Settings(root=tmp_path, model="main", endpoints=endpoints, conversation=conversation or {})
        box = Toolbox([named(name) for name in names])
        opened.append(ChatSession(settings, store, box, Policy(tmp_path, "edit"), **options))
        return opened[-1]
    yield make
    for session in opened:
        session.close()


def says(*texts):
    return [stream_head(), *map(said, texts), END]


def calls(name, id="c1"):
    call = {"index": 0, "id": id, "type": "function", "function": {"name": name, "arguments": "{}"}}
    return [stream_head(), delta(tool_calls=[call]), delta("tool_calls"), END]


def sent(request):
    return [one["function"]["name"] for one in request.json.get("tools", [])]


def turn(session, text, **options):
    events = list(session.stream(text, **options))
    assert isinstance(events[-1], Finished), events[-1]
    return next(event for event in events if isinstance(event, Started)), events


LIST = "list the files in the folder src"
FILES = ["read_file", "list_dir", "search_text", "write_file", "find_files", "edit_file", "git_status", "git_log"]


# ---- what is shown

def test_the_route_is_announced_and_kept(session_at, store):
    with ScriptedServer(says("There are two.")) as server:
        started, _ = turn(session := session_at(server.url), LIST)
    kept = store.message(started.request_id).meta["route"]
    assert started.route == kept
    assert (kept["intent"], kept["by"]) == ("files", "example") and "list the files in src" in kept["reason"] and kept["margin"] > 0.4
    assert set(kept["left_out"]) == {*session.toolbox.names} - {*FILES, "recall_result"}


def test_off_means_nothing_is_looked_for(session_at, store):
    with ScriptedServer(says("Two.")) as server:
        started, _ = turn(session := session_at(server.url, conversation={"route": "off"}), LIST)
    assert started.route is None and "route" not in store.message(started.request_id).meta
    assert sent(server.requests[0]) == session.toolbox.names


def test_what_was_typed_decides_and_not_what_came_along(session_at):
    with ScriptedServer(says("Two.")) as server:
        text = f"{LIST}\n\nhttps://example.com says how full the disk is. Thank you."
        started, _ = turn(session_at(server.url), text, meta={"typed": LIST})
    assert started.route["intent"] == "files"


def test_broken_examples_do_not_stop_a_request(session_at, tmp_path):
    with ScriptedServer(says("Two.")) as server:
        session = session_at(server.url)
        (tmp_path / "data/seed/corrections.jsonl").write_text("not json", encoding="utf-8")
        started, events = turn(session, LIST)
    assert started.route is None and sent(server.requests[0]) == session.toolbox.names
    assert any(isinstance(event, Warned) and "all tools go along" in event.message for event in events)


def test_learning_is_off_the_loop_and_done_once(session_at, monkeypatch):
    import javis.router as router
    made = []

    class Watched(router.Examples):
        def __init__(self, known):
            made.append(threading.current_thread().name)
            super().__init__(known)
    monkeypatch.setattr(router, "Examples", Watched)
    with ScriptedServer(says("Two.")) as server:
        session = session_at(server.url)
        turn(session, LIST)
        turn(session, "how full is the disk?")
    assert len(made) == 1 and made[0].startswith("javis-worker")


# ---- which tools go along

def test_a_sure_route_explains_its_tools_and_names_the_others(session_at):
    with ScriptedServer(says("Two.")) as server:
        session = session_at(server.url)
        started, _ = turn(session, LIST)
    assert set(sent(server.requests[0])) == {*FILES, "recall_result"}
    system = server.requests[0].json["messages"][0]["content"]
    others = system.rpartition("Other tools, which can be called too:\n- ")[2].split(", ")
    assert set(others) == {*session.toolbox.names} - {*FILES, "recall_result"}
    part = next(part for part in started.context.parts if part.what == "tools")
    assert part.included and part.why.startswith("files: it is like")


def test_in_a_text_protocol_the_prompt_holds_only_what_is_offered(session_at, store):
    with ScriptedServer(says("Two."), says("12 GB.")) as server:
        session = session_at(server.url, native=False)
        turn(session, LIST)
        turn(session, "how full is the disk?")
    first, second = (request.json["messages"][0]["content"] for request in server.requests)
    assert "list_dir(" in first and "find_process(" not in first and "find_process(" in second and "write_file(" not in second
    prompts = [one.content for one in store.path(session.head) if one.role == "system"]
    assert len(prompts) == 2 and first.startswith(prompts[0]) and second.startswith(prompts[1])


@pytest.mark.parametrize("text", ["do it", "yes, do that", "make a plan for the release", "@file:a.py add a docstring", "계속해"])
def test_in_doubt_all_tools_go_along(session_at, text):
    with ScriptedServer(says("Yes.")) as server:
        session = session_at(server.url)
        started, _ = turn(session, text)
    assert sent(server.requests[0]) == session.toolbox.names and started.route["left_out"] == []


@pytest.mark.parametrize("names, above, left_out", [(NAMES[:9], 16, False), (NAMES[:9], 9, True), (NAMES[:9], 10, False), (NAMES, 16, True)])
def test_few_tools_are_all_explained(session_at, names, above, left_out):
    with ScriptedServer(says("Two.")) as server:
        started, _ = turn(session_at(server.url, names=names, conversation={"route_above": above}), LIST)
    assert bool(started.route["left_out"]) == left_out  # recall_result is one more


def test_what_was_called_in_the_conversation_stays(session_at):
    with ScriptedServer(calls("jira_search"), says("A ticket."), says("Two."), says("Two.")) as server:
        session = session_at(server.url)
        turn(session, "is there a ticket in jira?")
        turn(session, LIST)
        session.open_thread()
        turn(session, LIST)
    assert "jira_search" in sent(server.requests[2]) and "run_shell" not in sent(server.requests[2])
    assert "jira_search" not in sent(server.requests[3])


def test_a_tool_that_was_left_out_still_runs(session_at):
    with ScriptedServer(calls("jira_search"), says("A ticket.")) as server:
        session = session_at(server.url)
        _, events = turn(session, LIST)
    assert "jira_search" not in sent(server.requests[0])
    run, = events[-1].answer.tool_calls
    assert (run.status, run.result) == ("ok", "jira_search was run")


def test_a_tool_that_was_left_out_is_still_judged(session_at):
    with ScriptedServer(calls("run_shell"), says("No.")) as server:
        session = session_at(server.url)
        session.toolbox = Toolbox([named(name, "exec" if name == "run_shell" else "read") for name in NAMES])
        _, events = turn(session, LIST)
    run, = events[-1].answer.tool_calls
    assert run.status == "denied" and "needs approval" in run.result


def test_a_tool_of_no_intent_goes_along_where_it_is_named():
    names = ["read_file", "run_shell", "jira_search", "weather_today", "recall_result"]
    text = "https://example.com says so: Jira에서 찾아봐"
    assert tools_for(by_rule(text), names, [], text) == ["read_file", "jira_search", "recall_result"]


def test_never_are_all_tools_gone(session_at):
    with ScriptedServer(says("Yes.")) as server:
        session = session_at(server.url, names=[f"other_{number}" for number in range(20)])
        started, _ = turn(session, LIST)
    assert sent(server.requests[0]) == session.toolbox.names and started.route["left_out"] == []


def test_plan_and_chat_modes_are_as_before(session_at):
    with ScriptedServer(says("Two.")) as server:
        session = session_at(server.url)
        session.settings = session.settings.model_copy(update={"tools": session.settings.tools.model_copy(update={"mode": "chat"})})
        started, _ = turn(session, LIST)
    assert sent(server.requests[0]) == [] and started.route["left_out"] == []
    assert "Other tools" not in json.dumps(server.requests[0].json["messages"])


def test_the_embedded_model_is_told_the_same_as_ever(store, tmp_path, session_at):
    "Twenty tools and a sure route: an embedded model's prompt does not change, and the route is shown all the same."
    settings = Settings(root=tmp_path)
    assert settings.endpoint().kind == "local"
    for box in (default_toolbox(settings), Toolbox([named(name) for name in NAMES])):
        session = ChatSession(settings, store, box, Policy(tmp_path, "edit"), client=scripted_client("Two."))
        before = session.system
        started, _ = turn(session, LIST)
        prompt = next(one for one in store.path(session.head) if one.role == "system")
        assert prompt.content == before == session.system and session.offered is session.toolbox
        assert started.route["intent"] == "files" and started.route["left_out"] == []
        assert all(part.what != "tools" for part in started.context.parts)


def test_a_fallback_that_is_embedded_gets_all_tools(session_at):
    with ScriptedServer(says("Two.")) as server:
        session = session_at(server.url)
        turn(session, LIST)
        assert session.offered.names != session.toolbox.names
        session.endpoint = Settings(root=session.settings.root).endpoint("local")
        assert session.offered is session.toolbox


# ---- corrections

def test_a_correction_counts_from_the_next_request_on(session_at, store):
    with ScriptedServer(says("Two.")) as server:
        session = session_at(server.url)
        first, _ = turn(session, LIST)
        correct_route(store, first.request_id, "shell", first.route["intent"])
        second, _ = turn(session, LIST)
        again, _ = turn(session, None, parent=first.request_id)
    assert (first.route["intent"], second.route["intent"], again.route["intent"]) == ("files", "shell", "shell")
    assert second.route["reason"] == f"it is {LIST!r}"
    assert "run_shell" in sent(server.requests[1]) and "write_file" not in sent(server.requests[1])
    assert corrected_routes(store) == [(LIST, "shell")]
    event, = store.feedback(kinds=["implicit"])
    assert event.payload == {"intent": "shell", "was": "files"}


def test_the_last_word_counts_and_typed_words_are_the_example(session_at, store):
    with ScriptedServer(says("Two.")) as server:
        started, _ = turn(session_at(server.url), f"{LIST}\n\nA long file.", meta={"typed": LIST})
    correct_route(store, started.request_id, "shell")
    correct_route(store, started.request_id, "talk")
    assert corrected_routes(store) == [(LIST, "talk")]


def test_corrected_to_talk_no_tool_is_explained_for_it(session_at, store):
    with ScriptedServer(says("Two.")) as server:
        session = session_at(server.url)
        first, _ = turn(session, "so what about the parser?")
        correct_route(store, first.request_id, "talk")
        second, _ = turn(session, "so what about the parser?")
    assert second.route["intent"] == "talk" and sent(server.requests[1]) == ["recall_result"]


# ---- time

def test_a_route_costs_little_once_learned(session_at, store):
    settings = session_at("http://127.0.0.1:1/v1").settings
    router_for(settings, store)
    began = time.perf_counter()
    for _ in range(20):
        assert is_sure(router_for(settings, store).route(LIST))
    assert (time.perf_counter() - began) / 20 < 0.1


def test_a_very_long_request_is_looked_at_in_part(session_at, store):
    router = router_for(session_at("http://127.0.0.1:1/v1").settings, store)
    began = time.perf_counter()
    router.route(LIST + " lorem" * 1_000_000)
    assert time.perf_counter() - began < 1
