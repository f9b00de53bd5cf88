"The chat as people meet it: a real JupyterLab, a real kernel, the embedded model, a headless Chromium."
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from scripted_server import END, ScriptedServer, said, stream_head

from javis.store import Store

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is in javis[dev]")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: install the package chromium")
ROOT = Path(__file__).parents[1]
SHOTS = os.environ.get("JAVIS_SHOTS")  # a folder for screenshots, for who wants to look


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "configs", folder / "configs")
    (folder / "notes.txt").write_text("buy milk\n")
    return folder


@pytest.fixture(scope="module")
def server(project):
    port = free_port()
    environment = os.environ | {"JAVIS_HOME": str(project), "JUPYTER_CONFIG_DIR": str(project / ".jupyter"),
                                "JUPYTER_DATA_DIR": str(project / ".data"), "IPYTHONDIR": str(project / ".ipython")}
    settings = project / ".lab"
    quiet = settings / "@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}",
               "--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True", "--expose-app-in-browser",
               f"--ServerApp.root_dir={project}", f"--LabApp.user_settings_dir={settings}",
               f"--LabApp.workspaces_dir={project / '.workspaces'}"]
    with open(project / "lab.log", "w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=project, start_new_session=True)
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + 60
    while time.monotonic() < end:
        try:
            if httpx.get(f"{address}/api/status").status_code == 200:
                break
        except httpx.TransportError:
            time.sleep(0.3)
    else:
        raise TimeoutError((project / "lab.log").read_text()[-2000:])
    yield address
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as play:
        one = play.chromium.launch(executable_path=CHROMIUM, args=[
            "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", "--no-first-run"])
        yield one
        one.close()


class Notebook:
    "A notebook that is open in the browser."
    def __init__(self, browser, server, project, name, cells):
        self.path = project / f"{name}.ipynb"
        if not self.path.exists():
            self.path.write_text(json.dumps(dict(
                nbformat=4, nbformat_minor=5, cells=[
                    dict(cell_type="code", id=f"c{i}", metadata={}, outputs=[], execution_count=None, source=source)
                    for i, source in enumerate(cells)],
                metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}})))
        self.context = browser.new_context(viewport={"width": 1100, "height": 900}, device_scale_factor=1.5)
        self.page = self.context.new_page()
        self.page.set_default_timeout(15_000)
        self.requests, self.problems = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.address = f"{server}/lab/tree/{self.path.name}?reset"
        self.open()

    def open(self):
        self.page.goto(self.address)
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        self.page.wait_for_function("window.jupyterapp !== undefined")
        self.idle()

    def idle(self):
        self.page.wait_for_selector('.jp-NotebookPanel .jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=90_000)

    def command(self, name, **arguments):
        self.page.evaluate("([name, args]) => { window.jupyterapp.commands.execute(name, args) }", [name, arguments])

    def run(self, cell, wait=True):
        self.page.locator(".jp-Notebook .jp-Cell").nth(cell).locator(".cm-content").first.click()
        count = self.page.locator(".jp-Notebook .jp-Cell").nth(cell).locator(".jp-InputPrompt").first.inner_text()
        for _ in range(20):  # a kernel that has only just come may not hear the first time
            self.command("notebook:run-cell")
            self.page.wait_for_timeout(500)
            if self.page.locator(".jp-Notebook .jp-Cell").nth(cell).locator(".jp-InputPrompt").first.inner_text() != count:
                break
        if wait:
            self.page.wait_for_timeout(300)
            self.idle()

    def save(self):
        self.command("docmanager:save")
        self.page.wait_for_timeout(800)
        return json.loads(self.path.read_text())

    def shot(self, name):
        if SHOTS:
            self.page.screenshot(path=f"{SHOTS}/lab-{name}.png")
            if self.page.locator(".jv").count():
                self.page.locator(".jv").last.screenshot(path=f"{SHOTS}/chat-{name}.png")

    def close(self):
        self.command("kernelmenu:shutdown")
        self.page.wait_for_timeout(300)
        self.context.close()


@pytest.fixture
def notebook(browser, server, project):
    opened = []

    def make(name, *cells):
        opened.append(Notebook(browser, server, project, name, cells))
        return opened[-1]
    yield make
    for one in opened:
        one.shot(f"end-{one.path.stem}")
        one.close()


# ------------------------------------------------------------------------------------------- a model

def spoken(text, pause=0.0, size=12):
    "A script that says a text in pieces."
    pieces = [said(text[i:i + size]) for i in range(0, len(text), size)]
    return [stream_head(), *(step for piece in pieces for step in ((piece, pause) if pause else (piece,))), END]


@pytest.fixture
def told(notebook):
    "Opens a notebook whose chat is answered by scripts."
    servers = []

    def make(name, *scripts, more=()):
        server = ScriptedServer(*scripts).__enter__()
        servers.append(server)
        endpoint = {"kind": "vllm", "model": "told", "url": server.url, "native_tools": False}
        setup = (f"from javis import Chat, load_settings\n"
                 f"settings = load_settings(overrides={{'model': 'told', 'endpoints.told': {endpoint!r}, "
                 f"'tools.mode': 'edit'}})\nchat = Chat(settings=settings, locale='en')\nchat")
        nb = notebook(name, setup, *more)
        nb.run(0)
        nb.page.wait_for_selector(".jv-box")
        nb.server = server
        return nb
    yield make
    for server in servers:
        server.__exit__()


def send(page, text):
    page.locator(".jv-box").fill(text)
    page.locator(".jv-box").press("Enter")


def answered(page, text, count=1):
    page.locator(".jv-words", has_text=text).nth(count - 1).wait_for(timeout=20_000)
    page.wait_for_selector('.jv[data-state="idle"]', timeout=20_000)


def stored(project):
    return Store(project / "data/javis.db")


CALL = '<tool_call>{"name": "write_file", "arguments": {"path": "notes.txt", "content": "buy bread\\n"}}</tool_call>'


# ------------------------------------------------------------------------------------------- talking

def test_a_chat_with_the_embedded_model(notebook, project):
    nb = notebook("embedded", "from javis import Chat\nchat = Chat(adapter=None)\nchat")
    nb.run(0)
    page = nb.page
    page.wait_for_selector(".jv-box")
    nb.shot("empty")
    send(page, "Say hello in one word.")
    page.wait_for_selector(".jv-stop", timeout=5000)
    page.wait_for_selector(".jv-words", timeout=60_000)
    page.wait_for_selector('.jv[data-state="idle"]', timeout=60_000)
    assert page.locator(".jv-numbers").inner_text()
    nb.shot("embedded")
    with stored(project) as store:
        row = store.answers()[-1]
    assert row["model"] == "smollm2-135m-instruct" and row["status"] == "complete"
    assert not nb.problems
    assert all(url.startswith((nb.address[:22], "blob:", "data:", "ws:")) for url in nb.requests), nb.requests


def test_words_code_and_mathematics(told):
    text = ("Use a **mean**:\n\n```python\ndef mean(xs):\n    return sum(xs) / len(xs)\n```\n\n"
            "It is \\(\\bar x = \\frac{1}{n}\\sum_i x_i\\).\n\n| n | mean |\n|---|---|\n| 2 | 1.5 |\n\nIt costs $5 or $6.")
    nb = told("rich", spoken(text, 0.01))
    send(nb.page, "How do I take a mean?")
    answered(nb.page, "It costs $5 or $6.")
    nb.page.wait_for_selector(".jv-words math", timeout=10_000)
    nb.page.wait_for_selector('.jv-words pre [class*="hljs"]', timeout=10_000)
    assert nb.page.locator(".jv-words td").all_inner_texts() == ["2", "1.5"]
    nb.shot("rich")
    assert not nb.problems


def test_stop_while_a_cell_is_busy(told, project):
    nb = told("busy", spoken("tick " * 400, 0.05, 5), more=("import time\ntime.sleep(12)\nprint('slept')",))
    nb.run(1, wait=False)
    nb.page.wait_for_timeout(500)
    send(nb.page, "Count.")
    nb.page.locator(".jv-words", has_text="tick tick tick").wait_for(timeout=8000)  # it streams meanwhile
    begin = time.monotonic()
    nb.page.locator(".jv-stop").click()
    nb.page.wait_for_selector('.jv[data-state="idle"]', timeout=5000)
    took = time.monotonic() - begin
    assert nb.server.wait_hung_up(0)
    assert "slept" not in nb.page.locator(".jp-OutputArea").nth(1).inner_text()  # the cell is still busy
    print(f"stopped after {took * 1000:.0f} ms, the kernel busy")
    nb.shot("stopped")
    with stored(project) as store:
        assert store.answers()[-1]["status"] == "cancelled" and "tick" in store.answers()[-1]["content"]
    nb.idle()


def test_korean_is_not_sent_before_it_is_whole(told):
    nb = told("korean", spoken("안녕하세요! 무엇을 도와드릴까요?"))
    page = nb.page
    page.locator(".jv-box").click()
    keys = nb.context.new_cdp_session(page)
    for text in ("ㅇ", "아", "안"):
        keys.send("Input.imeSetComposition", {"text": text, "selectionStart": 1, "selectionEnd": 1})
    keys.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", "key": "Process", "code": "Enter",
                                         "windowsVirtualKeyCode": 229})
    page.wait_for_timeout(200)
    assert page.locator(".jv-user").count() == 0 and page.locator(".jv-box").input_value() == "안"
    keys.send("Input.insertText", {"text": "안"})
    for text in ("ㄴ", "녀", "녕"):
        keys.send("Input.imeSetComposition", {"text": text, "selectionStart": 1, "selectionEnd": 1})
    keys.send("Input.insertText", {"text": "녕"})
    page.keyboard.press("Enter")
    answered(page, "무엇을 도와드릴까요?")
    assert page.locator(".jv-user .jv-body").inner_text().strip() == "안녕"
    assert page.locator(".jv-box").input_value() == ""
    page.locator(".jv-lang-button").click()
    nb.shot("korean")


# ------------------------------------------------------------------------------------------- judging

def test_rate_say_why_and_correct(told, project):
    nb = told("judge", spoken("The capital of Australia is Sydney."))
    page = nb.page
    send(page, "What is the capital of Australia?")
    answered(page, "Sydney")
    answer = page.locator(".jv-answer, .jv-msg:not(.jv-user)").last
    answer.hover()
    answer.locator(".jv-thumb").nth(1).click()
    page.locator(".jv-reason").first.click()
    nb.shot("why")
    page.locator(".jv-why .jv-primary").click()
    box = page.locator(".jv-answerbox")
    box.fill("The capital of Australia is Canberra.")
    nb.shot("correcting")
    page.locator(".jv-savefix").click()
    page.locator(".jv-tag", has_text=re.compile("orrect")).first.wait_for()
    nb.shot("corrected")
    with stored(project) as store:
        kinds = {event.kind: event for event in store.feedback(message_id=store.answers()[-1]["message_id"])}
    assert kinds["thumb"].value == -1 and kinds["correction"].text.endswith("Canberra.")
    assert kinds["correction"].payload["original"].endswith("Sydney.")


def test_branches(told):
    nb = told("branches", spoken("First."), spoken("Second."), spoken("Third."))
    page = nb.page
    send(page, "Number?")
    answered(page, "First.")
    page.locator(".jv-msg").last.hover()
    page.locator(".jv-regen").last.click()
    answered(page, "Second.")
    assert "2" in page.locator(".jv-versions").last.inner_text()
    page.locator(".jv-versions button").first.click()
    answered(page, "First.")
    page.locator(".jv-user").hover()
    page.locator(".jv-edit").click()
    page.locator(".jv-requestbox").fill("Another number?")
    page.locator(".jv-requestbox").press("Enter")
    answered(page, "Third.")
    nb.shot("branches")
    page.locator(".jv-user .jv-versions button").first.click()
    page.locator(".jv-words", has_text="First.").or_(page.locator(".jv-words", has_text="Second.")).wait_for()


# ------------------------------------------------------------------------------------------- tools

def test_a_change_is_shown_before_it_is_approved(told, project):
    nb = told("tools", spoken(CALL), spoken(CALL))
    page = nb.page
    send(page, "Bread instead of milk.")
    page.wait_for_selector(".jv-yes")
    assert "-buy milk" in page.locator(".jv-diff").inner_text()
    nb.shot("approval")
    assert (project / "notes.txt").read_text() == "buy milk\n"
    page.locator(".jv-editargs").click()
    page.locator(".jv-form textarea").last.fill("buy rye bread\n")
    nb.shot("arguments")
    page.locator(".jv-yes").click()
    page.wait_for_selector('.jv[data-state="idle"]')
    assert (project / "notes.txt").read_text() == "buy rye bread\n"
    send(page, "Again.")
    page.locator(".jv-no").wait_for()
    page.locator(".jv-no").click()
    page.wait_for_function("document.querySelectorAll('.jv-call').length === 2")
    page.wait_for_selector('.jv[data-state="idle"]')
    nb.shot("denied")
    assert (project / "notes.txt").read_text() == "buy rye bread\n"
    with stored(project) as store:
        kinds = [(event.kind, event.text) for event in store.feedback()]
    assert ("implicit", "edited") in kinds and ("implicit", "denied") in kinds


# ------------------------------------------------------------------------------------------- two at once

def test_two_answers_and_a_blind_choice(told, project):
    with ScriptedServer(spoken("A jay is a bird of the crow family.", 0.02)) as other:
        rival = {"kind": "vllm", "model": "the-other", "url": other.url, "native_tools": False}
        nb = told("pair", spoken("Blue."), more=(
            f"settings = load_settings(overrides={{**{{'model': 'told'}}, 'endpoints.told': "
            f"settings.endpoint('told').model_dump(), 'endpoints.other': {rival!r}}})\n"
            "chat = Chat(settings=settings, locale='en', rival='other', thread_id=None)\nchat",))
        page = nb.page
        nb.run(1)
        page.wait_for_function("document.querySelectorAll('.jv-box').length === 2")
        box = page.locator(".jv-box").last
        page.locator(".jv-compare").last.click()
        box.fill("What is a jay?")
        box.press("Enter")
        page.locator(".jv-pair", has_text="crow family.").wait_for()
        page.locator(".jv-pair", has_text="Blue.").wait_for()
        page.locator(".jv-pick").first.wait_for()
        page.wait_for_timeout(500)
        assert "the-other" not in page.locator(".jv-pair").inner_text()
        nb.shot("pair")
        at = [one.inner_text() for one in page.locator(".jv-pair .jv-column").all()]
        page.locator(".jv-pick").nth(0 if "crow" in at[0] else 1).click()
        page.locator(".jv-picked").wait_for()
        assert "the-other" in page.locator(".jv-picked").inner_text()
        nb.shot("picked")
    with stored(project) as store:
        preferred = [event for event in store.feedback() if event.kind == "preference"]
        assert "crow" in store.message(preferred[-1].message_id).content


# ------------------------------------------------------------------------------------------- context

def test_a_variable_goes_along(told):
    nb = told("mentions", spoken("Two keys."), more=("prices = {'tea': 3, 'coffee': 4}", "1 / 0"))
    nb.run(1)
    nb.run(2)
    page = nb.page
    page.locator(".jv-box").click()
    page.keyboard.type("How many keys has @pri")
    page.locator(".jv-comp", has_text="prices").wait_for()
    nb.shot("completions")
    page.keyboard.press("Enter")
    page.keyboard.type(" ?")
    page.locator(".jv-eye").click()
    page.locator(".jv-previews").wait_for()
    assert "coffee" in page.locator(".jv-previews").text_content()
    nb.shot("preview")
    page.keyboard.press("Escape")
    page.locator(".jv-box").press("Enter")
    answered(page, "Two keys.")
    sent = nb.server.requests[0].json["messages"][-1]["content"]
    assert "coffee" in sent and sent.startswith("How many keys has @prices")
    send(page, "Explain @last_error")
    page.wait_for_function("document.querySelectorAll('.jv-user').length === 2")
    answered(page, "Two keys.", 2)
    assert "ZeroDivisionError" in nb.server.requests[1].json["messages"][-1]["content"]
    nb.shot("mentions")


# ------------------------------------------------------------------------------------------- it survives

def test_reload_restart_and_the_saved_notebook(told):
    nb = told("survives", spoken("I will be here."), spoken("Still here."))
    page = nb.page
    send(page, "Will you stay?")
    answered(page, "I will be here.")
    saved = nb.save()
    texts = ["".join(output.get("data", {}).get("text/markdown", "")) for output in saved["cells"][0]["outputs"]]
    assert any("**You:** Will you stay?" in text and "I will be here." in text for text in texts), texts
    nb.open()
    nb.page.locator(".jv-words", has_text="I will be here.").wait_for(timeout=30_000)
    nb.shot("reloaded")
    nb.command("kernelmenu:restart") if False else nb.page.evaluate(
        "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    nb.page.wait_for_timeout(2500)
    nb.idle()
    nb.run(0)
    nb.page.locator(".jv-words", has_text="I will be here.").wait_for(timeout=30_000)
    send(nb.page, "And now?")
    answered(nb.page, "Still here.")
    assert [m["role"] for m in nb.server.requests[-1].json["messages"]] == ["system", "user", "assistant", "user"]


def test_two_views_of_one_chat(told):
    nb = told("views", spoken("Both of you hear me."), more=("chat",))
    nb.run(1)
    nb.page.wait_for_function("document.querySelectorAll('.jv-box').length === 2")
    nb.page.locator(".jv-box").first.fill("Hello?")
    nb.page.locator(".jv-box").first.press("Enter")
    nb.page.wait_for_function("document.querySelectorAll('.jv-words').length === 2", timeout=20_000)
    assert len(set(nb.page.locator(".jv-words").all_inner_texts())) == 1


def test_code_goes_into_a_cell(told, project):
    nb = told("cells", spoken("```python\nanswer = 6 * 7\nprint(answer)\n```\n"))
    page = nb.page
    send(page, "Compute.")
    page.locator(".jv-words code").wait_for()
    page.wait_for_selector('.jv[data-state="idle"]')
    page.locator(".jv-code").hover()
    page.locator(".jv-insertrun").click()
    page.locator(".jp-OutputArea-output pre", has_text="42").wait_for(timeout=20_000)
    nb.shot("cells")
    with stored(project) as store:
        weak = [event.text for event in store.feedback() if event.kind == "implicit"]
    assert "ran" in weak
