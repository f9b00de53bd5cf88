"A conversation on a real pseudo-terminal: typing, Korean, pastes, interruptions, questions, hostile text."
import json
import os
import re
import sys
import time
from pathlib import Path

import pytest

from javis.store import Store

sys.path.insert(0, str(Path(__file__).parent))
from pseudo_terminal import CALL, CODES, Terminal, endpoint, home  # noqa: E402, F401

PROMPT = "› ?"
ASKS = r"Allow it\?"


def requests(server):
    return [request.json["messages"][-1]["content"] for request in server.requests]


@pytest.fixture
def chat(home):
    opened = []

    def start(*arguments, **options):
        terminal = Terminal("chat", *arguments, home=home, **options)
        opened.append(terminal)
        return terminal.until(PROMPT).quiet()
    yield start
    for terminal in opened:
        terminal.__exit__()


# ---- typing

def test_korean_is_typed_sent_and_answered(chat, endpoint):
    server = endpoint("로그는 logs 폴더에 있습니다.")
    terminal = chat()
    terminal.type("로그는 어디에 있나요?").until("로그는 어디에 있나요").type("\r").until("폴더에 있습니다").quiet()
    assert requests(server) == ["로그는 어디에 있나요?"]
    terminal.type("\x04")
    assert terminal.end() == 0


def test_a_korean_letter_is_erased_as_one(chat, endpoint):
    server = endpoint("Fine.")
    chat().type("가나다\x7f\x7f라\r").until("Fine")
    assert requests(server) == ["가라"]


def test_several_lines_by_alt_enter_and_backslash(chat, endpoint):
    server = endpoint("Fine.")
    chat().type("one\x1b\rtwo\\\rthree\r").until("Fine")
    assert requests(server) == ["one\ntwo\nthree"]


def test_a_paste_of_several_lines_is_one_request_and_waits_for_enter(chat, endpoint):
    server = endpoint("Fine.")
    terminal = chat()
    terminal.type("\x1b[200~def f():\r\n    return '\u202e\x1b[31m'\r\n\x1b[201~").until("return").quiet()
    assert not server.requests
    assert "\u202e" not in terminal.all and "\x1b[31m'" not in terminal.all
    terminal.type("what is this?\r").until("Fine")
    assert requests(server) == ["def f():\n    return '\ufffd'\nwhat is this?"]


def test_old_requests_come_back_and_hold_no_secret(chat, endpoint, home):
    server = endpoint("Fine.")
    terminal = chat()
    terminal.type("my key is sk-ABCDEFGHIJKLMNOPQRSTUV\r").until("Fine").quiet().type(" not kept\r").until("Fine").quiet()
    terminal.type("\x04").end()
    history = home / "user/chat_history"
    assert history.stat().st_mode & 0o077 == 0
    assert "sk-ABC" not in history.read_text() and "not kept" not in history.read_text()
    chat().type("\x1b[A").until(r"my key is \*\*\*\*").type("\r").until("Fine")
    assert requests(server)[-1] == "my key is ****"


def test_tab_completes_commands_and_files_but_no_secrets(chat, endpoint, home):
    server = endpoint("Fine.")
    (home / "notes.txt").write_text("buy milk\n")
    (home / ".env").write_text("KEY=1\n")
    terminal = chat()
    terminal.type("/he").until("help").type("\t").quiet().type("\r").quiet().type("\r").until("Ctrl-C stops an answer").quiet()
    terminal.type("@file:.e").quiet()
    assert ".env" not in terminal.plain
    terminal.type("\x15what is in @file:no").until("notes.txt").type("\t").quiet().type("\r").quiet().type("\r").until("Fine")
    assert requests(server)[-1].startswith("what is in @file:notes.txt") and "buy milk" in requests(server)[-1]


def test_the_line_below_says_where_one_is(chat, endpoint):
    endpoint("Fine.", more="    price_input: 1000\n    price_output: 1000\n")
    terminal = chat()
    terminal.until("scripted · mode edit · ")
    terminal.type("hello\r").until("Fine").until(r"context \d+/[\d,]+")
    terminal.type("/mode plan\r").until("mode plan · ")
    terminal.type("/mode auto\r").until("(inside|needs) a sandbox")


# ---- interruptions

def test_ctrl_c_stops_then_leaves(chat, endpoint, home):
    endpoint("Half of ", tail=(30,))
    terminal = chat().type("tell me\r").until("Half of")
    time.sleep(0.3)
    terminal.type("\x03").until("Stopped; what had come is kept").until("Ctrl-C again leaves").until(PROMPT).quiet()
    terminal.type("\x03")
    assert terminal.end() == 130 and "Traceback" not in terminal.all
    with Store(home / "data/javis.db") as store:
        assert [(row["content"], row["status"]) for row in store.answers()] == [("Half of ", "cancelled")]


def test_ctrl_c_in_a_line_empties_it_and_a_request_between_counts(chat, endpoint):
    server = endpoint("Fine.")
    terminal = chat().type("not this\x03").until("Ctrl-C again leaves").until(PROMPT).quiet()
    terminal.type("this\r").until("Fine").quiet().type("\x03").until("Ctrl-C again leaves").quiet()
    assert requests(server) == ["this"] and terminal.child.poll() is None
    terminal.type("\x04")
    assert terminal.end() == 0


def test_what_is_typed_while_an_answer_comes_is_not_shown_in_it(chat, endpoint):
    server = endpoint("Half of it.", tail=(1.0,) + (b"data: [DONE]\n\n",))
    terminal = chat().type("tell me\r").until("Half")
    terminal.type("next one")
    time.sleep(0.4)
    terminal.read()
    assert "next one" not in terminal.plain
    terminal.until("next one").type("\r").until("Half")
    assert requests(server) == ["tell me", "next one"]


# ---- questions

def test_keys_typed_ahead_are_no_yes(chat, endpoint, home):
    endpoint(CALL % ("run_shell", '{"command": "touch proof"}'), tail=(1.0, b"data: [DONE]\n\n"))
    terminal = chat().type("do it\r")
    time.sleep(0.6)
    terminal.type("y\ry").until(ASKS).type("y")  # before and right after the question
    time.sleep(1)
    terminal.read()
    assert not (home / "proof").exists() and terminal.child.poll() is None
    terminal.type("y").quiet(1)
    assert (home / "proof").exists()


def test_a_paste_enter_and_silence_are_no_yes(chat, endpoint, home):
    endpoint(CALL % ("run_shell", '{"command": "touch proof"}'))
    terminal = chat().type("do it\r").until(ASKS)
    time.sleep(0.6)
    for keys in ("yes\r", "\x1b[200~y\x1b[201~", "\r", " "):
        terminal.type(keys)
        time.sleep(0.7)
        terminal.read()
    assert not (home / "proof").exists()
    terminal.type("n").until("denied").until(PROMPT)
    assert not (home / "proof").exists()


def test_all_of_a_long_call_is_seen_before_a_yes(chat, endpoint, home):
    command = "touch proof" + " " * 4000 + "; touch END"
    endpoint(CALL % ("run_shell", json.dumps({"command": command})))
    terminal = chat().type("do it\r").until("page 1 of 3")
    assert "END" not in terminal.plain and "Allow it" not in terminal.plain
    time.sleep(0.5)
    terminal.type("y")
    time.sleep(0.6)
    terminal.read()
    assert not (home / "proof").exists()
    time.sleep(0.4)
    shown = terminal.type(" ").until("page 2 of 3").plain
    time.sleep(0.5)
    shown += terminal.type(" ").until(ASKS).plain
    assert "; touch END" in shown and "there are 4000 blanks in a row" in shown
    time.sleep(0.5)
    terminal.type("n").until("denied")
    assert not (home / "proof").exists() and not (home / "END").exists()


def test_ctrl_c_at_a_question_is_a_no_and_the_call_has_a_result(chat, endpoint, home):
    endpoint(CALL % ("run_shell", '{"command": "touch proof"}'))
    terminal = chat().type("do it\r").until(ASKS)
    time.sleep(0.5)
    terminal.type("\x03").until("Stopped").until(PROMPT).quiet()
    assert not (home / "proof").exists()
    with Store(home / "data/javis.db") as store:
        (answer, status), = [(row["message_id"], row["status"]) for row in store.answers()]
        assert [call.status for call in store.tool_calls(answer)] == ["cancelled"]
    terminal.type("\x04")
    assert terminal.end() == 0


def test_a_window_that_is_closed_at_a_question_is_a_no(home, endpoint):
    endpoint(CALL % ("run_shell", '{"command": "touch proof"}'))
    with Terminal("ask", "do it", home=home) as terminal:
        terminal.until(ASKS)
        time.sleep(0.5)
        os.close(terminal.master)
        terminal.master = os.open(os.devnull, os.O_RDONLY)
        assert terminal.child.wait(15) != 0
    assert not (home / "proof").exists()


def test_arguments_are_edited_shown_again_and_then_run(chat, endpoint, home):
    endpoint(CALL % ("run_shell", '{"command": "touch proof"}'))
    terminal = chat().type("do it\r").until(ASKS)
    time.sleep(0.5)
    terminal.type("e").until("arguments:").until("touch proof").quiet()
    terminal.type("\x01\x0b" + '{"comand": 1}\r').until("That will not do").until(ASKS)
    time.sleep(0.5)
    terminal.type("e").until("arguments:").quiet()
    terminal.type("\x01\x0b" + '{"command": "touch other"}\r').until(r'command = "touch other"').until(ASKS)
    time.sleep(0.5)
    terminal.type("y").until(PROMPT).quiet()
    assert (home / "other").exists() and not (home / "proof").exists()
    with Store(home / "data/javis.db") as store:
        said = [one.payload for one in store.feedback(kinds=["implicit"]) if one.text == "edited"]
    assert said[0]["arguments"] == {"command": "touch other"}


def test_a_yes_reaches_as_far_as_its_scope(chat, endpoint, home):
    endpoint(CALL % ("run_shell", '{"command": "touch one"}'), CALL % ("run_shell", '{"command": "touch two"}'))
    terminal = chat().type("do it\r").until(ASKS)
    time.sleep(0.5)
    terminal.type("s").until("in this conversation").type("s").until("always for run_shell: touch one").type("s")
    terminal.until("this call only").type("s").until("in this conversation").type("y").until(PROMPT).quiet()
    terminal.type("and more\r").until("touch two").until(PROMPT).quiet()
    assert "Allow it" not in terminal.plain and (home / "two").exists()


def test_a_diff_is_shown_in_colour(chat, endpoint, home):
    (home / "notes.txt").write_text("buy bread\n")
    endpoint(CALL % ("write_file", '{"path": "notes.txt", "content": "buy milk\\n"}'))
    terminal = chat(env={"NO_COLOR": ""}).type("do it\r").until(ASKS)
    assert re.search(r"\x1b\[31m  -buy bread\x1b\[0m", terminal.text)
    assert re.search(r"\x1b\[32m  \+buy milk\x1b\[0m", terminal.text)
    time.sleep(0.5)
    terminal.type("n").until("denied")
    assert (home / "notes.txt").read_text() == "buy bread\n"


SEVERAL = r"Allow them\?"
THREE = ((CALL % ("write_file", '{"path": "notes.txt", "content": "buy milk\\n"}')) + (CALL % ("run_shell", '{"command": "touch proof"}'))
         + (CALL % ("write_file", '{"path": "plans.txt", "content": "rest\\n"}')))


def made(home):
    return [name for name in ("proof", "notes.txt", "plans.txt") if (home / name).exists()]


def batch(chat, endpoint, *more):
    endpoint(THREE, *more)
    terminal = chat(rows=60).type("do it\r").until(SEVERAL)
    time.sleep(0.5)
    return terminal


def test_calls_that_ask_at_once_are_shown_together_the_most_dangerous_first(chat, endpoint, home):
    terminal = batch(chat, endpoint)
    shown = terminal.plain.partition("3 calls ask at once")[2]
    assert re.findall(r"(\d) of 3 ──\s+(\w+) wants", shown) == [("1", "run_shell"), ("2", "write_file"), ("3", "write_file")]
    assert "+buy milk" in shown and "+rest" in shown and not made(home)
    terminal.type("a").until("yes to 1, 2, 3").until(PROMPT).quiet()
    assert made(home) == ["proof", "notes.txt", "plans.txt"] and terminal.plain.count("Allow") == 0


def test_none_of_them(chat, endpoint, home):
    terminal = batch(chat, endpoint)
    terminal.type("\x1b").until("no to all").until("denied").until(PROMPT)
    assert not made(home)


def test_some_are_picked_by_number(chat, endpoint, home):
    terminal = batch(chat, endpoint)
    terminal.type("1").until("yes to 1, no to the rest").type("3").until("yes to 1, 3").type("1").until("yes to 3,")
    time.sleep(0.2)
    terminal.type("y").until("yes to 3 and no to the rest").until(PROMPT).quiet()
    assert made(home) == ["plans.txt"]


def test_one_by_one_arguments_can_be_edited(chat, endpoint, home):
    terminal = batch(chat, endpoint)
    terminal.type("o").until('touch proof').until(ASKS)
    time.sleep(0.5)
    terminal.type("e").until("arguments:").quiet()
    terminal.type("\x01\x0b" + '{"command": "touch other"}\r').until('command = "touch other"').until(ASKS)
    time.sleep(0.5)
    terminal.type("y").until("notes.txt").until(ASKS)
    time.sleep(0.5)
    terminal.type("n").until("plans.txt").until(ASKS)
    time.sleep(0.5)
    terminal.type("y").until(PROMPT).quiet()
    assert made(home) == ["plans.txt"] and (home / "other").exists()


def test_after_many_questions_their_number_is_said_and_the_turn_can_be_stopped(chat, endpoint, home):
    endpoint("".join(CALL % ("run_shell", '{"command": "touch f%d"}' % n) for n in range(7)))
    terminal = chat(rows=80).type("do it\r").until("This turn has asked about 7 calls by now").until(SEVERAL)
    time.sleep(0.5)
    terminal.type("q").until("nothing more in this turn").until("cancelled").until(PROMPT).quiet()
    assert not list(home.glob("f?"))
    terminal.type("\x04")
    assert terminal.end() == 0


def test_all_of_a_batch_is_seen_before_a_yes(chat, endpoint, home):
    endpoint(THREE + CALL % ("write_file", json.dumps({"path": "long.txt", "content": "x\n" * 60})))
    terminal = chat(rows=24).type("do it\r").until("page 1 of")
    time.sleep(0.5)
    terminal.type("a")
    time.sleep(0.5)
    terminal.read()
    assert "Allow them" not in terminal.plain and not made(home)
    time.sleep(0.4)
    while "Allow them" not in terminal.type(" ").until(r"page \d of|Allow them").plain:
        time.sleep(0.5)
    time.sleep(0.5)
    terminal.type("a").until("yes to 1, 2, 3, 4").until(PROMPT)
    assert made(home) == ["proof", "notes.txt", "plans.txt"]


def test_ask_shows_a_batch_and_its_events_as_json(home, endpoint):
    endpoint(THREE)
    with Terminal("ask", "--json", "do it", home=home, rows=60) as terminal:
        terminal.until(SEVERAL)
        time.sleep(0.5)
        terminal.type("a").until("finished").end()
        events = [json.loads(one) for one in CODES.sub("", terminal.all).splitlines() if one.startswith('{"event"')]
    asked = [one for one in events if one["event"] == "approval_needed"]
    assert [len(one["also"]) for one in asked] == [2, 0, 0] and [one["asked"] for one in asked] == [1, 2, 3]
    assert made(home) == ["proof", "notes.txt", "plans.txt"]


# ---- answers

def test_code_is_coloured_once_complete_and_korean_keeps_its_place(chat, endpoint):
    endpoint("See:\n```python\n# 로그를 쓰는 아주 긴 주석입니다 이 줄은 창보다 넓어서 두 줄이 됩니다 정말로 그렇습니다\nx = 'a'\n```\nThat is all.")
    terminal = chat(env={"NO_COLOR": ""}).type("show\r").until("That is all").quiet()
    up = re.search(r"\x1b\[(\d+)A\x1b\[J(.*?)```", terminal.text, re.DOTALL)
    assert up[1] == "3", "two rows for the long comment, and one"
    assert "\x1b[3" in up[2] and re.sub(r"\x1b\[[0-9;]*m|[\r\n]", "", up[2]).endswith("x = 'a'")


def test_a_long_block_of_code_is_left_alone(chat, endpoint):
    endpoint("```python\n" + "\n".join(f"x{i} = {i}" for i in range(40)) + "\n```\nThat is all.")
    terminal = chat(env={"NO_COLOR": ""}).type("show\r").until("That is all")
    assert not re.search(r"\x1b\[\d+A\x1b\[J", terminal.text.partition("x39")[0])


# ---- one store, two windows

def test_what_was_said_in_another_window_comes_along(chat, endpoint, home):
    server = endpoint("Four.", "Six.")
    terminal = chat().type("2 + 2\r").until("Four").quiet()
    with Store(home / "data/javis.db") as store:
        thread = store.threads()[0].id
        last = store.messages(thread)[-1]
        asked = store.add_message(thread, "user", "And in Korean?", parent_id=last.id)
        store.add_message(thread, "assistant", "넷.", parent_id=asked)
    terminal.type("3 + 3\r").until("It went on elsewhere").until("And in Korean").until("넷").until("Six")
    sent = [one["content"] for one in server.requests[-1].json["messages"][1:]]
    assert sent == ["2 + 2", "Four.", "And in Korean?", "넷.", "3 + 3"]


def test_retry_edit_and_branches(chat, endpoint):
    server = endpoint("First.", "Second.", "Third.")
    terminal = chat().type("tell me\r").until("First").quiet()
    terminal.type("/retry\r").until("Second").quiet()
    terminal.type("/edit\r").until("Change it").quiet().type(" more\r").until("Third").quiet()
    assert requests(server) == ["tell me", "tell me", "tell me more"]
    assert [len(one.json["messages"]) for one in server.requests] == [2, 2, 2]
    terminal.type("/branch\r").until("First").until("Second").until("Third").quiet().type("/branch 1\r").until("First")


def test_going_on_with_a_conversation(chat, endpoint, home):
    server = endpoint("Four.", "Six.")
    chat().type("2 + 2\r").until("Four").quiet().type("\x04").end()
    terminal = chat("--continue")
    assert "2 + 2" in terminal.all and "Four." in terminal.all
    terminal.type("3 + 3\r").until("Six")
    assert len(server.requests[-1].json["messages"]) == 4
    terminal.quiet().type("/new\r").until("new conversation").quiet()
    terminal.type("/threads Four\r").until("NUMBER goes on").quiet().type("/threads 1\r").until("Six").quiet()
    terminal.type("/rename 덧셈\r").until("It is called").quiet().type("\x04")
    terminal.end()
    with Store(home / "data/javis.db") as store:
        assert [one.title for one in store.threads()] == ["덧셈"]


def test_another_model_goes_on_in_the_same_mode(chat, endpoint, home):
    server = endpoint("Four.", "Six.")
    config = home / "configs/config.yaml"
    config.write_text(config.read_text() + f"  other:\n    kind: openai\n    model: larger\n    url: {server.url}\n")
    terminal = chat().type("2 + 2\r").until("Four").quiet().type("/mode read\r").until("Mode read").quiet()
    terminal.type("/model\r").until("larger").quiet().type("/model othr\r").until("Did you mean 'other'").quiet()
    terminal.type("/model other\r").until("larger answers from now on").until("larger · mode read").quiet()
    terminal.type("3 + 3\r").until("Six")
    sent = server.requests[-1].json
    assert sent["model"] == "larger" and [one["content"] for one in sent["messages"][1:]] == ["2 + 2", "Four.", "3 + 3"]


def test_memory_context_compact_and_export(chat, endpoint, home):
    endpoint("Noted.")
    terminal = chat()
    terminal.type("/memory My editor is Helix.\r").until("is remembered").quiet()
    terminal.type("which editor do I use?\r").until("Noted").quiet()
    terminal.type("/context\r").until("memory").until(r"words \d").until("of [0-9,]+ tokens").quiet()
    terminal.type("/compact\r").until("in these words from here on").quiet()
    terminal.type("/export talk.jsonl\r").until("has the conversation").quiet()
    terminal.type("/export talk.jsonl\r").until("is there already").quiet()
    terminal.type("/forget Helix\r").until(r"\[y/N\]")
    time.sleep(0.3)
    terminal.type("y\r").until("Forgotten")
    rows = json.loads((home / "talk.jsonl").read_text())["messages"]
    assert rows[-1]["role"] == "system" and "which editor do I use?" in rows[-1]["content"]


def test_undo_where_there_is_none_and_where_there_is_one(monkeypatch, tmp_path, capsys):
    from types import SimpleNamespace as Plain

    from javis.config import JavisError
    from javis.verbs import slash
    session = Plain(settings=Plain(root=tmp_path), policy=Plain(root=tmp_path, rules=Plain(secrets=[])))
    monkeypatch.setitem(sys.modules, "javis.undo", None)
    with pytest.raises(JavisError, match="no undo in this version"):
        slash.undo_journal(session)

    class Checkpoints:
        def __init__(self, root, folder, secrets):
            self.given = root, folder, secrets

        def plan(self):
            return Plain(diff="-a\n+\x1b[2Jb", calls=[Plain(label="run_shell(make)")], changes=[1])

        def undo(self):
            return "changed: notes.txt"
    monkeypatch.setitem(sys.modules, "javis.undo", Plain(Checkpoints=Checkpoints))
    monkeypatch.setattr(slash, "confirm", lambda question: True)
    slash.Talk(session)._do_undo("")
    shown = capsys.readouterr()
    assert "+b" in shown.out and "\x1b[2J" not in shown.out and "changed: notes.txt" in shown.err
