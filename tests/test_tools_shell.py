"Commands end, with all that they started, and see no secret."
import os
import secrets
import subprocess
import sys
import threading
import time

import psutil
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from javis.tools.base import Call, Toolbox, ToolError, running, tool
from javis.tools.commands import judge, pieces, quiet_git, words_of
from javis.tools.jobs import Jobs, list_jobs, start_job, stop_job
from javis.tools.outputs import Outputs, Tape, recall_output
from javis.tools.sandbox import find_sandbox
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


def test_silence_has_a_deadline_of_its_own(tmp_path, nap):
    with pytest.raises(ToolError, match="printed nothing for 0.4 s"):
        run_shell(f"echo begun; sleep {nap}", root=tmp_path, timeout_s=60, idle_s=0.4)
    text = run_shell("for i in 1 2 3 4 5; do echo $i; sleep 0.2; done", root=tmp_path, timeout_s=60, idle_s=0.9)
    assert text == "1\n2\n3\n4\n5\n[exit code 0]" and alive(nap) == []


# What bash makes of a line
PARTS = st.sampled_from(list("ab-=~#! '\"\\$`|&;<>(){}*?[]\t\n%^@:,./0") + ["ls", "if", "é", "\u00a0", "$(", "a=", " ~", "--x="])


@pytest.fixture(scope="module")
def wall():
    return find_sandbox()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(PARTS, min_size=1, max_size=12).map("".join))
@example("ls 'a b' \"c d\"x''")
@example("a=b ls")
@example("ls a=~ b:~c")
@example("ls --x=~")
def test_words_are_those_of_bash(tmp_path_factory, wall, line):
    "A line that is called understood gives bash exactly these words; bash runs behind a wall, and runs printf alone."
    words = words_of(f"ls {line}")
    if not words:
        return
    root = tmp_path_factory.getbasetemp()
    env = {"PATH": "/usr/bin:/bin", "HOME": "/home-of-nobody", "LANG": "C.UTF-8"}
    if wall.holds:
        said = run_shell(f"HOME=/home-of-nobody; printf '%s\\n' {line}", root=root, launcher=wall, keep_bytes=100_000)
        said = said.rpartition("[exit code 0]")[0]
    else:
        said = subprocess.run(["bash", "-c", f"printf '%s\\n' {line}"], env=env, cwd=root, capture_output=True, text=True).stdout
    if words[1:] and words[1].startswith("-"):
        return  # printf would take it as its own
    assert said.rstrip("\n") == "\n".join(words[1:]).rstrip("\n")


@settings(max_examples=300, deadline=None)
@given(st.lists(PARTS, min_size=1, max_size=12).map("".join))
def test_a_parser_of_bash_agrees(line):
    "What is understood is one command to tree-sitter as well, where that is installed."
    language = pytest.importorskip("tree_sitter_bash")
    from tree_sitter import Language, Parser
    root = Parser(Language(language.language())).parse(line.encode()).root_node
    if not words_of(line) or '#' in line or root.has_error:  # it takes some for comments, and trips over a%
        return
    assert [child.type for child in root.children] == ["command"]


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_judged(line):
    found = judge(line)
    assert found.kind in ("read-only", "plain", "complex") and found.why and pieces(line)[0] == line
    assert bool(found.words) == (found.kind != "complex")
    quiet_git(line)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(1, 40))
def test_a_tape_keeps_both_ends(pieces_of_it, limit):
    tape, whole = Tape(limit), b"".join(pieces_of_it)
    for piece in pieces_of_it:
        tape.add(piece)
    assert len(tape.head) + len(tape.tail) + tape.lost == len(whole)
    assert whole.startswith(bytes(tape.head)) and whole.endswith(bytes(tape.tail))
    assert tape.lost or tape.text() == whole.decode("utf-8", "replace")


# Whole outputs
def test_a_long_output_can_be_read_piece_by_piece(tmp_path):
    outputs = Outputs(tmp_path / "outputs")
    text = run_shell("seq 20000", root=tmp_path, outputs=outputs)
    assert len(text) < 4000 and "recall_output(id='" in text and text.startswith("1\n2\n") and "20000\n[exit code 0]" in text
    name, offset, whole = text.split("id='")[1][:6], 0, ""
    while True:
        part = recall_output(name, offset, outputs=outputs)
        whole += part[:part.rindex("[")].removesuffix("\n") if not part.endswith("\n") else part
        if "the next begins" not in part:
            break
        offset = int(part.rsplit("offset=", 1)[1].rstrip("]"))
    assert whole.replace("\n", "") == "".join(map(str, range(1, 20001)))
    assert recall_output(name, -6, outputs=outputs).startswith("20000")
    assert list((tmp_path / "outputs").iterdir())[0].stat().st_mode & 0o077 == 0


def test_a_short_output_needs_no_file(tmp_path):
    outputs = Outputs(tmp_path / "outputs")
    run_shell("seq 100", root=tmp_path, outputs=outputs)
    assert list(outputs.folder.iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "abcdef", "/etc/p", "", "ABCDEF", "a/b..c"])
def test_there_is_no_such_output(tmp_path, name):
    with pytest.raises(ToolError, match="there is no output"):
        recall_output(name, 0, outputs=Outputs(tmp_path))


def test_outputs_are_bounded(tmp_path):
    outputs = Outputs(tmp_path / "outputs", max_bytes=10_000, keep=3)
    for _ in range(6):
        run_shell("yes | head -c 100000", root=tmp_path, outputs=outputs)
    sizes = [file.stat().st_size for file in outputs.folder.iterdir()]
    assert len(sizes) <= 3 and max(sizes) <= 10_000
    folder = Outputs().folder
    assert not folder.exists()  # it went with its object


# Commands in the background
@pytest.fixture(params=["bare", "wall"])
def jobs(request, tmp_path, wall):
    found = Jobs(tmp_path, Outputs(tmp_path / "outputs"), wall, limit=3) if request.param == "wall" else \
        Jobs(tmp_path, Outputs(tmp_path / "outputs"), limit=3)
    yield found
    found.close()


def until(condition, seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_a_job_is_polled_from_an_offset(jobs):
    job = jobs.start("echo first; while [ ! -e go ]; do sleep 0.05; done; echo second; exit 4")
    assert until(lambda: "first" in recall_output(job.id, 0, outputs=jobs.outputs))
    assert "running for" in recall_output(job.id, 6, outputs=jobs.outputs)
    (jobs.root / "go").touch()
    assert until(lambda: job.ended)
    assert recall_output(job.id, 6, outputs=jobs.outputs) == "second\n\n[exit code 4; bytes 6-13 of 13]"


def test_a_job_survives_the_call_that_started_it(jobs, nap):
    thread = threading.Thread(target=lambda: jobs.start(f"echo up; sleep {nap}"))
    thread.start()
    thread.join()
    job = next(iter(jobs))
    assert until(lambda: "up" in recall_output(job.id, 0, outputs=jobs.outputs))
    time.sleep(0.5)
    assert not job.ended and alive(nap)
    jobs.close()
    assert job.ended == "stopped" and alive(nap) == []


@pytest.mark.parametrize("command", ["trap '' TERM; sleep NAP; sleep NAP", "(setsid sleep NAP &); sleep NAP",
                                     "(env -i setsid bash -c 'sleep NAP & sleep NAP' >/dev/null 2>&1 &); sleep NAP"])
def test_stopping_a_job_ends_its_whole_tree(jobs, nap, command):
    job = jobs.start(command.replace("NAP", nap))
    assert until(lambda: alive(nap))
    jobs.stop(job.id)
    assert job.ended == "stopped" and alive(nap) == []


def test_the_tools_for_jobs(jobs):
    assert list_jobs(jobs=jobs) == "there are none"
    name = start_job("sleep 60", jobs=jobs).split()[1].strip(".")
    assert list_jobs(jobs=jobs).startswith(f"{name}  running for 0 s  sleep 60")
    assert stop_job(name, jobs=jobs) == f"{name}: stopped" and "had ended before" in stop_job(name, jobs=jobs)
    assert "It has ended: exit code 3" in start_job("exit 3", jobs=jobs)
    for _ in range(3):
        jobs.start("sleep 60")
    with pytest.raises(ToolError, match="3 jobs are running"):
        jobs.start("sleep 60")
    with pytest.raises(ToolError, match="no job"):
        stop_job("nothing", jobs=jobs)


def test_a_job_that_cannot_start(tmp_path):
    jobs = Jobs(tmp_path / "nowhere", Outputs(tmp_path / "outputs"))
    with pytest.raises(ToolError, match="cannot be started"):
        jobs.start("ls")
    assert list(jobs) == []
