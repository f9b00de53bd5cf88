"Who may call what: rules, places, modes."
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from javis.tools.base import Runs, tool
from javis.tools.commands import needs_network
from javis.tools.launch import Bare
from javis.tools.policy import (Policy, PolicyError, Rule, Rules, load_rules, matching_pattern,
                                place_of)
from javis.tools.sandbox import Bubblewrap, Sandbox
from javis.tools.shell import show_command
from javis.tools.trust import loosened, tightened

ROOT = Path(__file__).parent.parent


@tool("read")
def read_file(path: Path) -> str:
    "Read."

@tool("write")
def write_file(path: Path, content: str) -> str:
    "Write."

@tool("exec")
def run_shell(command: str) -> str:
    "Run."

@tool("net")
def fetch_url(url: str) -> str:
    "Fetch."


@pytest.fixture
def root(tmp_path):
    project = tmp_path / "proj"
    (project / "src").mkdir(parents=True)
    (project / "src/app.py").write_text("")
    (tmp_path / "proj-evil").mkdir()
    (tmp_path / "proj-evil/x").write_text("")
    (project / "out").symlink_to(tmp_path / "proj-evil")
    (project / "in").symlink_to("src")
    (project / "notes.txt").symlink_to(".env")
    (project / ".env").write_text("KEY=1")
    return project


def verdict(root, path, mode="edit", rules=Rules(), tool=read_file):
    return Policy(root, mode, rules).decide(tool, {"path": str(path)} | (
        {"content": ""} if tool is write_file else {})).verdict


def test_the_shipped_file_states_the_defaults():
    assert load_rules(ROOT / "configs/tools.yaml") == Rules()


@pytest.mark.parametrize("path, expected", [
    ("src/app.py", "allow"), ("src/new.py", "allow"), (".", "allow"), ("in/app.py", "allow"),
    ("src/../src/app.py", "allow"), ("../../etc/passwd", "deny"), ("out/x", "deny"), ("out", "deny"),
    ("src/../../proj-evil/x", "deny"), ("/etc/passwd", "ask"), ("~/notes.txt", "ask"),
    (".env", "deny"), ("src/.env.local", "deny"), (".env.example", "allow"), ("a/server.PEM", "deny"),
    ("~/.ssh/config", "deny"), ("~/.aws/credentials", "deny"), ("/proc/self/environ", "deny"),
    ("/dev/zero", "deny"), ("notes.txt", "deny"), ("environment.py", "allow"), ("keyboard.py", "allow"),
    ("a\nb", "deny"), ("a\0b", "deny"), ("", "deny"), ("x" * 5000, "deny"),
])
def test_where_a_path_leads(root, path, expected):
    assert verdict(root, path) == expected


def test_absolute_paths_are_judged_by_their_place(root):
    assert verdict(root, root / "src/app.py") == "allow"
    assert verdict(root, root.parent / "proj-evil/x") == "ask"  # a prefix of the name is not enough
    assert verdict(root, root / "out/x") in ("ask", "deny")
    assert place_of(root, root / "src").shown == "src"


def test_a_project_below_a_link(root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    assert verdict(tmp_path / "link", "src/app.py") == "allow"
    assert verdict(tmp_path / "link", root / "src/app.py") == "allow"


def test_link_loops_end(root):
    (root / "loop").symlink_to("loop")
    assert verdict(root, "loop") in ("allow", "deny")  # opening it fails later


def test_defaults_by_effect(root):
    policy = Policy(root, "edit")
    assert policy.decide(read_file, {"path": "src"}).verdict == "allow"
    assert policy.decide(write_file, {"path": "a", "content": ""}).verdict == "ask"
    assert policy.decide(run_shell, {"command": "ls"}).verdict == "ask"
    assert policy.decide(fetch_url, {"url": "https://a.example"}).verdict == "ask"


@pytest.mark.parametrize("mode, verdicts", [
    ("chat", ["deny"] * 4), ("read", ["allow", "deny", "deny", "ask"]),
    ("edit", ["allow", "ask", "ask", "ask"])])
def test_modes(root, mode, verdicts):
    policy = Policy(root, mode, Rules(allow=[Rule(tool="run_shell"), Rule(tool="write_file")])
                    if mode != "edit" else Rules())
    calls = [(read_file, {"path": "src"}), (write_file, {"path": "a", "content": ""}),
             (run_shell, {"command": "ls"}), (fetch_url, {"url": "https://a.example"})]
    assert [policy.decide(*call).verdict for call in calls] == verdicts


def test_deny_beats_ask_beats_allow_in_any_order(root):
    allow, ask, deny = Rule(tool="read_file"), Rule(arguments={"path": "src/*"}), Rule(
        tool="read_*", arguments={"path": "*.py"}, why="secret sauce")
    policy = Policy(root, "edit", Rules(allow=[allow], ask=[ask], deny=[deny]))
    assert policy.decide(read_file, {"path": "a.txt"}).verdict == "allow"
    assert policy.decide(read_file, {"path": "src/a.txt"}).verdict == "ask"
    decision = policy.decide(read_file, {"path": "src/app.py"})
    assert decision.verdict == "deny" and "secret sauce" in decision.rule
    explained = policy.explain(read_file, {"path": "src/app.py"}).splitlines()
    assert [line.partition(":")[0] for line in explained] == ["deny", "ask", "allow"]


def test_no_rule_opens_what_is_closed(root):
    everything = Rules(allow=[Rule()])
    for path in (".env", "out/x", "../proj-evil/x"):
        assert verdict(root, path, rules=everything) == "deny"
    assert verdict(root, "/etc/hosts", rules=everything) == "ask"
    for path in (".git/hooks/pre-commit", "configs/tools.yaml", "src/conftest.py", "x.pth", "Makefile"):
        assert verdict(root, path, rules=everything, tool=write_file) == "ask"
    assert verdict(root, "src/app.py", rules=everything, tool=write_file) == "allow"


def test_an_allowing_rule_looks_at_the_real_place(root):
    rules = Rules(allow=[Rule(tool="write_file", arguments={"path": "src/*"})])
    assert verdict(root, "src/a", rules=rules, tool=write_file) == "allow"
    assert verdict(root, "in/a", rules=rules, tool=write_file) == "allow"
    assert verdict(root, "src/../a", rules=rules, tool=write_file) == "ask"
    closing = Rules(deny=[Rule(arguments={"path": "in/*"})])
    assert verdict(root, "in/app.py", rules=closing) == "deny"


@pytest.mark.parametrize("command, expected", [
    ("git status", "allow"), ("git status -s", "allow"), ("git log --oneline --max-count=3", "allow"),
    ("git status; rm -rf x", "ask"), ("git status && rm x", "ask"), ("git status | sh", "ask"),
    ("git status\nrm x", "ask"), ("git status $(rm x)", "ask"), ("git status `rm x`", "ask"),
    ("git log > ~/.bashrc", "ask"), ("git diff <(ls)", "ask"), ("git status &", "ask"),
    ("g\\it status", "ask"), ("PAGER=x git log", "ask"), ("git diff .env", "ask"),
    ("git diff 'open", "ask"), ("git add *", "ask"), ("sudo git status", "deny"), ("ls", "ask"),
])
def test_a_rule_allows_one_plain_command(root, command, expected):
    rules = Rules(allow=[Rule(tool="run_shell", arguments={"command": "git *"})],
                  deny=[Rule(tool="run_shell", arguments={"command": "*sudo*"})])
    assert Policy(root, "edit", rules).decide(run_shell, {"command": command}).verdict == expected


# Commands that only read

def shell_behind(level="L3", network=False):
    @tool("exec", runs=Runs(SimpleNamespace(level=level, network=network)))
    def run_shell(command: str) -> str:
        "Run."
    return run_shell


@pytest.mark.parametrize("command", [
    "git status", "git status -s", "git log --oneline -n 5", "git diff --stat", "git show HEAD:src/app.py", "git branch", "ls", "ls -la src | head",
    "cat src/app.py", "cat in/app.py", "grep -rn todo .", "find . -name '*.py'", "rg todo src", "timeout 5 ls", "cat src/app.py | sort | uniq -c",
    "head -20 src/app.py", "wc -l src/app.py", "cat .env.example", "tree -L 2", "df -h"])
def test_what_only_reads_in_the_project_runs_unasked(root, command):
    for level in ("L2", "L3"):
        decision = Policy(root, "edit").decide(shell_behind(level), {"command": command})
        assert decision.verdict == "allow" and f"behind {level} (read_only_commands)" in decision.rule, command


@pytest.mark.parametrize("command", [
    "cat .env", "cat src/../.env", "cat notes.txt", "grep x .env", "cat src/app.py .env | head", "git show HEAD:.env", "cat ./a/server.pem",  # secrets
    "cat /etc/hosts", "ls /", "cat out/x", "cat ../proj-evil/x", "ls ..", "find / -name x", "ls src | cat /etc/passwd",  # elsewhere
    "git diff", "git diff HEAD~1 -- src", "git log -p", "git show", "git show HEAD", "git cat-file -p HEAD", "git status -v", "git show :/fix",  # history
    "grep -R x .", "find -L . -type f", "diff -r src in", "du -L .",  # through links
    "rm x", "ls > x", "ls; ls", "ls && ls", "ls | sh", "ls | xargs rm", "ls | tee x", "sort -o x y", "find . -delete", "cat $HOME/x", "cat *",
    "ls ~", "ls |& cat", "ls || cat x", "git push", "curl x", "sudo ls", "tail -f x", "ls | | cat", "| ls", "ls |", "git -C /x status", "A=1 ls"])
def test_everything_else_asks(root, command):
    assert Policy(root, "edit").decide(shell_behind(), {"command": command}).verdict == "ask", command


def test_reading_asks_where_no_wall_holds_or_the_rules_want_it(root):
    ls = {"command": "ls"}
    assert Policy(root, "edit").decide(run_shell, ls).verdict == "ask"  # it does not say what stands around it
    for level in ("L0", "L1"):
        explained = Policy(root, "edit").explain(shell_behind(level), ls)
        assert explained.startswith("ask: the default for the effect exec\n") and f"no wall hides anything from it ({level})" in explained
    asking = Policy(root, "edit", Rules(read_only_commands="ask"))
    assert asking.decide(shell_behind(), ls).verdict == "ask" and "read_only_commands is ask" in asking.explain(shell_behind(), ls)
    assert ".env is closed: .env in secrets" in Policy(root, "edit").explain(shell_behind(), {"command": "cat .env"})


def test_rules_win_over_reading(root):
    ls, of = {"command": "git status | head"}, lambda **rules: Policy(root, "edit", Rules(**rules)).decide(shell_behind(), ls)
    assert of(deny=[Rule(tool="run_shell", arguments={"command": "git *"})]).verdict == "deny"
    assert of(ask=[Rule(tool="run_shell")]).verdict == "ask"
    assert of(defaults={"exec": "deny"}).verdict == "deny"
    assert Policy(root, "read").decide(shell_behind(), ls).verdict == "deny"
    note = Policy(root, "edit", Rules(allow=[Rule(tool="run_shell", arguments={"command": "git log *"})]))
    assert note.decide(shell_behind(), {"command": "git log -p"}).verdict == "allow"  # a person wrote that rule


def test_strangers_cannot_do_anything_with_reading_unless_there_is_a_way_out(root):
    policy = Policy(root, "edit")
    assert policy.decide(shell_behind(), {"command": "ls"}, "a page").verdict == "allow"
    assert policy.decide(shell_behind(), {"command": "make"}, "a page").verdict == "ask"
    assert policy.decide(shell_behind(network=True), {"command": "ls"}).verdict == "allow"
    decision = policy.decide(shell_behind(network=True), {"command": "ls"}, "a page")
    assert decision.verdict == "ask" and "a page" in decision.rule


def test_a_project_may_only_tighten_it(tmp_path):
    strict, free = Rules(read_only_commands="ask"), Rules()
    assert [tightened(user, project).read_only_commands for user, project in ((free, free), (free, strict), (strict, free))] == ["allow", "ask", "ask"]
    assert loosened(strict, free) == ["read_only_commands: allow"] and loosened(free, strict) == []


@pytest.mark.skipif(os.name == "nt", reason="written for POSIX shells")
@pytest.mark.parametrize("command, net", [
    ("git push", "git push"), ("cd x && git -q push", "git push"), ("git status", ""), ("curl -s x | sh", "curl"), ("timeout 9 wget x", "wget"),
    ("python -m pip install x", "pip install"), ("pip list", ""), ("npm run build", ""), ("npm ci", "npm ci"), ("ls curl", ""), ("", "")])
def test_what_needs_the_network_is_known(command, net):
    assert needs_network(command) == net


def test_the_question_about_a_push_says_that_it_will_fail():
    closed, opened = (Bubblewrap("bwrap", network=network) for network in (False, True))
    assert "git push needs the network, which the wall closes: it will fail" in show_command("git push", launcher=closed)
    assert "JAVIS_TOOLS__SANDBOX_NETWORK=true" in show_command("git push", launcher=Sandbox(closed))
    for command, wall in (("git push", opened), ("git push", Bare()), ("make", closed)):
        assert "will fail" not in show_command(command, launcher=wall)


def test_patterns():
    patterns = [".env", "*.key", ".config/gh", "/etc/shadow", "!*.pub"]
    fits = lambda path: matching_pattern(path, patterns)
    assert [fits(path) for path in ("a/.ENV/b", "x.key", "/home/a/.config/gh/hosts.yml", "/etc/shadow")] == [
        ".env", "*.key", ".config/gh", "/etc/shadow"]
    assert [fits(path) for path in ("env", "x.keys", ".config/ghost", "etc/shadow", "a/etc/shadow", "k.pub")] == [None] * 6
    assert fits(".env/k.pub") == ".env"


@pytest.mark.parametrize("text, message", [
    ("deny: [", "valid"),
    ("deni: []", "line 1: deni"),
    ("ask:\n  - {tool: a, arguments: [b]}", "line 2: ask.0"),
    ("defaults:\n  read: alow", "line 2: defaults.read"),
    ("private_network: perhaps", "line 1: private_network"),
    ("- a", "tools.yaml"),
])
def test_broken_files_never_mean_the_defaults(tmp_path, text, message):
    file = tmp_path / "configs/tools.yaml"
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(Exception, match=message) as caught:
        Policy.load(file, "edit")
    assert getattr(caught.value, "exit_code", None) == 2


def test_load(tmp_path):
    policy = Policy.load(tmp_path / "configs/tools.yaml", "edit")
    assert policy.rules == Rules() and policy.root == tmp_path and policy.mode == "edit"
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/tools.yaml").write_text("defaults: {read: ask}\nsecrets: []\n")
    policy = Policy.load(tmp_path / "configs/tools.yaml", root=tmp_path)
    assert policy.decide(read_file, {"path": ".env"}).verdict == "ask"
    assert issubclass(PolicyError, Exception)
