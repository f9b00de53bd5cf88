"Undo: what a call did is taken back byte for byte, and nothing else is touched."
import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from javis import camera as camera_module
from javis import restore
from javis.basics import JavisError, register_secret
from javis.camera import Camera, Limits
from javis.snapshots import Objects, get_snapshot, put_snapshot
from javis.tools.base import ToolError
from javis.tools.root import SafeRoot
from javis.undo import Checkpoints

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX shell commands, links and permissions")


def state(root):
    "Everything of a tree that undo promises: kinds, bytes, where links lead, permissions."
    found = {}
    for folder, names, files in os.walk(root):
        for name in names + files:
            path = os.path.join(folder, name)
            info, short = os.lstat(path), os.path.relpath(path, root)
            if stat.S_ISLNK(info.st_mode):
                found[short] = ("link", os.readlink(path))
            elif stat.S_ISDIR(info.st_mode):
                found[short] = ("folder", stat.S_IMODE(info.st_mode))
            else:
                found[short] = ("file", stat.S_IMODE(info.st_mode), Path(path).read_bytes())
    return found


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "proj"
    (folder / "src").mkdir(parents=True)
    (folder / "src/app.py").write_text("print('hi')\n")
    (folder / "README.md").write_bytes(b"# A\r\nplan\xff\n")
    (folder / ".env").write_text("KEY=very-secret-value\n")
    (folder / ".gitignore").write_text(".env\n*.log\n")
    (folder / "notes.log").write_text("ignored, but mine\n")
    (folder / "empty").mkdir()
    (folder / "link").symlink_to("src/app.py")
    return folder


@pytest.fixture
def checkpoints(project, tmp_path):
    return Checkpoints(project, tmp_path / "undo")


def run(checkpoints, command):
    with checkpoints.around(f"run_shell({command})") as id:
        subprocess.run(command, shell=True, cwd=checkpoints.root, executable="/bin/bash", check=True)
    return id


# ---- byte for byte ---------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c.txt", "d", "한글", "a b", "-rf", "x'y", "line\nend", "e.bin", ".env", "\udcff"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
DATA = st.one_of(st.binary(max_size=40), st.sampled_from([b"", b"\0" * 5000, b"a\r\nb\n", b"one\n" * 300]))
STEPS = st.one_of(
    st.tuples(st.just("write"), PATHS, DATA), st.tuples(st.just("append"), PATHS, DATA),
    st.tuples(st.sampled_from(["rm -rf --", "mkdir -p --", "chmod 600 --", "chmod 755 --", "chmod 2775 --",
                               "truncate -s 3 --", "ln -s /etc/passwd", "ln -sfn ../x", "touch --"]), PATHS, st.just(b"")),
    st.tuples(st.sampled_from(["mv -T --", "cp -aT --", "ln --", "ln -s --"]), PATHS, PATHS.map(os.fsencode)))


def perform(root, step):
    "One change of a random kind; many fail, and that is fine."
    what, path, more = step
    target = root / path
    if what in ("write", "append"):
        with contextlib.suppress(OSError):
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.is_symlink():
                with open(target, "wb" if what == "write" else "ab") as file:
                    file.write(more)
        return
    last = [b"./" + more] if more and "mv" in what or more and "cp" in what else [more] if more else []
    subprocess.run([*what.split(), b"./" + os.fsencode(path), *last], cwd=root,
                   stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(STEPS, max_size=6), st.lists(st.lists(STEPS, min_size=1, max_size=4), min_size=1, max_size=4))
def test_undo_restores_byte_for_byte(first, calls):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "proj")
        root.mkdir()
        for step in first:
            perform(root, step)
        checkpoints, states, ids = Checkpoints(root, Path(folder, "undo")), [state(root)], []
        for call in calls:
            with checkpoints.around("a call") as id:
                for step in call:
                    perform(root, step)
            ids.append(id)
            states.append(state(root))
        done = []
        for id, expected in zip(reversed(ids), reversed(states[:-1])):
            result = checkpoints.undo(id)
            assert not result.stays
            assert state(root) == expected
            done.append(result.id)
        for id, expected in zip(reversed(done), states[1:]):  # and all of it forth again
            if id:
                assert not checkpoints.undo(id).stays
            assert state(root) == expected
        again = Checkpoints(root, Path(folder, "undo"))  # another process, all at once
        if any(call.count and not call.undone and not call.undoes for call in again.history()):
            assert not again.undo(len(calls)).stays
        assert state(root) == states[0]
        git = ["git", f"--git-dir={folder}/undo/git"]
        assert subprocess.run([*git, "fsck", "--full", "--strict"], capture_output=True).returncode == 0


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(STEPS, min_size=1, max_size=5), st.lists(STEPS, min_size=1, max_size=5))
def test_what_somebody_changed_since_is_never_lost(call, later):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "proj")
        root.mkdir()
        checkpoints = Checkpoints(root, Path(folder, "undo"))
        with checkpoints.around("a call") as id:
            for step in call:
                perform(root, step)
        left = state(root)
        for step in later:
            perform(root, step)
        theirs = state(root)
        result = checkpoints.undo(id)
        now = state(root)
        for path, what in theirs.items():
            if what[0] != "folder" and left.get(path) != what:
                assert now.get(path) == what, (path, result.stays)


# ---- what a call did -------------------------------------------------------------------------

def test_changes_as_list_and_diff(project, checkpoints):
    id = run(checkpoints, "echo more >> src/app.py; rm README.md; printf '\\0\\1' > a.bin; chmod 755 notes.log;"
                          "ln -sfn /etc link; mkdir new; echo KEY=other > .env")
    diff, changes = checkpoints.changes(id)
    assert [str(change) for change in changes] == [
        "changed: .env", "removed: README.md", "added: a.bin", "changed: link", "added: new/",
        "permissions: notes.log", "changed: src/app.py"]
    assert "+more" in diff and "src/app.py to /etc" in diff and "(644 to 755)" in diff
    assert "-plan\ufffd" in diff and "other" not in diff and "very-secret" not in diff


def test_undo_of_a_shell_command_and_its_undo(project, checkpoints):
    before = state(project)
    run(checkpoints, "sed -i s/hi/ho/ src/app.py && git init -q . && mv README.md docs.md && rm -r empty .env")
    after = state(project)
    result = checkpoints.undo()
    left = {path: what for path, what in state(project).items() if not path.startswith(".git/") and path != ".git"}
    assert left == before and result.stays == {".git": "not kept: not looked at"}
    assert checkpoints.history()[1].undone
    with pytest.raises(JavisError, match="nothing to undo"):
        checkpoints.undo()
    checkpoints.undo(result.id)
    assert state(project) == after and not checkpoints.history()[2].undone


def test_the_last_n_and_one_in_the_middle(project, checkpoints):
    ids = [run(checkpoints, f"echo {name} > {name}.txt; echo {name} >> all.txt") for name in "abc"]
    result = checkpoints.undo(ids[1])
    assert [change.path for change in result.changes] == ["b.txt"] and result.stays == {"all.txt": "changed since"}
    assert (project / "all.txt").read_text() == "a\nb\nc\n"
    checkpoints.undo(2)
    assert sorted(path.name for path in project.glob("*.txt")) == ["all.txt"]
    assert (project / "all.txt").read_text() == "a\nb\n"  # c's line goes; b's cannot, so a's stays as well
    assert "all.txt" in checkpoints.undo(ids[0], anyway=["all.txt"]).changes[0].path
    assert not (project / "all.txt").exists()


def test_drift_is_reported_and_kept(project, checkpoints):
    run(checkpoints, "echo call > src/app.py; echo call > new.txt; rm notes.log")
    (project / "src/app.py").write_text("mine\n")
    (project / "notes.log").write_text("written anew\n")
    plan = checkpoints.plan()
    assert plan.stays == {"src/app.py": "changed since", "notes.log": "changed since"}
    result = checkpoints.undo()
    assert result.stays == plan.stays and [change.path for change in result.changes] == ["new.txt"]
    assert (project / "src/app.py").read_text() == "mine\n"
    assert (project / "notes.log").read_text() == "written anew\n"
    result = checkpoints.undo(checkpoints.history()[1].id, anyway=["src/app.py"])
    assert (project / "src/app.py").read_text() == "print('hi')\n"
    checkpoints.undo(result.id)
    assert (project / "src/app.py").read_text() == "mine\n"


def test_a_change_between_the_plan_and_the_writing_stays(project, checkpoints, monkeypatch):
    run(checkpoints, "echo call > src/app.py; echo call > README.md")
    really = restore._orders

    def late(*arguments):
        (project / "README.md").write_text("just now\n")
        return really(*arguments)
    monkeypatch.setattr(restore, "_orders", late)
    assert checkpoints.undo().stays == {"README.md": "it has changed just now"}
    assert (project / "README.md").read_text() == "just now\n"
    assert (project / "src/app.py").read_text() == "print('hi')\n"


def test_a_write_that_follows_at_once_is_seen(project, checkpoints):
    target = project / "src/app.py"
    for number in range(30):  # same size, within one tick of the clock
        with checkpoints.around("write") as id:
            target.write_text(f"print({number:02})\n")
        assert [change.path for change in checkpoints.changes(id)[1]] == ["src/app.py"]
    checkpoints.undo(30)
    assert target.read_text() == "print('hi')\n"


def test_times_set_back_do_not_hide_a_change(project, checkpoints):
    time.sleep(0.06)
    checkpoints.before("settle")
    id = run(checkpoints, "touch -r src/app.py /tmp/$$; printf \"print('HO')\\n\" > src/app.py;"
                          "touch -r /tmp/$$ src/app.py; rm /tmp/$$")
    assert [change.path for change in checkpoints.changes(id)[1]] == ["src/app.py"]


# ---- links, and what is not kept -------------------------------------------------------------

def test_nothing_is_restored_through_a_link(project, checkpoints, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "app.py").write_text("theirs\n")
    run(checkpoints, "echo two > src/app.py; echo > src/new.py; rm README.md")
    for path in (project / "src").iterdir():
        path.unlink()
    (project / "src").rmdir()
    (project / "src").symlink_to(outside)
    result = checkpoints.undo()
    assert result.stays["src/app.py"] == "changed since" and [change.path for change in result.changes] == ["README.md"]
    result = checkpoints.undo(checkpoints.history()[1].id, anyway=["src/app.py"])
    assert result.stays["src/app.py"] == "a link or a file is in the way"
    assert (outside / "app.py").read_text() == "theirs\n" and os.listdir(outside) == ["app.py"]


def test_a_link_that_was_removed_comes_back_as_a_link(project, checkpoints, tmp_path):
    outside = tmp_path / "outside.txt"
    outside.write_text("theirs")
    (project / "out").symlink_to(outside)
    run(checkpoints, "rm out link; echo file > out")
    checkpoints.undo()
    assert os.readlink(project / "out") == str(outside) and os.readlink(project / "link") == "src/app.py"
    assert outside.read_text() == "theirs"


def test_what_is_left_out_is_reported(project, tmp_path):
    small = Checkpoints(project, project / "data/undo", limits=Limits(file=1000))
    (project / "large.bin").write_bytes(b"x" * 2000)
    (project / "grows.txt").write_text("small\n")
    id = run(small, "mkdir -p node_modules/x venv .git data/more; echo > node_modules/x/a.js; echo > venv/pyvenv.cfg;"
               "echo > data/more/x; mkdir env; echo > env/pyvenv.cfg; seq 1000 > grows.txt; rm large.bin; mkfifo pipe")
    stays = small.undo(id).stays
    assert {"large.bin", "grows.txt", "node_modules", "env", "pipe"} <= set(stays)
    assert "larger than 1000 bytes" in stays["large.bin"]
    assert (project / "node_modules/x/a.js").exists() and (project / "grows.txt").stat().st_size > 1000
    assert (project / "data/more/x").exists() and not any(path.startswith("data") for path in stays)


def test_a_large_project_leaves_out_what_git_ignores(project, checkpoints, tmp_path):
    (project / "target").mkdir()
    (project / "target/app.o").write_bytes(b"x" * 5000)
    (project / "big.log").write_bytes(b"x" * 70_000)
    (project / ".gitignore").write_text("target/\n*.log\n.env\n")
    tight = Camera(SafeRoot(project), tmp_path / "other", limits=Limits(project=4000))
    shot = tight.take()
    assert {"target", "big.log"} <= set(shot.left_out) and {".env", "notes.log"} <= set(shot.entries)
    with pytest.raises(JavisError, match="too much for undo"):
        Camera(SafeRoot(project), tmp_path / "third", limits=Limits(project=10)).take()
    with pytest.raises(JavisError, match="too many"):
        Camera(SafeRoot(project), tmp_path / "fourth", limits=Limits(count=3)).take()


def test_a_call_that_makes_too_much_still_ends(project, tmp_path):
    checkpoints = Checkpoints(project, tmp_path / "undo", limits=Limits(project=10_000))
    run(checkpoints, "seq 4000 > many.txt")
    assert "too much for undo" in checkpoints.history()[0].note and checkpoints.history()[0].after is None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="has to become another user")
def test_a_folder_that_cannot_be_opened_is_unknown_not_gone():
    folder = Path(tempfile.mkdtemp())
    os.chown(folder, 65534, 65534)
    os.seteuid(65534)
    try:
        (folder / "proj/src").mkdir(parents=True)
        (folder / "proj/src/app.py").write_text("x")
        (folder / "proj/locked.txt").write_text("x")
        checkpoints, before = Checkpoints(folder / "proj", folder / "undo"), state(folder)
        with checkpoints.around("chmod") as id:
            (folder / "proj/src").chmod(0)
            (folder / "proj/locked.txt").chmod(0)
        assert [str(change) for change in checkpoints.changes(id)[1]] == []
        assert set(checkpoints.undo(id).stays) == {"locked.txt", "src"}
        (folder / "proj/src").chmod(0o755)
        (folder / "proj/locked.txt").chmod(0o644)
        assert {path: what for path, what in state(folder).items() if path.startswith("proj")} == {
            path: what for path, what in before.items() if path.startswith("proj")}
    finally:
        os.seteuid(0)
        shutil.rmtree(folder)


# ---- closed files ----------------------------------------------------------------------------

def test_closed_files_come_back_but_cannot_be_read(project, checkpoints):
    run(checkpoints, "rm .env")
    store = checkpoints.folder
    for path in (store / "git").rglob("*"):
        if path.is_file():
            import zlib
            data = path.read_bytes()
            with contextlib.suppress(zlib.error):
                data = zlib.decompress(data)
            assert b"very-secret-value" not in data, path
    holder = [path for path in store.rglob("*") if path.is_file() and b"very-secret-value" in path.read_bytes()]
    assert [path.parent.name for path in holder] == [".env.kept"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in [*holder, store / "journal.jsonl"]} == {0o600}
    assert stat.S_IMODE(store.stat().st_mode) == 0o700
    from javis.tools.files import read_file, search_text
    root = SafeRoot(store.parent)
    with pytest.raises(ToolError, match="closed"):
        read_file(str(holder[0].relative_to(store.parent)), root=root)
    assert "very-secret" not in search_text("very-secret", root=root)
    checkpoints.undo()
    assert (project / ".env").read_text() == "KEY=very-secret-value\n"


def test_labels_and_diffs_do_not_show_registered_secrets(project, checkpoints):
    register_secret("hunter2-hunter2")
    id = run(checkpoints, "echo hunter2-hunter2 > plain.txt # \x1b]0;title\x07")
    assert "hunter2" not in repr(checkpoints.history()) + checkpoints.changes(id)[0]
    assert "hunter2" not in (checkpoints.folder / "journal.jsonl").read_text()
    assert "\x1b" not in checkpoints.history()[0].label


# ---- git and its settings --------------------------------------------------------------------

def test_no_setting_of_the_project_has_a_say(project, tmp_path, monkeypatch):
    sentinel = tmp_path / "ran"
    evil = tmp_path / "evil.sh"
    evil.write_text(f"#!/bin/sh\ntouch {sentinel}\ncat\n")
    evil.chmod(0o755)
    subprocess.run("git init -q . && git config core.fsmonitor %s && git config filter.x.clean %s && git config "
                   "filter.x.smudge %s && git config diff.x.textconv %s && cp %s .git/hooks/post-checkout"
                   % ((evil,) * 5), shell=True, cwd=project, check=True)
    (project / ".gitattributes").write_text("* filter=x diff=x text eol=crlf ident working-tree-encoding=UTF-16\n")
    config = tmp_path / "gitconfig"
    config.write_text(f"[core]\n\tfsmonitor = {evil}\n\tautocrlf = true\n\thooksPath = {tmp_path}\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_DIR", str(project / ".git"))
    before, theirs = state(project), state(project / ".git")
    checkpoints = Checkpoints(project, tmp_path / "undo")
    run(checkpoints, "printf 'a\\r\\nb\\n$Id$\\n' > src/app.py; rm README.md")
    checkpoints.undo()
    assert state(project) == before and state(project / ".git") == theirs and not sentinel.exists()


def test_it_works_without_git(project, checkpoints, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: pytest.fail("a program was started"))
    before = state(project)
    with checkpoints.around("write"):
        (project / "README.md").unlink()
    checkpoints.undo()
    assert state(project) == before


# ---- processes -------------------------------------------------------------------------------

WORKER = """
import sys, random, time
from javis.undo import Checkpoints
root, folder, name = sys.argv[1:]
checkpoints = Checkpoints(root, folder, keep=10**6)
print("ready", flush=True)
for number in range(100000):
    with checkpoints.around(f"{name} {number}"):
        with open(f"{root}/{name}-{number % 7}.txt", "w") as file:
            file.write(f"{number}" * random.randrange(2000))
"""


def start(project, folder, name):
    process = subprocess.Popen([sys.executable, "-c", WORKER, project, folder, name], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    return process


def test_processes_that_are_killed_leave_a_usable_history(project, tmp_path):
    folder, before = tmp_path / "undo", state(project)
    for round in range(6):
        workers = [start(project, folder, f"{round}{name}") for name in "ab"]
        time.sleep(0.15 + 0.03 * round)
        for worker in workers:
            worker.send_signal(signal.SIGKILL)
            worker.wait()
            worker.stdout.close()
    checkpoints = Checkpoints(project, folder)
    history = checkpoints.history()
    assert len(history) > 12 and any(call.after is None for call in history)
    for call in history:  # every snapshot that the journal names is whole
        for name in filter(None, (call.before, call.after)):
            assert get_snapshot(checkpoints._camera.objects, name).entries
    result = checkpoints.undo(len(history))
    left = {path: what for path, what in state(project).items() if not path.endswith(".txt")}
    assert left == before
    remaining = {path.name for path in project.rglob("*.txt")}  # written by one that died beside the other
    assert remaining <= set(result.stays) and len(remaining) < 6 * 2 * 7


def test_an_undo_that_is_killed_can_be_repeated(project, tmp_path):
    before = state(project)
    checkpoints = Checkpoints(project, tmp_path / "undo")
    run(checkpoints, "for i in $(seq 300); do echo $i > f$i.txt; done; rm -r src README.md")
    script = f"from javis.undo import Checkpoints; c = Checkpoints({str(project)!r}, {str(tmp_path / 'undo')!r}); " \
             "print('go', flush=True); c.undo()"
    undo = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    undo.stdout.readline()
    while len(list(project.glob("f*.txt"))) == 300:
        time.sleep(0.001)
    undo.kill()
    undo.wait()
    undo.stdout.close()
    checkpoints.undo()
    assert {path: what for path, what in state(project).items() if ".javis." not in path} == before


def test_threads_share_one_history(project, checkpoints):
    def work(name):
        for number in range(15):
            with checkpoints.around(name):
                (project / f"{name}.txt").write_text(str(number))
    threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(checkpoints.history()) == 45 and all(call.after for call in checkpoints.history())


def test_calls_at_the_same_time_are_named(project, checkpoints):
    one, two = checkpoints.before("one"), checkpoints.before("two")
    (project / "x").write_text("")
    checkpoints.after(one)
    checkpoints.after(two)
    assert checkpoints.plan(one).notes == ["at the same time ran, and cannot be told apart: two"]
    three = checkpoints.before("three")
    (project / "y").write_text("")
    checkpoints.after(three)
    assert checkpoints.plan(three).notes == []


# ---- the store -------------------------------------------------------------------------------

def test_a_torn_journal_and_a_damaged_content(project, checkpoints):
    run(checkpoints, "echo one > one.txt")
    id = run(checkpoints, "rm README.md src/app.py")
    with open(checkpoints.folder / "journal.jsonl", "ab") as file:
        file.write(b'{"id": "torn')
    run(checkpoints, "echo two > two.txt")
    assert [call.label for call in checkpoints.history()] == [
        "run_shell(echo two > two.txt)", "run_shell(rm README.md src/app.py)", "run_shell(echo one > one.txt)"]
    name = Objects(checkpoints.folder / "git").put("blob", b"# A\r\nplan\xff\n")
    checkpoints._camera.objects.path(name).write_bytes(b"")
    result = checkpoints.undo(id)
    assert "missing or damaged" in result.stays["README.md"] and [c.path for c in result.changes] == ["src/app.py"]


def test_pruning_keeps_what_is_still_needed(project, checkpoints, tmp_path):
    other = Checkpoints(project, tmp_path / "undo")
    other.before("other")
    for number in range(5):
        run(checkpoints, f"echo {number} > n{number}; echo KEY={number} > .env")
    after = state(project)
    assert checkpoints.prune(2) > 0 and len(checkpoints.history()) == 2
    with other.around("it has seen these contents before"):
        (project / "README.md").write_text("x")
    other.undo()
    assert state(project) == after
    checkpoints.undo(2)
    assert not (project / "n3").exists() and (project / "n2").exists() and (project / ".env").read_text() == "KEY=2\n"
    checkpoints.prune()
    assert checkpoints.history() == [] and not list((checkpoints.folder / "git/objects").glob("??/*"))
    assert [path.name for path in (checkpoints.folder / ".env.kept").iterdir()] == ["salt"]


def test_old_calls_go_by_themselves(project, tmp_path):
    checkpoints = Checkpoints(project, tmp_path / "undo", keep=20)
    for number in range(60):
        with checkpoints.around(str(number)):
            (project / "x").write_text(str(number))
    assert 20 <= len(checkpoints.history()) <= 70


def test_snapshots_read_back_as_they_were(project, tmp_path):
    camera = Camera(SafeRoot(project), tmp_path / "undo")
    shot = camera.take()
    assert get_snapshot(camera.objects, put_snapshot(camera.objects, shot, "x")) == shot
    assert camera.take() == shot
    ago = lambda newest, seconds: camera_module._is_settled(
        os.stat_result(range(10), {"st_ctime_ns": newest, "st_mtime_ns": 0}), newest + int(seconds * 10**9))
    assert not ago(10**18 + 123, 0.04) and ago(10**18 + 123, 0.06)  # a clock in steps of milliseconds
    assert not ago(10**18, 2.4) and ago(10**18, 2.6)  # and one in steps of two seconds


def test_unknown_ids_and_wrong_calls(project, checkpoints):
    with pytest.raises(JavisError, match="There is no call"):
        checkpoints.plan("nothing")
    with pytest.raises(JavisError, match="nothing to undo"):
        checkpoints.undo()
    id = run(checkpoints, "true")
    with pytest.raises(JavisError, match="nothing to undo"):
        checkpoints.undo()
    assert str(checkpoints.undo(id)) == "nothing to do" and checkpoints.changes(id[-6:]) == ("", [])
    assert json.loads((checkpoints.folder / "journal.jsonl").read_text().strip().splitlines()[0])["id"] == id
