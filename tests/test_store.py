"Edge cases of javis.store: many processes, kill -9, upgrades, trees, feedback. The story is in nbs/01_store.ipynb."
import dataclasses
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Float, text

from javis import records
from javis.store import Message, Store, StoreError, UnknownRecord

HERE = Path(__file__).parent
posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data/javis.db"


@pytest.fixture
def store(path):
    with Store(path) as store:
        yield store


def start(code, *arguments):
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def whole(path):
    "SQLite's own opinion of the file."
    with closing(sqlite3.connect(path)) as connection:
        return (connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                and connection.execute("PRAGMA foreign_key_check").fetchall() == [])


# Several processes

WRITE_200 = """
import sys
from javis.store import Store
with Store(sys.argv[1]) as store:
    thread = store.new_thread(sys.argv[2])
    parent = None
    for number in range(100):
        parent = store.add_message(thread, "user", f"{sys.argv[2]} asks {number}", parent_id=parent)
        parent = store.start_answer(thread, parent, endpoint="local", model="m")
        store.update_answer(parent, "half")
        store.finish_answer(parent, f"{sys.argv[2]} hears {number}")
print(parent)
"""


def test_three_processes_make_the_file_and_write_200_messages_each_at_once(path):
    writers = {name: start(WRITE_200, path, name) for name in ("kernel", "terminal", "server")}
    ends = {}
    for name, process in writers.items():
        said, complaint = process.communicate(timeout=300)
        assert complaint == "" and process.returncode == 0
        ends[name] = said.strip()
    with Store(path) as store:
        assert {thread.title for thread in store.threads()} == set(writers)
        for name, end in ends.items():
            words = [f"{name} {verb} {number}" for number in range(100) for verb in ("asks", "hears")]
            assert [message.content for message in store.path(end)] == words
    assert whole(path)


def test_threads_share_a_store(store):
    def talk(number):
        thread = store.new_thread(str(number))
        return [store.add_message(thread, "user", str(turn)) for turn in range(20)]
    with ThreadPoolExecutor(6) as pool:
        ids = [id for made in pool.map(talk, range(6)) for id in made]
    assert len(set(ids)) == 120
    assert all(len(store.messages(thread.id)) == 20 for thread in store.threads())


def test_one_process_sees_what_another_has_just_written(store, path):
    with Store(path) as other:
        thread = store.new_thread("here")
        assert other.thread(thread).title == "here"
        message = other.add_message(thread, "user", "there")
        assert store.message(message).content == "there"


# kill -9

TALK = """
import sys
from javis.store import Store
store = Store(sys.argv[1])
thread = store.new_thread("talk")
parent = None
while True:
    parent = store.add_message(thread, "user", "?", parent_id=parent)
    parent = store.start_answer(thread, parent, endpoint="local", model="m")
    for words in range(5):
        store.update_answer(parent, "word " * words)
    store.finish_answer(parent, "done")
    print(parent, flush=True)
"""


@posix
def test_kill_9_at_any_moment_loses_no_committed_turn(path):
    committed = []
    for attempt in range(5):
        process = start(TALK, path)
        committed.append(process.stdout.readline().strip())
        time.sleep(random.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        said, complaint = process.communicate()
        assert complaint == ""
        committed += [line for line in said.split("\n")[:-1]]
    assert len(committed) > 5
    with Store(path) as store:
        assert {store.message(id).status for id in committed} == {"complete"}
        store.recover()
        statuses = {message.status for thread in store.threads() for message in store.messages(thread.id)}
        assert statuses <= {"complete", "partial"}
    assert whole(path)


STREAM = """
import sys
from javis.store import Store
store = Store(sys.argv[1])
thread = store.new_thread("stream")
question = store.add_message(thread, "user", "?")
caller = store.add_message(thread, "assistant", "", parent_id=question)
store.add_tool_call(caller, "run_shell", {"command": "make"})
answer = store.start_answer(thread, question, endpoint="local", model="m")
print(caller, answer, flush=True)
number = 0
while True:
    number += 1
    store.update_answer(answer, "word " * number)
    print(number, flush=True)
"""


@posix
def test_an_answer_cut_off_in_mid_stream_is_kept_and_marked(path):
    process = start(STREAM, path)
    caller, answer = process.stdout.readline().split()
    for _ in range(20):
        process.stdout.readline()
    with Store(path) as store:
        assert store.recover() == []  # it still lives
        assert store.message(answer).status == "streaming"
        process.send_signal(signal.SIGKILL)
        said, _ = process.communicate()
        last = int(said.split("\n")[-2]) if said.count("\n") else 20
        assert store.recover() == [answer]
        kept = store.message(answer)
        assert kept.status == "partial"
        assert kept.content.count("word") >= last
        [call] = store.tool_calls(caller)
        assert call.status == "interrupted" and call.result.startswith("error:")
        assert store.recover() == []


@posix
def test_a_process_that_nobody_has_buried_yet_is_dead_too(path):
    process = start(STREAM, path)
    _, answer = process.stdout.readline().split()
    process.send_signal(signal.SIGKILL)
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    with Store(path) as store:
        assert store.recover() == [answer]
    process.communicate()


def answer_of(store, **owner):
    "A streaming answer whose owner differs from this process."
    thread = store.new_thread()
    answer = store.start_answer(thread, None, endpoint="local", model="m")

    def change(session):
        generation = session.get(Message, answer).generation
        generation.owner = generation.owner | owner
    store.write(change)
    return answer


def test_recovery_leaves_the_living_alone(store):
    mine = answer_of(store)
    number_used_again = answer_of(store, started=psutil.Process().create_time() - 1000)
    elsewhere = answer_of(store, host="another-host", pid=1)
    assert store.recover() == [number_used_again]
    assert store.recover(older_than_s=-1) == [elsewhere]
    assert store.message(mine).status == "streaming"


def test_a_process_that_may_not_be_looked_at_lives(store, monkeypatch):
    class Guarded:
        def __init__(self, pid=None):
            raise psutil.AccessDenied(pid)
    answer_of(store)
    monkeypatch.setattr(psutil, "Process", Guarded)
    assert store.recover() == []


def test_a_recovered_answer_counts_as_news(store):
    answer = answer_of(store, started=0)
    since = time.time()
    store.recover()
    assert [row["message_id"] for row in store.answers(since=since)] == [answer]


def test_an_answer_thought_lost_may_still_be_finished(store):
    answer = answer_of(store, started=0)
    store.update_answer(answer, "half")
    assert store.recover() == [answer]
    assert store.update_answer(answer, "late") is False
    store.finish_answer(answer, "all of it")
    assert store.message(answer).status == "complete"


# Upgrades

@pytest.fixture
def version_1(path):
    "A file with the tables as first released and a short conversation, written without JAVIS."
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((HERE / "store_v1.sql").read_text(encoding="utf-8"))
        connection.execute("INSERT INTO threads VALUES ('t', 'Old', '{}', 1.0)")
        for row in [("a", None, "user", "old question"), ("b", "a", "assistant", "old answer")]:
            connection.execute("INSERT INTO messages VALUES (?, 't', ?, ?, ?, 'complete', '{}', 1.0, 1.0)", row)
        connection.execute("INSERT INTO generations (message_id, endpoint, model, sampling, owner) "
                           "VALUES ('b', 'local', 'm', '{}', '{}')")
        connection.execute("INSERT INTO feedback VALUES ('f', 'b', 'thumb', 1.0, NULL, '{}', 'user', 1.0)")
        connection.commit()
    return path


def test_a_file_of_version_1_opens_with_everything_in_it(version_1):
    with Store(version_1) as store:
        assert [message.content for message in store.path("b")] == ["old question", "old answer"]
        assert store.feedback()[0].value == 1
        assert store.answers()[0]["request"] == "old question"
        store.add_message("t", "user", "new", parent_id="b")


def test_version_1_upgraded_has_the_same_tables_as_a_fresh_file(version_1, tmp_path):
    "Fails when a model was changed without a step in UPGRADES."
    fresh_file = tmp_path / "fresh.db"
    Store(fresh_file).close()
    with Store(version_1) as store:
        with store._engine.connect() as connection:
            ours = MigrationContext.configure(connection, opts=dict(
                compare_type=True, include_object=lambda thing, name, *rest: name != "schema_version" and "_search_" not in name))
            made = lambda path: sqlite3.connect(path).execute("SELECT sql FROM sqlite_master WHERE name LIKE '%_search_%' ORDER BY name").fetchall()
            assert made(version_1) == made(fresh_file)
            assert compare_metadata(ours, records.Record.metadata) == []


def rebuild_messages(operations):
    "What a real step may do: rebuild the table that everything, itself included, refers to."
    recreate = "always" if operations.get_bind().dialect.name == "sqlite" else "never"
    with operations.batch_alter_table("messages", recreate=recreate) as table:
        table.add_column(Column("score", Float))
    operations.execute("UPDATE messages SET score = 0.5")
    records.index_words(operations, "messages")


def test_rebuilding_the_message_table_keeps_rows_references_and_a_copy(version_1, monkeypatch):
    monkeypatch.setitem(records.UPGRADES, 3, rebuild_messages)
    with Store(version_1) as store:
        assert [message.content for message in store.path("b")] == ["old question", "old answer"]
        assert store.message("b").generation.model == "m"
        assert store.read(lambda s: s.scalar(text("SELECT sum(score) FROM messages"))) == 1
        with pytest.raises(StoreError, match="breaks a rule"):
            store.write(lambda s: s.execute(text("UPDATE messages SET parent_id = 'x' WHERE id = 'b'")))
        with pytest.raises(StoreError, match="breaks a rule"):
            store.write(lambda s: s.execute(text("DELETE FROM messages WHERE id = 'b'")))
    assert whole(version_1)
    [copy] = version_1.parent.glob("javis.db.v1-*.backup")
    monkeypatch.delitem(records.UPGRADES, 3)
    with Store(copy) as before:
        assert before.message("b").content == "old answer"


def test_a_step_that_would_break_references_is_undone(version_1, monkeypatch):
    monkeypatch.setitem(records.UPGRADES, 3, lambda operations: operations.execute("DELETE FROM threads"))
    with pytest.raises(StoreError, match="would break references"):
        Store(version_1)
    monkeypatch.delitem(records.UPGRADES, 3)
    with Store(version_1) as store:
        assert store.thread("t").title == "Old"


def test_a_store_of_a_newer_javis_is_refused(path, monkeypatch):
    monkeypatch.setitem(records.UPGRADES, 3, rebuild_messages)
    Store(path).close()
    monkeypatch.delitem(records.UPGRADES, 3)
    with pytest.raises(StoreError, match="made by a newer JAVIS"):
        Store(path)


# Search

def contents(store, query, **options):
    return [message.content for message in store.search(query, **options)]


@pytest.fixture
def said(store):
    "Says each text in a conversation of its own."
    return lambda *texts: [store.add_message(store.new_thread(), "user", one) for one in texts]


@pytest.mark.parametrize("query, found", [
    ("PHOTO", ["photographs of a lock"]), ("photographs", ["photographs of a lock"]), ("lock photo", ["photographs of a lock"]),
    ("graph", ["photographs of a lock"]), ("raphs of", ["photographs of a lock"]), ("회의", ["어제 회의에서"]),
    ("의에서", ["어제 회의에서"]), ("의에", ["어제 회의에서"]), ("에", ["어제 회의에서"]), ("100%_x", ["100%_x: \"quoted\""]),
    ('"quo', ["100%_x: \"quoted\""]), ("photo 회의", []), ("gra phs", []), ("hpargotohp", []), ("%", ["100%_x: \"quoted\""]),
    ("\ud83d\0 of", ["photographs of a lock"]), ("\ud83d\0\"'", []), ("", ["100%_x: \"quoted\"", "어제 회의에서", "photographs of a lock"])])
def test_search_finds_words_their_begin_and_what_is_within(store, said, query, found):
    said("photographs of a lock", "어제 회의에서", "100%_x: \"quoted\"")
    assert contents(store, query) == found


def test_search_within_words_is_exact_though_the_index_is_not(store, said):
    said("xabc bcd cde")  # it has each three letters of abcde
    assert contents(store, "abcde") == [] and contents(store, "abc b") == ["xabc bcd cde"]


def test_search_gives_the_latest_of_each_conversation(store, said):
    thread = store.new_thread()
    for number in range(50):
        store.add_message(thread, "user", f"snapshot {number}")
    said("snapshot of another")
    store.add_message(thread, "tool", "snapshot of a tool")
    for query in ("snapshot", "napsho"):
        assert contents(store, query) == ["snapshot of another", "snapshot 49"]
        assert contents(store, query, limit=1) == ["snapshot of another"]


def test_what_changes_or_goes_is_found_no_more(store):
    answer = answer_of(store)
    store.update_answer(answer, "a parallelogram")
    assert contents(store, "parallel") == contents(store, "lelogr") == []  # it may change yet
    store.finish_answer(answer, "a parallelogram")
    assert contents(store, "parallel") == contents(store, "lelogr") == ["a parallelogram"]
    store.write(lambda session: session.execute(text("UPDATE messages SET content = 'a kite' WHERE id = :id"), {"id": answer}))
    assert contents(store, "lelogr") == [] and contents(store, "kit") == ["a kite"]
    store.write(lambda session: session.execute(text("DELETE FROM generations")))
    store.write(lambda session: session.execute(text("DELETE FROM messages WHERE id = :id"), {"id": answer}))
    assert contents(store, "kit") == []


def test_an_upgraded_store_finds_within_words(version_1):
    with Store(version_1) as store:
        assert contents(store, "uestio") == ["old question"]


# Trees

def test_paths_and_siblings_of_a_random_forest(store):
    random.seed(7)
    thread = store.new_thread()
    parents = {}
    for number in range(60):
        parent = random.choice([None, *parents])
        parents[store.add_message(thread, "user", str(number), parent_id=parent)] = parent
    for id, parent in random.sample(sorted(parents.items()), 20):
        line = [id]
        while parents[line[0]]:
            line.insert(0, parents[line[0]])
        assert [message.id for message in store.path(id)] == line
        assert [message.id for message in store.siblings(id)] == [i for i, p in parents.items() if p == parent]
        assert [message.id for message in store.children(id)] == [i for i, p in parents.items() if p == id]
    assert [message.id for message in store.messages(thread)] == list(parents)


def test_roots_of_other_threads_are_no_siblings(store):
    one, two = store.new_thread(), store.new_thread()
    root = store.add_message(one, "user", "one")
    store.add_message(two, "user", "two")
    assert [message.id for message in store.siblings(root)] == [root]


def test_a_long_conversation_has_a_long_path(store):
    thread, last = store.new_thread(), None
    for number in range(500):
        last = store.add_message(thread, "user", str(number), parent_id=last)
    assert [message.content for message in store.path(last)] == [str(number) for number in range(500)]


def test_threads_come_last_spoken_first(store):
    one, two, three = [store.new_thread(title) for title in ("one", "two", "three")]
    store.add_message(one, "user", "still here")
    assert [thread.title for thread in store.threads()] == ["one", "three", "two"]
    assert [thread.title for thread in store.threads(limit=1)] == ["one"]


@pytest.mark.parametrize("call", [
    lambda store, thread, message: store.thread("nowhere"),
    lambda store, thread, message: store.message("nowhere"),
    lambda store, thread, message: store.path("nowhere"),
    lambda store, thread, message: store.siblings("nowhere"),
    lambda store, thread, message: store.add_message("nowhere", "user", "?"),
    lambda store, thread, message: store.add_message(thread, "user", "?", parent_id="nowhere"),
    lambda store, thread, message: store.start_answer(thread, "nowhere", endpoint="e", model="m"),
    lambda store, thread, message: store.finish_answer("nowhere", "?"),
    lambda store, thread, message: store.add_tool_call("nowhere", "tool", {}),
    lambda store, thread, message: store.finish_tool_call("nowhere", "?"),
    lambda store, thread, message: store.add_feedback("nowhere", "thumb", value=1),
])
def test_an_unknown_id_is_named_and_nothing_is_written(store, call):
    thread = store.new_thread()
    message = store.add_message(thread, "user", "?")
    with pytest.raises(UnknownRecord, match="no 'nowhere' among the (threads|messages|tool_calls)"):
        call(store, thread, message)
    assert [m.id for m in store.messages(thread)] == [message]


@pytest.mark.parametrize("call", [
    lambda store, thread, message: store.add_message(thread, "robot", "?"),
    lambda store, thread, message: store.add_message(thread, "user", "?", status="streaming"),
    lambda store, thread, message: store.finish_answer(message, "?", status="streaming"),
    lambda store, thread, message: store.finish_tool_call(message, "?", status="running"),
    lambda store, thread, message: store.add_feedback(message, "applause"),
])
def test_an_unknown_word_is_refused(store, call):
    thread = store.new_thread()
    message = store.add_message(thread, "user", "?")
    with pytest.raises(StoreError, match="is unknown: use one of"):
        call(store, thread, message)


def test_the_database_itself_refuses_a_parent_in_another_thread(store):
    parent = store.add_message(store.new_thread(), "user", "?")
    other = store.new_thread()
    with pytest.raises(StoreError, match="breaks a rule"):
        store.write(lambda session: session.add(Message(thread_id=other, parent_id=parent, role="user")))


# What is written comes back

@pytest.mark.parametrize("words", ["", "안녕하세요, 파일을 보여줘", "👩‍🚀 e\u0301", "line\r\nline\ttab", "x" * 1_000_000])
def test_text_comes_back_as_it_was(store, words):
    message = store.add_message(store.new_thread(), "user", words)
    assert store.message(message).content == words


def test_half_an_emoji_and_a_nul_do_not_stop_a_stream(store):
    answer = store.start_answer(store.new_thread(), None, endpoint="local", model="m")
    assert store.update_answer(answer, "rocket \ud83d") is True
    store.finish_answer(answer, "rocket \U0001f680\0")
    assert store.message(answer).content == "rocket \U0001f680?"


def test_the_record_of_an_answer_is_complete(store):
    question = store.add_message(thread := store.new_thread(), "user", "?")
    answer = store.start_answer(thread, question, endpoint="local", model="m", adapter="javis-v0.1",
                                sampling={"temperature": 0.2, "seed": None})
    store.finish_answer(answer, "yes", status="cancelled", latency_ms=900, first_token_ms=80.5, cost_usd=0.001,
                        usage={"prompt_tokens": 10, "completion_tokens": 2, "other": 1}, finish_reason="stop",
                        error="stopped by the user")
    made = dataclasses.asdict(store.message(answer))["generation"]
    assert made.pop("owner")["pid"] == os.getpid()
    assert made == dict(message_id=answer, endpoint="local", model="m", adapter="javis-v0.1",
                        sampling={"temperature": 0.2, "seed": None}, prompt_tokens=10, completion_tokens=2,
                        latency_ms=900, first_token_ms=80.5, cost_usd=0.001, finish_reason="stop",
                        error="stopped by the user")


def test_a_plain_message_cannot_be_finished(store):
    message = store.add_message(store.new_thread(), "assistant", "typed in by hand")
    with pytest.raises(StoreError, match="stays so"):
        store.finish_answer(message, "other")
    assert store.message(message).content == "typed in by hand"


def test_tool_calls_keep_their_order_and_odd_arguments(store):
    message = store.add_message(store.new_thread(), "assistant", "")
    store.add_tool_call(message, "read_file", {"path": "한글.txt"}, call_id="call_1")
    store.add_tool_call(message, "read_file", '{"path": ')
    first, second = store.tool_calls(message)
    assert (first.arguments, first.call_id, first.status) == ({"path": "한글.txt"}, "call_1", "running")
    assert second.arguments == '{"path": '
    store.finish_tool_call(second.id, "error: not JSON", status="error")
    assert store.tool_calls(message)[1].result == "error: not JSON"


def test_feedback_is_found_by_message_kind_and_time(store):
    thread = store.new_thread()
    one, two = [store.add_message(thread, "assistant", words) for words in ("one", "two")]
    store.add_feedback(one, "thumb", value=1)
    store.add_feedback(two, "thumb", value=-1, actor="demo")
    since = time.time()
    store.add_feedback(one, "correction", text="better", payload={"tool": "list_dir", "arguments": {}})
    assert [event.kind for event in store.feedback(message_id=one)] == ["thumb", "correction"]
    assert [event.value for event in store.feedback(kinds=["thumb"])] == [1, -1]
    assert [event.payload["tool"] for event in store.feedback(since=since)] == ["list_dir"]
    assert [event.actor for event in store.feedback()] == ["user", "demo", "user"]
    assert store.feedback(kinds=[]) == []


def test_answers_carry_the_request_past_tool_messages(store):
    thread = store.new_thread()
    system = store.add_message(thread, "system", "be brief")
    question = store.add_message(thread, "user", "first?", parent_id=system)
    caller = store.start_answer(thread, question, endpoint="local", model="m", adapter="a")
    store.finish_answer(caller, "<tool_call>")
    result = store.add_message(thread, "tool", "12 GB", parent_id=caller)
    answer = store.start_answer(thread, result, endpoint="local", model="m")
    assert [row["message_id"] for row in store.answers()] == [caller]  # the other one has not ended
    since = time.time()
    store.finish_answer(answer, "12 GB in all")
    assert store.answers(since=since) == [dict(
        message_id=answer, thread_id=thread, request="first?", system="be brief", content="12 GB in all",
        status="complete", model="m", adapter=None, created=store.message(answer).created)]
    lone = store.add_message(store.new_thread(), "assistant", "hello")
    assert [(row["request"], row["system"], row["model"]) for row in store.answers()
            if row["message_id"] == lone] == [(None, None, None)]


@pytest.mark.parametrize("value", [None, False, 0, 3, 0.25, "12", "word", [1, {"a": None}], {}])
def test_settings_come_back_as_they_were(store, value):
    assert store.get_setting("key", "default") == "default"
    store.set_setting("key", "before")
    store.set_setting("key", value)
    back = store.get_setting("key", "default")
    assert back == value and type(back) is type(value)


def test_what_json_cannot_hold_is_refused_in_words(store):
    with pytest.raises(StoreError, match="not JSON serializable"):
        store.set_setting("key", {1, 2})
    assert store.get_setting("key") is None


def test_the_ledger_only_grows(store):
    store.add_ledger("pod", 0.34, {"gpu": "A40"})
    store.add_ledger("tokens", 0.01)
    assert [(entry.kind, entry.amount_usd, entry.detail) for entry in store.ledger()] == [
        ("pod", 0.34, {"gpu": "A40"}), ("tokens", 0.01, {})]
    assert [entry.kind for entry in store.ledger("tokens")] == ["tokens"]


# PostgreSQL, where one is at hand: JAVIS_TEST_POSTGRES=postgresql+psycopg://user:password@host/empty_database

@pytest.mark.skipif("JAVIS_TEST_POSTGRES" not in os.environ, reason="JAVIS_TEST_POSTGRES names no database")
def test_the_same_store_on_postgresql(monkeypatch):
    url = os.environ["JAVIS_TEST_POSTGRES"]
    writers = [start(WRITE_200, url, name) for name in ("kernel", "terminal", "server")]
    assert [process.communicate()[1] for process in writers] == [""] * 3
    with Store(url) as store:
        assert len(store.threads()) == 3
        assert [len(store.messages(thread.id)) for thread in store.threads()] == [200] * 3
        answer = answer_of(store, started=0)
        store.finish_tool_call(store.add_tool_call(answer, "t", {"a": 1}), "half \ud83d\0")
        assert store.recover() == [answer]
        assert store.update_answer(answer, "late") is False
        store.add_feedback(answer, "thumb", value=1)
        store.set_setting("key", None)
        store.set_setting("key", [1])
        assert store.get_setting("key") == [1]
        assert len(store.answers()) == 301
        with pytest.raises(UnknownRecord):
            store.path("nowhere")
        with pytest.raises(StoreError, match="breaks|cannot be used"):
            store.write(lambda session: session.add(Message(thread_id="nowhere", role="user")))
    monkeypatch.setitem(records.UPGRADES, 3, rebuild_messages)
    with Store(url) as store:
        assert store.read(lambda s: s.scalar(text("SELECT max(version) FROM schema_version"))) == 3
    monkeypatch.delitem(records.UPGRADES, 3)
    with pytest.raises(StoreError, match="made by a newer JAVIS"):
        Store(url)
