"""Commands as a person meets them: on a pseudo-terminal, in a project of its own, with answers from a script.

    from pseudo_terminal import CALL, Terminal, endpoint, home   # the last two are fixtures

    endpoint("The log is in logs/.")
    with Terminal("chat", home=home) as terminal:
        terminal.until("› ").type("where is the log?\\r").until("in logs/")
"""
import codecs
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import time

import pytest

from scripted_server import END, ScriptedServer, said, stream_head

CALL = '<tool_call>{"name": "%s", "arguments": %s}</tool_call>'
CODES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[=>]")


@pytest.fixture
def home(tmp_path, monkeypatch):
    "A project of its own."
    for name in [name for name in os.environ if name.startswith("JAVIS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("JAVIS_HOME", str(tmp_path))
    monkeypatch.setenv("JAVIS_USER", str(tmp_path / "user"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def endpoint(home):
    "Serve answers from a script: `endpoint('one', 'two')`; each is sent word by word."
    opened = []

    def serve(*answers, native=False, tail=(END,), more=""):
        words = [re.findall(r"\s*\S+\s*", answer) for answer in answers]
        server = ScriptedServer(*([stream_head(), *map(said, some), *tail] for some in words))
        opened.append(server.__enter__())
        (home / "configs").mkdir(exist_ok=True)
        (home / "configs/config.yaml").write_text(
            "model: test\nendpoints:\n  test:\n    kind: openai\n    model: scripted\n"
            f"    url: {server.url}\n    native_tools: {str(native).lower()}\n{more}")
        return server
    yield serve
    for server in opened:
        server.__exit__()


def process(*arguments, home, env=None, **options):
    "A command in a process of its own."
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JAVIS_")}
    environment |= {"JAVIS_HOME": str(home), "JAVIS_USER": str(home / "user")} | (env or {})
    return subprocess.Popen([sys.executable, "-c", "import sys, javis.cli; sys.exit(javis.cli.main())",
                             *arguments], env=environment, cwd=home,
                            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE,
                               "stderr": subprocess.PIPE} | options)


class Terminal:
    "A child on a terminal; it answers, as a terminal does, where its cursor is."
    def __init__(self, *arguments, home, columns=80, rows=24, env=None, stdin=None):
        import fcntl
        import termios
        self.master, slave = pty.openpty()
        self.rows = rows
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

        def own_terminal():
            os.setsid()
            fcntl.ioctl(2, termios.TIOCSCTTY, 0)
        self.child = process(*arguments, home=home, stdin=stdin or slave, stdout=slave, stderr=slave,
                             preexec_fn=own_terminal, env={"TERM": "xterm-256color"} | (env or {}))
        os.close(slave)
        self.text, self.all, self.decode = "", "", codecs.getincrementaldecoder("utf-8")("replace").decode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGKILL)
            self.child.wait(10)
        os.close(self.master)

    def read(self, seconds=0.2):
        "Take in what comes; whether something did."
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        try:
            piece = self.decode(os.read(self.master, 65536))
        except OSError:  # the child has ended
            time.sleep(0.05)
            return False
        self.text, self.all = self.text + piece, self.all + piece
        for _ in range(piece.count("\x1b[6n")):
            os.write(self.master, b"\x1b[%d;%dR" % self.cursor())
        return True

    def cursor(self):
        "Row and column; that of a terminal on which much was shown."
        return self.rows, 1

    @property
    def plain(self):
        "What came since the last keys, without terminal codes."
        return CODES.sub("", self.text)

    def until(self, what, within=30):
        "Wait until a pattern is in what came since the last keys."
        end = time.monotonic() + within
        while not re.search(what, self.plain):
            assert time.monotonic() < end, f"{what!r} is not in {self.plain!r}"
            self.read()
        return self

    def quiet(self, seconds=0.4):
        "Wait until nothing comes for a moment."
        while self.read(seconds):
            pass
        return self

    def type(self, text):
        self.text = ""
        os.write(self.master, text.encode())
        return self

    def end(self, within=15):
        "The exit status, once the child has ended."
        deadline = time.monotonic() + within
        while self.child.poll() is None and time.monotonic() < deadline:
            self.read(0.05)
        status = self.child.wait(1)
        while self.read(0.05):
            pass
        return status
