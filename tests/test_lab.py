"""The chat as people meet it: a real JupyterLab, a real kernel, the embedded model, a headless Chromium.

    JAVIS_SHOTS=folder pytest tests/test_lab.py   # keeps a picture of every state, for who wants to look
    JAVIS_SHOTS=tour   pytest tests/test_lab.py   # makes those again that nbs/tours/02_the_chat.ipynb shows
"""
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
from scripted_server import ABORT, END, ScriptedServer, body, failure, said, stream_head

from javis.store import Store

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is in javis[dev]")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: install the package chromium")
ROOT = Path(__file__).parents[1]
SHOTS = os.environ.get("JAVIS_SHOTS")
TOUR, PICTURES = ROOT / "nbs/tours/02_the_chat.ipynb", ROOT / "nbs/images"


def shown_in_the_tour():
    "The names of the pictures that the tour shows, each with the words for those who cannot see it."
    cells = json.loads(TOUR.read_text())["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return {name: words for words, name in re.findall(r"!\[([^]]*)\]\(\.\./images/chat-([\w-]+)\.png\)", text)}


def small(data):
    "A screenshot in 256 colours: a third of the bytes, and nobody sees it."
    from PIL import Image
    picture = Image.open(io.BytesIO(data)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    packed = io.BytesIO()
    picture.save(packed, "PNG", optimize=True)
    return packed.getvalue()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "configs", folder / "configs")
    return folder


FRONTS = {"lab": ("jupyterlab", "lab/tree", "?reset"), "notebook": ("notebook", "notebooks", "")}  # module, address


def started(front, project):
    "A server with this front end; its process and its address."
    port, settings = free_port(), project / ".lab"
    environment = os.environ | {"JAVIS_HOME": str(project), "JUPYTER_CONFIG_DIR": str(project / ".jupyter"),
                                "JUPYTER_DATA_DIR": str(project / ".data"), "IPYTHONDIR": str(project / ".ipython")}
    quiet = settings / "@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True, exist_ok=True)
    quiet.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    command = [sys.executable, "-m", FRONTS[front][0], "--no-browser", "--allow-root", f"--port={port}",
               "--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True", "--expose-app-in-browser",
               f"--ServerApp.root_dir={project}", f"--LabServerApp.user_settings_dir={settings}",
               f"--LabServerApp.workspaces_dir={project / '.workspaces'}"]
    with open(project / f"{front}.log", "w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=project, start_new_session=True)
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + 60
    while time.monotonic() < end:
        try:
            if httpx.get(f"{address}/api/status").status_code == 200:
                return process, address
        except httpx.TransportError:
            time.sleep(0.3)
    raise TimeoutError((project / f"{front}.log").read_text()[-2000:])


@pytest.fixture(scope="module")
def server(project):
    "The address of a front end, which is started when it is first asked for."
    running = {}

    def address(front):
        if find_spec(FRONTS[front][0]) is None:
            pytest.skip(f"{FRONTS[front][0]} is not installed")
        if front not in running:
            running[front] = started(front, project)
        return running[front][1]
    yield address
    for process, _ in running.values():
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
    def __init__(self, browser, server, project, name, cells, front="lab"):
        self.path = project / f"{name}.ipynb"
        if not self.path.exists():
            self.path.write_text(json.dumps(dict(
                nbformat=4, nbformat_minor=5, cells=[
                    dict(cell_type="code", id=f"c{i}", metadata={}, outputs=[], execution_count=None, source=source)
                    for i, source in enumerate(cells)],
                metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}})))
        self.context = browser.new_context(viewport={"width": 1100, "height": 1000}, device_scale_factor=1.5)
        self.page = self.context.new_page()
        self.page.set_default_timeout(15_000)
        self.requests, self.problems = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.problems.append(error.stack or str(error)))
        _, folder, query = FRONTS[front]
        self.address = f"{server(front)}/{folder}/{self.path.name}{query}"
        self.open()

    def open(self):
        self.page.goto(self.address)
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        self.page.wait_for_function("window.jupyterapp !== undefined")
        self.idle()

    def idle(self):
        "The kernel is there, and has nothing to do."
        self.page.wait_for_function("""() => {
          const session = window.jupyterapp.shell.currentWidget?.sessionContext?.session;
          return session?.kernel?.connectionStatus === 'connected' && session.kernel.status === 'idle';
        }""", timeout=90_000)

    def command(self, name, **arguments):
        self.page.evaluate("([name, args]) => { window.jupyterapp.commands.execute(name, args) }", [name, arguments])

    def run(self, cell, wait=True):
        "Run a cell, once: it is selected as by a click, and where that is wanted its end is waited for."
        self.page.locator(".jp-Notebook .jp-Cell").nth(cell).locator(".cm-content").first.click()
        done = "window.jupyterapp.commands.execute('notebook:run-cell')"
        self.page.evaluate(f"async () => {{ await {done} }}" if wait else f"() => {{ {done} }}")
        if wait:
            self.idle()

    def save(self):
        self.command("docmanager:save")
        self.page.wait_for_timeout(800)
        return json.loads(self.path.read_text())

    def shot(self, name, of=".jv"):
        "A picture of the chat, or of the notebook around it; where one only wants to look, of the page as well."
        if not SHOTS or (SHOTS == "tour" and name not in shown_in_the_tour()):
            return
        self.page.wait_for_timeout(300)  # what fades in has done so
        folder, clip = PICTURES if SHOTS == "tour" else Path(SHOTS), None
        if of == "notebook":  # without the empty part below the last cell
            frame = self.page.locator(".jp-NotebookPanel").bounding_box()
            last = self.page.locator(".jp-Notebook .jp-Cell").last.bounding_box()
            clip = frame | {"height": min(last["y"] + last["height"] + 12 - frame["y"], frame["height"])}
        elif self.page.locator(of).count():
            clip = self.page.locator(of).last.bounding_box()
        if clip:
            (folder / f"chat-{name}.png").write_bytes(small(self.page.screenshot(clip=clip)))
        if SHOTS != "tour":
            self.page.screenshot(path=folder / f"lab-{name}.png")

    def close(self):
        self.command("kernelmenu:shutdown")
        self.page.wait_for_timeout(300)
        self.context.close()


@pytest.fixture
def notebook(browser, server, project):
    opened = []

    def make(name, *cells, front="lab"):
        opened.append(Notebook(browser, server, project, name, cells, front))
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
def told(notebook, project):
    "Opens a notebook whose chat is answered by scripts."
    servers = []

    def make(name, *scripts, more=(), options="locale='en'", front="lab", **others):
        server = ScriptedServer(*scripts).__enter__()
        servers.append(server)
        endpoints = {f"endpoints.{one}": {"kind": "vllm", "model": f"{one}-8b", "url": url, "native_tools": False,
                                          "context_length": 8192} for one, url in {"told": server.url, **others}.items()}
        (project / f"told_{name}.py").write_text(  # so that the notebook itself stays short
            f"from javis import load_settings\nsettings = load_settings(overrides={ {'model': 'told', **endpoints}!r})\n")
        nb = notebook(name, f"from javis import Chat\nfrom told_{name} import settings\n\n"
                      f"chat = Chat(settings=settings, {options})\nchat", *more, front=front)
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


def call(name, **arguments):
    "A script that calls a tool."
    return spoken(f"<tool_call>{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}</tool_call>")


SHOPPING = call("write_file", path="shopping.txt", content="bread\napples\ntea\n")
RICH = ("The mean is the sum, divided by how many there are:\n\n"
        "```python\ndef mean(values: list[float]) -> float:\n    \"The average; an empty list has none.\"\n"
        "    if not values:\n        raise ValueError(\"no values\")\n    return sum(values) / len(values)\n```\n\n"
        "As a formula: \\[\\bar x = \\frac{1}{n}\\sum_{i=1}^{n} x_i\\]\n\n"
        "| values | n | mean |\n|---|--:|--:|\n| 1, 2 | 2 | 1.5 |\n| 3, 5, 10 | 3 | 6 |\n\n"
        "Two teas at **$3** and **$4** cost $3.50 on average.")
KOREAN = ("평균은 **합을 개수로 나눈 값**입니다.\n\n1. 먼저 빈 목록인지 확인합니다.\n2. 그다음 합을 개수로 나눕니다.\n\n"
          "```python\ndef 평균(값들):\n    return sum(값들) / len(값들)  # 빈 목록이면 오류\n```")
WALK = "".join(f"**Day {n}.** Walk on to the next hut, eat something warm, and look at the stars.\n\n" for n in range(1, 31))


# ------------------------------------------------------------------------------------------- talking

def test_a_chat_with_the_embedded_model(notebook, project):
    nb = notebook("embedded", "from javis import Chat\nchat = Chat(adapter=None, locale='en')\nchat")
    nb.run(0)
    page = nb.page
    page.wait_for_selector(".jv-box")
    nb.shot("notebook", of="notebook")
    nb.shot("empty")
    send(page, "What is the capital of France?")
    page.wait_for_selector(".jv-stop", timeout=5000)
    page.wait_for_selector(".jv-words", timeout=60_000)
    page.wait_for_selector('.jv[data-state="idle"]', timeout=60_000)
    assert "smollm2" in page.locator(".jv-numbers .jv-model").inner_text()
    assert "tokens" in page.locator(".jv-numbers .jv-meter").get_attribute("aria-label")
    nb.shot("embedded")
    with stored(project) as store:
        row = store.answers()[-1]
    assert row["model"] == "smollm2-135m-instruct" and row["status"] == "complete"
    assert not nb.problems
    assert all(url.startswith((nb.address[:22], "blob:", "data:", "ws:")) for url in nb.requests), nb.requests


def test_words_code_and_mathematics(told):
    nb = told("rich", spoken(RICH, 0.01))
    send(nb.page, "How do I take a mean?")
    answered(nb.page, "on average")
    nb.page.wait_for_selector(".jv-words math", timeout=10_000)
    nb.page.wait_for_selector('.jv-words pre [class*="hljs"]', timeout=10_000)
    assert nb.page.locator(".jv-words td").all_inner_texts() == ["1, 2", "2", "1.5", "3, 5, 10", "3", "6"]
    assert "Two teas at $3 and $4 cost $3.50" in nb.page.locator(".jv-words").inner_text()
    nb.shot("rich")
    assert not nb.problems


def test_stop_while_a_cell_is_busy(told, project):
    head, *words = spoken(WALK, 0.05, 5)
    nb = told("busy", [head, 2, *words], more=("import time\ntime.sleep(14)\nprint('slept')",))
    nb.run(1, wait=False)
    nb.page.wait_for_timeout(500)
    send(nb.page, "Plan a month in the mountains.")
    nb.page.wait_for_selector(".jv-thinking")
    assert nb.page.locator(".jv-title").inner_text() == "Plan a month in the mountains."
    nb.shot("thinking")
    nb.page.locator(".jv-words", has_text="Day 4").wait_for(timeout=10_000)  # it streams meanwhile
    nb.shot("streaming", of="notebook")
    begin = time.monotonic()
    nb.page.locator(".jv-stop").click()
    nb.page.wait_for_selector('.jv[data-state="idle"]', timeout=5000)
    took = time.monotonic() - begin
    assert nb.server.wait_hung_up(0)
    assert "slept" not in nb.page.locator(".jp-OutputArea").nth(1).inner_text()  # the cell is still busy
    print(f"stopped after {took * 1000:.0f} ms, the kernel busy")
    nb.shot("stopped")
    with stored(project) as store:
        assert store.answers()[-1]["status"] == "cancelled" and "Day 4" in store.answers()[-1]["content"]
    nb.idle()


def test_a_model_that_has_gone_is_asked_again(told):
    nb = told("gone", [stream_head(), said("I was about to say "), ABORT], body(503, failure("The model is being loaded.")),
              spoken("Here I am again."))
    page = nb.page
    send(page, "Are you there?")
    page.locator(".jv-mark").wait_for(timeout=30_000)
    page.wait_for_selector('.jv[data-state="idle"]', timeout=30_000)
    nb.shot("gone")
    page.locator(".jv-mark button").click()
    answered(page, "Here I am again.")


def test_korean_is_not_sent_before_it_is_whole(told):
    nb = told("korean", spoken("안녕하세요! 무엇을 도와드릴까요?"), spoken(KOREAN), SHOPPING)
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
    page.locator('.jv[lang="ko"]').wait_for()
    send(page, "평균을 구하는 함수를 파이썬으로 써 줘")
    answered(page, "합을 개수로 나눈 값")
    page.wait_for_selector('.jv-words pre [class*="hljs"]')
    page.locator(".jv-thumb").last.click()
    nb.shot("korean")
    page.locator(".jv-why .jv-square").click()
    send(page, "장보기 목록에 빵을 넣어 줘")
    page.locator(".jv-yes", has_text="승인").wait_for()
    nb.shot("korean-approval")
    page.locator(".jv-no").click()
    page.wait_for_selector('.jv[data-state="idle"]')


# ------------------------------------------------------------------------------------------- judging

def test_rate_say_why_and_correct(told, project):
    nb = told("judge", spoken("The capital of Australia is Sydney."))
    page = nb.page
    send(page, "What is the capital of Australia?")
    answered(page, "Sydney")
    answer = page.locator(".jv-answer, .jv-msg:not(.jv-user)").last
    answer.hover()
    answer.locator(".jv-thumb").nth(1).click()
    page.locator(".jv-reason", has_text="Not true").click()
    page.locator(".jv-star").nth(1).click()
    page.locator(".jv-why .jv-input").fill("Sydney is only the largest city.")
    nb.shot("why")
    page.locator(".jv-why .jv-button", has_text="Save").click()
    page.wait_for_timeout(300)
    answer.locator(".jv-fix").click()
    box = page.locator(".jv-answerbox")
    box.fill("The capital of Australia is Canberra.")
    nb.shot("correcting")
    page.locator(".jv-savefix").click()
    page.locator(".jv-tag", has_text=re.compile("orrect")).first.wait_for()
    page.locator(".jv-editor").wait_for(state="detached")
    nb.shot("corrected")
    with stored(project) as store:
        kinds = {event.kind: event for event in store.feedback(message_id=store.answers()[-1]["message_id"])}
    assert kinds["thumb"].value == -1 and kinds["correction"].text.endswith("Canberra.")
    assert kinds["correction"].payload["original"].endswith("Sydney.")
    assert kinds["comment"].text == "Sydney is only the largest city." and kinds["rating"].value == 2


def test_branches(told):
    nb = told("branches", spoken("Call her Pepper."), spoken("Call her Mika. It is short, and she will hear it."),
              spoken("Call him Otto."))
    page = nb.page
    send(page, "A name for a cat?")
    answered(page, "Pepper.")
    page.locator(".jv-msg").last.hover()
    page.locator(".jv-regen").last.click()
    answered(page, "Mika.")
    assert "2/2" in page.locator(".jv-versions").last.inner_text()
    page.locator(".jv-versions button").first.click()
    answered(page, "Pepper.")
    page.locator(".jv-user").hover()
    page.locator(".jv-edit").click()
    page.locator(".jv-requestbox").fill("A name for a tomcat?")
    nb.shot("asking-again")
    page.locator(".jv-requestbox").press("Enter")
    answered(page, "Otto.")
    assert "2/2" in page.locator(".jv-user .jv-versions").inner_text()
    page.locator(".jv-user .jv-versions button").first.click()
    page.locator(".jv-words", has_text="Pepper.").or_(page.locator(".jv-words", has_text="Mika.")).wait_for()
    page.locator(".jv-user").hover()
    nb.shot("branches")


# ------------------------------------------------------------------------------------------- tools

def test_a_change_is_shown_before_it_is_approved(told, project):
    shopping = project / "shopping.txt"
    shopping.write_text("milk\napples\ntea\n")
    nb = told("tools", SHOPPING, SHOPPING)
    page = nb.page
    send(page, "Put bread on the shopping list instead of milk.")
    page.wait_for_selector(".jv-yes")
    assert "-milk" in page.locator(".jv-diff").inner_text()
    assert page.locator(".jv-rule").inner_text() == "Files are changed only after asking"
    nb.shot("approval")
    assert shopping.read_text() == "milk\napples\ntea\n"
    page.locator(".jv-editargs").click()
    page.locator(".jv-form textarea").last.fill("rye bread\napples\ntea\n")
    nb.shot("arguments")
    page.locator(".jv-yes").click()
    page.wait_for_selector('.jv[data-state="idle"]')
    assert shopping.read_text() == "rye bread\napples\ntea\n"
    send(page, "Now without rye.")
    page.locator(".jv-no").wait_for()
    page.locator(".jv-no").click()
    page.wait_for_function("document.querySelectorAll('.jv-call').length === 2")
    page.wait_for_selector('.jv[data-state="idle"]')
    assert page.locator(".jv-edited:visible").count() == 1 and "{" not in page.locator(".jv-badges").first.inner_text()
    nb.shot("denied")
    assert shopping.read_text() == "rye bread\napples\ntea\n"
    with stored(project) as store:
        kinds = [(event.kind, event.text) for event in store.feedback()]
    assert ("implicit", "edited") in kinds and ("implicit", "denied") in kinds


def test_what_was_read_and_what_an_answer_rests_on(told, project):
    (project / "plan.md").write_text("9:00 market\n13:00 lunch with Noor\n18:30 train to Ghent\n")
    nb = told("read", call("read_file", path="plan.md"),
              spoken("The train to Ghent leaves at **18:30** [1], five and a half hours after lunch [1]."),
              options="locale='en', follow_up=True")
    page = nb.page
    send(page, "When does my train leave on Saturday? It is in plan.md.")
    answered(page, "18:30")
    assert "lunch with Noor" in nb.server.requests[1].json["messages"][-1]["content"]
    page.locator(".jv-callhead").click()
    assert "lunch with Noor" in page.locator(".jv-callbody").inner_text()
    nb.shot("read")
    page.locator(".jv-callhead").click()
    page.locator(".jv-words .jv-cite").first.click()
    assert "lunch with Noor" in page.locator(".jv-passage").inner_text()
    assert page.locator(".jv-sourcename span").all_inner_texts() == ["plan.md"]
    window, place = page.locator(".jv-popover").bounding_box(), page.locator(".jv").bounding_box()
    assert place["y"] <= window["y"] and window["y"] + window["height"] <= place["y"] + place["height"]
    nb.shot("source")
    page.keyboard.press("Escape")


def test_a_command_tells_what_it_prints_while_a_cell_is_busy(told):
    command = 'for n in 1 2 3 4 5 6; do echo "part $n of 6 is packed"; sleep 0.7; done'
    nb = told("live", call("run_shell", command=command), more=("import time\ntime.sleep(12)\nprint('slept')",))
    page = nb.page
    nb.run(1, wait=False)
    page.wait_for_timeout(500)
    send(page, "Pack everything, and tell me how it goes.")
    page.locator(".jv-yes").click(timeout=10_000)
    page.locator(".jv-out", has_text="part 3 of 6").wait_for(timeout=10_000)
    assert page.locator(".jv-is-running").count() == 1
    assert "slept" not in page.locator(".jp-OutputArea").nth(1).inner_text()
    nb.shot("live", of="notebook")
    page.locator(".jv-is-ok").wait_for(timeout=15_000)
    nb.idle()


# ------------------------------------------------------------------------------------------- two at once

def test_two_answers_and_a_blind_choice(told, project):
    with ScriptedServer(spoken("A jay is a bird of the crow family: noisy, clever, and fond of acorns. "
                               "The Eurasian jay has a patch of bright blue on its wings.", 0.02)) as other:
        nb = told("pair", spoken("A blue bird."), options="locale='en', rival='other'", other=other.url)
        page = nb.page
        page.locator(".jv-compare").click()
        send(page, "What is a jay?")
        page.locator(".jv-pair", has_text="crow family").wait_for()
        page.locator(".jv-pair", has_text="A blue bird.").wait_for()
        page.locator(".jv-pick").first.wait_for()
        page.wait_for_timeout(500)
        assert "other-8b" not in page.locator(".jv-pair").inner_text()
        nb.shot("pair")
        at = [one.inner_text() for one in page.locator(".jv-pair .jv-column").all()]
        page.locator(".jv-pick").nth(0 if "crow" in at[0] else 1).click()
        page.locator(".jv-picked").wait_for()
        assert "other-8b" in page.locator(".jv-picked").inner_text()
        nb.shot("picked")
    with stored(project) as store:
        preferred = [event for event in store.feedback() if event.kind == "preference"]
        assert "crow" in store.message(preferred[-1].message_id).content


# ------------------------------------------------------------------------------------------- context

def test_a_variable_goes_along(told, project):
    (project / "prices.csv").write_text("tea,3\ncoffee,4\n")
    nb = told("mentions", spoken("Two keys: tea and coffee."),
              spoken("You divided 1 by 0, and no number answers that. Test the divisor first."), more=("prices = {'tea': 3, 'coffee': 4}", "1 / 0"))
    nb.run(1)
    nb.run(2)
    page = nb.page
    page.locator(".jv-box").click()
    page.keyboard.type("Count the keys of @")
    page.locator(".jv-comp", has_text="prices").first.wait_for()
    nb.shot("completions")
    page.keyboard.type("pri")
    page.wait_for_function("document.querySelectorAll('.jv-comp').length <= 3")
    page.locator(".jv-comp", has_text="prices").first.wait_for()
    page.keyboard.press("Enter")
    page.locator(".jv-composer .jv-chip", has_text="tokens").wait_for()
    tokens = page.locator(".jv-composer .jv-chip small").inner_text()
    page.locator(".jv-eye").click()
    page.locator(".jv-previews").wait_for()
    page.locator(".jv-previews summary", has_text="prices").click()
    assert "coffee" in page.locator(".jv-previews").inner_text()
    assert page.locator(".jv-previews summary small").last.inner_text() == tokens
    assert page.locator(".jv-previews pre").last.inner_text().startswith("[data]")
    nb.shot("preview")
    page.keyboard.press("Escape")
    page.locator(".jv-box").press("Enter")
    answered(page, "Two keys")
    sent = nb.server.requests[0].json["messages"][-1]["content"]
    assert "coffee" in sent and sent.startswith("Count the keys of @prices")
    assert page.locator(".jv-user .jv-chip small").inner_text() == tokens
    send(page, "Explain @last_error")
    page.wait_for_function("document.querySelectorAll('.jv-user').length === 2")
    answered(page, "You divided 1 by 0")
    assert "ZeroDivisionError" in nb.server.requests[1].json["messages"][-1]["content"]
    nb.shot("mentions")


def test_commands_and_help(told):
    nb = told("commands", spoken("Good morning."))
    page = nb.page
    send(page, "Good morning!")
    answered(page, "Good morning.")
    page.locator(".jv-box").click()
    page.keyboard.type("/")
    page.locator(".jv-comp", has_text="/help").wait_for()
    nb.shot("commands")
    page.keyboard.type("he")
    page.wait_for_function("document.querySelectorAll('.jv-comp').length === 1")
    page.keyboard.press("Enter")
    page.locator(".jv-help").wait_for()
    nb.shot("help")
    assert len(nb.server.requests) == 1  # a command is not a request
    page.keyboard.press("Escape")
    page.locator(".jv-help").wait_for(state="hidden")


# ------------------------------------------------------------------------------------------- conversations

def test_conversations_are_found_and_saved(told):
    nb = told("threads", spoken("About four minutes at 80 °C: hotter water makes it bitter."),
              spoken("Fill the kettle with one part vinegar and two parts water, and let it stand for an hour."),
              spoken("Dear Noor, the new kettle has come. Shall we try it on Saturday?"))
    page = nb.page
    for request, answer in (("How long does green tea take?", "four minutes"), ("How do I descale a kettle?", "vinegar"),
                            ("Write a short letter to Noor", "Dear Noor")):
        page.locator(".jv-new").click()
        page.locator(".jv-idea").first.wait_for()
        send(page, request)
        answered(page, answer)
    page.locator(".jv-threadsbutton").click()
    page.locator(".jv-thread", has_text="green tea").wait_for()
    page.keyboard.type("kettle")
    page.locator(".jv-snippet", has_text="vinegar").wait_for()
    nb.shot("threads")
    page.locator(".jv-thread", has_text="descale").first.click()
    answered(page, "vinegar")
    page.locator(".jv-export").click()
    page.locator(".jv-item", has_text="Markdown").wait_for()
    nb.shot("export")
    with page.expect_download() as download:
        page.locator(".jv-item", has_text="Markdown").click()
    assert "**You:** How do I descale a kettle?" in Path(download.value.path()).read_text()


def test_reload_restart_and_the_saved_notebook(told):
    nb = told("survives", spoken("Drip coffee: 60 grams for a litre."), spoken("Then 30 grams."))
    page = nb.page
    send(page, "How much coffee for a litre?")
    answered(page, "60 grams")
    page.wait_for_timeout(500)
    saved = nb.save()
    texts = ["".join(output.get("data", {}).get("text/markdown", "")) for output in saved["cells"][0]["outputs"]]
    assert any("**You:** How much coffee" in text and "60 grams" in text for text in texts), texts
    nb.open()
    nb.page.locator(".jv-words", has_text="60 grams").wait_for(timeout=30_000)
    nb.shot("reloaded")
    nb.page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    nb.page.wait_for_timeout(2500)
    nb.idle()
    send(nb.page, "And for half a litre?")
    nb.page.locator(".jv-say", has_text="run the cell again").wait_for(timeout=10_000)
    nb.shot("restarted")
    nb.run(0)
    nb.page.locator(".jv-words", has_text="60 grams").wait_for(timeout=30_000)
    nb.page.wait_for_function("document.querySelector('.jv-box').value === 'And for half a litre?'")
    nb.page.locator(".jv-box").press("Enter")
    answered(nb.page, "Then 30 grams.")
    assert [m["role"] for m in nb.server.requests[-1].json["messages"]] == ["system", "user", "assistant", "user"]
    page.wait_for_timeout(500)
    nb.save()
    nb.command("kernelmenu:shutdown")
    nb.page.wait_for_timeout(1000)
    nb.open()
    transcript = nb.page.locator(".jp-OutputArea details", has_text="Transcript")
    transcript.wait_for()
    assert "run this cell again" in transcript.locator("summary").inner_text()
    transcript.locator("summary").click()
    assert "Then 30 grams." in transcript.inner_text()
    nb.shot("transcript", of="notebook")


@pytest.mark.parametrize("front", FRONTS)
def test_the_whole_way_in_each_front_end(told, project, front):
    shopping = project / "shopping.txt"
    shopping.write_text("milk\napples\ntea\n")
    nb = told(f"way_{front}", spoken(RICH, 0.01), spoken(WALK, 0.05, 5), SHOPPING, spoken("Still here."),
              more=("import time\ntime.sleep(6)\nprint('slept')",), front=front)
    page = nb.page
    send(page, "How do I take a mean?")
    answered(page, "on average")
    page.wait_for_selector(".jv-words math")
    page.wait_for_selector('.jv-words pre [class*="hljs"]')
    nb.run(1, wait=False)
    page.wait_for_timeout(500)
    send(page, "Plan a month in the mountains.")
    page.locator(".jv-words", has_text="Day 2").wait_for(timeout=8000)
    page.locator(".jv-stop").click()
    page.wait_for_selector('.jv[data-state="idle"]', timeout=5000)
    assert nb.server.wait_hung_up(1)
    assert page.locator(".jp-OutputArea", has_text="slept").count() == 0  # the cell is still busy
    nb.idle()
    send(page, "Put bread on the shopping list instead of milk.")
    page.locator(".jv-yes").click()
    page.wait_for_selector('.jv[data-state="idle"]')
    assert shopping.read_text() == "bread\napples\ntea\n"
    nb.shot(f"way-{front}")
    page.wait_for_timeout(500)
    saved = nb.save()
    texts = ["".join(output.get("data", {}).get("text/markdown", "")) for output in saved["cells"][0]["outputs"]]
    assert any("**You:** Plan a month" in text and "write_file" in text for text in texts), texts
    nb.open()
    page.locator(".jv-words", has_text="Day 2").wait_for(timeout=30_000)
    send(page, "Are you there?")
    answered(page, "Still here.")
    page.locator(".jv-words .jv-insert").first.click()
    page.locator(".jp-Cell", has_text="def mean").nth(1).wait_for()  # the chat's own cell, and the new one
    assert page.locator(".jp-Notebook .jp-Cell").count() == 3
    assert not [one for one in nb.problems if front == "lab" or "/static/notebook/" not in one]  # it has some of its own


def test_two_views_of_one_chat(told):
    nb = told("views", spoken("Both of you hear me."), more=("chat",))
    nb.run(1)
    nb.page.wait_for_function("document.querySelectorAll('.jv-box').length === 2")
    nb.page.locator(".jv-box").first.fill("Hello?")
    nb.page.locator(".jv-box").first.press("Enter")
    answered(nb.page, "Both of you hear me.", 2)
    assert set(nb.page.locator(".jv-words").all_inner_texts()) == {"Both of you hear me."}


def test_code_goes_into_a_cell(told, project):
    nb = told("cells", spoken("```python\nanswer = 6 * 7\nprint(answer)\n```\n"))
    page = nb.page
    send(page, "What is six times seven? Use Python.")
    page.locator(".jv-words code").wait_for()
    page.wait_for_selector('.jv[data-state="idle"]')
    page.locator(".jv-code").hover()
    page.locator(".jv-insertrun").click()
    page.locator(".jp-OutputArea-output pre", has_text="42").wait_for(timeout=20_000)
    page.locator(".jv-insertrun").hover()
    nb.shot("cells", of="notebook")
    with stored(project) as store:
        weak = [event.text for event in store.feedback() if event.kind == "implicit"]
    assert "ran" in weak


# ------------------------------------------------------------------------------------------- keys

NOTEBOOK = """() => {
  const notebook = window.jupyterapp.shell.currentWidget.content;
  return { active: notebook.activeCellIndex, dialogs: document.querySelectorAll('.jp-Dialog').length, cells:
    notebook.widgets.map((one) => [one.model.type, one.model.sharedModel.getSource(), one.model.executionCount ?? null]) };
}"""
COMMANDS = ("d", "d", "a", "b", "x", "v", "z", "y", "m", "1", "j", "k", "l", "o", "0", "0", "i", "i", "Shift+M", "Shift+L",
            "Control+Shift+Minus")  # what they do to a notebook, they must not do here
RUNS = ("Shift+Enter", "Control+Enter", "Alt+Enter")


@pytest.mark.parametrize("front", FRONTS)
def test_the_notebooks_keys_do_nothing_in_the_chat(told, front):
    nb = told(f"quiet_{front}", spoken("One."), more=("'the second cell'", "'the third cell'"), front=front)
    page = nb.page
    send(page, "Count to one.")
    answered(page, "One.")
    before = page.evaluate(NOTEBOOK)
    for place in (".jv-box", ".jv-msg.jv-assistant", ".jv-msg .jv-fix", ".jv-title", ".jv-handle"):
        page.evaluate("selector => document.querySelector(selector).focus()", place)
        for key in (*COMMANDS, "Escape"):
            page.keyboard.press(key)
        assert page.evaluate(NOTEBOOK) == before, place


def test_with_the_keyboard_alone(told, project):
    shopping = project / "shopping.txt"
    shopping.write_text("milk\napples\ntea\n")
    nb = told("keys", spoken("One, two, three."), SHOPPING, spoken(WALK, 0.05, 5), spoken("One."),
              more=("'the second cell'", "'the third cell'"))
    page, press, write = nb.page, nb.page.keyboard.press, nb.page.keyboard.type
    page.evaluate("""() => { window.pointed = 0;
      for (const one of ['pointerdown', 'mousedown', 'wheel']) window.addEventListener(one, () => window.pointed++, true); }""")
    before = page.evaluate(NOTEBOOK)

    def at(selector):
        return page.evaluate("selector => document.activeElement.matches(selector)", selector)

    def go_to(selector, key="Tab"):
        for _ in range(80):
            if at(selector):
                return
            press(key)
        raise AssertionError(f"{selector} cannot be reached with {key}")

    def untouched():
        assert page.evaluate(NOTEBOOK) == before

    # In: from the cell, over its toolbar. Keys on a button act on that button alone.
    go_to(".jv-threadsbutton")
    for key in COMMANDS:
        press(key)
    go_to(".jv-handle")
    for key in (*COMMANDS, *RUNS):
        press(key)
    untouched()

    # Writing: letters are letters, and Escape leaves the words alone.
    go_to(".jv-box")
    write("dd aa bb xx 00")
    press("Escape")
    untouched()
    go_to(".jv-box")
    assert page.locator(".jv-box").input_value() == "dd aa bb xx 00"
    press("Control+a")
    write("Count to three.")
    press("Enter")
    answered(page, "One, two, three.")
    untouched()

    # A tool: back to its buttons, yes with Enter.
    write("Bread instead of milk, please.")
    press("Enter")
    page.wait_for_selector(".jv-yes")
    press("ArrowUp")
    assert at(".jv-yes")
    press("Escape")
    assert at(".jv-box") and page.locator(".jv-yes").count() == 1  # nothing was stopped
    press("Alt+ArrowUp")
    press("Enter")
    page.wait_for_selector('.jv[data-state="idle"]')
    assert shopping.read_text() == "bread\napples\ntea\n"

    # Stop: Escape in the box.
    assert at(".jv-box")
    write("Plan a month in the mountains.")
    press("Enter")
    page.locator(".jv-words", has_text="Day 2").wait_for(timeout=10_000)
    press("Escape")
    page.wait_for_selector('.jv[data-state="idle"]', timeout=5000)
    page.locator(".jv-mark", has_text="Stopped").wait_for()

    # Among the messages: arrows, Home, End, and keys of their own; those of the notebook do nothing.
    press("Escape")
    assert at(".jv-msg.jv-assistant:last-child")
    press("Home")
    assert at(".jv-msg.jv-user:first-child")
    for key in (*COMMANDS, *RUNS):
        press(key)
    untouched()
    press("ArrowDown")
    assert at(".jv-msg.jv-assistant:nth-child(2)")
    press("-")
    assert at(".jv-reason")
    press("Tab")
    press("Space")
    press("Escape")
    page.wait_for_function("!document.querySelector('.jv-why')")
    assert at(".jv-msg.jv-assistant:nth-child(2)")
    press("f")
    assert at(".jv-answerbox")
    press("Control+a")
    write("1, 2, 3, 4")
    press("Control+Enter")
    page.locator(".jv-tag", has_text="Corrected").first.wait_for()
    page.wait_for_function("!document.querySelector('.jv-editor')")
    with stored(project) as store:
        answer = next(one for one in store.path(store.answers()[-1]["message_id"]) if one.content == "One, two, three.")
        said_of = {event.kind: event for event in store.feedback(message_id=answer.id)}
    assert said_of["thumb"].value == -1 and said_of["correction"].text == "1, 2, 3, 4"

    # The request in other words, and back to the branch before.
    assert at(".jv-msg.jv-assistant:nth-child(2)")
    press("ArrowUp")
    press("e")
    assert at(".jv-requestbox")
    press("Control+a")
    write("Count to one.")
    press("Enter")
    answered(page, "One.")
    go_to(".jv-msg", "Shift+Tab")
    press("Home")
    press("[")
    page.locator(".jv-words", has_text="1, 2, 3, 4").wait_for()
    untouched()

    # Out again, and there the keys are the notebook's own.
    for _ in range(80):
        press("Tab")
        if not page.evaluate("!!document.activeElement.closest('.jv')"):
            break
    go_to(".jp-Cell")
    press("b")
    page.wait_for_function("count => document.querySelectorAll('.jp-Cell').length === count", arg=len(before["cells"]) + 1)
    press("d")
    press("d")
    page.wait_for_function("count => document.querySelectorAll('.jp-Cell').length === count", arg=len(before["cells"]))
    assert page.evaluate("window.pointed") == 0
    assert not nb.problems


# ------------------------------------------------------------------------------------------- looks

FITS = """() => [...document.querySelectorAll('.jv *')].filter((el) => el.offsetParent
  && getComputedStyle(el).overflowX === 'visible' && el.scrollWidth > el.clientWidth + 1 && el.clientWidth > 0
  && !el.closest('pre, .jv-table, .jv-display, svg, math, select')).map((el) => el.className)"""


def test_dark_and_narrow(told, project):
    (project / "shopping.txt").write_text("milk\napples\ntea\n")
    nb = told("looks", spoken(RICH), SHOPPING)
    page = nb.page
    send(page, "How do I take a mean?")
    answered(page, "on average")
    page.wait_for_selector('.jv-words pre [class*="hljs"]', timeout=10_000)
    nb.command("apputils:change-theme", theme="JupyterLab Dark")
    page.wait_for_selector('.jv[data-theme="dark"]')
    page.wait_for_timeout(1000)
    nb.shot("dark")
    send(page, "Put bread on the shopping list instead of milk.")
    page.wait_for_selector(".jv-yes")
    nb.shot("dark-approval")
    nb.command("apputils:change-theme", theme="JupyterLab Light")
    page.wait_for_selector('.jv[data-theme="light"]')
    nb.command("application:toggle-left-area")
    page.set_viewport_size({"width": 536, "height": 1000})
    page.wait_for_timeout(1000)
    nb.shot("narrow")
    assert 400 <= page.locator(".jv").evaluate("el => el.offsetWidth") <= 440
    assert page.evaluate(FITS) == []
    page.locator(".jv-no").click()
    page.wait_for_selector('.jv[data-state="idle"]')


# ------------------------------------------------------------------------------------------- the tour

def test_the_tour_shows_what_is_photographed_here():
    shown, files = shown_in_the_tour(), {one.stem.removeprefix("chat-"): one for one in PICTURES.glob("chat-*.png")}
    taken = set(re.findall(r"nb\.shot\(\"([\w-]+)\"", Path(__file__).read_text()))
    assert set(shown) == set(files) and set(shown) <= taken
    assert all(len(words) > 15 for words in shown.values())
    sizes = {name: one.stat().st_size for name, one in files.items()}
    assert max(sizes.values()) < 60_000 and sum(sizes.values()) < 1_500_000, sizes
