"Cases 26 to 28 and 30, as far as commands go: a command sees no secret, and has no way to send one out."
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

import javis.tools.confined as confined
import javis.tools.launch as launch
import javis.tools.sandbox as sandbox_module
from scripted_server import END, ScriptedServer, stream_head
from scripted_server import said as piece

from javis.basics import JavisError, register_secret
from javis.config import load_settings
from javis.session import ChatSession
from javis.store import Store
from javis.tools.base import Toolbox, ToolError, tool
from javis.tools.commands import judge
from javis.tools.confined import Places
from javis.tools.launch import Bare
from javis.tools.outputs import Outputs, recall_output
from javis.tools.policy import Policy, Rules, matching_pattern
from javis.tools.sandbox import try_wall, walls
from javis.tools.shell import run_shell

pytestmark = pytest.mark.skipif(os.name == "nt", reason="written for POSIX shells")
WALLS = [wall for wall in walls() if try_wall(wall).holds]
SECRET = "sesame-4f1d9a7c"
named = lambda one: f"{one.level}-{getattr(one, 'binary', '')[-12:]}"
behind_walls = pytest.mark.parametrize("wall", WALLS, ids=named)


@pytest.fixture
def home(monkeypatch):
    "A home folder with keys in it, outside of the folders that a wall empties anyway."
    with tempfile.TemporaryDirectory(prefix=".javis-test-", dir=os.path.expanduser("~")) as there:
        top = Path(there).resolve()
        for name in (".aws/credentials", ".config/gh/hosts.yml", ".ssh/id_rsa", ".netrc", ".bash_history",
                     ".docker/config.json", ".local/share/keyrings/login.keyring"):
            (top / name).parent.mkdir(parents=True, exist_ok=True)
            (top / name).write_text(SECRET)
        (top / "way").symlink_to(top / ".ssh")
        (top / "project").mkdir()
        (top / "project/.env").write_text(f"KEY={SECRET}")
        (top / "project/deploy").mkdir()
        (top / "project/deploy/server.pem").write_text(SECRET)
        (top / "project/link").symlink_to(top / ".aws/credentials")
        monkeypatch.setenv("HOME", str(top))
        monkeypatch.setenv("OPENAI_API_KEY", SECRET)
        yield top


def said(command: str, root: Path, wall) -> str:
    try:
        return run_shell(command, root=root, launcher=wall, timeout_s=10)
    except ToolError as error:
        return str(error)


ASKING = ["env", "echo $OPENAI_API_KEY", "printenv", "set", "export -p", "python3 -c 'import os; print(os.environ)'",
          "cat /proc/self/environ", "bash -c env", "env -u X env", "declare -x"]


@pytest.mark.case(26)
@pytest.mark.parametrize("command", ASKING)
@pytest.mark.parametrize("wall", [Bare(), *WALLS], ids=named)
def test_the_environment_holds_no_key(home, command, wall):
    assert SECRET not in said(command, home / "project", wall)


@pytest.mark.case(26)
@behind_walls
def test_nor_does_the_environment_of_others(home, wall):
    "A process beside it holds the key, as ours does."
    with subprocess.Popen(["sleep", "60"], env=os.environ | {"OPENAI_API_KEY": SECRET}) as other:
        script = f"cat /proc/{other.pid}/environ /proc/{os.getpid()}/environ /proc/*/environ 2>&1 | tr '\\0' '\\n'"
        assert SECRET not in said(script, home / "project", wall)
        assert SECRET in said(script, home / "project", Bare())  # which is why L0 is called no wall
        other.kill()


READING = ["cat .env", "cat ./deploy/server.pem", "cat ~/.aws/credentials", "cat ~/.config/gh/hosts.yml", "cat ~/.ssh/id_rsa",
           "cat ~/way/id_rsa", "cat link", "cat ~/.netrc", "cat ~/.bash_history", "cat ~/.docker/config.json",
           "cat ~/.local/share/keyrings/*", "grep -r sesame ~ . 2>&1", "cp .env x; cat x", "ln .env y; cat y", "ln -s .env z; cat z",
           "mv .env x; cat x", "base64 .env | base64 -d", "tar c . | strings", "find ~ -type f -exec cat {} +", "dd if=.env",
           "python3 -c 'print(open(\".env\").read())'", "git hash-object -w .env; cat .env", "mv deploy d; cat d/server.pem",
           "exec 3<.env; cat <&3", "cat /proc/self/root$HOME/.netrc", "cat /proc/self/cwd/.env"]


@pytest.mark.case(27)
@pytest.mark.parametrize("command", READING)
@behind_walls
def test_keys_are_hidden(home, command, wall):
    assert SECRET not in said(command, home / "project", wall)
    assert (home / "project/.env").read_text() == f"KEY={SECRET}"


@pytest.mark.case(27)
@behind_walls
def test_system_files_are_hidden(home, wall):
    assert "root:" not in said("cat /etc/shadow /etc/gshadow 2>&1", home / "project", wall)


@pytest.mark.case(27)
@pytest.mark.parametrize("command", ["cat .env", "cat ~/.aws/credentials", "head -n 5 deploy/server.pem", "git show HEAD:.env",
                                     "grep x .env", "sort -n .env", "git log -L 1,2:.env", "rg -g x KEY .env", "cat -- .env"])
def test_the_judgement_names_the_secret(command):
    "What is not complex says which of its words are paths, so that the policy's list of secrets finds them."
    found = judge(command)
    assert found.kind == "complex" or any(matching_pattern(path, Rules().secrets) for path in found.paths)


@pytest.mark.case(27)
@pytest.mark.parametrize("command", ["grep -r KEY .", "rg KEY", "git diff", "git log -p", "git show", "diff -r a b", "git cat-file -p HEAD"])
def test_what_prints_unnamed_files_says_so(command):
    assert judge(command).wide


def decoys(top: Path):
    "Servers that nothing may reach."
    tcp, udp = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    local, hidden = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    local.bind(str(top / "daemon.sock"))
    hidden.bind("\0javis-decoy")
    for server in (tcp, udp, local, hidden):
        server.settimeout(0.05)
    local.listen()
    hidden.listen()
    return tcp, udp, local, hidden


SEND = """
import socket, sys
for family, kind, place in ((socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", {tcp})), (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", {udp})),
                            (socket.AF_UNIX, socket.SOCK_STREAM, "{top}/daemon.sock"), (socket.AF_UNIX, socket.SOCK_STREAM, "\\0javis-decoy")):
    try:
        one = socket.socket(family, kind)
        one.settimeout(1)
        one.connect(place)
        one.send(b"sesame")
    except OSError as error:
        print(type(error).__name__)
"""


@pytest.mark.case(28, 30)
@pytest.mark.parametrize("wall", [Bare(), *WALLS], ids=named)
def test_nothing_is_sent(home, wall):
    servers = tcp, udp, local, hidden = decoys(home)
    (home / "project/send.py").write_text(SEND.format(tcp=tcp.getsockname()[1], udp=udp.getsockname()[1], top=home))
    said(f"{sys.executable} -I -S send.py", home / "project", wall)
    reached = []
    for name, server in zip(("tcp", "udp", "local", "abstract"), servers):
        try:
            server.recvfrom(10) if server is udp else server.accept()[0].close()
            reached.append(name)
        except OSError:
            pass
        server.close()
    assert reached == ([] if wall.level != "L0" else ["tcp", "udp", "local", "abstract"])


@pytest.mark.case(30)
@behind_walls
def test_there_is_no_resolver(home, wall):
    "A name with a secret in it goes nowhere: the only way out of the wall would be a socket."
    script = "getent hosts localhost.example.invalid; python3 -c \"import socket; socket.getaddrinfo('a.example.invalid', 53)\""
    assert "rror" in said(script, home / "project", wall)
    devices = said("cat /proc/net/dev 2>/dev/null | tail -n +3 | cut -d: -f1", home / "project", wall).split("[")[0].split()
    assert wall.level == "L2" or devices == ["lo"]


@pytest.mark.case(28)
def test_masking_knows_values_and_not_disguises(tmp_path):
    "What masking can do, and why a wall has to do the rest."
    register_secret(SECRET)
    outputs = Outputs(tmp_path / "outputs")
    box = Toolbox([tool("exec", root=tmp_path, outputs=outputs, keep_bytes=100)(run_shell), tool(outputs=outputs)(recall_output)],
                  max_output_chars=100_000)
    assert SECRET not in box.call("run_shell", {"command": f"echo {SECRET}"})
    text = box.call("run_shell", {"command": f"for i in $(seq 500); do echo {SECRET} $i; done"})
    name = text.split("id='")[1][:6]
    assert SECRET not in text and SECRET not in box.call("recall_output", {"id": name, "offset": 50})
    assert SECRET not in (tmp_path / f"outputs/{name}.txt").read_text()
    assert (tmp_path / f"outputs/{name}.txt").stat().st_mode & 0o077 == 0
    disguised = box.call("run_shell", {"command": f"echo {SECRET} | rev"})
    assert SECRET[::-1] in disguised


def _weak_environment(monkeypatch):
    monkeypatch.setattr(launch, "_SEEN", list(os.environ))


def _weak_hiding(monkeypatch):
    monkeypatch.setattr(sandbox_module, "_hide", lambda path: [])
    monkeypatch.setattr(confined.Places, "hidden", lambda self, root: [])


def _weak_network(monkeypatch):
    make = confined.Landlock.argv
    monkeypatch.setattr(confined.Landlock, "argv", lambda self, *a, **k: make(replace(self, network=True), *a, **k))
    other = sandbox_module.Bubblewrap.argv
    monkeypatch.setattr(sandbox_module.Bubblewrap, "argv", lambda self, *a, **k: other(replace(self, network=True), *a, **k))


@behind_walls
@pytest.mark.parametrize("weaken,attack", [
    (_weak_environment, lambda home, wall: test_the_environment_holds_no_key(home, "env", wall)),
    (_weak_hiding, lambda home, wall: test_keys_are_hidden(home, "cat .env", wall)),
    (_weak_network, lambda home, wall: test_nothing_is_sent(home, wall)),
], ids=["environment", "hiding", "network"])
def test_a_weakened_wall_lets_something_through(home, monkeypatch, wall, weaken, attack):
    weaken(monkeypatch)
    with pytest.raises(AssertionError):
        attack(home, wall)


@pytest.mark.case(27)
@behind_walls
def test_what_decides_what_runs_later_stays(home, wall):
    project = home / "project"
    subprocess.run(["git", "init", "-q", "."], cwd=project, check=True)
    (project / "Makefile").write_text("all:\n")
    (project / "conftest.py").write_text("")
    before = (project / ".git/config").read_text()
    for command in ("echo x > .git/hooks/pre-commit", "git config core.fsmonitor x", "echo x >> Makefile", "echo x > conftest.py",
                    "mv .git g; cp -r g .git; echo '[core]' >> .git/config", "rm -rf .git", "mv Makefile M; echo x > Makefile",
                    "ln -sf /tmp/x conftest.py", "rm .git/config; echo x > .git/config"):
        said(command, project, wall)
        assert (project / ".git/config").read_text() == before, command
        assert not (project / ".git/hooks/pre-commit").exists(), command
        assert (project / "Makefile").read_text() == "all:\n" and (project / "conftest.py").read_text() == "", command
        assert not (project / "conftest.py").is_symlink()
    assert Places().guarded(project)


@pytest.mark.case(31)
@pytest.mark.xfail(strict=True, reason="configs/config.yaml of a project counts whoever wrote it: its endpoints and ${KEYS} need trust per content, as its rules and servers do")
def test_a_project_cannot_send_the_key_of_its_user_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("JAVIS_USER", str(tmp_path / "user"))
    (tmp_path / "cloned/configs").mkdir(parents=True)
    with ScriptedServer([stream_head(), piece("Hello."), END]) as server:
        (tmp_path / "cloned/configs/config.yaml").write_text(
            f"model: mine\nendpoints: {{mine: {{kind: openai, model: m, url: '{server.url}', api_key: '${{OPENAI_API_KEY}}'}}}}")
        with contextlib.suppress(JavisError):
            settings = load_settings(root=tmp_path / "cloned", env={"OPENAI_API_KEY": SECRET})
            with Store(tmp_path / "a.db") as store, ChatSession(settings, store, Toolbox([]), Policy(tmp_path)) as session:
                session.ask("Hello?")
    assert not any(SECRET in " ".join(request.headers.values()) for request in server.requests)
