"What a session holds between its calls: commands in the background, commands on trial, and that all of it ends."
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
from scripted_server import END, ScriptedServer, said, stream_head

from javis.config import Settings
from javis.session import ChatSession, open_session
from javis.store import Store
from javis.tools.base import Toolbox, render_tool_call, tool
from javis.tools.grants import Grants
from javis.tools.launch import Bare
from javis.tools.policy import Decision, Policy, Rule, Rules
from javis.tools.sandbox import find_sandbox, walls
from javis.tools.system import default_toolbox

pytestmark = pytest.mark.skipif(os.name == "nt", reason="written for POSIX shells")
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs a wall of Linux")
JOBS = ["start_job", "read_job", "list_jobs", "stop_job"]
TRIAL = ["try_shell", "keep_trial", "drop_trial"]


def sleepers(nap):
    return [one.pid for one in psutil.process_iter(["cmdline", "status"])
            if (one.info["cmdline"] or [])[:1] == ["sleep"] and one.info["cmdline"][-1] == nap and one.info["status"] != psutil.STATUS_ZOMBIE]


def until(condition, seconds=6):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


@pytest.fixture
def nap():
    return f"5400.{secrets.randbelow(10**9)}"


@pytest.fixture
def project(tmp_path):
    (tmp_path / "project/src").mkdir(parents=True)
    (tmp_path / "project/src/a.txt").write_text("one\n")
    return tmp_path / "project"


def settings_of(project, *names, **tools):
    return Settings(root=project, tools={"enabled": ["run_shell", *names], **tools})


@pytest.fixture
def box(project):
    found = default_toolbox(settings_of(project, *JOBS, *TRIAL))
    yield found
    found.close()


# Who ends what

def closing(said, name="hold"):
    @tool(close=lambda: said.append(name))
    def hold() -> str:
        "Hold a line."
    return hold


def test_only_the_oldest_toolbox_ends_what_tools_hold():
    said = []
    made = Toolbox([closing(said)])
    of_session = Toolbox(made)
    of_rival = Toolbox(of_session)
    of_rival.close()
    of_session.close()
    assert said == []
    made.close()
    assert said == ["hold"]


def test_a_session_ends_what_nobody_else_has():
    said = []
    of_session = Toolbox(list(Toolbox([closing(said)])))  # the one that made it is gone
    of_rival = Toolbox(of_session)
    of_rival.close()
    assert said == []
    of_session.close()
    assert said == ["hold"]


def test_a_tool_that_cannot_end_does_not_keep_the_others_from_it(caplog):
    said = []

    @tool(close=lambda: 1 / 0)
    def broken() -> str:
        "Break."
    with caplog.at_level(logging.WARNING, "javis.tools"):
        Toolbox([broken, closing(said)]).close()
    assert said == ["hold"] and "broken did not end" in caplog.text


# Background commands

def started(box, command):
    answer = box.call("start_job", {"command": command}, approved=True)
    return answer.split()[1].strip("."), answer


def test_the_family_reads_from_where_one_was(box, project):
    name, answer = started(box, "echo first; while [ ! -e src/go ]; do sleep 0.05; done; echo second; exit 4")
    assert answer == f"started {name}. read_job(id='{name}') shows what it prints"
    seen = []
    assert until(lambda: seen.append(box.call("read_job", {"id": name})) or "first" in "".join(seen))
    assert box.call("read_job", {"id": name}).endswith("; nothing new]")
    (project / "src/go").touch()
    assert box.call("read_job", {"id": name, "wait_s": 5}) == "second\n\n[exit code 4; bytes 6-13 of 13]"
    assert "exit code 4" in box.call("list_jobs", {})
    assert "had ended before" in box.call("stop_job", {"id": name})
    assert "no job" in box.call("read_job", {"id": "abc"}) and "less than or equal to 60" in box.call("read_job", {"id": name, "wait_s": 900})


def test_a_job_is_asked_about_as_a_command_is(project):
    box = default_toolbox(settings_of(project, *JOBS))
    policy, job = Policy(project, "edit"), box["start_job"]
    assert policy.decide(job, {"command": "git status"}) == Decision("ask", "the default for the effect exec")
    assert "goes on in the background" in box.preview("start_job", {"command": "make"}) and "Undo does not cover" in box.preview("start_job", {"command": "make"})
    closed = Policy(project, "edit", Rules(deny=[Rule(tool="run_shell", arguments={"command": "*sudo*"})], allow=[Rule(tool="run_shell")]))
    assert closed.decide(job, {"command": "cd x && sudo ls"}).verdict == "deny"  # not past the rule for run_shell
    assert closed.decide(job, {"command": "ls"}).verdict == "ask"  # and what that allows once is not allowed for good
    assert [Policy(project, "read").decide(job, {"command": "ls"}).verdict, Policy(project, "read").decide(box["list_jobs"], {}).verdict] == ["deny", "allow"]


@linux
def test_a_job_runs_behind_the_same_wall(box, project):
    (project / ".env").write_text("KEY=sesame")
    if box["run_shell"].runs.level == "L0":
        pytest.skip("there is no wall here")
    assert box["start_job"].runs.wall is box["run_shell"].runs.wall
    with socket.create_server(("127.0.0.1", 0)) as server:
        dial = f"exec 3<>/dev/tcp/127.0.0.1/{server.getsockname()[1]} && echo reached"
        name, _ = started(box, f"cat .env; echo x > {project.parent}/out; {dial}")
        said = box.call("read_job", {"id": name, "wait_s": 5})
        server.settimeout(0.05)
        with pytest.raises(TimeoutError):
            server.accept()
    assert "exit code" in said and "sesame" not in said and "reached" not in said and not (project.parent / "out").exists()


CHAT = [stream_head(), said("Good."), END]


def says(name, **arguments):
    return [stream_head(), said(render_tool_call(name, arguments)), END]


def session_of(project, server, *names, **options):
    endpoint = dict(kind="openai", model="m", url=server.url, native_tools=False, context_length=32_000)
    settings = Settings(root=project, model="main", endpoints={"main": endpoint}, tools={"enabled": ["run_shell", *names]})
    return open_session(settings, store=Store(project / "javis.db"), **options)


def test_jobs_end_with_the_session_and_not_with_its_rival(project, nap):
    with ScriptedServer(says("start_job", command=f"(setsid sleep {nap} &); sleep {nap}"), CHAT) as server:
        session = session_of(project, server, *JOBS, approve=lambda question: True)
        assert session.ask("Serve.").tool_calls[0].status == "ok"
        assert until(lambda: len(sleepers(nap)) == 2)
        rival = ChatSession(session.settings, session.store, session.toolbox, Policy(project, "read"), endpoint="main")
        rival.close()
        time.sleep(0.2)
        assert len(sleepers(nap)) == 2
        session.close()
        assert not sleepers(nap)
        assert "the session is closed" in session.toolbox.call("start_job", {"command": "ls"})
        session.store.close()


SESSION = """
import sys, time
from pathlib import Path
from javis.config import Settings
from javis.session import open_session
from javis.store import Store
project, nap = Path(sys.argv[1]), sys.argv[2]
session = open_session(Settings(root=project, tools={"enabled": ["run_shell", "start_job", "run_python"], "sandbox": sys.argv[3]}),
                       store=Store(project / "javis.db"))
print(session.toolbox.call("start_job", {"command": f"trap '' TERM HUP; (setsid sleep {nap} &); sleep {nap}"}), flush=True)
print(session.toolbox.call("run_python", {"code": f"import subprocess\\nx = subprocess.Popen(['setsid', 'sleep', '{nap}'])"}), flush=True)
time.sleep(60)
"""


@linux
@pytest.mark.parametrize("sandbox", ["auto", "off"])
def test_nothing_outlives_a_killed_session(project, nap, sandbox):
    with subprocess.Popen([sys.executable, "-c", SESSION, str(project), nap, sandbox], stdout=subprocess.PIPE) as session:
        assert b"started" in session.stdout.readline() and session.stdout.readline()
        assert until(lambda: len(sleepers(nap)) == 3)
        subprocess.run(["kill", "-9", str(session.pid)], check=True)
    assert session.returncode == -signal.SIGKILL
    assert until(lambda: not sleepers(nap))


BEGINNING = """
import sys, threading
from pathlib import Path
from javis.tools.jobs import Jobs
from javis.tools.outputs import Outputs
from javis.tools.sandbox import walls
jobs = Jobs(sys.argv[1], Outputs(Path(sys.argv[1], "out")), list(walls())[int(sys.argv[2])])
print("ready", flush=True)
jobs.start(f"setsid sleep {sys.argv[3]} & sleep {sys.argv[3]}")
threading.Event().wait(60)
"""


def naming(nap):
    found = []
    for one in psutil.process_iter(["cmdline", "status"]):
        if any(nap in word for word in one.info["cmdline"] or []) and one.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(one.info["cmdline"])
    return found


@linux
@pytest.mark.parametrize("wall", range(len(list(walls()))))
def test_a_session_that_is_killed_while_a_job_begins_leaves_nothing_at_all(project, nap, wall):
    "Not even the half of a wall that waits for its other half."
    for pause in range(0, 60, 4):
        words = [sys.executable, "-c", BEGINNING, str(project), str(wall), nap]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as session:
            session.stdout.readline()
            time.sleep(pause / 1000)
            session.kill()
        assert until(lambda: not naming(nap), 10), (pause, naming(nap))


# Commands on trial

walled = pytest.mark.skipif(sys.platform != "linux" or find_sandbox().level < "L2", reason="there is no wall here")


def tried(box, command):
    answer = box.call("try_shell", {"command": command})
    return answer.partition("keep_trial(id='")[2][:6], answer


@walled
def test_a_trial_is_shown_then_kept_or_dropped(box, project):
    name, answer = tried(box, "echo two >> src/a.txt; echo new > b.txt")
    assert "+two" in answer and "added b.txt" in answer and (project / "src/a.txt").read_text() == "one\n"
    shown = box.preview("keep_trial", {"id": name})
    assert shown.startswith("after echo two") and "+two" in shown and "+new" in shown
    assert "dropped" in box.call("drop_trial", {"id": name}) and "no tried command" in box.call("keep_trial", {"id": name})
    assert not (project / "b.txt").exists()
    name, _ = tried(box, "echo two >> src/a.txt")
    assert box.call("keep_trial", {"id": name}, approved=True) == "kept 1 changes" and (project / "src/a.txt").read_text() == "one\ntwo\n"
    assert "no tried command" in box.preview("keep_trial", {"id": "abc"})


@walled
def test_trying_asks_nobody_and_keeping_does(box, project):
    policy = Policy(project, "edit")
    decision = policy.decide(box["try_shell"], {"command": "npm install; rm -rf src"})
    assert decision.verdict == "allow" and "on a copy of the project, behind L" in decision.rule
    assert policy.decide(box["try_shell"], {"command": "make"}, strangers="a page").verdict == "allow"  # it changes nothing and reaches nobody
    assert policy.decide(box["keep_trial"], {"id": "a"}).verdict == "ask" and policy.decide(box["drop_trial"], {"id": "a"}).verdict == "allow"
    rules = Rules.model_validate({"deny": [{"tool": "run_shell", "arguments": {"command": "*rm *"}}]})
    assert Policy(project, "edit", rules).decide(box["try_shell"], {"command": "ls; rm x"}).verdict == "deny"
    assert Policy(project, "edit", Rules(ask=[Rule(tool="try_shell")])).decide(box["try_shell"], {"command": "ls"}).verdict == "ask"
    never = Rules.model_validate({"defaults": {"exec": "deny"}})
    assert Policy(project, "edit", never).decide(box["try_shell"], {"command": "ls"}).verdict == "deny"
    assert Policy(project, "read").decide(box["try_shell"], {"command": "ls"}).verdict == "deny"


@walled
def test_a_trial_has_no_network_whatever_the_settings_open(project):
    box = default_toolbox(settings_of(project, *TRIAL, sandbox_network=True))
    assert box["run_shell"].runs.network and not box["try_shell"].runs.network
    with socket.create_server(("127.0.0.1", 0)) as server:
        dial = f"exec 3<>/dev/tcp/127.0.0.1/{server.getsockname()[1]} && echo reached"
        assert "reached" not in tried(box, dial)[1]
        server.settimeout(0.05)
        with pytest.raises(TimeoutError):
            server.accept()
    box.close()


@walled
def test_a_yes_to_one_trial_is_none_to_the_next(box, project):
    why = Decision("ask", "the default for the effect write")
    with Store(project / "javis.db") as store:
        grants = Grants(store, Policy(project, "edit"))
        for scope in ("thread", "pattern"):
            grants.add(scope, "t", box["keep_trial"], {"id": "aaaaaa"}, why)
        assert not grants.cover("t", box["keep_trial"], {"id": "bbbbbb"}, why) and grants.all() == []


@walled
def test_in_a_session_the_diff_is_in_the_question(project):
    asked = []

    def approve(question):
        asked.append(question)
        return True
    with ScriptedServer(says("try_shell", command="echo all: > Makefile"), CHAT) as server:
        session = session_of(project, server, *TRIAL, approve=approve)
        run = session.ask("Try.").tool_calls[0]
        name = run.result.partition("keep_trial(id='")[2][:6]
        assert run.status == "ok" and asked == [] and not (project / "Makefile").exists()
    with ScriptedServer(says("keep_trial", id=name), CHAT) as server:
        endpoint = session.endpoint.model_copy(update={"url": server.url})
        other = ChatSession(session.settings.model_copy(update={"endpoints": {"main": endpoint}}), session.store, session.toolbox,
                            session.policy, approve=approve)
        assert other.ask("Keep it.").tool_calls[0].status == "ok"
        assert "These files decide what runs later: Makefile" in asked[0].preview and "+all:" in asked[0].preview and asked[0].kind is None
        assert (project / "Makefile").read_text() == "all:\n"
        other.close()
    session.close()
    session.store.close()


@walled
def test_what_was_tried_goes_with_the_session(project):
    box = default_toolbox(settings_of(project, *TRIAL))
    tried(box, "echo new > b.txt")
    folders = [one._folder for one in box["try_shell"].function.keywords["trials"].open.values()]
    assert all(folder.exists() for folder in folders)
    box.close()
    assert folders and not any(folder.exists() for folder in folders)


def test_where_nothing_can_be_tried_the_tools_are_left_out(project, caplog):
    with caplog.at_level(logging.WARNING, "javis.tools"):
        box = default_toolbox(settings_of(project, *TRIAL, *JOBS), wall=Bare())
    assert box.names == ["run_shell", *JOBS] and "try_shell is left out" in caplog.text and "L0 no wall" in caplog.text
