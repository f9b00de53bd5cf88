"Who may call what: rules, places, modes."
from pathlib import Path

import pytest

from javis.tools.base import tool
from javis.tools.policy import (Policy, PolicyError, Rule, Rules, load_rules, matching_pattern,
                                place_of)

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
