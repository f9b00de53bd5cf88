"Python for a model: what it says, how it is stopped and bounded, what it leaves behind, and the notebook's own kernel."
import gc
import os
import queue
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from javis.config import Settings
from javis.store import Store
from javis.tools.base import Runs, Toolbox, ToolError, tool
from javis.tools.grants import Grants, kind_of
from javis.tools.interpreter import Outcome, run, short_traceback
from javis.tools.kernel import KernelPython
from javis.tools.launch import Bare
from javis.tools.policy import Decision, Policy
from javis.tools.python import ChildPython, python_here, run_python, show_python
from javis.tools.sandbox import walls
from javis.tools.system import default_toolbox

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and prctl")


@pytest.fixture
def python(tmp_path):
    child = ChildPython(tmp_path)
    yield child
    child.close()


def box(python, **options):
    return Toolbox([tool("exec", interpreter=python, **options)(run_python)])


def call(python, code, timeout_s=20, **options):
    return box(python, timeout_s=timeout_s).call("run_python", {"code": code}, **options)


def gone(pid, seconds=5):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


# a piece of code

@pytest.mark.parametrize("code, value", [
    ("1 + 1", "2"), ("x = 3", None), ("x = 3\nx", "3"), ("None", None), ("", None), ("# nothing", None), ("'안녕'", "'안녕'"),
    ("import asyncio\nawait asyncio.sleep(0, 5)", "5"), ("import asyncio\nasyncio.run(asyncio.sleep(0, 6))", "6"),
    ("async def f():\n    return 7\nawait f()", "7"), ("if True:\n    8", None), ("a = 1; a + 8", "9")])
def test_the_last_line_is_the_value(code, value):
    assert run(code, {}) == Outcome(value)


@pytest.mark.parametrize("code, said", [
    ("1/0", "ZeroDivisionError"), ("import asyncio\nawait asyncio.sleep('x')", "TypeError"), ("1 +", "SyntaxError"), ("exit(3)", "SystemExit: 3"),
    ("class A:\n    def __repr__(self): raise ValueError('no')\nA()", "ValueError: no"), ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ("x = '\\ud800'\nopen(x)", "UnicodeEncodeError"), ("\0", "null"), ("def f(): f()\nf()", "RecursionError")])
def test_errors_are_told(code, said):
    error = run(code, {}).error
    assert said in error and len(error.splitlines()) < 12 and "interpreter.py" not in error


def test_a_traceback_is_short_and_shows_the_code():
    error = run("import json\ndef load(text):\n    return json.loads(text)\n\nload('{')", {}, "<python 4>").error.splitlines()
    assert error[0] == "  python 4, line 5: load('{')" and error[1] == "  python 4, line 3: return json.loads(text)"
    assert "json/decoder.py" in error[2].replace(os.sep, "/") and error[-1].startswith("json.decoder.JSONDecodeError") and len(error) == 4
    assert short_traceback(ValueError("x")) == "ValueError: x"


# a child process

def test_variables_stay(python):
    assert call(python, "x = 20\nprint('made')") == "made"
    assert call(python, "x + 1") == "Out: 21"
    assert call(python, "import os\nos.system('echo program')\nprint('안녕')\nx") == "program\n안녕\nOut: 20"
    assert call(python, "y = 1") == "[it printed nothing]"


def test_an_error_keeps_what_was_printed(python):
    said = call(python, "print('so far')\nnope")
    assert said.startswith("error:   python 1, line 2: nope\nNameError") and said.endswith("Until then:\nso far")


def test_modules_of_the_project_come_last(python, tmp_path):
    (tmp_path / "mine.py").write_text("value = 5")
    (tmp_path / "json.py").write_text("raise SystemExit('shadowed')")
    (tmp_path / "sitecustomize.py").write_text("open('planted', 'w')")
    assert call(python, "import mine, json, string\nmine.value, json.dumps([1])") == "Out: (5, '[1]')"
    assert not (tmp_path / "planted").exists()


def test_it_gets_no_secret_and_no_input(python, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-abcdefgh12345678")
    monkeypatch.setenv("PYTHONSTARTUP", "/nowhere.py")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    said = call(python, "import os, sys\nsorted(os.environ), sys.stdin.read(), input")
    assert "API_KEY" not in said and "PYTHONSTARTUP" not in said and "PYTHONPATH" not in said
    assert "EOFError" in call(python, "input('password? ')")


def test_lines_are_told_while_it_runs(python):
    heard = []
    call(python, "import time\nfor i in range(3):\n    print('line', i)\n    time.sleep(0.3)", output=lambda text: heard.append((time.monotonic(), text)))
    assert "".join(text for _, text in heard) == "line 0\nline 1\nline 2\n" and heard[-1][0] - heard[0][0] > 0.3


def test_much_output_is_bounded_and_does_not_block(python):
    outcome, printed = python.run("for i in range(300_000): print('x' * 50)\nprint('end')\n'y' * 10**7", 60)
    assert len(printed) <= 200_000 and len(outcome.value) <= 20_000
    assert call(python, "1") == "Out: 1"


def test_a_name_for_the_mark_does_not_help(python):
    assert "done" in call(python, "import os\nos.write(2, b'\\0' + b'0' * 16 + b'\\0')\nprint('done')")


def test_bytes_that_are_no_text(python):
    assert "\ufffd" in call(python, "import os\nos.write(1, b'\\xff\\xfe')")


def test_timeout_keeps_the_variables(python):
    call(python, "x = 1")
    said = call(python, "print('begun')\nimport time\ntime.sleep(60)", timeout_s=0.3)
    assert said == "error: the code ran longer than 0.3 s and was stopped; what it defined is still there. Until then:\nbegun"
    assert call(python, "x") == "Out: 1"


@pytest.mark.parametrize("code", ["while True: pass", "import time\nwhile True: time.sleep(1)", "import asyncio\nawait asyncio.sleep(60)",
                                  "import subprocess\nsubprocess.run(['sleep', '60'])"])
def test_stop_ends_a_call_at_once(python, code):
    call(python, "x = 1")
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    begin = time.monotonic()
    assert "was stopped" in call(python, code, cancelled=stop)
    assert time.monotonic() - begin < 4 and call(python, "x") == "Out: 1"


def test_code_that_does_not_listen_ends_with_its_process(python):
    call(python, "x = 1")
    begin = time.monotonic()
    said = call(python, "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass", timeout_s=0.5)
    assert "what it defined is gone" in said and time.monotonic() - begin < 8
    assert "a new Python" in (said := call(python, "'x' in globals()")) and "Out: False" in said


def test_memory_is_bounded(tmp_path):
    python = ChildPython(tmp_path, memory_bytes=400 << 20)
    try:
        assert "MemoryError" in (said := call(python, "x = bytearray(10**9)")) or "MiB" in said
        assert call(python, "1 + 1").endswith("Out: 2")
        said = call(python, "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'x = bytearray(300 << 20); y = bytearray(300 << 20); "
                            "import time; time.sleep(30)'])\n'over'")
        assert "MiB and was ended" in said or "Out: 'over'" in said  # the child's own limit came first
    finally:
        python.close()


@linux
def test_memory_of_all_children_counts(tmp_path):
    python = ChildPython(tmp_path, memory_bytes=400 << 20)
    code = ("import subprocess, sys\nhold = [sys.executable, '-c', 'x = bytearray(150 << 20); import time; time.sleep(60)']\n"
            "all = [subprocess.Popen(hold) for _ in range(4)]\n[one.wait() for one in all]")
    try:
        assert "needed more than 400 MiB and was ended" in call(python, code)
    finally:
        python.close()


def test_it_is_ended_when_unused(tmp_path):
    python = ChildPython(tmp_path, idle_s=0.3)
    try:
        pid = int(call(python, "import os\nprint(os.getpid())"))
        assert gone(pid)
        assert "it was not used for 0.3 s" in call(python, "1")
    finally:
        python.close()


ESCAPE = """
import os, subprocess, sys, time
plain = subprocess.Popen(['sleep', '300'])
session = subprocess.Popen(['sleep', '300'], start_new_session=True)
stubborn = subprocess.Popen([sys.executable, '-c', 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)'])
twice = subprocess.run([sys.executable, '-c', 'import subprocess; print(subprocess.Popen(["sleep", "300"], start_new_session=True, env={}, stdout=-3, stderr=-3).pid)'],
                       capture_output=True, text=True).stdout
print(os.getpid(), plain.pid, session.pid, stubborn.pid, twice)
"""


@linux
def test_nothing_stays_behind(python):
    pids = [int(pid) for pid in call(python, ESCAPE).split()]
    assert len(pids) == 5 and all(map(psutil.pid_exists, pids))
    python.close()
    assert all(map(gone, pids))


@linux
def test_nothing_stays_behind_when_nobody_holds_it(tmp_path):
    python = ChildPython(tmp_path)
    pids = [int(pid) for pid in call(python, ESCAPE).split()]
    del python
    gc.collect()
    assert all(map(gone, pids))


@linux
@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "raise SystemExit", "os._exit(1)"])
def test_nothing_stays_behind_when_the_program_ends(tmp_path, end):
    code = (f"import os\nfrom javis.tools.python import ChildPython\npython = ChildPython({str(tmp_path)!r})\n"
            f"print(python.run({ESCAPE!r}, 30)[1], flush=True)\n{end}")
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in program.stdout.readline().split()]
    program.wait(20)
    assert len(pids) == 5 and all(map(gone, pids))


@linux
def test_nothing_stays_behind_when_it_is_killed_while_it_runs(tmp_path):
    busy = ESCAPE + "open('pids', 'w').write(f'{os.getpid()} {plain.pid} {twice}')\nwhile True: pass"
    code = f"from javis.tools.python import ChildPython\npython = ChildPython({str(tmp_path)!r})\npython.run({busy!r}, 60)"
    program = subprocess.Popen([sys.executable, "-c", code])
    file, end = tmp_path / "pids", time.monotonic() + 20
    while not (file.exists() and len(file.read_text().split()) == 3) and time.monotonic() < end:
        time.sleep(0.05)
    program.send_signal(signal.SIGKILL)
    program.wait()
    assert all(gone(int(pid)) for pid in file.read_text().split())


def test_calls_wait_for_each_other(python):
    found = []
    threads = [threading.Thread(target=lambda i=i: found.append(call(python, f"import time\ntime.sleep(0.1)\n{i}"))) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [f"Out: {i}" for i in range(4)]


WALLS = list(walls())
behind_walls = pytest.mark.parametrize("wall", WALLS, ids=lambda wall: f"{wall.level}-{getattr(wall, 'binary', '')[-12:]}")


class Broken(Bare):
    "A wall that cannot be put up."
    level = "L3"

    def argv(self, *_):
        return ["/no/such/sandbox"]


def test_a_program_that_is_not_there(tmp_path):
    assert call(ChildPython(tmp_path, wall=Broken()), "1").startswith("error: Python cannot be started")


@pytest.fixture
def walled(tmp_path, wall):
    (tmp_path / "project").mkdir()
    child = ChildPython(tmp_path / "project", wall=wall)
    yield child
    child.close()


@behind_walls
def test_a_wall_stands_around_it(walled, tmp_path, wall):
    (tmp_path / "project/deploy").mkdir()
    (tmp_path / "project/out").mkdir()  # Landlock lets nobody make a file beside a hidden one
    (tmp_path / "project/deploy/.env").write_text("KEY=sesame")
    (tmp_path / "project/help.py").write_text("x = 5")
    assert call(walled, "import help\nopen('out/made', 'w').write('yes')\nhelp.x") == "Out: 5"
    assert (tmp_path / "project/out/made").read_text() == "yes"
    assert "sesame" not in call(walled, "open('deploy/.env').read()")
    call(walled, f"open({str(tmp_path / 'outside')!r}, 'w')")
    assert not (tmp_path / "outside").exists()
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked = f"import socket\nsocket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 2)"
        assert "Error" in call(walled, asked)
        server.settimeout(0.05)
        with pytest.raises(TimeoutError):
            server.accept()
    assert show_python("1", interpreter=walled).startswith(f"{wall}\n")


@behind_walls
def test_behind_a_wall_it_is_the_same_python(walled):
    said = []
    assert call(walled, "x = 20\nprint('made')", output=said.append) == "made" and said == ["made\n"]
    assert "ran longer than 0.5 s" in call(walled, "import time\nwhile True: time.sleep(0.1)", 0.5)
    assert call(walled, "import asyncio, os\nawait asyncio.sleep(0)\nos.system('echo program')\nx + 1") == "program\nOut: 21"
    assert "line 2: os.nonsense" in call(walled, "import os\nos.nonsense")  # tracebacks show the code
    assert "Python ended" in call(walled, "import os\nos._exit(3)") and "a new Python" in call(walled, "1")


@behind_walls
def test_it_outlives_the_thread_that_asked_first(walled):
    thread = threading.Thread(target=call, args=(walled, "x = 1"))
    thread.start()
    thread.join()
    time.sleep(0.2)
    assert call(walled, "x") == "Out: 1"


@linux
@behind_walls
def test_closing_it_ends_all_behind_the_wall(walled):
    nap = f"5400.{secrets.randbelow(10**9)}"
    call(walled, f"import subprocess\nfor _ in range(2): subprocess.Popen(['setsid', 'sleep', '{nap}'])")
    assert until(lambda: len(sleepers(nap)) == 2)
    walled.close()
    assert until(lambda: not sleepers(nap))


KILLED = """
import sys
from javis.tools.python import ChildPython
from javis.tools.sandbox import walls
python = ChildPython(sys.argv[1], wall=list(walls())[int(sys.argv[2])])
print(python.run(f"import subprocess\\nx = subprocess.Popen(['setsid', 'sleep', '{sys.argv[3]}'])", 20), flush=True)
python.run("import time; time.sleep(60)", 60)
"""


@linux
@behind_walls
def test_a_killed_session_leaves_no_python_behind_the_wall(tmp_path, wall):
    nap = f"5400.{secrets.randbelow(10**9)}"
    words = [sys.executable, "-c", KILLED, str(tmp_path), str(WALLS.index(wall)), nap]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as parent:
        assert b"Outcome" in parent.stdout.readline()
        assert until(lambda: len(sleepers(nap)) == 1)
        parent.send_signal(signal.SIGKILL)
    assert until(lambda: not sleepers(nap))


def sleepers(nap):
    return [one.pid for one in psutil.process_iter(["cmdline", "status"])
            if (one.info["cmdline"] or [])[:1] == ["sleep"] and one.info["cmdline"][-1] == nap and one.info["status"] != psutil.STATUS_ZOMBIE]


def until(condition, seconds=5):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_the_question_says_where_it_runs_and_how_far_a_yes_reaches(tmp_path):
    said = show_python("1", interpreter=ChildPython(tmp_path))
    assert said.startswith("L0 no wall") and "exactly this code" in said
    assert "the notebook's own kernel, behind no wall" in show_python("1", interpreter=KernelPython(None))


def test_no_lasting_yes_covers_a_program(tmp_path):
    made = default_toolbox(Settings(root=tmp_path, tools={"enabled": ["run_python"]}))["run_python"]
    policy, why = Policy(tmp_path, "edit"), Decision("ask", "the default for the effect exec")
    for code in ("x", "import os", "print(1)", "del data"):  # some of them look like commands
        assert kind_of(made, {"code": code}, policy) is None
    with Store(tmp_path / "javis.db") as store:
        grants = Grants(store, policy)
        grants.add("pattern", "t", made, {"code": "import os"}, why)
        grants.add("thread", "t", made, {"code": "print(1)"}, why)
        assert grants.all() == [] and grants.cover("t", made, {"code": "print(1)"}, why)
        assert not grants.cover("t", made, {"code": "print(2)"}, why) and not grants.cover("u", made, {"code": "print(1)"}, why)


def test_mode_auto_asks_about_python_that_no_wall_holds(tmp_path):
    kernel = tool("exec", runs=Runs(None), interpreter=KernelPython(None))(run_python)
    walled = tool("exec", runs=Runs(SimpleNamespace(level="L3")), interpreter=KernelPython(None))(run_python)
    policy = Policy(tmp_path, "auto", wall="L3 bubblewrap")
    assert policy.decide(kernel, {"code": "1"}).verdict == "ask" and policy.decide(walled, {"code": "1"}).verdict == "allow"


def test_arguments_and_choice(tmp_path):
    made = box(ChildPython(tmp_path))
    assert made.signatures() == "run_python(code)" and made["run_python"].effect == "exec"
    assert "at least 1 character" in made.call("run_python", {"code": ""})
    assert isinstance(python_here(tmp_path), ChildPython)


# the notebook's own kernel

SETUP = """
import asyncio, threading
from IPython import get_ipython
from javis.tools.base import Toolbox, tool
from javis.tools.python import python_here, run_python
box = Toolbox([tool("exec", interpreter=python_here("."), timeout_s=5)(run_python)])
stop, said = threading.Event(), []
def ask(code, **options): said.append(box.call("run_python", {"code": code}, cancelled=stop, **options))
def ask_beside(code): threading.Thread(target=ask, args=[code]).start()
rows = [1, 2, 3]
"""


class Kernel:
    "A real kernel, as a front end sees it."

    def __init__(self, folder):
        client = pytest.importorskip("jupyter_client", reason="jupyter_client is in javis[lab]")
        self.manager = client.KernelManager()
        self.manager.start_kernel(cwd=str(folder), env=os.environ | {"IPYTHONDIR": str(folder / ".ipython")})
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        assert self(SETUP) == ""

    def __call__(self, code, wait=True):
        "What a cell prints and returns."
        asked, texts = self.client.execute(code), []
        while wait:
            message = self.client.get_iopub_msg(timeout=30)
            kind, content = message["msg_type"], message["content"]
            if message["parent_header"].get("msg_id") != asked:
                continue
            if kind == "status" and content["execution_state"] == "idle":
                break
            if kind in ("stream", "error", "execute_result"):
                texts.append(content.get("text") or content.get("data", {}).get("text/plain") or "\n".join(content["traceback"]))
        return "".join(texts)

    def until_said(self, count=1, seconds=15):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if int(self("len(said)")) >= count:
                return eval(self("said"))
            time.sleep(0.1)
        raise TimeoutError(self("said"))

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def shared_kernel(tmp_path_factory):
    kernel = Kernel(tmp_path_factory.mktemp("kernel"))
    yield kernel
    kernel.close()


@pytest.fixture
def kernel(shared_kernel):
    shared_kernel("said.clear(); stop.clear()")
    return shared_kernel


def test_code_uses_the_persons_variables(kernel):
    assert kernel("ask_beside('import threading\\nprint(threading.current_thread().name)\\ntotal = sum(rows)\\ntotal')") == ""
    assert kernel.until_said() == ["MainThread\nOut: 6"]
    assert kernel("total") == "6" and kernel("print('cells print as before')") == "cells print as before\n"
    assert kernel("any(cell.startswith('import threading') and 'total =' in cell for cell in In)") == "False"


def test_code_may_await(kernel):
    kernel("ask_beside('import asyncio\\nprint(1)\\nawait asyncio.sleep(0.3, 7)')")
    assert kernel("print('a cell beside it')") == "a cell beside it\n"
    assert kernel.until_said() == ["1\nOut: 7"]


def test_errors_of_code_do_not_reach_the_cell(kernel):
    kernel("ask_beside('nope')")
    assert kernel.until_said()[0].startswith("error:   python")
    assert kernel("1 + 1") == "2"


def test_a_cell_that_waits_for_the_code_is_no_deadlock(kernel):
    begin = time.monotonic()
    shown = kernel("thread = threading.Thread(target=ask, args=['print(5)']); thread.start(); thread.join(20); said")
    assert "the notebook is busy with a cell" in shown and time.monotonic() - begin < 8
    assert "5" not in kernel("print('later')")  # what was given up is never run


def test_a_call_from_the_cell_itself_runs_there(kernel):
    assert kernel("ask('print(rows)\\nlen(rows)'); said") == "['[1, 2, 3]\\nOut: 3']"
    assert "await needs" in kernel("ask('import asyncio\\nawait asyncio.sleep(1)'); said[-1]")


@pytest.mark.parametrize("code", ["import time\\ntime.sleep(60)", "while True: pass", "import asyncio\\nawait asyncio.sleep(60)"])
def test_stop_and_timeout_interrupt_the_code_and_not_the_kernel(kernel, code):
    kernel(f"ask_beside('print(1)\\n{code}'); threading.Timer(1, stop.set).start()")
    begin = time.monotonic()
    assert "the code was stopped. Until then:\n1" in kernel.until_said()[0] and time.monotonic() - begin < 5
    kernel("stop.clear()")
    kernel(f"ask_beside('{code}')")
    assert "ran longer than 5 s" in kernel.until_said(2)[1]
    assert kernel("rows") == "[1, 2, 3]"


def test_output_of_others_is_theirs(kernel):
    shown = kernel("async def beside():\n    for i in range(5):\n        print('mine', i)\n        await asyncio.sleep(0.1)\n"
                   "ask_beside('import asyncio\\nfor i in range(5):\\n    print(i)\\n    await asyncio.sleep(0.1)')\nawait beside()")
    assert shown == "".join(f"mine {i}\n" for i in range(5))
    assert kernel.until_said() == ["0\n1\n2\n3\n4"]


def test_a_kernel_interrupt_by_hand_works_too(kernel):
    kernel("ask_beside('import time\\ntime.sleep(60)')")
    time.sleep(0.7)
    kernel.manager.interrupt_kernel()
    assert "KeyboardInterrupt" in kernel.until_said()[0]
    assert kernel("1 + 1") == "2"
