"Commands end, with all that they started, and see no secret."
import os
import secrets
import subprocess
import sys
import threading
import time

import psutil
import pytest

from javis.tools.base import Call, Toolbox, ToolError, running, tool
from javis.tools.shell import run_shell

pytestmark = pytest.mark.skipif(os.name == "nt", reason="written for POSIX shells")


@pytest.fixture
def nap() -> str:
    "A number of seconds that no other process sleeps."
    return f"5400.{secrets.randbelow(10**9)}"


def alive(seconds: str) -> list:
    "The sleeping processes with this argument."
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if process.info["cmdline"] == ["sleep", seconds] and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def test_output_and_exit_code(tmp_path):
    assert run_shell("echo out; echo err >&2; pwd", root=tmp_path) == f"out\nerr\n{tmp_path.resolve()}\n[exit code 0]"
    assert run_shell("exit 7", root=tmp_path) == "[exit code 7]"
    assert run_shell("no-such-program", root=tmp_path).endswith("[exit code 127]")
    assert run_shell("kill -9 $$", root=tmp_path) == "[ended by SIGKILL]"
    assert run_shell("printf 안녕; printf '\\377'", root=tmp_path) == "안녕\ufffd\n[exit code 0]"


def test_environment_is_small(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "open-sesame")
    monkeypatch.setenv("MY_FLAG", "on")
    seen = run_shell("env", root=tmp_path)
    assert "open-sesame" not in seen and "MY_FLAG" not in seen
    assert "PAGER=cat" in seen and "PATH=" in seen
    assert "MY_FLAG=on" in run_shell("env", root=tmp_path, variables=["MY_FLAG"])


def test_nothing_can_be_asked(tmp_path):
    assert run_shell("cat; echo end", root=tmp_path, timeout_s=5) == "end\n[exit code 0]"
    assert run_shell("test -t 0 || test -t 1 || echo no terminal; (: </dev/tty) 2>/dev/null || echo none",
                     root=tmp_path).startswith("no terminal\nnone")


@pytest.mark.parametrize("command", [
    "sleep NAP",
    "trap '' TERM; sleep NAP; sleep NAP",
    "sleep NAP & sleep NAP",
    "(setsid sleep NAP &); sleep NAP",
    "env -i sleep NAP",
])
def test_timeout_ends_everything(tmp_path, command, nap):
    start = time.monotonic()
    with pytest.raises(ToolError, match="longer than 0.3 s"):
        run_shell(f"echo begun; {command}".replace("NAP", nap), root=tmp_path, timeout_s=0.3)
    assert time.monotonic() - start < 8 and alive(nap) == []


@pytest.mark.parametrize("command", ["sleep NAP &", "nohup sleep NAP >/dev/null 2>&1 &", "setsid sleep NAP &",
                                     "(setsid sh -c 'trap \"\" TERM; sleep NAP' &)"])
def test_nothing_stays_in_the_background(tmp_path, command, nap):
    out = run_shell(f"{command}\nsleep 0.2; echo done".replace("NAP", nap), root=tmp_path)
    assert out.startswith("done\n[exit code 0, ") and alive(nap) == []


def test_output_so_far_is_told(tmp_path):
    with pytest.raises(ToolError, match="Until then:\nhalf way"):
        run_shell("echo half way; sleep 60", root=tmp_path, timeout_s=0.3)


def test_stop(tmp_path, nap):
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    box = Toolbox([tool("exec", root=tmp_path)(run_shell)])
    start = time.monotonic()
    assert "was stopped" in box.call("run_shell", {"command": f"sleep {nap}"}, cancelled=stop)
    assert time.monotonic() - start < 5 and alive(nap) == []


def test_endless_output_is_bounded_while_it_runs(tmp_path):
    code = """
import resource, sys
from pathlib import Path
from javis.tools.shell import run_shell
import psutil
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
out = run_shell("head -c 300000000 /dev/zero | tr '\\\\0' x; echo; echo last", root=Path(sys.argv[1]))
print(len(out), out.endswith("last\\n[exit code 0]"), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120)
    length, right, growth = result.stdout.split()
    assert int(length) < 40_000 and right == "True"
    assert int(growth) < 60_000 * (1024 if sys.platform == "darwin" else 1)  # nowhere near 300 MB


def test_what_cannot_start(tmp_path):
    with pytest.raises(ToolError, match="cannot be started"):
        run_shell("echo a\0b", root=tmp_path)
    with pytest.raises(ToolError, match="cannot be started"):
        run_shell("echo a", root=tmp_path / "nowhere")


def test_two_at_once_do_not_end_each_other(tmp_path):
    results = []
    threads = [threading.Thread(target=lambda n=n: results.append(run_shell(f"sleep {0.2 * n}; echo {n}", root=tmp_path)))
               for n in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [f"{n}\n[exit code 0]" for n in (1, 2, 3)]
