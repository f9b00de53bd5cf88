"Cases 15 to 25: no command line looks more harmless than it is, and none stays behind."
import os
import secrets
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

import javis.tools.commands as commands
import javis.tools.policy
import javis.tools.programs as programs
import javis.tools.shell as shell
from javis.tools.base import Runs, ToolError, tool
from javis.tools.commands import judge, pieces, pipeline
from javis.tools.launch import Bare
from javis.tools.policy import Policy
from javis.tools.sandbox import find_sandbox, walls
from javis.tools.shell import run_shell

pytestmark = pytest.mark.skipif(os.name == "nt", reason="written for POSIX shells")

# name, case, command, what it must not be called
DISGUISED = [
    *[(15, f"ls{text}", "complex") for text in (
        "; rm -rf x", " && rm x", " || rm x", " | sh", " & rm x", "\nrm x", " $(rm x)", " `rm x`", " <(rm x)",
        " > file", " >> file", " 2>file", " < file", " $HOME", " ${x}", " *", " a?", " [ab]", " {a,b}", " ~", " # x")],
    *[(15, text, "complex") for text in ("(ls)", "{ ls; }", "! ls", "if ls", "time ls", "ls '", 'ls "', 'ls "$(rm x)"',
                                        'ls "`rm x`"', "f() ls", "coproc ls", "[[ -e x ]]")],
    *[(16, text, "complex") for text in ("l\\s", "l\\\ns", "rm \\-rf x", "'ls'", 'l"s"', "ls\u00a0-l", "ls\u200b", "ls\x00",
                                        "ls\r-l", "\u202els", "eval ls", "source x", ". x", "alias ls=rm", "exec ls\t;x")],
    *[(17, text, "plain") for text in (
        "find . -exec rm {} +".replace("{} +", "x ,"), "find . -delete", "find . -fprint out", "find . -ok rm", "find . -execdir rm",
        "find -files0-from x", "sort -o out names", "sort names -oout", "sort --output=out names", "sort --outp=out names",
        "sort --compress-program=x names", "sort -T x names", "rg --pre sh x", "rg --pre=sh x", "rg -z x", "rg --search-zip x",
        "rg --hostname-bin=x y", "tree -o out", "tree -R -o out", "uniq names out", "tail -f log", "tail -F log",
        "tail --follow log", "wc --files0-from=/etc/shadow", "du --files0-from=x", "grep -f patterns x", "file -C -m x",
        "git -c core.pager=x log", "git --exec-path=x log", "git -C x log", "git --git-dir=x log", "git -p log",
        "git log --output=x", "git diff --output=x", "git diff --ext-diff", "git diff --textconv", "git log --textconv",
        "git show --ext-diff", "git log --show-signature", "git grep -O x", "git diff --no-index a b", "git branch new",
        "git tag v1", "git remote add a b", "git stash drop", "git stash", "git config user.name x", "git fetch",
        "git blame --contents x y", "git cat-file --textconv x", "sed e", "sed -i s/a/b/ x", "sed -n 1p x", "awk {}".replace("{}", "x"),
        "tar --checkpoint-action=exec=x cf a b", "tar tf x", "less x", "more x", "man ls", "vi x", "python x", "make", "./ls", "bin/ls",
        "/bin/ls", "date -s x", "hostname x", "tee x", "dd if=x of=y", "cp a b", "ps aux", "env", "printenv", "diff --to-file=x y",
        "ls --hyperlink=always", "curl x", "ping x", "ssh x", "which -x y", "realpath --bad x", "stat --bad")],
    *[(18, text, "plain") for text in (
        "sudo ls", "doas ls", "watch ls", "nohup ls", "setsid ls", "timeout 5 rm x", "nice -n 5 rm x", "env rm x", "env -i ls",
        "timeout -s KILL 5 ls", "sh -c 'rm x'", "bash -lc ls", "bash --rcfile x -c ls", "sudo -u root ls", "strace -o out ls",
        "timeout 5 sudo nice rm x", "/usr/bin/env rm x", "sh -c 'git status'", "busybox ls", "stdbuf -o L ls", "chroot / ls",
        "command ls", "ionice ls", "taskset 1 ls", "flock x ls", "unshare ls", "su -c 'ls' me")],
    *[(18, text, "complex") for text in (
        "xargs rm", "/usr/bin/xargs rm", "sh -c 'ls; rm x'", "bash -c 'ls > x'", "bash script", "sh", "env -S 'rm x'",
        "env --split-string=rm", "sudo sh -c 'a|b'", "watch 'ls; rm x'", "timeout 5", "parallel rm")],
    *[(19, text, "complex") for text in (
        "LD_PRELOAD=x ls", "PATH=. ls", "GIT_EXTERNAL_DIFF=x git diff", "BASH_ENV=x bash -c ls", "A=1", "A+=1 ls",
        "env PATH=. ls", "env -i LD_PRELOAD=x ls", "sudo LD_PRELOAD=x ls", "export PATH=.", "/usr/bin/env A=1 ls")],
]
ORDER = ["read-only", "plain", "complex"]


def judgement_holds(command: str, least: str) -> bool:
    return ORDER.index(judge(command).kind) >= ORDER.index(least)


@pytest.mark.parametrize("case,command,least", [
    pytest.param(*one, marks=pytest.mark.case(one[0])) for one in DISGUISED])
def test_disguised_commands_ask(case, command, least):
    assert judgement_holds(command, least), judge(command)


READING = ["ls -la", "cat a b", "head -n 5 x", "head -20 x", "tail -n 3 x", "wc -l x", "grep -rn 'a|b' src", "rg todo",
           "find . -name '*.py' -type f", "git status -s", "git log --oneline -n 5", "git diff HEAD~1 -- src", "git show HEAD:x",
           "sort -rn x", "tree -L 2", "timeout 5 ls", "nice -n 5 cat x", "env ls", "sh -c 'ls -l'", "echo hello", "cat -- -rf"]


@pytest.mark.parametrize("command", READING)
def test_what_only_reads_is_known(command):
    assert judge(command).kind == "read-only"


@pytest.mark.case(20)
@pytest.mark.parametrize("count", [51, 5000])
def test_long_chains_exhaust_nothing(count):
    begin = time.monotonic()
    line = "ls; " * count + "sudo rm -rf secret-folder"
    assert judge(line).kind == "complex"
    assert "rm -rf secret-folder" in pieces(line)
    assert judge("sudo " * 3000 + "rm x").kind == "complex" and judge("watch " * 600 + "ls").kind != "read-only"
    assert "rm x" in pieces("sudo " * 1500 + "rm x")
    assert time.monotonic() - begin < 20


EVIL_GIT = """
git init -q . && git config user.email a@example.invalid && git config user.name a
echo one > file; echo '* filter=evil diff=evil' > .gitattributes; git add -A; git commit -qm one
mkdir -p hooks sub
printf '#!/bin/sh\\ntouch "%s"\\n' "$PWD/proof" > evil.sh; chmod +x evil.sh
for hook in post-index-change pre-commit reference-transaction post-checkout; do cp evil.sh hooks/$hook; done
git config core.hooksPath "$PWD/hooks"
git config core.fsmonitor "$PWD/evil.sh"
git config core.pager "$PWD/evil.sh"; git config pager.status true; git config pager.log "$PWD/evil.sh"
git config diff.external "$PWD/evil.sh"
git config diff.evil.textconv "$PWD/evil.sh"; git config diff.evil.command "$PWD/evil.sh"
git config filter.evil.clean "$PWD/evil.sh"; git config filter.evil.process "$PWD/evil.sh"; git config filter.evil.required true
git config gpg.program "$PWD/evil.sh"; git config log.showSignature true
git config alias.status "!$PWD/evil.sh"; git config core.editor "$PWD/evil.sh"
echo two > file; rm -f proof
"""
GIT = ["git status", "git status -s", "git diff", "git diff --stat", "git log -p", "git log --oneline", "git show",
       "git show HEAD:file", "git blame file", "git ls-files -m", "git branch", "timeout 5 git status", "git stash list"]


def git_is_tame(root: Path, command: str) -> bool:
    (root / "proof").unlink(missing_ok=True)
    for file in (root / "file", root / "sub/file"):  # git looks again at what seems touched
        if file.exists():
            os.utime(file)
    run_shell(command, root=root, launcher=Bare())
    return not (root / "proof").exists()


@pytest.fixture(scope="module")
def evil_repository(tmp_path_factory):
    root = tmp_path_factory.mktemp("evil")
    subprocess.run(["bash", "-c", EVIL_GIT], cwd=root, check=True, capture_output=True)
    return root


@pytest.mark.case(21)
@pytest.mark.parametrize("command", GIT)
def test_git_runs_nothing_of_the_project(evil_repository, command):
    assert judge(command).kind == "read-only"
    assert git_is_tame(evil_repository, command)


@pytest.mark.case(21)
@pytest.mark.parametrize("command", ["git status | head -n 3", "git log -p | cat", "ls | cat file | wc -l"])
def test_git_in_a_pipe_runs_nothing_of_the_project_either(evil_repository, command):
    assert git_is_tame(evil_repository, command)
    assert "[exit code 0]" in run_shell(command, root=evil_repository)


@pytest.mark.case(15)
def test_a_pipe_of_readers_writes_nowhere(tmp_path):
    "What is taken for reading runs behind a wall that forbids writing; a pipe with anything else in it does not count."
    for wall in walls():
        assert run_shell("echo a | cat | wc -l", root=tmp_path, launcher=wall).startswith("1\n")
    for command in ("ls | tee x", "ls | sh", "ls | xargs rm", "ls |& cat", "ls | sort -o x", "ls | cat > x", "ls | $SHELL"):
        assert not all(judge(part).kind == "read-only" for part in pipeline(command)), command
        assert Policy(tmp_path, "edit").decide(UNASKED, {"command": command}).verdict == "ask"


@tool("exec", runs=Runs(SimpleNamespace(level="L3", network=False)))
def UNASKED(command: str) -> str:
    "Run a command behind a wall."


# What must be asked about although its words only read, and the guard that sees it.
READS_TOO_MUCH = {"git log -p": "prints_history", "git diff": "prints_history", "grep -R key .": "follows_links", "diff -r a b": "follows_links",
                  "cat .env": "matching_pattern", "cat /etc/hosts": "place_of", "cat ../x": "place_of"}
WEAK = {"prints_history": lambda words: False, "follows_links": lambda words: False, "matching_pattern": lambda *_: None,
        "place_of": lambda root, path: SimpleNamespace(kind="inside", shown=path)}


@pytest.mark.case(27)
@pytest.mark.parametrize("command", READS_TOO_MUCH)
def test_reading_too_much_asks_and_a_weakened_build_does_not(tmp_path, monkeypatch, command):
    policy = Policy(tmp_path, "edit")
    assert policy.decide(UNASKED, {"command": command}).verdict == "ask"
    monkeypatch.setattr(javis.tools.policy, READS_TOO_MUCH[command], WEAK[READS_TOO_MUCH[command]])
    assert policy.decide(UNASKED, {"command": command}).verdict == "allow"


@pytest.mark.case(21)
def test_the_same_repository_is_dangerous(evil_repository):
    (evil_repository / "proof").unlink(missing_ok=True)
    subprocess.run(["git", "status"], cwd=evil_repository, capture_output=True)
    assert (evil_repository / "proof").exists()


@pytest.fixture(scope="module")
def evil_submodule(tmp_path_factory):
    root = tmp_path_factory.mktemp("outer")
    script = """git init -q lib; (cd lib; echo 1 > file; git add -A; git -c user.name=a -c user.email=a@example.invalid commit -qm 1)
    git init -q main; cd main; git -c protocol.file.allow=always submodule --quiet add ../lib sub
    git config submodule.sub.ignore none; git config -f .gitmodules submodule.sub.ignore none
    git -c user.name=a -c user.email=a@example.invalid commit -qm 1
    printf '#!/bin/sh\\ntouch "%s"\\n' "$PWD/proof" > evil.sh; chmod +x evil.sh
    git -C sub config filter.own.clean "$PWD/evil.sh"; echo '* filter=own' > $(git -C sub rev-parse --git-dir)/info/attributes
    git -C sub config core.fsmonitor "$PWD/evil.sh"; echo 2 > sub/file; cp evil.sh file; rm -f proof"""
    subprocess.run(["bash", "-ec", script], cwd=root, check=True, capture_output=True)
    return root / "main"


@pytest.mark.case(21)
def test_a_submodule_runs_nothing(evil_submodule):
    subprocess.run(["git", "status"], cwd=evil_submodule, capture_output=True)
    assert (evil_submodule / "proof").exists()  # so it is dangerous
    assert all(git_is_tame(evil_submodule, command) for command in ("git status", "git diff", "git log -p", "git show"))


@pytest.mark.case(22)
def test_file_names_are_no_flags(tmp_path):
    for name in ("-rf", "--output=x", "-c", "--help"):
        (tmp_path / name).write_text("content\n")
    assert judge("cat *").kind == "complex"  # the names would become flags
    assert judge("sort --output=x").kind == "plain"
    assert run_shell("cat -- -rf", root=tmp_path) == "content\n[exit code 0]"
    assert "--output=x" in judge("cat -- --output=x").paths
    for wall in [Bare(), *walls()]:
        assert run_shell("cat -- -rf", root=tmp_path / ".", launcher=wall) == "content\n[exit code 0]"


@pytest.mark.case(22)
@pytest.mark.parametrize("name", ["--share-net", "-rf", "a b", "$(touch proof)", "a;touch proof"])
def test_a_folder_name_is_no_flag_of_a_wall(tmp_path, name):
    root = tmp_path / name
    root.mkdir()
    (root / "file").write_text("content\n")
    for wall in [Bare(), *walls()]:
        assert run_shell("cat file", root=root, launcher=wall) == "content\n[exit code 0]"
    assert not (root / "proof").exists()


@pytest.mark.case(23)
@pytest.mark.parametrize("command", ["dir", "ls", "type file", "git status", "echo a & del b", "cd x", "x.bat \"a&b\""])
def test_windows_shells_are_never_understood(command):
    assert judge(command, posix=False).kind == "complex"


def alive(seconds: str) -> list:
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if (process.info["cmdline"] or [])[-1:] == [seconds] and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


STAYERS = [
    "trap '' TERM; sleep NAP; sleep NAP",
    "(setsid sleep NAP &); sleep NAP",
    "(setsid bash -c \"trap '' TERM HUP; sleep NAP; sleep NAP\" & ) & sleep NAP",
    "python3 -c \"import os,time; os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); "
    "os.execvpe('sleep', ['sleep', 'NAP'], {'PATH': os.environ['PATH']})\"; sleep NAP",
    "for i in 1 2 3 4 5; do (env -i setsid nohup sleep NAP >/dev/null 2>&1 &); done; sleep NAP",
]
LAUNCHERS = [Bare(), *walls()]


@pytest.mark.case(24)
@pytest.mark.parametrize("launcher", LAUNCHERS, ids=lambda one: f"{one.level}-{getattr(one, 'binary', '')[-12:]}")
@pytest.mark.parametrize("command", STAYERS)
def test_the_whole_tree_is_killed(tmp_path, command, launcher):
    nap = f"5400.{secrets.randbelow(10**9)}"
    with pytest.raises(ToolError, match="longer than"):
        run_shell(f"{command}; echo late > sentinel".replace("NAP", nap), root=tmp_path, launcher=launcher, timeout_s=0.8)
    assert alive(nap) == []
    time.sleep(0.2)
    assert not (tmp_path / "sentinel").exists()


@pytest.mark.case(24)
@pytest.mark.parametrize("launcher", LAUNCHERS, ids=lambda one: f"{one.level}-{getattr(one, 'binary', '')[-12:]}")
def test_a_busy_loop_ends(tmp_path, launcher):
    with pytest.raises(ToolError, match="longer than"):
        run_shell("while :; do :; done", root=tmp_path, launcher=launcher, timeout_s=0.5)


@pytest.mark.case(25)
@pytest.mark.parametrize("launcher", LAUNCHERS, ids=lambda one: f"{one.level}-{getattr(one, 'binary', '')[-12:]}")
def test_nobody_is_asked(tmp_path, launcher):
    say = lambda command: run_shell(command, root=tmp_path, launcher=launcher, timeout_s=8)
    assert say("read -p 'password? ' x || echo nobody").startswith("nobody")
    assert say("(: </dev/tty) 2>/dev/null || echo none").startswith("none")
    assert say("echo $PAGER $GIT_PAGER $EDITOR").startswith("cat cat false")
    assert "[exit code 0]" not in say("git init -q x && cd x && git commit --allow-empty")


# A weakened build must let one of these attacks through: else the attacks prove nothing.
def _weak_words(monkeypatch):
    monkeypatch.setattr(commands, "_raw_words", lambda command: command.split())


def _weak_assignment(monkeypatch):
    monkeypatch.setattr(commands, "_refuse_hidden_meaning", lambda raw: raw[:] and raw.__delitem__(
        slice(0, sum("=" in word for word in raw[:1]))))


def _weak_flags(monkeypatch):
    monkeypatch.setattr(programs, "_take_short", lambda *_: "")
    monkeypatch.setattr(programs, "_take_long", lambda *_: "")


def _weak_find(monkeypatch):
    monkeypatch.setattr(programs, "_FIND", dict.fromkeys(["-delete", "-exec", "-fprint", *programs._FIND], 0))


def _weak_wrappers(monkeypatch):
    monkeypatch.setattr(commands, "_HARMLESS", set(commands._WRAPPERS) | commands._SHELLS)


def _weak_operands(monkeypatch):
    monkeypatch.setitem(programs._READERS, "uniq", replace(programs._READERS["uniq"], most=9))


@pytest.mark.parametrize("weaken", [_weak_words, _weak_assignment, _weak_flags, _weak_find, _weak_wrappers, _weak_operands])
def test_a_weakened_judge_lets_something_through(monkeypatch, weaken):
    assert all(judgement_holds(command, least) for _, command, least in DISGUISED)
    weaken(monkeypatch)
    assert not all(judgement_holds(command, least) for _, command, least in DISGUISED)


@pytest.mark.parametrize("name,weak", [("git_settings", lambda names=(): {}), ("quiet_git", lambda command: command),
                                       ("_git_names", lambda *_: [])])
def test_a_weakened_git_lets_something_through(monkeypatch, evil_repository, evil_submodule, name, weak):
    monkeypatch.setattr(shell, name, weak)
    assert not all(git_is_tame(root, command) for root in (evil_repository, evil_submodule) for command in GIT)


def test_a_weakened_keeper_leaves_somebody(tmp_path, monkeypatch):
    import javis.tools.launch as launch
    nap = f"5400.{secrets.randbelow(10**9)}"
    words = lambda **spec: [*spec["argv"]]  # no keeper: the shell itself, nothing reaped
    monkeypatch.setattr(launch, "keeper_words", words)
    monkeypatch.setattr(launch, "_kill_marked", lambda mark: 0)
    with pytest.raises(ToolError):
        run_shell(f"env -i setsid sleep {nap} & sleep {nap}", root=tmp_path, timeout_s=0.5)
    left = alive(nap)
    for process in left:
        process.kill()
    assert left


@pytest.mark.case(13)
def test_a_missing_wall_is_an_error_and_no_weaker_wall(tmp_path):
    from javis.config import ConfigError
    with pytest.raises(ConfigError, match="none that holds"):
        find_sandbox(need="L1", candidates=lambda *_: [])
