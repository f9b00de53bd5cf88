"Walls that are only claimed when they hold, nothing that outlives us, and commands that are tried first."
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

import javis.tools.sandbox as sandbox
from javis.config import ConfigError
from javis.tools.base import Call, ToolError, running
from javis.tools.confined import Landlock, Places, Seatbelt, grants, matching_below, seatbelt_profile
from javis.tools.files import SafeRoot
from javis.tools.keeper import descendants
from javis.tools.launch import Bare, _Job, start
from javis.tools.sandbox import Bubblewrap, bubblewraps, find_sandbox, sandbox_overhead, try_wall, walls
from javis.tools.shell import run_shell, show_command
from javis.tools.speculation import Trials, drop_trial, keep_trial, show_trial, speculate, try_shell

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these walls")
WALLS = [wall for wall in walls() if try_wall(wall).holds] if os.name != "nt" else []
named = lambda one: f"{one.level}-{getattr(one, 'binary', '')[-12:]}"
everywhere = pytest.mark.parametrize("launcher", [Bare(), *WALLS], ids=named)
behind_walls = pytest.mark.parametrize("wall", WALLS, ids=named)
pytestmark = pytest.mark.skipif(os.name == "nt", reason="written for POSIX shells")


def alive(seconds: str) -> list:
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if (process.info["cmdline"] or [])[-1:] == [seconds] and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


# What is claimed
def test_bare_is_no_wall():
    trial = try_wall(Bare())
    assert not trial.holds and "it wrote outside" in trial.found and "it read a secret" in trial.found


def test_a_broken_wall_is_not_claimed(tmp_path):
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done; shift; exec \"$@\"\n")  # a wall that is none
    fake.chmod(0o755)
    found = find_sandbox(candidates=lambda *_: [Bubblewrap(str(fake)), Bubblewrap("/bin/false"), Bubblewrap("/nowhere")])
    assert found.level == "L0" and not found.holds and len(found.tried) == 3
    with pytest.raises(ConfigError, match="level L2.*Tried: Bubblewrap does not hold"):
        find_sandbox(need="L2", candidates=lambda *_: [Bubblewrap(str(fake))])


def test_a_wall_that_breaks_later_runs_nothing(tmp_path):
    for broken in (Bubblewrap("/bin/false"), Bubblewrap("/nowhere")):
        with pytest.raises(ToolError):
            run_shell("touch proof", root=tmp_path, launcher=broken)
    assert not (tmp_path / "proof").exists()


@behind_walls
def test_the_level_is_shown(wall):
    assert show_command("make", launcher=wall).startswith(wall.level)
    assert "no network" in str(wall) and "no network" not in str(replace(wall, network=True))


@linux
@pytest.mark.skipif(not bubblewraps(), reason="no bubblewrap here")
def test_the_strongest_wall_is_chosen():
    assert find_sandbox().level == WALLS[0].level
    assert find_sandbox(candidates=lambda *_: [Bubblewrap("/bin/false"), *WALLS[-1:]]).level == WALLS[-1].level


# What a wall allows and what it does not
@behind_walls
def test_the_project_is_writable_and_nothing_else(tmp_path, wall):
    (tmp_path / "project").mkdir()
    script = f"echo 1 > a; mkdir b; echo 2 > b/c; mv a b/d; echo x > {tmp_path}/out; echo x > /usr/out; echo x > ~/javis-out; ls b"
    text = run_shell(script, root=tmp_path / "project", launcher=wall)
    assert "c\nd\n" in text and sorted(path.name for path in tmp_path.rglob("*")) == ["b", "c", "d", "project"]
    assert not Path("/usr/out").exists() and not Path("~/javis-out").expanduser().exists()


@behind_walls
def test_reading_commands_write_nowhere(tmp_path, wall):
    started = start("echo x > file", tmp_path, wall, write=False)
    started.wait(5)
    started.close()
    assert started.code and not (tmp_path / "file").exists()


@behind_walls
def test_temporary_files_are_its_own(tmp_path, wall):
    (proof := Path("/tmp") / f"javis-{secrets.token_hex(4)}").write_text("foreign")
    try:
        text = run_shell(f"cat {proof}; t=$(mktemp) && echo fine > $t && cat $t", root=tmp_path, launcher=wall)
    finally:
        proof.unlink()
    assert "foreign" not in text and "fine" in text


@behind_walls
def test_no_new_privileges(tmp_path, wall):
    text = run_shell("grep -E 'NoNewPrivs|CapEff|CapBnd' /proc/self/status", root=tmp_path, launcher=wall)
    assert "NoNewPrivs:\t1" in text and "CapEff:\t0000000000000000" in text and "CapBnd:\t0000000000000000" in text
    assert "exit code 0" not in run_shell("mkdir m && mount -t tmpfs x m", root=tmp_path, launcher=wall)
    assert "made" not in run_shell("unshare -Urm true && echo made", root=tmp_path, launcher=wall) or wall.level == "L2"


@linux
def test_foreign_processes_are_out_of_sight(tmp_path):
    for wall in WALLS:
        with subprocess.Popen(["sleep", "30"]) as other:
            run_shell(f"kill -9 {other.pid}", root=tmp_path, launcher=wall)
            assert other.poll() is None
            other.kill()


@behind_walls
def test_limits_hold(tmp_path, wall):
    small = replace(wall, limits={"data": 200 * 2**20, "fsize": 2**20, "core": 0, "cpu": 1})
    say = lambda command: run_shell(command, root=tmp_path, launcher=small, timeout_s=20, idle_s=20)
    assert "MemoryError" in say("python3 -I -S -c 'bytearray(2**30)'")
    assert "exit code 0" not in say("head -c 5000000 /dev/zero > big") and (tmp_path / "big").stat().st_size <= 2**20
    assert "exit code 0" not in say("while :; do :; done")


FORKS = "for (1..400) { $child = fork(); last unless defined $child; if (!$child) { sleep 20; exit } $made++ } print qq(made $made\\n)"


@linux
@pytest.mark.case(24)
@pytest.mark.skipif(not any(wall.level == "L3" for wall in WALLS), reason="only namespaces count the processes of one command")
@pytest.mark.skipif(not os.path.exists("/usr/bin/perl"), reason="no perl")
def test_a_fork_bomb_is_bounded(monkeypatch):
    "Bounded by itself to 400. As root the kernel counts no processes, so there it is run as nobody."
    wall = replace([wall for wall in WALLS if wall.level == "L3"][-1], limits={"nproc": 60})
    user = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
    if user:  # who cannot look into the home folder of root
        monkeypatch.setenv("HOME", "/nonexistent")
        monkeypatch.setattr(sandbox, "_needed", lambda root: [])
    with tempfile.TemporaryDirectory(dir="/var/tmp") as there:
        os.chmod(there, 0o777)
        link, ours, theirs, report = *os.pipe(), *os.pipe()
        words = wall.argv(f"perl -e '{FORKS}'", Path(there), link, report)
        done = subprocess.run(words, pass_fds=(link, report), capture_output=True, text=True, timeout=30, **user)
        for handle in (link, ours, report):
            os.close(handle)
        said = os.read(theirs, 100).split()
        os.close(theirs)
    if "Permission denied" in done.stderr:
        pytest.skip("nobody cannot run this bubblewrap")
    assert 20 < int(done.stdout.split()[1]) < 60 and 20 < int(said[1]) < 60, done.stderr


# What is hidden, and how
def test_places(tmp_path):
    for name in (".env", "a/b/server.pem", "a/id_rsa.pub", "node_modules/x/key.pem", ".config/gh/hosts.yml", "src/app.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    shown = [path.relative_to(tmp_path).as_posix() for path in matching_below(tmp_path, Places().secrets)]
    assert shown == [".config/gh", ".env", "a/b/server.pem"]
    rights = dict(grants(tmp_path, "write", {tmp_path / ".env"}, {tmp_path / "a"}))
    assert rights[str(tmp_path)] == "look" and rights[str(tmp_path / "a")] == "read"
    assert rights[str(tmp_path / "src")] == "write" and str(tmp_path / ".env") not in rights


def test_links_grant_nothing(tmp_path):
    (tmp_path / "way").symlink_to("/etc")
    (tmp_path / ".env").write_text("x")
    assert str(tmp_path / "way") not in dict(grants(tmp_path, "read", {tmp_path / ".env"}))


def test_the_profile_of_macos():
    text = seatbelt_profile(Path('/p "q"'), [Path("/p/.env")], [Path("/p/.git/hooks")], "/t")
    lines = text.splitlines()
    assert lines[:2] == ["(version 1)", "(allow default)"] and '(subpath "/p \\"q\\"")' in text
    assert lines.index("(deny file-write*)") < lines.index('(deny file-write* (subpath "/p/.git/hooks"))')
    assert lines[-1] == '(deny file-read* file-write* (subpath "/p/.env"))' and "(deny network*)" in lines
    assert "(deny network*)" not in seatbelt_profile(Path("/p"), [], [], "/t", network=True)
    assert '(subpath "/p")' not in seatbelt_profile(Path("/p"), [], [], "/t", write=False)
    words = Seatbelt(temporary="/t").argv("ls", Path("/p"), 3, 4)
    assert "sandbox-exec" in words[-1] and Seatbelt(temporary="/t").level == "L1"


def test_the_job_object_of_windows():
    calls = []

    class Library:
        def __init__(self, refused=""):
            self.refused = refused

        def __getattr__(self, name):
            def call(*arguments):
                calls.append((name, arguments))
                return 0 if name == self.refused else 7
            self.__dict__[name] = call
            return call

    process = SimpleNamespace(_handle=9, kill=lambda: calls.append(("kill", ())))
    job = _Job(Library(), Library())
    job.take(process)
    job.close()
    assert [name for name, _ in calls] == ["CreateJobObjectW", "SetInformationJobObject", "AssignProcessToJobObject",
                                           "NtResumeProcess", "TerminateJobObject", "CloseHandle"]
    assert bytes(calls[1][1][2])[16:20] == (0x2000).to_bytes(4, "little")
    with pytest.raises(ToolError, match="refused"):
        _Job(Library("AssignProcessToJobObject"), Library()).take(process)
    assert calls[-1][0] == "kill"
    with pytest.raises(ToolError, match="gives no job object"):
        _Job(Library("SetInformationJobObject"), Library())


# Nothing outlives anybody
STAYERS = {
    "stubborn": "bash -c \"trap '' TERM HUP INT; sleep NAP; sleep NAP\" & sleep NAP",
    "own session": "setsid sleep NAP & sleep NAP",
    "twice forked": "(setsid bash -c '(env -i setsid sleep NAP >/dev/null 2>&1 &) &' &) ; sleep NAP",
}
PARENT = """
import sys
from pathlib import Path
from javis.tools.launch import Bare
from javis.tools.sandbox import walls
from javis.tools.jobs import Jobs
from javis.tools.outputs import Outputs
from javis.tools.shell import run_shell
root, command, at, kind = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
launcher = [Bare(), *walls()][at]
print("ready", flush=True)
if kind == "job":
    jobs = Jobs(root, Outputs(root / 'outputs'), launcher)
    jobs.start(command)
    import time; time.sleep(60)
run_shell(command, root=root, launcher=launcher, timeout_s=60, idle_s=60)
"""


def gone(nap: str, patience: float = 4) -> bool:
    deadline = time.monotonic() + patience
    while alive(nap) and time.monotonic() < deadline:
        time.sleep(0.05)
    return alive(nap) == []


@linux
@pytest.mark.parametrize("kind", ["call", "job"])
@pytest.mark.parametrize("stayer", STAYERS)
@everywhere
def test_nothing_outlives_a_killed_parent(tmp_path, launcher, stayer, kind):
    at = [named(one) for one in [Bare(), *walls()]].index(named(launcher))
    for pause in (random.uniform(0, 0.05), random.uniform(0, 0.4), 0.6):
        nap = f"5400.{secrets.randbelow(10**9)}"
        words = [sys.executable, "-c", PARENT, str(tmp_path), STAYERS[stayer].replace("NAP", nap), str(at), kind]
        with subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True) as parent:
            parent.stdout.readline()
            time.sleep(pause)
            parent.send_signal(signal.SIGKILL)
        time.sleep(0.1)
        assert gone(nap), pause


@linux
@pytest.mark.parametrize("stayer", STAYERS)
@everywhere
def test_nothing_outlives_a_killed_keeper(tmp_path, launcher, stayer):
    for pause in (random.uniform(0.02, 0.3), 0.5):
        nap = f"5400.{secrets.randbelow(10**9)}"
        command = STAYERS[stayer].replace("NAP", nap).replace("env -i ", "env -u X ")  # its mark is needed then
        started = start(command, tmp_path, launcher)
        time.sleep(pause)
        started.process.kill()  # the keeper, or bubblewrap
        started.wait(3)
        started.close()
        assert started.code is None and gone(nap)


@everywhere
def test_a_daemon_is_ended_with_its_command(tmp_path, launcher):
    nap = f"5400.{secrets.randbelow(10**9)}"
    text = run_shell(f"(setsid sleep {nap} >/dev/null 2>&1 &); sleep 0.1; echo done", root=tmp_path, launcher=launcher)
    assert text == "done\n[exit code 0, 1 left in the background ended]" and gone(nap, 0.5)


@everywhere
def test_a_command_cannot_forge_its_report(tmp_path, launcher):
    script = "for fd in /proc/self/fd/*; do n=${fd##*/}; [ $n -gt 2 ] && eval \"echo '0 0' >&$n\" 2>/dev/null; done; exit 7"
    assert "[exit code 7" in run_shell(script, root=tmp_path, launcher=launcher)


@everywhere
def test_stop_is_polite_first(tmp_path, launcher):
    cancelled = Call().cancelled
    with running(Call(cancelled=cancelled)):
        import threading
        threading.Timer(0.5, cancelled.set).start()
        with pytest.raises(ToolError, match="was stopped"):
            run_shell("trap 'echo bye > bye; exit' TERM; while :; do sleep 0.05; done", root=tmp_path, launcher=launcher)
    assert (tmp_path / "bye").exists()


def test_descendants():
    with subprocess.Popen(["bash", "-c", "sleep 20 & sleep 20"], stderr=subprocess.DEVNULL) as shell:
        time.sleep(0.2)
        below = descendants(shell.pid)
        for pid in [*below, shell.pid]:
            os.kill(pid, signal.SIGKILL)
    assert len(below) == 2


@linux
@pytest.mark.skipif(not bubblewraps(), reason="no bubblewrap here")
def test_the_wall_is_cheap():
    "The target is 15 ms on an idle machine; a busy one may take longer."
    assert min(sandbox_overhead(wall, runs=15) for wall in WALLS if wall.level == "L3") < 60


# Tried first
WAYS = [pytest.param(wall, overlay, id=f"{named(wall)}-{'overlay' if overlay else 'copy'}")
        for wall in WALLS for overlay in ((True, False) if wall.level == "L3" else (False,))]


@pytest.fixture
def project(tmp_path):
    root = tmp_path / "project"
    for name, text in {"a.txt": "one\ntwo\n", "old/x": "x\n", "old/deep/y": "y\n", "run.sh": "#!/bin/sh\n", ".env": "KEY=sesame\n",
                       "kind": "file\n", "way/z": "z\n", "bytes": "\0\1"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "link").symlink_to("a.txt")
    return root


def snapshot(root: Path) -> dict:
    return {path.relative_to(root).as_posix(): os.readlink(path) if path.is_symlink() else "folder" if path.is_dir()
            else (path.read_bytes(), path.stat().st_mode & 0o777) for path in sorted(root.rglob("*"))}


SCRIPTS = [
    "true", "touch a.txt", "echo three >> a.txt", "rm a.txt", "rm -r old", "rm old/x", "rm -r old; mkdir old; echo n > old/n",
    "rm -r old; echo file > old", "rm kind; mkdir kind; echo q > kind/q", "mv old new", "chmod +x run.sh", "mkdir -p empty/deeper",
    "ln -sf old/x link", "rm link; mkdir link", "mv a.txt b.txt; ln -s b.txt c", "printf '\\0\\2' > bytes", "rm -r *", "echo x > way/z; rm -r way",
    "mkdir n; echo 1 > n/a; echo 2 > n/b; mv n m", "mv old/deep deep; rmdir old 2>/dev/null; echo 한글 > 파일", "sed -i s/one/1/ a.txt; exit 3",
]


@pytest.mark.parametrize("wall,overlay", WAYS)
@pytest.mark.parametrize("script", SCRIPTS)
def test_trying_and_keeping_is_like_running(project, tmp_path, script, wall, overlay):
    twin = tmp_path / "twin"
    subprocess.run(["cp", "-a", str(project), str(twin)], check=True)
    subprocess.run(["bash", "-c", script], cwd=twin, capture_output=True)
    before = snapshot(project)
    tried = speculate(script, root=SafeRoot(project), launcher=wall, overlay=overlay)
    assert snapshot(project) == before
    assert str(tried) and "sesame" not in str(tried)
    tried.commit()
    assert snapshot(project) == snapshot(twin)
    assert not tried._folder.exists()


@pytest.mark.parametrize("wall,overlay", WAYS)
def test_dropping_leaves_nothing(project, wall, overlay):
    before = snapshot(project)
    tried = speculate("echo x > a.txt; rm -r old; mkdir -m 0 locked", root=SafeRoot(project), launcher=wall, overlay=overlay)
    assert {str(one) for one in tried.changes} >= {"changed a.txt", "deleted old/x"}
    folder = tried._folder
    tried.drop()
    assert snapshot(project) == before and not folder.exists()
    with pytest.raises(ToolError, match="kept or dropped before"):
        tried.commit()


@pytest.mark.parametrize("wall,overlay", WAYS)
@pytest.mark.parametrize("script,what", [
    ("echo x > Makefile", "decides what runs later"), ("mkdir -p .git/hooks; echo x > .git/hooks/pre-commit", "decides what runs later"),
    ("ln -s /etc/passwd out", "link out of"), ("ln -s ../../../etc out", "link out of"), ("echo x > deploy.pem", "may hold secrets"),
    ("mkfifo pipe", "no regular file"), ("mkdir s; echo x > s/id_rsa", "may hold secrets")])
def test_what_is_not_kept(project, script, what, wall, overlay):
    before = snapshot(project)
    tried = speculate(f"echo also > fine; {script}", root=SafeRoot(project), launcher=wall, overlay=overlay)
    with pytest.raises(ToolError, match=what):
        tried.commit()
    assert snapshot(project) == before
    if what == "decides what runs later":
        assert "kept" in tried.commit(guarded_too=True)
    tried.drop()


@pytest.mark.parametrize("wall,overlay", WAYS)
def test_drift_is_noticed(project, wall, overlay):
    tried = speculate("echo mine >> a.txt", root=SafeRoot(project), launcher=wall, overlay=overlay)
    (project / "a.txt").write_text("yours\n")
    with pytest.raises(ToolError, match="somebody else"):
        tried.commit()
    assert (project / "a.txt").read_text() == "yours\n"
    tried = speculate("echo mine > new", root=SafeRoot(project), launcher=wall, overlay=overlay)
    (project / "new").write_text("yours\n")
    with pytest.raises(ToolError, match="somebody else"):
        tried.commit()
    tried = speculate("echo mine > way/z", root=SafeRoot(project), launcher=wall, overlay=overlay)
    os.rename(project / "way", project / "elsewhere")
    (project / "way").symlink_to("/tmp")
    with pytest.raises(ToolError):
        tried.commit()


@pytest.mark.parametrize("wall,overlay", WAYS)
def test_drift_while_it_runs(project, wall, overlay):
    import threading
    threading.Timer(0.7, lambda: (project / "a.txt").write_text("yours\n")).start()
    tried = speculate("sleep 1.5; echo mine > a.txt", root=SafeRoot(project), launcher=wall, overlay=overlay)
    with pytest.raises(ToolError, match="somebody else"):
        tried.commit()
    assert (project / "a.txt").read_text() == "yours\n"


@pytest.mark.parametrize("wall,overlay", WAYS)
def test_a_failed_command_still_shows_its_changes(project, wall, overlay):
    tried = speculate("echo half > a.txt; sleep 60", root=SafeRoot(project), launcher=wall, overlay=overlay, timeout_s=0.6)
    assert tried.output.startswith("error: the command ran longer") and [one.path for one in tried.changes] == ["a.txt"]


def test_without_a_wall_nothing_is_tried(project):
    for launcher in (Bare(), Seatbelt(temporary="/t")):
        with pytest.raises(ToolError, match="behind a wall"):
            speculate("rm -r old", root=SafeRoot(project), launcher=launcher)


@behind_walls
def test_the_tools_that_try(project, wall):
    trials = Trials(SafeRoot(project), wall, keep=2)
    ids = [try_shell(f"echo {i} > n{i}; echo all: > Makefile", trials=trials).split("id='")[1][:6] for i in range(3)]
    with pytest.raises(ToolError, match="no tried command"):
        keep_trial(ids[0], trials=trials)
    assert "decide what runs later: Makefile" in show_trial(ids[2], trials=trials)
    with pytest.raises(ToolError, match="needs a yes"):
        keep_trial(ids[2], trials=trials)
    with running(Call(approved=True)):
        assert keep_trial(ids[2], trials=trials) == "kept 2 changes"
    assert (project / "n2").read_text() == "2\n" and not (project / "n1").exists()
    assert "keep_trial" not in try_shell("true", trials=trials)
