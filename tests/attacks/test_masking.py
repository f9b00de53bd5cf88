"Case 29: a key is masked wherever it is written: log, traceback, terminal, store, W&B, notebook, export, training set."
import base64
import json
import logging
import subprocess
import sys
import types
from types import SimpleNamespace

import pytest

from javis import basics
from javis.basics import register_secret, start_log
from javis.candidates import check_candidates, make_candidates
from javis.config import Settings, explain_settings, load_settings
from javis.events import ToolOutput
from javis.feedback import rate
from javis.masking import MASK, Masker
from javis.session import ChatSession
from javis.store import Store
from javis.stream import TextDelta
from javis.tools.base import Toolbox, tool
from javis.tools.policy import Policy
from javis.tools.python import ChildPython, run_python
from javis.training import tracking
from javis.turn import scripted_client
from javis.widgets.exports import export_chat

KEY = "Zx9Kq2Wm4Vb7-Nc1Lp5"
URL = f"https://api.test/v1?key={KEY}&user=ali"
pytestmark = pytest.mark.case(29)


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr(basics, "_masker", Masker())
    register_secret(KEY)


def holes(text):
    return KEY in text or KEY[4:-4] in text


# what holds now

def test_the_log_and_its_tracebacks(tmp_path):
    log = start_log(tmp_path / "javis.log")
    try:
        raise ConnectionError(f"GET {URL} failed")
    except ConnectionError:
        log.exception("cannot reach %s", URL)
        log.error("with %r", {"headers": f"Bearer {KEY}"}, stack_info=True)
    logging.getLogger("javis.session").warning("%s", URL)
    text = (tmp_path / "javis.log").read_text()
    assert text.count(MASK) >= 4 and not holes(text) and "ConnectionError" in text
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()


def test_an_error_on_the_terminal(tmp_path):
    (tmp_path / "configs").mkdir()
    config = f"model: gpu\nendpoints: {{gpu: {{kind: openai, model: m, url: 'http://127.0.0.1:9/{KEY}/v1', api_key: '${{GPU_API_KEY}}'}}}}"
    (tmp_path / "configs/config.yaml").write_text(config)
    (tmp_path / ".env").write_text(f"GPU_API_KEY={KEY}\n")
    done = subprocess.run([sys.executable, "-c", "import sys; from javis.cli import main; sys.exit(main())", "ask", "hi"], cwd=tmp_path, capture_output=True, text=True, timeout=120,
                          env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "JAVIS_HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)})
    everything = done.stdout + done.stderr + "".join(file.read_text() for file in (tmp_path / "logs").rglob("*") if file.is_file())
    assert done.returncode and "127.0.0.1:9" in everything and not holes(everything)


def test_settings_that_are_shown(tmp_path):
    settings = load_settings(root=tmp_path, env={"MY_KEY": KEY}, overrides={"endpoints.gpu": dict(kind="openai", model="m", url=URL, api_key=KEY)})
    assert not holes(f"{settings} {explain_settings(settings)} {settings.model_dump_json(exclude={'endpoints': {'gpu': {'url'}}})}")


def test_what_a_tool_returns_prints_and_fails_with():
    @tool()
    def show(kind: str) -> str:
        "Show."
        if kind == "error":
            raise ValueError(URL)
        return {"plain": URL, "json": {"key": KEY}}[kind]
    heard = []
    for kind in ("plain", "json", "error"):
        said = Toolbox([show]).call("show", {"kind": kind}, output=heard.append)
        assert MASK in said and not holes(said)


def test_python_of_the_model(tmp_path):
    python, heard = ChildPython(tmp_path), []
    box = Toolbox([tool("exec", interpreter=python)(run_python)])
    try:
        for code in (f"print({URL!r})", f"{URL!r}", f"raise ValueError({URL!r})"):
            said = box.call("run_python", {"code": code}, output=heard.append)
            assert MASK in said and not holes(said)
        assert not holes("".join(heard))
    finally:
        python.close()


def conversation(tmp_path, store, answer, text="hello"):
    settings = Settings(root=tmp_path)
    session = ChatSession(settings, store, Toolbox([]), Policy(tmp_path, "edit"), client=scripted_client(answer))
    events = list(session.stream(text))
    return session, events


def test_a_row_of_a_training_set_is_rejected(tmp_path):
    with Store(tmp_path / "a.db") as store:
        session, _ = conversation(tmp_path, store, f"Use {KEY}.")
        rate(store, session.messages()[-1].id, True)
        rows = check_candidates(list(make_candidates(store).values()))
    assert [row.status for row in rows] == ["rejected"] and "key or a password" in rows[0].reason
    assert not holes(rows[0].reason)


# words on their way

def test_the_words_of_a_model_on_their_way(tmp_path):
    with Store(tmp_path / "a.db") as store:
        _, events = conversation(tmp_path, store, f"Your key is {KEY}, keep it.")
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == f"Your key is {MASK}, keep it."
    assert not holes(events[-1].answer.text)


def test_a_call_of_the_model_runs_as_it_was_written(tmp_path):
    heard = []

    @tool()
    def use(key: str) -> str:
        "Use a key."
        heard.append(key)
        return f"used {key}"
    call = json.dumps({"name": "use", "arguments": {"key": KEY}})
    with Store(tmp_path / "a.db") as store:
        session = ChatSession(Settings(root=tmp_path), store, Toolbox([use]), Policy(tmp_path, "edit"), approve=lambda question: True,
                              client=scripted_client(f"<tool_call>{call}</tool_call>", "Done."))
        events = list(session.stream("use it"))
    assert heard == [KEY] and not holes("".join(event.text for event in events if isinstance(event, (TextDelta, ToolOutput))))
    assert not holes(events[-1].answer.text + "".join(run.result for run in events[-1].answer.tool_calls))


def test_the_store(tmp_path):
    with Store(tmp_path / "a.db") as store:
        session, _ = conversation(tmp_path, store, f"Your key is {KEY}.", f"What is {URL}?")
        id = store.add_tool_call(session.messages()[-1].id, "fetch_url", {"url": URL})
        store.finish_tool_call(id, f"error: {URL}", "error")
    assert not holes("".join(file.read_bytes().decode("latin-1") for file in tmp_path.glob("a.db*")))


@pytest.mark.parametrize("kind", ["md", "jsonl", "ipynb"])
def test_an_export(tmp_path, kind):
    with Store(tmp_path / "a.db") as store:
        session, _ = conversation(tmp_path, store, f"Your key is {KEY}.")
        assert not holes(export_chat(session.messages(), kind)[0])


def test_weights_and_biases(tmp_path, monkeypatch):
    sent = {}

    class Tracked:
        summary, dir, url = {}, str(tmp_path / "run/files"), ""
        __enter__, __exit__ = (lambda self: self), (lambda self, *_: None)
        log = lambda self, *_, **__: None

    wandb = types.ModuleType("wandb")
    wandb.Settings, wandb.errors = (lambda **_: None), SimpleNamespace(Error=RuntimeError)
    wandb.init = lambda **given: sent.update(given) or Tracked()
    monkeypatch.setattr(tracking, "need", lambda *_: wandb)
    run = SimpleNamespace(id="r1", folder=tmp_path, job={"recipe": {"note": URL, "hub_token": KEY}, "dataset": "v1"}, status="done", result={}, events=lambda: [])
    tracking.track(run)
    assert sent and not holes(json.dumps(sent["config"]))


@pytest.mark.parametrize("form", [KEY.encode().hex(), base64.b64encode(f"user:{KEY}".encode()).decode(), "AKIAIOSFODNN7EXAMPLE",
                                  "ghp_16C7e42F292c6912E7710c838347Ae178B4a"])
def test_encoded_keys_and_tokens_in_what_a_tool_returns(form):
    @tool()
    def show() -> str:
        "Show."
        return f"it is {form}"
    assert Masker([KEY]).mask(f"it is {form}") != f"it is {form}"
    assert MASK in Toolbox([show]).call("show", {})
