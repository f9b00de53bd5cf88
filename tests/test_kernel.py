"The widget's messages as a front end sees them: a real kernel, no browser."
import os
import queue
import shutil
import time
from pathlib import Path

import pytest
from scripted_server import END, ScriptedServer, said, stream_head

from javis.store import Store
from javis.widgets.wire import proof_of

jupyter_client = pytest.importorskip("jupyter_client", reason="jupyter_client is in javis[lab]")
ROOT = Path(__file__).parents[1]
CALL = '<tool_call>{"name": "run_shell", "arguments": {"command": "for i in 1 2 3; do echo line $i; sleep 0.3; done"}}</tool_call>'


def spoken(text, pause=0.0, size=5):
    pieces = [said(text[i:i + size]) for i in range(0, len(text), size)]
    return [stream_head(), *(step for piece in pieces for step in ((piece, pause) if pause else (piece,))), END]


class Kernel:
    "A kernel with a chat in it, and what its comm says."
    def __init__(self, home, *scripts):
        self.server = ScriptedServer(*scripts).__enter__()
        self.manager = jupyter_client.KernelManager()
        environment = os.environ | {"JAVIS_HOME": str(home), "IPYTHONDIR": str(home / ".ipython"),
                                    "JPY_SESSION_NAME": str(home / "one.ipynb")}
        self.manager.start_kernel(env=environment, cwd=str(home))
        self.connect()

    def connect(self):
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        endpoint = {"kind": "vllm", "model": "told", "url": self.server.url, "native_tools": False}
        overrides = {"model": "told", "endpoints.told": endpoint, "tools.mode": "edit"}
        self.heard, self.texts, self.comm = [], [], None
        self.execute(f"from javis import Chat, load_settings\nchat = Chat(settings=load_settings(overrides={overrides!r}))\nchat")
        self.until(lambda: self.comm)
        made = self.client.session.msg("create_subshell_request")
        self.client.control_channel.send(made)
        self.subshell = self.client.control_channel.get_msg(timeout=10)["content"]["subshell_id"]
        self.say("hello", view="one", rev=0)
        self.until_op("snap")

    def execute(self, code):
        self.client.execute(code)

    def listen(self, seconds=0.1):
        "Take in what the kernel publishes."
        try:
            message = self.client.get_iopub_msg(timeout=seconds)
        except queue.Empty:
            return
        kind, content = message["msg_type"], message["content"]
        if kind == "comm_open" and content["data"]["state"].get("_model_name") == "AnyModel":
            self.comm = content["comm_id"]
        if kind == "comm_msg" and content["data"].get("method") == "custom":
            self.heard.append((time.monotonic(), content["data"]["content"], len(str(content))))
        if kind in ("stream", "error"):
            self.texts.append(content.get("text") or "\n".join(content["traceback"]))

    def until(self, found, within=20):
        end = time.monotonic() + within
        while not (result := found()):
            assert time.monotonic() < end, (self.ops(), self.texts)
            self.listen()
        return result

    def ops(self):
        return [message["op"] for _, message, _ in self.heard]

    def all(self, op, after=0):
        return [message for _, message, _ in self.heard[after:] if message["op"] == op]

    def until_op(self, op, after=0, within=20):
        return self.until(lambda: (self.all(op, after) or [None])[-1], within)

    def say(self, op, subshell=True, **content):
        "What a page says; with a subshell as JupyterLab does, without as older front ends do."
        message = self.client.session.msg("comm_msg", {"comm_id": self.comm, "data": {
            "method": "custom", "content": {"v": 1, "op": op, **content}}})
        if subshell:
            message["header"]["subshell_id"] = self.subshell
        self.client.shell_channel.send(message)

    def restart(self):
        self.client.stop_channels()
        self.manager.restart_kernel(now=True)
        self.connect()

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.server.__exit__()


@pytest.fixture
def home(tmp_path):
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    return tmp_path


@pytest.fixture
def kernel(home):
    opened = []

    def make(*scripts):
        opened.append(Kernel(home, *scripts))
        return opened[-1]
    yield make
    for one in opened:
        one.close()


def whole(kernel, run):
    "The text of a run, put together as a page does; its numbers have no gap."
    pieces = [one for one in kernel.all("d") if one["run"] == run]
    assert [one["seq"] for one in pieces] == list(range(len(pieces)))
    return "".join(one["s"] for one in pieces)


def test_it_streams_and_stops_while_a_cell_sleeps(kernel, home):
    one = kernel(spoken("tick " * 2000, 0.01))
    one.execute("import time\ntime.sleep(8)\nprint('slept')")
    time.sleep(0.5)
    one.say("send", text="Count.", client="1")
    one.until(lambda: len(one.all("d")) > 5, within=5)
    begin = time.monotonic()
    one.say("stop", run=None)
    done = one.until_op("done", within=5)
    took = time.monotonic() - begin
    assert done["status"] == "cancelled" and "slept\n" not in one.texts
    assert one.server.wait_hung_up(0)
    text = whole(one, done["run"])
    assert done["parts"] == [{"id": done["id"], **proof_of(text)}]
    with Store(home / "data/javis.db") as store:
        assert store.message(done["id"]).content == text and store.message(done["id"]).status == "cancelled"
    print(f"stopped {took * 1000:.0f} ms after it was asked, the kernel busy")


def test_a_fast_answer_stays_far_below_the_limit_on_messages(kernel):
    text = "".join(f"word{i} " for i in range(2000))
    one = kernel(spoken(text, size=7))
    one.say("send", text="Talk.", client="1")
    done = one.until_op("done")
    assert whole(one, done["run"]) == text
    times = [at for at, message, _ in one.heard if message["op"] == "d"]
    size = sum(length for _, message, length in one.heard if message["op"] == "d")
    rate = max(sum(1 for other in times if at <= other < at + 1) for at in times)
    assert rate < 60 and size < 3 * len(text)
    print(f"{len(times)} messages, {size} bytes for {len(text)} characters; at most {rate} in a second")


def test_without_subshells_it_works_when_the_kernel_is_free(kernel):
    one = kernel(spoken("Here."))
    one.say("send", subshell=False, text="Where?", client="1")
    assert one.until_op("done")["message"]["parts"][0]["s"] == "Here."


def test_the_same_request_twice_is_one(kernel, home):
    one = kernel(spoken("Once."), spoken("Twice."))
    for _ in range(2):
        one.say("send", text="How often?", client="same")
    one.until(lambda: len(one.all("ack")) == 2)
    one.until_op("done")
    assert len(one.server.requests) == 1


def test_a_restart_goes_on_with_the_conversation(kernel):
    one = kernel(spoken("I remember."), spoken("Still."))
    one.say("send", text="Remember me.", client="1")
    one.until_op("done")
    one.restart()
    shown = one.all("snap")[-1]["messages"]
    assert [part["s"] for message in shown for part in message["parts"]] == ["Remember me.", "I remember."]


def test_a_tool_is_approved_with_its_key_and_heard_while_it_runs(kernel, home):
    one = kernel(spoken(CALL))
    one.execute("import time\ntime.sleep(6)")
    one.say("send", text="Run it.", client="1")
    card = one.until(lambda: next((t["call"] for t in one.all("tool") if t["call"]["status"] == "waiting"), None))
    assert card["risk"] == "exec" and card["preview"]["kind"] == "command"
    one.say("approve", call=card["id"], key=card["key"], yes=True, scope="once")
    first = one.until_op("out")
    done = one.until_op("done")
    assert "line 1" in first["s"] and "line 3" not in first["s"]
    assert "line 3" in done["message"]["parts"][-1]["call"]["result"]


def test_a_decision_about_other_arguments_is_a_no(kernel):
    one = kernel(spoken(CALL))
    one.say("send", text="Run it.", client="1")
    card = one.until(lambda: next((t["call"] for t in one.all("tool") if t["call"]["status"] == "waiting"), None))
    one.say("approve", call=card["id"], key="0" * 64, yes=True, scope="once")
    assert one.until_op("done")["message"]["parts"][-1]["call"]["status"] == "denied"


def test_two_views_and_one_that_comes_late(kernel):
    one = kernel(spoken("slow " * 60, 0.02))
    one.say("send", text="Slowly.", client="1")
    one.until(lambda: len(one.all("d")) > 3)
    at = len(one.heard)
    one.say("hello", view="late", rev=0)
    snap = one.until(lambda: next((s for s in one.all("snap", at) if s.get("view") == "late"), None))
    so_far = snap["messages"][-1]["parts"][0]["s"]
    (run,) = snap["runs"]
    assert run["id"] == snap["messages"][-1]["id"] and so_far.startswith("slow")
    done = one.until_op("done")
    text = whole(one, done["run"])
    after = [d["s"] for d in one.all("d") if d["seq"] >= run["seq"]]
    assert so_far + "".join(after) == text


def test_what_a_page_says_wrongly_is_answered_and_nothing_breaks(kernel):
    one = kernel(spoken("Fine."))
    for op, content in [("regen", {"id": "nobody"}), ("rate", {"id": "nobody"}), ("edit", {}), ("head", {"id": 3}),
                        ("pick", {"pair": "x", "side": "left"}), ("asset", {"name": "../../etc/passwd"}), ("export", {"q": 1, "format": "exe"}),
                        ("approve", {}), ("send", {"text": "  ", "client": "e"}), ("unknown", {})]:
        at = len(one.heard)
        one.say(op, **content)
        if op != "unknown":
            assert one.until_op("err", at)["of"] in (op, "send")
    one.say("send", text="Still there?", client="2")
    assert one.until_op("done")["message"]["parts"][0]["s"] == "Fine."
