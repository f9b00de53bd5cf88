"Processes, disks, and the toolbox of all nine tools."
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from javis.config import ConfigError, Settings
from javis.tools.base import Call, ToolError, running, tool
from javis.tools.files import SafeRoot
from javis.tools.git import git_log, git_status
from javis.tools.machine import (clipboard_commands, current_time, installed, list_ports, notification_command, notify, read_clipboard,
                                 show_environment, write_clipboard)
from javis.tools.trust import Trust
from javis.tools.system import default_toolbox, disk_usage, families, find_process

SIGNATURES = """read_file(path, start?, end?)
list_dir(path)
search_text(pattern, path?)
write_file(path, content)
run_shell(command)
web_search(query)
fetch_url(url)
find_process(name)
disk_usage(path?)"""


@pytest.fixture
def child():
    code = "print('up', flush=True); import time; time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, "--password=hush"], stdout=subprocess.PIPE)
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()


def test_find_process(child):
    text = find_process(os.path.basename(sys.executable).upper(), limit=1000)
    line, = [line for line in text.splitlines() if line.startswith(f"{child.pid}  ")]
    assert "cpu" in line and "MiB" in line and "running for" in line
    assert "hush" not in text
    assert find_process("no such program at all") == "no process is called 'no such program at all'"


def test_find_process_is_bounded(child):
    text = find_process("python", limit=1, pause_s=0).splitlines()
    assert len(text) == 2 and text[1].endswith("more]")


def test_disk_usage(tmp_path):
    root = SafeRoot(tmp_path)
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/x").write_bytes(b"x" * 1500)
    (tmp_path / "a/b/y").write_bytes(b"x" * 36)
    (tmp_path / "a/all").symlink_to("/")
    text = disk_usage("a", root=root)
    assert text.startswith("a: 1.5 KiB") and "files: 3" in text
    assert disk_usage("a/x", root=root) == "a/x: 1.5 KiB"
    assert "holds more" in disk_usage("a", root=root, timeout_s=-1)
    assert "free" in disk_usage(root=root) and "%" in disk_usage(root=root)
    with pytest.raises(ToolError, match="does not exist"):
        disk_usage("nowhere", root=root)
    with pytest.raises(ToolError, match="not approved"):
        disk_usage("/home", root=root)


def test_signatures_are_the_contract(tmp_path):
    assert default_toolbox(Settings(root=tmp_path)).signatures() == SIGNATURES


def test_a_cut_output_names_the_tool_that_reads_on_where_there_is_one(tmp_path):
    settings = Settings(root=tmp_path, tools={"max_output_chars": 3000, "sandbox": "off"})
    plain, more = default_toolbox(settings), default_toolbox(settings, read_on=True)
    assert more.names == [*plain.names, "recall_output"]
    said = [box.call("run_shell", {"command": "seq 9999"}, approved=True) for box in (plain, more)]
    assert all("bytes left out" in one for one in said) and "recall_output" not in said[0]
    id = re.search(r"recall_output\(id='(\w+)'", said[1])[1]
    assert "5000" in more.call("recall_output", {"id": id, "offset": 23_888})


def test_effects(tmp_path):
    effects = {tool.name: tool.effect for tool in default_toolbox(Settings(root=tmp_path))}
    assert [name for name, effect in effects.items() if effect != "read"] == [
        "write_file", "run_shell", "web_search", "fetch_url"]
    assert effects["run_shell"] == "exec" and effects["fetch_url"] == "net"


def test_settings_choose_and_bound(tmp_path):
    (tmp_path / "long.txt").write_text("word\n" * 5000)
    settings = Settings(root=tmp_path, tools={"enabled": ["run_shell", "read_file"], "max_output_chars": 300,
                                              "timeout_s": 0.5})
    box = default_toolbox(settings)
    assert box.names == ["read_file", "run_shell"]
    assert len(box.call("read_file", {"path": "long.txt"})) <= 300
    assert "longer than 0.5 s" in box.call("run_shell", {"command": "sleep 30"})
    with pytest.raises(ConfigError, match="Did you mean 'run_shell'"):
        default_toolbox(Settings(root=tmp_path, tools={"enabled": ["run_shel"]}))


def test_rules_reach_the_tools(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/tools.yaml").write_text("secrets: ['*.diary']\nshell_variables: [MY_FLAG]\n")
    (tmp_path / "my.diary").write_text("hush")
    monkeypatch.setenv("MY_FLAG", "on")
    monkeypatch.setenv("JAVIS_USER", str(tmp_path / "user"))
    assert "MY_FLAG=on" not in default_toolbox(Settings(root=tmp_path)).call("run_shell", {"command": "env"})
    Trust().add(tmp_path / "configs/tools.yaml")  # what a project opens counts once its file is trusted
    box = default_toolbox(Settings(root=tmp_path))
    assert "may hold secrets" in box.call("read_file", {"path": "my.diary"})
    assert "MY_FLAG=on" in box.call("run_shell", {"command": "env"})
    assert "stays closed" in box.call("fetch_url", {"url": "http://127.0.0.1:9/"})
    (tmp_path / "configs/tools.yaml").write_text("private_hosts: ['127.0.0.1:9']\n")
    Trust().add(tmp_path / "configs/tools.yaml")
    assert "cannot be fetched" in default_toolbox(Settings(root=tmp_path)).call("fetch_url", {"url": "http://127.0.0.1:9/"})


def test_another_folder(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.txt").write_text("hi")
    box = default_toolbox(Settings(root=tmp_path), root=tmp_path / "elsewhere")
    assert box.call("list_dir", {"path": "."}).endswith("a.txt  2 bytes")
    assert str(Path.cwd()) not in box.call("run_shell", {"command": "pwd"})


# what a person may choose

def test_families_name_every_tool(tmp_path):
    names = [name for family in families() for name in family.tools]
    assert len(names) == len(set(names)) and [name for family in families() if family.is_default for name in family.tools] == [
        line.partition("(")[0] for line in SIGNATURES.splitlines()]
    box = default_toolbox(Settings(root=tmp_path, tools={"enabled": names}))
    left_out = set() if box["run_shell"].runs.is_walled else {"try_shell", "keep_trial", "drop_trial"}
    assert {*box.names} == {*names} - left_out
    assert box.signatures().startswith(SIGNATURES + "\n")
    assert {tool.name: tool.effect for tool in box if tool.effect != "read" and "trial" not in tool.name and tool.name != "try_shell"} == {
        "start_job": "exec", "write_file": "write", "run_shell": "exec", "web_search": "net", "fetch_url": "net", "run_python": "exec",
        "read_clipboard": "exec", "write_clipboard": "write", "notify": "write", "edit_file": "write"}
    assert all(len(str(family).splitlines()) == 1 for family in families())


def test_tools_of_the_caller_come_last(tmp_path):
    @tool("net")
    def remote() -> str:
        "Ask a server."
        return "yes"
    box = default_toolbox(Settings(root=tmp_path), more=[remote])
    assert box.names[-1] == "remote" and box.names[:-1] == default_toolbox(Settings(root=tmp_path)).names
    with pytest.raises(ConfigError, match="Did you mean 'git_status'"):
        default_toolbox(Settings(root=tmp_path, tools={"enabled": ["git_state"]}))


def test_what_is_not_chosen_is_not_loaded():
    code = ("import sys; from javis.tools.system import default_toolbox; from javis.config import Settings; "
            "default_toolbox(Settings(root='.')); print([name for name in sys.modules if name in ('javis.tools.python',"
            " 'javis.tools.git', 'javis.tools.machine', 'psutil')])")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


# ports, variables, time

def test_ports():
    import socket
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert list_ports(port) == f"{port}  this machine only  {psutil.Process().name()} ({os.getpid()})"
        assert f"\n{port}  " in "\n" + list_ports(limit=10_000)
    assert list_ports(port) == f"nothing listens on port {port}"
    found = [("0.0.0.0", 80, None), ("10.0.0.5", 8000, 2**30), ("::1", 5432, os.getpid()), ("::1", 5432, os.getpid())]
    lines = list_ports(listening=lambda: found).splitlines()
    assert lines == ["80  the network  another user's process", f"5432  this machine only  {psutil.Process().name()} ({os.getpid()})",
                     f"8000  10.0.0.5  a process that has ended ({2**30})"]
    assert list_ports(listening=lambda: found, limit=1).endswith("[2 more]")


def test_ports_where_only_own_processes_are_told(monkeypatch):
    import socket

    def refuse(kind):
        raise psutil.AccessDenied(1)
    monkeypatch.setattr(psutil, "net_connections", refuse)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert f"({os.getpid()})" in list_ports(server.getsockname()[1])


def test_variables_show_no_secret():
    variables = {"PATH": "/bin:/opt/tok-9f86d081884c", "MY_TOKEN": "tok-9f86d081884c", "LC_ALL": "ko_KR.UTF-8", "DATABASE_URL": "postgres://a:hunter22@db",
                 "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "LC_API_KEY": "abc", "HOME": "/home/ali", "PYTHONPATH": "/x?key=AKIAIOSFODNN7EXAMPLE"}
    shown = show_environment(variables=variables)
    for value in ("9f86d081884c", "hunter22", "AKIA", "abc"):
        assert value not in shown
    assert "HOME=/home/ali" in shown and "LC_ALL=ko_KR.UTF-8" in shown and "MY_TOKEN (set, not shown)" in shown
    assert show_environment("token", variables=variables) == "MY_TOKEN (set, not shown)"
    assert show_environment("nothing", variables=variables) == "no variable has 'nothing' in its name"


def test_time():
    at = lambda: 1_795_000_000
    assert current_time("UTC", now=at) == "2026-11-18 11:06:40 Wednesday, UTC (UTC+00:00), week 47"
    assert current_time("Asia/Kolkata", now=at) == "2026-11-18 16:36:40 Wednesday, Asia/Kolkata (UTC+05:30), week 47"
    assert current_time("America/New_York", now=lambda: 1_783_000_000).endswith("(UTC-04:00), week 27")
    assert "(UTC" in current_time()
    for wrong in ("../../etc/passwd", "/etc/localtime", "Seul", "", "New York", "Asia"):
        with pytest.raises(ToolError, match="there is no time zone"):
            current_time(wrong, now=at)


# programs of the platform, as scripts that take their place

@pytest.fixture
def desktop(tmp_path, monkeypatch):
    "Programs that keep what they are given in files."
    folder = tmp_path / "bin"
    folder.mkdir()
    scripts = {"xclip": f'case "$*" in *-o) cat {tmp_path}/clip;; *) cat > {tmp_path}/clip; sleep 30 & ;; esac',
               "notify-send": f'for word in "$@"; do printf "%s\\n" "$word"; done > {tmp_path}/words'}
    for name, body in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    return tmp_path


@pytest.mark.skipif(os.name == "nt", reason="the programs are shell scripts")
def test_clipboard(desktop):
    begin = time.monotonic()
    assert write_clipboard("안녕 $(rm x) `y`\n-o") == "copied 17 characters" and time.monotonic() - begin < 4  # one that stays is not waited for
    assert read_clipboard() == "안녕 $(rm x) `y`\n-o"
    (desktop / "clip").write_bytes(b"\xff" * 3_000_000)
    assert len(read_clipboard()) <= 1_000_000
    (desktop / "clip").write_text("")
    assert read_clipboard() == "the clipboard is empty"
    (desktop / "clip").unlink()
    with pytest.raises(ToolError, match="failed .exit code 1.; is there a desktop"):
        read_clipboard()
    with pytest.raises(ToolError, match="the clipboard needs xclip or xsel or wl-paste"):
        read_clipboard(which=lambda name: None)


@pytest.mark.skipif(os.name == "nt", reason="the programs are shell scripts")
def test_notifications(desktop):
    assert notify("<b>done</b> & more", "--urgency=critical") == "shown"
    assert (desktop / "words").read_text().splitlines() == ["--app-name=JAVIS", "--", "--urgency=critical", "&lt;b&gt;done&lt;/b&gt; &amp; more"]
    notify("two\nlines\0")
    assert (desktop / "words").read_text().splitlines()[-1] == "two lines"


@pytest.mark.parametrize("platform, variables, first", [
    ("darwin", {}, ["pbpaste"]), ("win32", {}, ["powershell.exe"]), ("linux", {"WSL_DISTRO_NAME": "Ubuntu"}, ["powershell.exe"]),
    ("linux", {}, ["xclip"]), ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, ["wl-paste"])])
def test_each_platform_has_its_clipboard(platform, variables, first):
    reading, writing = clipboard_commands(platform, variables)
    assert reading[0][:1] == first and writing and all(isinstance(word, str) for words in [*reading, *writing] for word in words)


@pytest.mark.parametrize("platform", ["darwin", "win32", "linux"])
def test_no_text_is_part_of_a_script(platform):
    evil = '"; $(calc) `calc` & \' end'
    words = notification_command(platform, evil, evil)
    assert platform == "linux" or evil not in " ".join(words[:-2])
    assert platform != "win32" or all(evil not in word for word in words)


def test_on_windows_only_its_own_folder_counts(tmp_path, monkeypatch):
    (tmp_path / "clip.exe").write_text("planted")
    monkeypatch.chdir(tmp_path)
    assert installed("clip.exe", "win32", {"SYSTEMROOT": str(tmp_path / "Windows")}) is None


# git

def git(folder, *words, **options):
    return subprocess.run(["git", "-c", "user.name=Ali", "-c", "user.email=ali@cave", "-c", "protocol.file.allow=always", *words], cwd=folder,
                          check=True, capture_output=True, text=True, **options).stdout


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-qb", "main")
    (folder / "a.txt").write_text("one\n")
    (folder / "큰 이름 b.txt").write_text("two\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "First: 시작")
    return folder


def test_git_status(repository):
    root = SafeRoot(repository)
    assert git_status(root=root) == "branch main\nnothing has changed"
    git(repository, "clone", "-q", ".", "../copy")
    copy = repository.parent / "copy"
    (copy / "a.txt").write_text("changed\n")
    git(copy, "commit", "-qam", "Second")
    git(copy, "mv", "큰 이름 b.txt", "c.txt")
    (copy / "a.txt").unlink()
    (copy / "new file").write_text("")
    (copy / "staged").write_text("")
    git(copy, "add", "staged")
    assert git_status(root=SafeRoot(copy)).splitlines() == [
        "branch main, 1 ahead of origin/main", "to be committed: 2", "  renamed c.txt from 큰 이름 b.txt", "  added staged",
        "changed: 1", "  deleted a.txt", "not tracked: 1", "  new file"]
    git(copy, "reset", "-q", "--hard", "origin/main")
    assert git_status(root=SafeRoot(copy)).startswith("branch main, level with origin/main")


def test_git_conflicts_and_many_files(repository):
    git(repository, "checkout", "-qb", "other")
    (repository / "a.txt").write_text("theirs\n")
    git(repository, "commit", "-qam", "Theirs")
    git(repository, "checkout", "-q", "main")
    (repository / "a.txt").write_text("ours\n")
    git(repository, "commit", "-qam", "Ours")
    subprocess.run(["git", "merge", "other"], cwd=repository, capture_output=True)
    for i in range(100):
        (repository / f"new{i:03}").write_text("")
    text = git_status(root=SafeRoot(repository))
    assert "in conflict: 1\n  a.txt" in text and "not tracked: 100\n" in text and text.endswith("  new039\n  ...")


def test_git_log(repository):
    root = SafeRoot(repository)
    for i in range(3):
        (repository / "a.txt").write_text(f"{i}\n")
        git(repository, "commit", "-qam", f"Change {i}")
    lines = git_log(root=root).splitlines()
    assert [line.split("  ", 3)[2:] for line in lines] == [["Ali", "Change 2"], ["Ali", "Change 1"], ["Ali", "Change 0"], ["Ali", "First: 시작"]]
    assert len(git_log(count=2, root=root).splitlines()) == 2
    assert len(git_log(Path("큰 이름 b.txt"), root=root).splitlines()) == 1
    for path in ("/etc", "../x", ":(top)"):
        with pytest.raises(ToolError):
            git_log(Path(path), root=root)


def test_git_where_there_is_none(tmp_path, monkeypatch):
    for ask in (git_status, git_log):
        with pytest.raises(ToolError, match="git says: not a git repository"):
            ask(root=SafeRoot(tmp_path))
    git(tmp_path, "init", "-q")
    with pytest.raises(ToolError, match="does not have any commits yet"):
        git_log(root=SafeRoot(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="not installed"):
        git_status(root=SafeRoot(tmp_path))


def test_git_may_not_take_long(repository, monkeypatch, tmp_path):
    (tmp_path / "git").write_text("#!/bin/sh\necho begun\nsleep 60\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(ToolError, match="longer than 0.2 s"):
        git_status(root=SafeRoot(repository), timeout_s=0.2)
    call = Call()
    call.cancelled.set()
    with running(call), pytest.raises(ToolError, match="git was stopped"):
        git_status(root=SafeRoot(repository))


def trap(folder, name):
    "A program that leaves a file when it runs."
    script = folder.parent / name
    script.write_text(f"#!/bin/sh\ntouch {folder.parent}/RAN-{name}\ncat 2>/dev/null\nexit 0\n")
    script.chmod(0o755)
    return str(script)


def set_traps(folder):
    "Everything that a repository can ask git to run."
    config = {"core.fsmonitor": "fsmonitor", "core.pager": "pager", "pager.status": "pager", "pager.log": "pager", "core.sshCommand": "ssh",
              "core.editor": "editor", "core.gitProxy": "proxy", "core.askPass": "askpass", "credential.helper": "credential", "diff.external": "diff",
              "diff.shout.command": "diffdriver", "diff.shout.textconv": "textconv", "filter.shout.clean": "clean", "filter.shout.smudge": "smudge",
              "filter.loud.process": "process", "filter.a=b.c.clean": "oddclean", "merge.shout.driver": "merge", "gpg.program": "gpg",
              "core.alternateRefsCommand": "alternates"}
    for name, program in config.items():
        git(folder, "config", name, trap(folder, program))
    for name, value in {"log.showSignature": "true", "alias.status": f"!{trap(folder, 'alias')}", "status.submoduleSummary": "true",
                        "filter.shout.required": "true", "filter.loud.required": "true", "core.hooksPath": str(folder.parent / "hooks"),
                        "protocol.ext.allow": "always", "diff.mnemonicPrefix": "true", "log.diffMerges": "on", "core.untrackedCache": "true"}.items():
        git(folder, "config", name, value)
    (folder.parent / "hooks").mkdir()
    for hook in ("post-index-change", "fsmonitor-watchman", "pre-commit", "post-checkout", "reference-transaction"):
        os.symlink(trap(folder, f"hook-{hook}"), folder.parent / "hooks" / hook)
    (folder / ".gitattributes").write_text("a.txt filter=shout diff=shout merge=shout\n*.bin filter=loud\n*.odd filter=a=b.c\n")


def ran(folder):
    return sorted(path.name for path in folder.parent.glob("RAN-*"))


@pytest.mark.skipif(os.name == "nt", reason="the programs are shell scripts")
def test_git_runs_nothing_of_the_repository(repository):
    (repository / "x.bin").write_text("1")
    (repository / "y.odd").write_text("1")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "Second")
    set_traps(repository)
    for name in ("a.txt", "x.bin", "y.odd"):
        (repository / name).write_text("x\n" * 2)  # of another size, so that git has to look into it
    assert "modified a.txt" in git_status(root=SafeRoot(repository)) and "Second" in git_log(root=SafeRoot(repository))
    git_log(Path("a.txt"), root=SafeRoot(repository))
    assert ran(repository) == []
    subprocess.run(["git", "status"], cwd=repository, capture_output=True)
    assert {"RAN-fsmonitor", "RAN-clean"} <= set(ran(repository))  # the traps work


@pytest.mark.skipif(os.name == "nt", reason="the programs are shell scripts")
def test_git_runs_nothing_of_a_submodule(repository):
    git(repository, "clone", "-q", ".", "../inner")
    git(repository, "submodule", "add", "-q", str(repository.parent / "inner"), "sub")
    git(repository, "commit", "-qm", "With a submodule")
    git(repository / "sub", "config", "core.fsmonitor", trap(repository, "inner-fsmonitor"))
    git_status(root=SafeRoot(repository))
    assert ran(repository) == []
    subprocess.run(["git", "status"], cwd=repository, capture_output=True)
    assert ran(repository) == ["RAN-inner-fsmonitor"]


@pytest.mark.skipif(os.name == "nt", reason="the programs are shell scripts")
def test_git_fetches_nothing_that_is_missing(repository):
    for name, value in {"remote.evil.url": f"ext::{trap(repository, 'transport')} %S", "remote.evil.promisor": "true", "protocol.ext.allow": "always",
                        "remote.evil.partialCloneFilter": "blob:none", "extensions.partialClone": "evil", "core.repositoryFormatVersion": "1"}.items():
        git(repository, "config", name, value)
    for path in (repository / ".git/objects").glob("[0-9a-f][0-9a-f]/*"):
        if git(repository, "cat-file", "-t", path.parent.name + path.name).strip() == "tree":
            path.chmod(0o600)
            path.unlink()
    for ask in (git_status, git_log, lambda root: git_log(Path("a.txt"), root=root)):
        try:
            ask(root=SafeRoot(repository))
        except ToolError:
            pass
    assert ran(repository) == []
    nothing = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    plain = subprocess.Popen(["git", "status"], cwd=repository, **nothing)
    end = time.monotonic() + 20
    while not ran(repository) and time.monotonic() < end:
        time.sleep(0.05)
    plain.kill()
    plain.wait()
    assert ran(repository) == ["RAN-transport"]  # the trap works


def test_git_with_files_elsewhere_is_refused(repository, tmp_path):
    (tmp_path / "private").mkdir()
    (tmp_path / "private/diary").write_text("hush")
    git(repository, "config", "core.worktree", str(tmp_path / "private"))
    with pytest.raises(ToolError, match="elsewhere|not a git repository|must be run in a work tree|outside"):
        print(git_status(root=SafeRoot(repository)))


def test_a_bare_repository_among_the_files_is_not_obeyed(tmp_path):
    (tmp_path / "inner").mkdir()
    git(tmp_path / "inner", "init", "-q", "--bare")
    git(tmp_path / "inner", "config", "core.bare", "false")
    git(tmp_path / "inner", "config", "core.worktree", "..")
    git(tmp_path / "inner", "config", "core.fsmonitor", trap(tmp_path / "inner", "bare"))
    with pytest.raises(ToolError):
        git_status(root=SafeRoot(tmp_path / "inner"))
    assert ran(tmp_path / "inner") == []
