"""kill -9 at random moments: of JAVIS, of its tools, of MCP servers, of the engine; and endpoints that break.

After each: no process stays, what was committed is there, what was not is marked, no file is half, undo and the
next turn work. The moments are drawn from a seed, which `JAVIS_FAULT_SEED` changes.
"""
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest

from javis.config import load_settings
from javis.events import ApprovalNeeded, Failed, Finished, TextDelta, ToolStarted
from javis.session import ChatSession
from javis.store import Store
from javis.tools.base import Toolbox, render_tool_call, tool
from javis.tools.files import write_file
from javis.tools.launch import Bare
from javis.tools.policy import Policy
from javis.tools.python import ChildPython, run_python
from javis.tools.root import SafeRoot
from javis.tools.sandbox import try_wall, walls
from javis.tools.shell import run_shell
from javis.turn import scripted_client
from javis.undo import Checkpoints

sys.path.insert(0, os.path.dirname(__file__))
from pseudo_terminal import Terminal  # noqa: E402
from scripted_server import ABORT, END, ScriptedServer, said, stream_head  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
SEED = int(os.environ.get("JAVIS_FAULT_SEED", "20261123"))
ROOT = Path(__file__).resolve().parent.parent


def moments(name, count, longest):
    "So many moments in seconds, the same in each run; spread out, so that no part is left out."
    chance = random.Random(f"{SEED} {name}")
    return [round((n + chance.random()) * longest / count, 3) for n in range(count)]


# what must hold after each

def of(home):
    "The living processes that have the folder in their environment or their words."
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                known = Path(entry.path, "environ").read_bytes() + Path(entry.path, "cmdline").read_bytes()
                state = Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()[0]
            except OSError:
                continue
            if os.fsencode(home) in known and state not in b"ZX":
                found.append(int(entry.name))
    return found


def none_stays(home, within=8.0):
    end = time.monotonic() + within
    while (left := of(home)) and time.monotonic() < end:
        time.sleep(0.02)
    said = {pid: psutil.Process(pid).cmdline() for pid in left if psutil.pid_exists(pid)}
    assert not left, said


OLD, NEW = b"old line\n" * 5000 + b"last line\n", b"new line, a longer one\n" * 1500
STAGED = b"staged\n" * 1000


def make_project(home):
    "Files of a project, and a turn that is committed; its messages as rows."
    for name in ("configs", "tmp", "user"):
        (home / name).mkdir(parents=True, exist_ok=True)
    for name, data in (("a.txt", OLD), ("e.txt", OLD), ("s1", STAGED), ("s2", STAGED)):
        (home / name).write_bytes(data)
    settings = load_settings(root=home, env={})
    with Store(settings.paths.db) as store, ChatSession(settings, store, Toolbox([]), Policy(home), client=scripted_client("The first answer.")) as session:
        session.ask("The first question?")
        return [(one.id, one.status, one.content) for one in session.messages()]


def contents(home):
    "The files of the project, without those of JAVIS."
    return {path.relative_to(home).as_posix(): path.read_bytes() for path in home.rglob("*")
            if path.is_file() and path.relative_to(home).parts[0] not in ("data", "logs", "configs", "user", "tmp")}


BEGIN = {"a.txt": OLD, "e.txt": OLD, "s1": STAGED, "s2": STAGED}


def clear(home):
    "A minute later somebody writes in the folder: what was written beside a file, and never took its place, goes."
    for left in home.glob(".javis.*"):
        os.utime(left, (time.time() - 61,) * 2)
    assert Toolbox([tool("write", root=SafeRoot(home))(write_file)]).call("write_file", {"path": "z.txt", "content": "z"}).startswith("wrote")
    (home / "z.txt").unlink()


def check_files(home):
    clear(home)
    found = contents(home)
    assert found.pop("a.txt") in (OLD, NEW)
    assert found.pop("e.txt") in (OLD, OLD.replace(b"last line", b"edited"))
    for before, after in (("s1", "b.txt"), ("s2", "c.txt")):
        assert [found.pop(name) for name in (before, after) if name in found] == [STAGED]
    assert not found, "something half-written stayed"


def check_store(home, committed, answered=0, also=()):
    "All that was committed is there, nothing is open; the conversation goes on."
    settings = load_settings(root=home, env={})
    assert sqlite3.connect(settings.paths.db).execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with Store(settings.paths.db) as store:
        open_before = [one.id for thread in store.threads() for one in store.messages(thread.id) if one.status == "streaming"]
        assert store.recover() == open_before
        [thread] = store.threads()
        rows = store.messages(thread.id)
        assert [(one.id, one.status, one.content) for one in rows][:len(committed)] == committed
        later = rows[len(committed):]
        answers = [one for one in later if one.role == "assistant"]
        assert {one.status for one in answers} <= {"complete", "partial", *also}
        assert [one.status for one in answers[:answered]] == ["complete"] * answered  # the next was asked for with these
        calls = [call for one in answers for call in store.tool_calls(one.id)]
        assert {call.status for call in calls} <= {"ok", "interrupted", "error"}
        assert all(call.result for call in calls)
        with ChatSession(settings, store, Toolbox([]), Policy(home), thread_id=thread.id, client=scripted_client("On it goes.")) as session:
            answer = session.ask("And now?")
        assert (answer.status, answer.text) == ("complete", "On it goes.")
        path = store.path(answer.message_id)
        assert [(one.id, one.status, one.content) for one in path][:len(committed)] == committed
        return [(one.role, one.status, one.content) for one in later], [call.status for call in calls]


def check_undo(home):
    "All that calls have done is taken back."
    settings = load_settings(root=home, env={})
    checkpoints = Checkpoints(home, settings.paths.undo)
    calls = [call for call in checkpoints.history() if not call.undone]
    if calls:
        checkpoints.undo(len(calls))
    assert contents(home) == BEGIN


# JAVIS itself

NURSERY = """
import json, os, signal, sys, time
sys.path[:0] = json.loads(sys.argv[1])
from javis import cli
import javis.demo, javis.session, javis.undo, javis.verbs.app, javis.tools.mcp, httpx, sqlalchemy.dialects.sqlite, rich.text, tenacity
for line in sys.stdin:
    job = json.loads(line)
    if (child := os.fork()) == 0:
        os.setsid()
        os.chdir(job["home"])
        os.environ.update(job["env"])
        null = os.open(os.devnull, os.O_RDWR)
        out = os.open(os.path.join(job["home"], "tmp/out"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number, handle in enumerate((null, out, out)):
            os.dup2(handle, number)
        sys.argv = ["javis", *job["words"]]
        status = 1
        try:
            status = cli.main()
        finally:
            sys.stdout.flush()
            os._exit(status or 0)
    began, ended = time.monotonic(), (0, 0)
    while not ended[0] and (job["kill_after"] is None or time.monotonic() < began + job["kill_after"]):
        ended = os.waitpid(child, os.WNOHANG)
        time.sleep(0.001)
    if not ended[0]:
        os.kill(child, signal.SIGKILL)
        ended = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(ended[1]), time.monotonic() - began, flush=True)
"""


@pytest.fixture(scope="module")
def nursery():
    "Starts commands of JAVIS quickly: all is imported already in the process that they are forked from."
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAVIS_")}
    mother = subprocess.Popen([sys.executable, "-c", NURSERY, json.dumps([str(ROOT)])], env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(home, *words, kill_after=None):
        "The exit status of a command and how long it took; it is killed after so many seconds."
        env = {"HOME": str(home), "TMPDIR": str(home / "tmp"), "JAVIS_HOME": str(home), "JAVIS_USER": str(home / "user"), "NO_COLOR": "1"}
        mother.stdin.write(json.dumps({"home": str(home), "env": env, "words": words, "kill_after": kill_after}) + "\n")
        mother.stdin.flush()
        status, took = mother.stdout.readline().split()
        return int(status), float(took)
    yield run
    mother.stdin.close()
    mother.wait(10)
    mother.stdout.close()


CALLS = [render_tool_call("write_file", {"path": "a.txt", "content": NEW.decode()}),
         render_tool_call("run_shell", {"command": "sleep 0.1; mv s1 b.txt; sleep 0.05; echo moved"}),
         "I look at it. " + render_tool_call("edit_file", {"path": "e.txt", "old": "last line", "new": "edited"}),
         render_tool_call("run_python", {"code": "import os, time\ntime.sleep(0.1)\nos.rename('s2', 'c.txt')\nprint('moved')"}),
         "All four are done, and this is said slowly."]


def slowly(text, pieces=8, pause=0.008):
    "A script that says a text in pieces."
    size = max(len(text) // pieces, 1)
    return [stream_head(), *[step for place in range(0, len(text), size) for step in (said(text[place:place + size]), pause)], END]


def configure(home, url, more=""):
    (home / "configs/config.yaml").write_text(
        f"model: test\nendpoints: {{test: {{kind: openai, model: m, url: '{url}', native_tools: true, context_length: 400000}}}}\n"
        f"tools: {{enabled: [write_file, edit_file, run_shell, run_python], sandbox: auto}}\n{more}")


@pytest.fixture(scope="module")
def longest(nursery, tmp_path_factory):
    "How long a whole request takes here, and that it works when nobody is killed."
    home = tmp_path_factory.mktemp("whole")
    committed = make_project(home)
    with ScriptedServer(*map(slowly, CALLS)) as server:
        configure(home, server.url)
        status, took = nursery(home, "ask", "--thread", "last", "--yes", "Do it.")
        assert (status, len(server.requests)) == (0, 5), (home / "tmp/out").read_text()
    assert check_store(home, committed, answered=5)[1] == ["ok"] * 4
    check_files(home)
    check_undo(home)
    none_stays(home)
    return took


@pytest.mark.parametrize("n", range(10))
def test_a_request_is_killed(nursery, longest, tmp_path, n):
    committed = make_project(tmp_path)
    with ScriptedServer(*map(slowly, CALLS)) as server:
        configure(tmp_path, server.url)
        nursery(tmp_path, "ask", "--thread", "last", "--yes", "Do it.", kill_after=moments("ask", 10, longest)[n])
        none_stays(tmp_path)
        asked = len(server.requests)
    check_files(tmp_path)
    rows, calls = check_store(tmp_path, committed, answered=asked - 1 if asked else 0)
    # what was under way can be seen: half an answer, a call, or an answer whose call was not written down yet
    assert asked in (0, 5) or rows[-1][1] == "partial" or calls or "<tool_call>" in rows[-1][2]
    check_undo(tmp_path)
    nothing_new = nursery(tmp_path, "threads", "list") if n == 0 else (0, 0)
    assert nothing_new[0] == 0


@pytest.mark.parametrize("n", range(5))
def test_an_undo_is_killed(nursery, tmp_path, n):
    make_project(tmp_path)
    configure(tmp_path, "http://127.0.0.1:9/v1")
    settings = load_settings(root=tmp_path, env={})
    before = {f"f{number}": b"%d\n" % number * 500 for number in range(200)}
    for name, data in before.items():
        (tmp_path / name).write_bytes(data)
    checkpoints = Checkpoints(tmp_path, settings.paths.undo)
    with checkpoints.around("a call") as call:
        for name in before:
            (tmp_path / name).write_bytes(NEW) if name != "f7" else (tmp_path / name).unlink()
    after = contents(tmp_path)
    nursery(tmp_path, "undo", "--yes", kill_after=moments("undo", 5, 0.9)[n])
    none_stays(tmp_path)
    clear(tmp_path)
    found = contents(tmp_path)
    strays = {name for name in found if name not in BEGIN and name not in before}
    assert all(found.get(name) in (before[name], after.get(name)) for name in before)
    assert not strays, strays
    Checkpoints(tmp_path, settings.paths.undo).undo(call)
    assert contents(tmp_path) == BEGIN | before


@pytest.mark.parametrize("n", range(3))
def test_a_chat_is_killed(longest, tmp_path, n):
    committed = make_project(tmp_path)
    with ScriptedServer(*map(slowly, CALLS)) as server:
        configure(tmp_path, server.url)
        env = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path / "tmp")}
        with Terminal("chat", "--continue", home=tmp_path, env=env) as terminal:
            terminal.until("›").type("do it\r")
            end = time.monotonic() + moments("chat", 3, 2.5)[n]
            while time.monotonic() < end:
                terminal.read(0.02)
                if "Allow it?" in terminal.plain:
                    time.sleep(0.35)  # what was typed before is not taken
                    terminal.type("y")
            os.kill(terminal.child.pid, signal.SIGKILL)
            terminal.child.wait(10)
            none_stays(tmp_path)
        asked = len(server.requests)
    check_files(tmp_path)
    check_store(tmp_path, committed, answered=asked - 1 if asked else 0)
    check_undo(tmp_path)


@pytest.mark.parametrize("n", range(8))
def test_writing_is_killed(nursery, tmp_path, n):
    make_project(tmp_path)
    writer = """
import sys
from javis.tools.base import Toolbox, tool
from javis.tools.edit import edit_file
from javis.tools.files import write_file
from javis.tools.root import SafeRoot
root = SafeRoot(sys.argv[1])
box = Toolbox([tool("write", root=root)(write_file), tool("write", root=root)(edit_file)])
old, new = open("a.txt").read(), sys.argv[2] * 1500
print("ready", flush=True)
while True:
    assert box.call("write_file", {"path": "a.txt", "content": new}).startswith("replaced")
    assert box.call("write_file", {"path": "a.txt", "content": old}).startswith("replaced")
    assert box.call("edit_file", {"path": "e.txt", "old": "last line", "new": "edited"}).startswith("edited")
    assert box.call("edit_file", {"path": "e.txt", "old": "edited", "new": "last line"}).startswith("edited")
"""
    child = subprocess.Popen([sys.executable, "-c", writer, str(tmp_path), "new line, a longer one\n"], cwd=tmp_path, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert child.stdout.readline() == b"ready\n"
    time.sleep(moments("write", 8, 0.3)[n])
    child.kill()
    child.wait()
    child.stdout.close()
    found = contents(tmp_path)
    assert found["a.txt"] in (OLD, NEW) and found["e.txt"] in (OLD, OLD.replace(b"last line", b"edited"))
    check_files(tmp_path)


# the processes of tools

def undo_last(home):
    "Take the last call back, if it has changed anything."
    checkpoints = Checkpoints(home, load_settings(root=home, env={}).paths.undo)
    if contents(home) != BEGIN:
        checkpoints.undo()

@pytest.fixture
def project(tmp_path, monkeypatch):
    "A project whose tools can be found by the folder in their environment."
    committed = make_project(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield tmp_path, committed
    none_stays(tmp_path)


def kill_one_below(home, chance):
    "Kill one of the processes that tools of ours have started, and no other."
    with contextlib.suppress(psutil.Error):
        ours, marked = psutil.Process().children(recursive=True), of(home)
        if victims := [one for one in ours if one.pid in marked]:
            chance.choice(victims).kill()  # psutil looks whether it is still the same process


def killed_in(home, toolbox, answer, seconds, chance):
    "A turn with a call in it, one of whose processes is killed after a while; the call's run."
    with Store(load_settings(root=home, env={}).paths.db) as store:
        [thread] = store.threads()
        settings = load_settings(root=home, env={})
        with ChatSession(settings, store, toolbox, Policy(home, "edit"), thread_id=thread.id, approve=lambda question: True,
                         client=scripted_client(answer, "So it was.")) as session:
            heard, started = [], threading.Event()

            def hear(event):
                heard.append(event)
                if isinstance(event, ApprovalNeeded):
                    control.decide(event.id, True)
                if isinstance(event, (ToolStarted, Finished, Failed)):
                    started.set()
            control = session.begin("Do it.", hear)
            assert started.wait(20)
            time.sleep(seconds)
            kill_one_below(home, chance)
            control.wait(20)
    assert heard[-1].answer.status == "complete" and heard[-1].answer.text == "So it was.", heard[-1]
    return heard[-1].answer.tool_calls[0]


@pytest.mark.parametrize("wall", [Bare(), *[wall for wall in walls() if try_wall(wall).holds]], ids=lambda one: one.level)
def test_a_process_of_a_command_is_killed(project, wall):
    home, committed = project
    chance = random.Random(f"{SEED} shell {wall.level}")
    for seconds in moments(f"shell {wall.level}", 3, 0.6):
        for name, data in BEGIN.items():
            (home / name).write_bytes(data)
        (home / "b.txt").unlink(missing_ok=True)
        call = render_tool_call("run_shell", {"command": "(sleep 30; echo never) & sleep 0.25; mv s1 b.txt; sleep 0.25; echo end"})
        run = killed_in(home, Toolbox([tool("exec", root=home, launcher=wall)(run_shell)]), call, seconds, chance)
        assert run.status in ("ok", "error") and run.result
        none_stays(home, 4)
        check_files(home)
        undo_last(home)
        assert contents(home) == BEGIN
    check_store(home, committed)


def test_a_process_of_python_is_killed(project):
    home, committed = project
    chance, python = random.Random(f"{SEED} python"), ChildPython(home)
    box = Toolbox([tool("exec", interpreter=python)(run_python)])
    code = "import os, subprocess, time\nsubprocess.Popen(['sleep', '30'])\ntime.sleep(.2)\nos.rename('s2', 'c.txt')\ntime.sleep(.2)\n6 * 7"
    for seconds in moments("python", 5, 0.6):
        for name, data in BEGIN.items():
            (home / name).write_bytes(data)
        (home / "c.txt").unlink(missing_ok=True)
        run = killed_in(home, box, render_tool_call("run_python", {"code": code}), seconds, chance)
        assert run.status == "error" and "is gone" in run.result or run.result.endswith("42"), run.result
        check_files(home)
        assert box.call("run_python", {"code": "1 + 1"}).endswith("2")
        python.close()
        none_stays(home, 4)
        undo_last(home)
        assert contents(home) == BEGIN
    check_store(home, committed)


def test_an_mcp_server_is_killed(project):
    pytest.importorskip("mcp")
    from javis.tools.mcp import Mcp
    from javis.tools.mcp_servers import add_server
    home, committed = project
    server = [sys.executable, str(Path(__file__).with_name("mcp_server.py")), "--touch", str(home / "tmp/started")]
    add_server(home / "user/mcp.yaml", "test", {"command": server})
    mcp = Mcp(home, home=home / "user", env={})
    try:
        mcp.agree("test", mcp.diff("test"))
        box, chance = Toolbox(mcp.tools()), random.Random(f"{SEED} mcp")
        for seconds in moments("mcp", 2, 0.5):
            run = killed_in(home, box, render_tool_call("test__sleep", {"seconds": 0.6}), seconds, chance)
            assert run.status == "error" and "test" in run.result or "awake" in run.result, run.result
            assert box.call("test__add", {"a": 40}).endswith("42")
            assert len(of(home)) <= 2  # the server and who minds it: none from before
    finally:
        mcp.close()
    none_stays(home)
    check_store(home, committed)


# who answers

def ask_broken(home, settings, client=None, kill=None):
    "A turn that may fail; what came of it, and whether what was shown is what was kept."
    with Store(settings.paths.db) as store, ChatSession(settings, store, Toolbox([]), Policy(home), thread_id=store.threads()[0].id) as session:
        heard = []
        control = session.begin("Tell me.", heard.append)
        if kill:
            kill(session)
        control.wait(30)
        end, message = heard[-1], store.message(heard[-1].answer.message_id)
        shown = "".join(one.text for one in heard if isinstance(one, TextDelta))
        if isinstance(end, Finished):
            assert message.status == "complete" and shown.endswith(message.content)
        else:
            assert isinstance(end, Failed) and message.status == "error" and message.generation.error and shown == message.content
        return end, shown


@pytest.mark.parametrize("n", range(16))
def test_an_endpoint_breaks_off_at_any_byte(tmp_path, n):
    committed = make_project(tmp_path)
    chance = random.Random(f"{SEED} endpoint {n}")
    words = "Die Antwort, 대답은 네 개의 낱말입니다: 🦔 and that is all."
    data = b"".join([stream_head(), *[said(words[place:place + 3]) for place in range(0, len(words), 3)], END])
    cut, how = chance.randrange(len(data)), [ABORT, 3.0, None][n % 3]
    with ScriptedServer([data[:cut], *([how] if how else [])]) as server:
        settings = load_settings(root=tmp_path, env={}, overrides={"model": "away", "endpoints.away": dict(
            kind="openai", model="m", url=server.url, first_token_timeout_s=0.4, timeout_s=0.8)})
        end, shown = ask_broken(tmp_path, settings)
        assert words.startswith(shown) and isinstance(end, Failed) or shown == words
    check_store(tmp_path, committed, also=["error"])


def test_the_engine_is_killed(project):
    pytest.importorskip("xllamacpp")
    home, committed = project
    settings = load_settings(root=home, env={}, overrides={"generation.max_tokens": 60, "generation.temperature": 0, "model": "local"})
    for seconds in [None, *moments("engine", 3, 1.0)]:
        def kill(session):
            end = time.monotonic() + 20
            while not (session._model and session._model.ready) and time.monotonic() < end:
                time.sleep(0.002)
            time.sleep(seconds)
            session._model.engine._process.kill()
        end, shown = ask_broken(home, settings, kill=kill if seconds is not None else None)
        assert isinstance(end, (Finished, Failed)) and (seconds is not None or shown)
    none_stays(home)
    check_store(home, committed, also=["error"])
