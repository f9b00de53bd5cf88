"""The chat on a page of its own, in headless Chromium, with a fake kernel behind it."""

import hashlib
import json
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
JS = ROOT / "javis" / "widgets" / "js"
STATIC = ROOT / "javis" / "widgets" / "static"
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
FOOTER = {"model": "smollm2", "adapter": "javis-v0.1", "first_token_s": 0.18, "tokens_per_s": 41.0,
          "tokens": 312, "cost_usd": 0.0, "context": [1204, 4096]}
CALL = {"id": "c1", "name": "edit_file", "arguments": {"path": "a.py", "count": 1, "strict": True},
        "status": "waiting", "risk": "write", "rule": "edits need a yes", "key": "k" * 64,
        "preview": {"kind": "diff", "s": "--- a\n+++ b\n-old\n+new\n"}, "output": "", "result": None,
        "schema": {"type": "object", "required": ["path"], "properties": {
            "path": {"type": "string"}, "count": {"type": "integer"}, "strict": {"type": "boolean"}}},
        "ms": None, "pattern": "edit_file in src/**"}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(ROOT)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs `pip install playwright`")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"needs Chromium at {CHROMIUM} (on Debian: apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield browser
        browser.close()


class Chat:
    "A page with the chat, and words for what a kernel says."

    def __init__(self, browser, server, locale="en", dark=False, width=900, height=800):
        self.context = browser.new_context(viewport={"width": width, "height": height})
        self.page = self.context.new_page()
        self.errors, self.requests = [], []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.server = server
        self.page.goto(f"{server}/tests/page/harness.html?locale={locale}")
        self.page.wait_for_function("globalThis.ready")
        if dark:
            self.page.evaluate("document.body.setAttribute('data-jp-theme-light', 'false')")

    def js(self, code, *given):
        return self.page.evaluate(f"async (given) => {{ {code} }}", list(given))

    def user(self, id, text, parent=None, **more):
        return self.js("return chat.user(given[0], given[1], given[2], given[3])",
                       id, text, parent, more)

    def answer(self, id, text, parent=None, **more):
        return self.js("return chat.answer(given[0], given[1], given[2], given[3])",
                       id, text, parent, more)

    def snap(self, *messages, **more):
        self.js("chat.snap(given[0], given[1])", list(messages), more)
        self.frame()

    def kernel(self, **message):
        self.js("chat.kernel(given[0])", message)
        self.frame()

    def frame(self):
        self.js("await new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))")

    def sent(self, op):
        return self.js("return chat.sent(given[0])", op)

    def last(self, op):
        found = self.sent(op)
        assert found, f"the page sent no {op}"
        return {name: value for name, value in found[-1].items() if name not in ("v", "op")}

    def text(self, selector):
        return self.page.locator(selector).first.inner_text()

    def count(self, selector):
        return self.page.locator(selector).count()

    def asked(self):
        "One request with one answer."
        self.snap(self.user("u1", "Which files?"), self.answer("a1", "Three.", "u1", footer=FOOTER))


@pytest.fixture
def chat(browser, server):
    chat = Chat(browser, server)
    yield chat
    chat.context.close()
    assert chat.errors == []


# ---- what is built


def source_sum():
    names = sorted(path.name for path in JS.iterdir()
                   if path.suffix in (".js", ".mjs", ".css", ".json") and path.is_file())
    return hashlib.sha256(b"".join((JS / name).read_bytes() for name in names)).hexdigest()


def test_the_built_file_is_not_older_than_its_sources():
    first = (STATIC / "chat.js").read_text().split("\n", 1)[0]
    assert first == f"// javis sources sha256 {source_sum()}", "run `npm ci && npm run build`"


def test_the_core_keeps_to_its_budget():
    assert (STATIC / "chat.js").stat().st_size < 150_000


def test_the_lock_file_names_no_machine():
    lock = json.loads((ROOT / "package-lock.json").read_text())
    assert not [name for name, one in lock["packages"].items() if "resolved" in one]


def test_parts_without_a_page():
    node = shutil.which("node")
    if not node or not (ROOT / "node_modules").exists():
        pytest.skip("needs Node, and `npm ci`")
    done = subprocess.run([node, "--test", str(ROOT / "tests" / "page" / "unit.test.mjs")],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-4000:]


# ---- streaming


def test_a_view_says_hello_and_shows_an_empty_chat(chat):
    assert chat.last("hello") == {"view": chat.js("return chat.view()"), "rev": 0}
    chat.snap()
    assert chat.page.locator(".jv-blank").is_visible()
    chat.page.click(".jv-idea >> nth=0")
    assert chat.page.input_value(".jv-box") == "Which files are in this folder?"
    assert chat.sent("send") == []


def test_only_the_last_block_is_rendered_again(chat):
    chat.snap(chat.user("u1", "hi"))
    chat.js("globalThis.r = chat.run('r1', 'a1', 'u1'); r.say('# One\\n\\nTwo **bold**\\n\\nThr')")
    chat.frame()
    assert chat.page.locator(".jv-main").get_attribute("aria-label") == "Stop"
    chat.js("""globalThis.kept = [...document.querySelectorAll('.jv-words > *')].slice(0, 2);
        for (const word of ['ee', ' and', '\\n\\n- a\\n- b\\n', '- c', '\\n\\nlast *one', '*'])
          { r.say(word); await new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go))); }""")
    assert chat.js("""const now = [...document.querySelectorAll('.jv-words > *')];
        return kept.every((node, n) => node === now[n])""")
    chat.js("r.done()")
    chat.frame()
    assert chat.js("return [...document.querySelectorAll('.jv-words > *')].map((one) => one.localName)") == [
        "h3", "p", "p", "ul", "p"]
    assert chat.count(".jv-words em") == 1 and chat.count(".jv-words li") == 3
    assert len(chat.sent("hello")) == 1
    assert chat.page.locator(".jv-main").get_attribute("aria-label") == "Send"


MARKDOWN = """Intro with `code` and **bold**.

1. one
2. two
   - nested

   with a paragraph

```python
x = "```"
if x:
    print("안녕")
```

| a | b |
|--:|---|
| 1 | 2 |

> quoted
continued

~~~text
~~~

Costs $5 or $6, \\(a_1\\) and $x^2$:

$$
\\sum_i x_i
$$

```
never closed
  ``"""


def test_growing_letter_by_letter_ends_as_it_would_in_one_piece(chat):
    grown, whole = chat.js("""
        chat.snap([chat.user('u1', 'x')]);
        const r = chat.run('r1', 'a1', 'u1');
        for (let at = 0; at < given[0].length; at++) {
          r.say(given[0][at]);
          if (at % 3 === 0) await new Promise(requestAnimationFrame);
        }
        r.done();
        const settle = () => new Promise((go) => setTimeout(go, 1200));
        await settle();
        const html = () => document.querySelector('.jv-words').innerHTML;
        const grown = html();
        chat.snap([chat.user('u2', 'x'), chat.answer('a2', given[0], 'u2')]);
        await settle();
        return [grown, html()];""", MARKDOWN)
    assert grown == whole
    assert "<math" in grown and "hljs-" in grown and "$5 or $6" in grown and "안녕" in grown


def test_a_long_list_is_closed_item_by_item(chat):
    chat.snap(chat.user("u1", "hi"))
    lists, items, starts = chat.js("""
        const r = chat.run('r1', 'a1', 'u1');
        for (let n = 1; n <= 300; n++) {
          r.say(`${n}. item number ${n} with **some** words\\n`);
          if (n % 10 === 0) await new Promise(requestAnimationFrame);
        }
        r.done();
        await new Promise((go) => setTimeout(go, 100));
        const all = [...document.querySelectorAll('.jv-words > ol')];
        return [all.length, document.querySelectorAll('.jv-words li').length,
          all.every((one, n) => one.start === all.slice(0, n).reduce((sum, el) => sum + el.children.length, 1))];""")
    assert lists > 1 and items == 300 and starts


def test_a_gap_says_hello_and_the_snapshot_goes_on(chat):
    chat.snap(chat.user("u1", "hi"))
    chat.js("globalThis.r = chat.run('r1', 'a1', 'u1'); r.say('one '); r.skip(); r.say('three')")
    chat.frame()
    assert len(chat.sent("hello")) == 2
    chat.snap(chat.user("u1", "hi"), chat.answer("a1", "one two three", "u1", status="streaming"),
              runs=[{"run": "r1", "id": "a1", "seq": 3}])
    chat.js("r.say(' four')")
    chat.frame()
    assert chat.text(".jv-words") == "one two three four"


def test_a_wrong_hash_says_hello(chat):
    chat.snap(chat.user("u1", "hi"))
    chat.js("""const r = chat.run('r1', 'a1', 'u1'); r.say('one');
        r.done('complete', {parts: [{id: 0, len: 3, hash: '12345678'}]})""")
    assert len(chat.sent("hello")) == 2


def test_silence_says_hello_but_not_while_a_person_is_asked(chat):
    chat.snap(chat.user("u1", "hi"))
    chat.js("const r = chat.run('r1', 'a1', 'u1'); r.say('one')")
    chat.page.wait_for_timeout(6200)
    assert len(chat.sent("hello")) == 2
    chat.snap(chat.user("u1", "hi"), chat.answer("a1", None, "u1", status="streaming",
              parts=[{"t": "tool", "call": CALL}]), runs=[{"run": "r1", "id": "a1", "seq": 0}])
    chat.page.wait_for_timeout(6200)
    assert len(chat.sent("hello")) == 2


def test_stop_is_there_from_the_moment_of_sending(chat):
    chat.snap()
    chat.page.fill(".jv-box", "hello")
    place = chat.page.locator(".jv-main").bounding_box()
    chat.page.keyboard.press("Enter")
    chat.frame()
    button = chat.page.locator(".jv-main")
    assert button.get_attribute("aria-label") == "Stop"
    assert button.bounding_box()["x"] == place["x"]
    button.click()
    assert chat.last("stop") == {"run": None}
    client = chat.last("send")["client"]
    chat.kernel(op="ack", client=client)
    chat.js("chat.msg(chat.user('u1', 'hello')); globalThis.r = chat.run('r1', 'a1', 'u1'); r.say('partial')")
    chat.frame()
    chat.page.locator(".jv-box").press("Escape")
    assert chat.last("stop") == {"run": "r1"}
    chat.js("r.done('cancelled'); r.say('late')")
    chat.frame()
    assert chat.text(".jv-words") == "partial"
    assert "Stopped" in chat.text(".jv-mark")
    assert chat.count(".jv-user") == 1


def test_a_busy_kernel_is_said_and_a_refused_request_comes_back(chat):
    chat.snap()
    chat.page.fill(".jv-box", "hello")
    chat.page.keyboard.press("Enter")
    chat.page.wait_for_timeout(1700)
    assert "Kernel busy" in chat.text(".jv-say")
    assert chat.text(".jv-pending .jv-body") == "hello"
    chat.page.locator(".jv-box").type("and more")
    chat.kernel(op="err", of="send", client=chat.last("send")["client"], message="no model")
    assert chat.page.input_value(".jv-box") == "hello\nand more"
    assert "no model" in chat.text(".jv-toast") and chat.count(".jv-pending") == 0


def test_a_draft_outlives_the_view_and_the_page(chat):
    chat.snap()
    chat.page.fill(".jv-box", "a draft")
    chat.js("chat.unmount(); await chat.mount()")
    assert chat.page.input_value(".jv-box") == "a draft"
    chat.page.reload()
    chat.page.wait_for_function("globalThis.ready")
    assert chat.page.input_value(".jv-box") == "a draft"


AWAY = ".jv-say:has-text('run the cell again')"


def test_a_kernel_that_does_not_save_a_request_is_said_to_be_away(chat):
    chat.snap()
    chat.page.fill(".jv-box", "hello")
    chat.page.keyboard.press("Enter")
    chat.page.wait_for_selector(AWAY, timeout=8500)
    assert len(chat.sent("hello")) >= 2
    chat.page.reload()  # a page that comes after this one, as when the cell is run again
    chat.page.wait_for_function("globalThis.ready")
    assert chat.page.input_value(".jv-box") == ""  # it may have been saved
    chat.snap()
    assert chat.page.input_value(".jv-box") == "hello"
    chat.page.fill(".jv-box", "")
    chat.page.reload()
    chat.page.wait_for_function("globalThis.ready")
    chat.snap()
    assert chat.page.input_value(".jv-box") == ""


def test_a_request_that_was_saved_is_no_draft(chat):
    chat.snap(chat.user("u0", "hello"), chat.answer("a0", "hi", "u0"))
    chat.page.fill(".jv-box", "hello")
    chat.page.keyboard.press("Enter")
    chat.page.reload()
    chat.page.wait_for_function("globalThis.ready")
    chat.snap(chat.user("u0", "hello"), chat.answer("a0", "hi", "u0"), chat.user("u1", "hello", "a0"))
    assert chat.page.input_value(".jv-box") == ""
    chat.page.reload()
    chat.page.wait_for_function("globalThis.ready")
    chat.page.fill(".jv-box", "again")
    chat.page.keyboard.press("Enter")
    chat.kernel(op="ack", client=chat.last("send")["client"])
    chat.page.reload()
    chat.page.wait_for_function("globalThis.ready")
    chat.snap()
    assert chat.page.input_value(".jv-box") == ""


def test_a_request_that_was_lost_is_sent_again_when_the_kernel_answers(chat):
    chat.snap()
    chat.page.fill(".jv-box", "hello")
    chat.page.keyboard.press("Enter")
    chat.page.wait_for_selector(AWAY, timeout=8500)
    chat.snap(view=chat.js("return chat.view()"))
    first, second = chat.sent("send")
    assert first == second  # the kernel takes a client's word once
    chat.kernel(op="ack", client=second["client"])
    assert chat.page.locator(".jv-say").inner_text() == ""
    chat.snap(chat.user("u1", "hello"), view=chat.js("return chat.view()"))
    assert len(chat.sent("send")) == 2 and chat.count(".jv-pending") == 0


def test_stop_takes_back_what_nobody_takes(chat):
    chat.asked()
    chat.page.fill(".jv-box", "hello")
    chat.page.keyboard.press("Enter")
    chat.page.wait_for_selector(AWAY, timeout=8500)
    chat.page.click(".jv-stop")
    assert chat.page.input_value(".jv-box") == "hello" and chat.sent("stop") == []
    chat.frame()
    assert chat.count(".jv-pending") == 0 and chat.page.get_attribute(".jv", "data-state") == "idle"


def test_a_busy_kernel_is_not_away(chat):
    chat.js("chat.model.widget_manager = {context: {sessionContext: {session: {kernel: {status: 'busy'}}}}}")
    chat.snap()
    chat.page.fill(".jv-box", "hello")
    chat.page.keyboard.press("Enter")
    chat.page.wait_for_timeout(7500)
    assert "Kernel busy" in chat.text(".jv-say")
    chat.js("chat.model.widget_manager.context.sessionContext.session.kernel.status = 'idle'")
    chat.page.wait_for_selector(AWAY, timeout=1500)


def test_an_edited_request_that_is_refused_comes_back(chat):
    chat.asked()
    chat.page.hover(".jv-user")
    chat.page.click(".jv-edit")
    chat.page.fill(".jv-requestbox", "in other words")
    chat.page.keyboard.press("Enter")
    chat.kernel(op="err", of="edit", client=chat.last("edit")["client"], message="no")
    assert chat.page.input_value(".jv-box") == "in other words"
    chat.frame()
    assert chat.page.get_attribute(".jv", "data-state") == "idle"


def test_a_title_comes_with_the_first_request(chat):
    chat.snap(thread=None)
    assert chat.text(".jv-title") == "New conversation"
    chat.kernel(op="title", thread="t7", title="Which files?")
    assert chat.text(".jv-title") == "Which files?"


def test_two_views_of_one_chat(chat):
    chat.js("""const second = document.createElement('div'); second.id = 'second';
        document.querySelector('main').append(second); await chat.mount(second)""")
    chat.asked()
    assert chat.text("#cell .jv-words") == chat.text("#second .jv-words") == "Three."


# ---- composition


def composing(chat, *steps):
    client = chat.context.new_cdp_session(chat.page)
    for text in steps:
        client.send("Input.imeSetComposition",
                    {"text": text, "selectionStart": len(text), "selectionEnd": len(text)})
    return client


def test_enter_while_composing_does_not_send(chat):
    chat.snap()
    chat.page.click(".jv-box")
    client = composing(chat, "ㅎ", "하", "한")
    chat.js("""globalThis.values = [];
        document.querySelector('.jv-box').addEventListener('input', (event) => values.push(event.target.value))""")
    client.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", "key": "Enter", "code": "Enter",
                                           "windowsVirtualKeyCode": 229})
    assert chat.sent("send") == [] and chat.page.input_value(".jv-box") == "한"
    client.send("Input.insertText", {"text": "한"})
    for step in ("ㄱ", "그", "글"):
        client.send("Input.imeSetComposition", {"text": step, "selectionStart": 1, "selectionEnd": 1})
    assert chat.sent("send") == []
    client.send("Input.insertText", {"text": "글"})
    assert chat.page.input_value(".jv-box") == "한글"
    assert "" not in chat.js("return values")
    chat.page.keyboard.press("Enter")
    assert chat.last("send")["text"] == "한글"
    assert chat.page.input_value(".jv-box") == ""


def test_send_by_click_while_composing_takes_the_whole_syllable(chat):
    chat.snap()
    chat.page.click(".jv-box")
    composing(chat, "ㅇ", "아", "안")
    chat.page.click(".jv-main")
    chat.page.wait_for_timeout(200)
    assert [one["text"] for one in chat.sent("send")] == ["안"]
    assert chat.page.input_value(".jv-box") == ""


def test_a_draft_that_comes_back_waits_for_the_syllable(chat):
    chat.snap()
    chat.page.fill(".jv-box", "first")
    chat.page.keyboard.press("Enter")
    client = composing(chat, "ㅎ", "하")
    chat.kernel(op="err", of="send", client=chat.last("send")["client"], message="no")
    assert chat.page.input_value(".jv-box") == "하"
    client.send("Input.insertText", {"text": "하"})
    chat.page.wait_for_timeout(50)
    assert chat.page.input_value(".jv-box") == "first\n하"


def test_enter_in_the_edit_of_a_request_is_safe_too(chat):
    chat.asked()
    chat.page.hover(".jv-user")
    chat.page.click(".jv-edit")
    client = composing(chat, "ㅎ")
    client.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", "key": "Enter", "code": "Enter",
                                           "windowsVirtualKeyCode": 229})
    assert chat.sent("edit") == []


def test_shift_enter_makes_a_line(chat):
    chat.snap()
    chat.page.locator(".jv-box").type("one")
    tall = chat.page.locator(".jv-box").bounding_box()["height"]
    chat.page.keyboard.press("Shift+Enter")
    chat.page.keyboard.type("two")
    assert chat.sent("send") == []
    assert chat.page.locator(".jv-box").bounding_box()["height"] > tall
    chat.page.keyboard.press("Enter")
    assert chat.last("send")["text"] == "one\ntwo"


# ---- rating


def test_rate_say_why_and_take_it_back(chat):
    chat.asked()
    chat.page.hover(".jv-assistant")
    chat.page.click(".jv-thumb >> nth=1")
    assert chat.last("rate") == {"id": "a1", "up": False}
    chat.page.click(".jv-reason:has-text('Incomplete')")
    assert chat.last("rate") == {"id": "a1", "reason": "incomplete"}
    chat.page.click(".jv-star >> nth=1")
    assert chat.last("rate") == {"id": "a1", "stars": 2}
    chat.page.fill(".jv-why .jv-input", "one is missing")
    chat.page.keyboard.press("Enter")
    assert chat.last("rate") == {"id": "a1", "comment": "one is missing"}
    chat.js("chat.msg(chat.answer('a1', 'Three.', 'u1', {verdict: {up: false, reasons: ['incomplete']}}))")
    chat.frame()
    assert chat.page.locator(".jv-thumb >> nth=1").get_attribute("aria-pressed") == "true"
    chat.page.click(".jv-thumb >> nth=1")
    assert chat.last("rate") == {"id": "a1", "up": None}


def test_correct_the_words(chat):
    chat.asked()
    chat.page.hover(".jv-assistant")
    chat.page.click(".jv-fix")
    assert chat.page.input_value(".jv-answerbox") == "Three."
    chat.page.click(".jv-savefix")
    assert chat.sent("correct") == [] and "Nothing has changed" in chat.text(".jv-complaint")
    chat.page.fill(".jv-answerbox", "There are **four**.")
    chat.page.keyboard.press("Control+Enter")
    assert chat.last("correct") == {"id": "a1", "text": "There are **four**."}
    chat.js("""chat.msg(chat.answer('a1', 'Three.', 'u1',
        {verdict: {up: null, corrected: 'There are **four**.', candidate: true}}))""")
    chat.frame()
    assert chat.text(".jv-words") == "There are four."
    assert "Corrected" in chat.text(".jv-badges") and "candidate row" in chat.text(".jv-badges")
    assert chat.count(".jv-editor") == 0
    chat.page.click(".jv-badges .jv-link")
    assert chat.text(".jv-words") == "Three."


def test_correct_a_call(chat):
    chat.snap(chat.user("u1", "x"), chat.answer("a1", None, "u1", parts=[
        {"t": "tool", "call": {**CALL, "status": "ok", "result": "done"}}]))
    chat.page.hover(".jv-assistant")
    chat.page.click(".jv-fix")
    chat.page.fill(".jv-editor .jv-input", "list_dir")
    chat.page.fill(".jv-editor textarea", "{nonsense")
    chat.page.click(".jv-savefix")
    assert chat.sent("correct") == [] and "JSON" in chat.text(".jv-editor .jv-complaint")
    chat.page.fill(".jv-editor textarea", '{"path": "configs"}')
    chat.page.click(".jv-savefix")
    assert chat.last("correct") == {"id": "a1", "tool": "list_dir", "arguments": {"path": "configs"}}


# ---- the tree


def test_edit_regenerate_and_turn(chat):
    shown = [chat.user("u2", "again", siblings=["u1", "u2"]),
             chat.answer("a3", "B", "u2", siblings=["a2", "a3", "a4"])]
    chat.snap(*shown)
    assert chat.text(".jv-user .jv-versions") == "2/2"
    chat.page.click(".jv-assistant .jv-versions button >> nth=0")
    assert chat.last("head") == {"id": "a2"}
    chat.page.click(".jv-assistant .jv-versions button >> nth=1")
    assert chat.last("head") == {"id": "a4"}
    chat.page.hover(".jv-assistant")
    chat.page.click(".jv-regen")
    assert chat.last("regen") == {"id": "a3"}
    chat.frame()
    assert chat.page.locator(".jv-main").get_attribute("aria-label") == "Stop"
    chat.snap(*shown)
    chat.page.hover(".jv-user")
    chat.page.click(".jv-edit")
    chat.page.fill(".jv-requestbox", "in other words")
    chat.page.keyboard.press("Enter")
    edit = chat.last("edit")
    assert (edit["id"], edit["text"]) == ("u2", "in other words") and edit["client"]
    chat.kernel(op="branch", rev=9, keep=None, messages=[chat.user("u3", "in other words")])
    chat.js("chat.run('r1', 'a5', 'u3').say('C')")
    chat.frame()
    assert chat.text(".jv-words") == "C" and chat.count(".jv-msg") == 2


def test_older_messages(chat):
    chat.snap(chat.user("u2", "b"), more=True)
    chat.page.click(".jv-older")
    assert chat.last("page") == {"before": "u2"}
    chat.kernel(op="page", before="u2", messages=[chat.user("u1", "a")], more=False)
    assert chat.count(".jv-user") == 2 and chat.count(".jv-older") == 0


# ---- tools


def waiting(chat, **more):
    chat.snap(chat.user("u1", "x"), chat.answer("a1", None, "u1", status="streaming", parts=[
        {"t": "tool", "call": {**CALL, **more}}]), runs=[{"run": "r1", "id": "a1", "seq": 0}])


def test_a_card_says_what_it_is_and_takes_a_yes(chat):
    waiting(chat)
    head = chat.text(".jv-callhead")
    assert "edit_file" in head and "changes files" in head and "needs approval" in head
    assert chat.count(".jv-diff .jv-plus") == 1 and chat.count(".jv-diff .jv-minus") == 1
    chat.page.click(".jv-yes")
    assert chat.last("approve") == {"call": "c1", "key": "k" * 64, "yes": True, "scope": "once"}
    chat.page.locator(".jv-yes").dispatch_event("click")
    assert len(chat.sent("approve")) == 1
    chat.kernel(op="tool", run="r1", id="a1", part="c1", call={**CALL, "status": "running"})
    chat.kernel(op="out", run="r1", call="c1", s="line 1\n")
    assert "line 1" in chat.text(".jv-out pre") and chat.count(".jv-yes") == 0
    chat.kernel(op="tool", run="r1", id="a1", part="c1",
                call={**CALL, "status": "ok", "result": "saved", "ms": 12.0})
    assert "done" in chat.text(".jv-callhead") and "12 ms" in chat.text(".jv-callhead")


def test_no_and_scopes(chat):
    waiting(chat)
    chat.page.select_option(".jv-scope select", "pattern")
    chat.page.click(".jv-no")
    assert chat.last("approve") == {"call": "c1", "key": "k" * 64, "yes": False, "scope": "pattern"}
    waiting(chat, id="c2", pattern=None)
    assert chat.js("return [...document.querySelectorAll('.jv-scope option')].map((one) => one.value)") == [
        "once", "thread"]


def test_a_decision_that_is_not_taken_can_be_made_again(chat):
    waiting(chat)
    chat.page.click(".jv-yes")
    chat.page.wait_for_timeout(4300)
    chat.page.click(".jv-no")
    assert [one["yes"] for one in chat.sent("approve")] == [True, False]


@pytest.mark.parametrize("locale, words", [("en", "Files are changed only after asking"), ("ko", "파일을 바꾸기 전에 먼저 물어봅니다")])
def test_why_a_call_waits_is_said_in_the_language_of_the_page(browser, server, locale, words):
    chat = Chat(browser, server, locale=locale)
    waiting(chat, rule="the default for the effect write", why={"kind": "default", "effect": "write"})
    assert chat.text(".jv-rule") == words
    waiting(chat, id="c2", rule="x leads out", why={"kind": "outside", "path": "/etc/x"})
    assert "/etc/x" in chat.text(".jv-rule") and "leads out" not in chat.text(".jv-rule")
    waiting(chat, id="c3", rule="something new", why={})
    assert chat.text(".jv-rule").endswith(": something new")
    chat.context.close()


def test_arguments_that_a_person_changed_are_shown_once(chat):
    ran = {**CALL, "status": "ok", "result": "saved", "edited": True, "arguments": {"path": "b.py", "count": 2, "strict": False}}
    correction = '<tool_call>' + json.dumps({"name": "edit_file", "arguments": {"path": "b.py", "count": 2}}) + '</tool_call>'
    verdict = {"up": None, "corrected": correction, "candidate": True, "reasons": []}
    chat.snap(chat.user("u1", "x"), chat.answer("a1", None, "u1", parts=[{"t": "tool", "call": ran}], verdict=verdict))
    assert chat.count(".jv-call") == 1 and "you changed the arguments" in chat.text(".jv-callhead")
    assert "tool_call" not in chat.text(".jv-assistant") and "{" not in chat.text(".jv-assistant")
    assert "Corrected" in chat.text(".jv-badges") and "candidate row" in chat.text(".jv-badges")
    # A call that was corrected afterwards stands below, as a card too.
    chat.snap(chat.user("u1", "x"), chat.answer("a1", None, "u1", parts=[{"t": "tool", "call": {**ran, "edited": False}}], verdict={
        **verdict, "corrected": correction.replace("b.py", "c.py")}))
    assert chat.count(".jv-call") == 2 and not chat.page.locator(".jv-edited").first.is_visible()
    assert "as it should have been" in chat.text(".jv-better .jv-callhead") and "c.py" in chat.text(".jv-better .jv-args")


def test_edited_arguments(chat):
    waiting(chat)
    chat.page.click(".jv-editargs")
    assert "before your edits" in chat.text(".jv-preview h6")
    fields = chat.page.locator(".jv-field")
    assert fields.count() == 3
    fields.nth(1).locator("input").fill("many")
    chat.page.click(".jv-yes")
    assert chat.sent("approve") == [] and "number" in chat.text(".jv-complaint")
    fields.nth(0).locator("textarea").fill("b.py")
    fields.nth(1).locator("input").fill("2")
    fields.nth(2).locator("input").uncheck()
    chat.page.click(".jv-yes")
    assert chat.last("approve") == {"call": "c1", "key": "k" * 64, "yes": True, "scope": "once",
                                    "arguments": {"path": "b.py", "count": 2, "strict": False}}


RUN = {**CALL, "id": "c2", "name": "run_shell", "arguments": {"command": "rm -r build"}, "risk": "exec", "key": "r" * 64,
       "rule": "a rule", "preview": {"kind": "command", "s": "rm -r build"}, "schema": {}, "pattern": None}
READ = {**CALL, "id": "c3", "name": "read_file", "arguments": {"path": "../notes"}, "risk": "read", "key": "d" * 64,
        "preview": {"kind": "none", "s": ""}, "schema": {}, "pattern": None}


def batch(chat, *calls, asked=0):
    order = ["c2", "c1", "c3"]
    chat.snap(chat.user("u1", "x"), chat.answer("a1", None, "u1", status="streaming", parts=[
        {"t": "tool", "call": {**one, "batch": order, "asked": asked}} for one in calls or (CALL, RUN, READ)]),
        runs=[{"run": "r1", "id": "a1", "seq": 0}])


def names(chat, where=".jv-call .jv-callname"):
    return chat.js("return [...document.querySelectorAll(given[0])].map((one) => one.textContent)", where)


def decisions(chat):
    return [(one["call"], one["key"][0], one["yes"], one["scope"]) for one in chat.sent("approve")]


def test_calls_that_wait_at_once_stand_together_the_most_dangerous_first(chat):
    batch(chat)
    assert names(chat) == names(chat, ".jv-batch .jv-callname") == ["run_shell", "edit_file", "read_file"]
    assert chat.count(".jv-diff .jv-plus") == 1 and "rm -r build" in chat.text(".jv-command") and chat.count(".jv-yes") == 3
    assert "3 calls wait" in chat.text(".jv-batchhead") and chat.text(".jv-batchyes") == "Approve all 3"
    below = chat.js("return document.querySelector('.jv-batch').compareDocumentPosition([...document.querySelectorAll('.jv-call')].at(-1))")
    assert below == 2  # whoever comes to the buttons has passed the cards
    chat.page.click(".jv-batchyes")
    assert decisions(chat) == [("c2", "r", True, "once"), ("c1", "k", True, "once"), ("c3", "d", True, "once")]
    assert not chat.page.locator(".jv-batch").is_visible()


def test_some_of_a_batch_are_picked_and_the_rest_is_denied(chat):
    batch(chat)
    chat.page.locator(".jv-batch input").nth(1).check()
    assert chat.text(".jv-batchyes") == "Approve 1, deny the rest"
    chat.page.click(".jv-batchyes")
    assert [(call, yes) for call, _, yes, _ in decisions(chat)] == [("c2", False), ("c1", True), ("c3", False)]


def test_all_of_a_batch_are_denied_by_keys_alone(chat):
    batch(chat)
    chat.page.locator(".jv-batch input").last.focus()
    chat.page.keyboard.press("Tab")
    chat.page.keyboard.press("Tab")
    assert "jv-batchno" in chat.js("return document.activeElement.className")
    chat.page.keyboard.press("Enter")
    assert [yes for _, _, yes, _ in decisions(chat)] == [False] * 3


def test_one_by_one_a_batch_shrinks_and_its_arguments_can_be_changed(chat):
    batch(chat)
    chat.page.locator(".jv-no").first.click()
    assert decisions(chat) == [("c2", "r", False, "once")] and chat.text(".jv-batchyes") == "Approve all 2"
    chat.kernel(op="tool", run="r1", id="a1", part="c2", call={**RUN, "status": "proposed", "batch": ["c2", "c1", "c3"]})
    assert names(chat, ".jv-batch .jv-callname") == ["edit_file", "read_file"]
    chat.page.locator(".jv-call", has_text="edit_file").locator(".jv-editargs").click()
    chat.page.locator(".jv-field textarea").first.fill("b.py")
    chat.page.click(".jv-batchyes")  # as edited
    assert chat.sent("approve")[1]["arguments"]["path"] == "b.py" and "arguments" not in chat.sent("approve")[2]
    for call in (CALL, RUN, READ):
        chat.kernel(op="tool", run="r1", id="a1", part=call["id"], call={**call, "status": "ok", "result": "x"})
    assert names(chat) == ["edit_file", "run_shell", "read_file"] and chat.count(".jv-batch") == 0


def test_a_call_alone_has_no_batch_and_a_kernel_that_knows_none_has_cards(chat):
    waiting(chat)
    assert not chat.page.locator(".jv-batch").is_visible()
    chat.snap(chat.user("u1", "x"), chat.answer("a1", None, "u1", status="streaming", parts=[
        {"t": "tool", "call": one} for one in (CALL, RUN)]), runs=[{"run": "r1", "id": "a1", "seq": 0}])
    assert names(chat, ".jv-batch .jv-callname") == ["edit_file", "run_shell"]


@pytest.mark.parametrize("locale, words", [("en", "7 questions in this answer by now"), ("ko", "지금까지 7번 물었습니다")])
def test_many_questions_are_counted_and_the_answer_can_be_stopped(browser, server, locale, words):
    chat = Chat(browser, server, locale=locale)
    batch(chat, READ, asked=7)
    assert words in chat.text(".jv-asked") and chat.count(".jv-batchyes") == 0
    chat.page.click(".jv-stopturn")
    assert chat.last("stop") == {"run": "r1"} and chat.sent("approve") == [] and chat.errors == []
    chat.context.close()


def test_hostile_calls_of_a_batch_are_text(chat):
    evil = "<img src=x onerror=alert(1)>\u202egnp.exe"
    batch(chat, {**RUN, "name": evil, "arguments": {"command": evil}}, CALL)
    assert "<img src=x" in chat.text(".jv-batch") and "\u202e" not in chat.text(".jv-batch") and chat.count(".jv-batch img") == 0


# ---- context, commands, pairs, sources, threads


ITEMS = [{"insert": "@df", "label": "@df", "detail": "DataFrame 3 × 2", "kind": "variable"},
         {"insert": "@df_test", "label": "@df_test", "detail": "DataFrame 1 × 2", "kind": "variable"}]
PARTS = [{"label": "system", "tokens": 10, "s": "You are JAVIS"},
         {"label": "@df", "tokens": 212, "s": "df: 3 rows\n  a  b"}]


def answering(chat):
    chat.js("""chat.answers.push((m) => {
        if (m.op === 'complete') chat.kernel({op: 'comps', q: m.q, items: given[0]});
        if (m.op === 'preview') chat.kernel({op: 'previewed', q: m.q, parts: given[1], tokens: 222, room: 4096});
        if (m.op === 'threads') chat.kernel({op: 'threads', q: m.q, items: m.query === 'none' ? [] : given[2]});
        if (m.op === 'export') chat.kernel({op: 'exported', q: m.q, name: 'chat.md', mime: 'text/markdown', s: '# hi'});
    })""", ITEMS, PARTS, [{"id": "t1", "title": "One", "when": 1760000000, "snippet": "a"},
                          {"id": "t2", "title": "Two", "when": "2026-10-01T10:00:00", "snippet": "b"}])


def test_mentions_are_completed_counted_and_shown(chat):
    answering(chat)
    chat.snap()
    chat.page.locator(".jv-box").type("plot @d")
    chat.page.wait_for_selector(".jv-comp")
    assert chat.last("complete")["text"] == "plot @d" and chat.last("complete")["cursor"] == 7
    assert chat.page.locator(".jv-box").get_attribute("aria-activedescendant")
    chat.page.keyboard.press("ArrowDown")
    chat.page.keyboard.press("ArrowUp")
    chat.page.keyboard.press("Enter")
    assert chat.page.input_value(".jv-box") == "plot @df " and chat.sent("send") == []
    chat.page.keyboard.type("and @missing now")
    chat.page.wait_for_selector(".jv-missing")
    assert "212" in chat.text(".jv-chips .jv-chip") and "@missing" in chat.text(".jv-missing")
    chat.page.click(".jv-chips .jv-chip >> nth=0")
    assert "df: 3 rows" in chat.text(".jv-popover")
    chat.page.keyboard.press("Escape")
    assert not chat.page.locator(".jv-popover").is_visible()
    chat.page.click(".jv-eye")
    assert "You are JAVIS" in chat.page.locator(".jv-popover").inner_html()


def test_slash_commands(chat):
    chat.asked()
    box = chat.page.locator(".jv-box")
    for typed, op, fields in [("/new", "new", {}), ("/rename A title", "rename", {"title": "A title"}),
                              ("/regen", "regen", {"id": "a1"}), ("/good", "rate", {"id": "a1", "up": True})]:
        box.fill(typed)
        box.press("Enter")
        assert chat.last(op) == fields
        chat.asked()
    box.fill("/etc/hosts: what is it?")
    box.press("Enter")
    assert chat.last("send")["text"].startswith("/etc")


def test_a_blind_pair_is_picked(chat):
    chat.snap(chat.user("u1", "x"))
    chat.page.click(".jv-compare")
    chat.page.locator(".jv-box").type("which?")
    chat.page.keyboard.press("Enter")
    assert chat.last("compare")["text"] == "which?" and chat.sent("send") == []
    chat.js("""chat.msg(chat.user('u2', 'which?', 'u1'));
        const pair = (side) => ({pair: {id: 'p1', side, picked: null}});
        globalThis.left = chat.run('r1', 'a1', 'u2', pair('left')); globalThis.right = chat.run('r2', 'a2', 'u2', pair('right'));
        left.say('one'); right.say('two')""")
    chat.frame()
    assert chat.page.locator(".jv-pick").first.is_disabled()
    assert [chat.text(f".jv-column >> nth={n}").split() for n in (0, 1)] == [
        ["Answer", "A", "one"], ["Answer", "B", "two"]]
    chat.js("""left.done('complete', {message: {pair: {id: 'p1', side: 'left', picked: null}}});
        right.done('complete', {message: {pair: {id: 'p1', side: 'right', picked: null}}})""")
    chat.frame()
    chat.page.click(".jv-pick:has-text('B is better')")
    assert chat.last("pick") == {"pair": "p1", "side": "right"}
    for side, id, model in (("left", "a1", "base"), ("right", "a2", "tuned")):
        chat.js("""chat.msg(chat.answer(given[1], given[1], 'u2', {footer: {model: given[2]},
            pair: {id: 'p1', side: given[0], picked: 'right'}}))""", side, id, model)
    chat.frame()
    assert "tuned" in chat.text(".jv-picked") and "preferred B" in chat.text(".jv-choice")


def test_a_source_is_named_by_what_was_read(chat):
    sources = [{"n": 1, "label": "plan.md", "place": "read_file", "score": None, "text": "lunch"},
               {"n": 2, "label": "prices", "place": "variable", "score": None, "text": "3"}]
    chat.snap(chat.user("u1", "x"), chat.answer("a1", "See [1].", "u1", sources=sources))
    assert [one.split() for one in chat.page.locator(".jv-sourcename").all_inner_texts()] == [["1", "plan.md", "read_file"], ["2", "prices", "variable"]]
    chat.page.click(".jv-lang-button")
    assert chat.page.locator(".jv-sourcename small").all_inner_texts() == ["read_file", "변수"]


@pytest.mark.parametrize("before", [0, 1, 4])
def test_a_window_stays_inside_the_chat(chat, before):
    long = "\n\n".join(f"Line {n} of a passage that is longer than the chat is high." for n in range(20))
    shown = []
    for n in range(before):
        shown += [chat.user(f"q{n}", "x", f"r{n - 1}" if n else None), chat.answer(f"r{n}", "One line.", f"q{n}")]
    source = {"n": 1, "label": "plan.md", "place": "read_file", "score": None, "text": long}
    chat.snap(*shown, chat.user("u1", "When?", f"r{before - 1}" if before else None), chat.answer("a1", "At six [1].", "u1", sources=[source]))
    for cite in (".jv-words .jv-cite", ".jv-sources .jv-cite"):
        chat.page.click(cite)
        box, of = chat.page.locator(".jv-popover").bounding_box(), chat.page.locator(".jv").bounding_box()
        at = chat.page.locator(cite).last.bounding_box()
        assert of["y"] <= box["y"] and box["y"] + box["height"] <= of["y"] + of["height"], cite
        assert box["y"] >= at["y"] + at["height"] or box["y"] + box["height"] <= at["y"], cite  # beside what it is about
        assert box["height"] >= 100 and chat.page.locator(".jv-passage").is_visible()
        chat.page.keyboard.press("Escape")


def test_the_help_is_a_list_of_keys(chat):
    chat.asked()
    chat.page.fill(".jv-box", "/help")
    chat.page.keyboard.press("Enter")
    chat.page.keyboard.press("Enter")
    keys = chat.page.locator(".jv-help dt").all_inner_texts()
    assert len(keys) == chat.count(".jv-help dd") > 12 and "Shift+Enter" in keys
    chat.page.keyboard.press("Escape")
    assert not chat.page.locator(".jv-help").is_visible()


def test_sources_on_hover_and_click(chat):
    chat.snap(chat.user("u1", "x"), chat.answer("a1", "Cut [1], not `x[1]`, and [7].", "u1", sources=[
        {"n": 1, "label": "preflight.ipynb", "place": "cell 14", "score": 0.834, "text": "Rows are cut."}]))
    assert chat.count(".jv-words .jv-cite") == 1
    chat.page.hover(".jv-words .jv-cite")
    shown = chat.text(".jv-popover")
    assert all(part in shown for part in ("preflight.ipynb", "cell 14", "0.83", "Rows are cut."))
    chat.page.mouse.move(5, 5)
    chat.page.wait_for_timeout(400)
    assert not chat.page.locator(".jv-popover").is_visible()
    chat.page.click(".jv-words .jv-cite")
    chat.page.mouse.move(5, 5)
    chat.page.wait_for_timeout(400)
    assert chat.page.locator(".jv-popover").is_visible()
    chat.page.keyboard.press("Escape")


def test_threads_search_open_and_export(chat):
    answering(chat)
    chat.asked()
    chat.page.click(".jv-threadsbutton")
    chat.page.wait_for_selector(".jv-thread")
    assert chat.count(".jv-thread") == 2
    chat.page.keyboard.type("none")
    chat.page.wait_for_selector("text=No conversation found")
    chat.page.fill(".jv-threads .jv-input", "")
    chat.page.wait_for_selector(".jv-thread")
    chat.page.keyboard.press("ArrowDown")
    chat.page.keyboard.press("ArrowDown")
    chat.page.keyboard.press("Enter")
    assert chat.last("open") == {"thread": "t2"}
    chat.page.click(".jv-export")
    with chat.page.expect_download() as download:
        chat.page.click(".jv-item >> nth=0")
    assert download.value.suggested_filename == "chat.md"
    assert chat.last("export")["format"] == "md"


def test_conversations_go_when_the_focus_does(chat):
    answering(chat)
    chat.asked()
    for key, count in (("Tab", 4), ("Shift+Tab", 3)):
        chat.page.click(".jv-threadsbutton")
        chat.page.wait_for_selector(".jv-thread")
        for _ in range(count):
            if chat.page.locator(".jv-threads").is_visible():
                chat.page.keyboard.press(key)
        assert not chat.page.locator(".jv-threads").is_visible()
        assert not chat.js("return document.querySelector('.jv-threads').contains(document.activeElement)")
    chat.page.click(".jv-threadsbutton")
    chat.page.click(".jv-threads strong")  # on it, but not on a button
    assert chat.page.locator(".jv-threads").is_visible()
    chat.page.locator(".jv-box").focus()
    assert not chat.page.locator(".jv-threads").is_visible() and chat.js("return document.activeElement.className").endswith("jv-box")


CELLS = """
        const signal = () => { const all = new Set(); return {connect: (f) => all.add(f), disconnect: (f) => all.delete(f), emit: () => all.forEach((f) => f())}; };
        const cells = [];
        globalThis.shared = {cells, changed: signal(), insertCell: (at, given) => {
          const cell = {id: 'cell' + cells.length, execution_count: null, source: given.source, outputs: [], changed: signal(),
            getSource() { return this.source }, setOutputs(outputs) { this.outputs = outputs }, getOutputs() { return this.outputs }};
          cells.splice(at, 0, cell); return cell; }};
        globalThis.runs = [];
        chat.model.widget_manager = {context: {model: {sharedModel: shared}, sessionContext: {session: {kernel: {
          requestExecute: (request) => { const future = {done: Promise.resolve()}; runs.push([request, future]); return future; }}}}}};"""


def test_what_a_cell_out_of_sight_prints_is_put_into_it(chat):
    chat.js(CELLS)
    chat.snap(chat.user("u1", "x"), chat.answer("a1", "```python\ndraw()\n```", "u1"))
    chat.page.click(".jv-insertrun")
    outputs = chat.js("""const [, future] = runs[0];
        const say = (msg_type, content) => future.onIOPub({header: {msg_type}, content});
        say('stream', {name: 'stdout', text: 'one '}); say('clear_output', {wait: true}); say('stream', {name: 'stdout', text: 'two '});
        say('stream', {name: 'stdout', text: 'three'}); say('status', {execution_state: 'busy'});
        say('display_data', {data: {'text/plain': '1 %'}, metadata: {}, transient: {display_id: 'bar'}});
        say('update_display_data', {data: {'text/plain': '9 %'}, metadata: {}, transient: {display_id: 'bar'}});
        return shared.cells[0].outputs""")
    assert outputs == [{"output_type": "stream", "name": "stdout", "text": "two three"},
                       {"output_type": "display_data", "data": {"text/plain": "9 %"}, "metadata": {}}]


def test_code_is_copied_inserted_run_and_watched(chat):
    chat.js(CELLS)
    chat.context.grant_permissions(["clipboard-read", "clipboard-write"])
    chat.snap(chat.user("u1", "x"), chat.answer("a1", "```python\n1/0\n```\n\n```json\n{}\n```", "u1"))
    chat.page.click(".jv-codeactions button >> nth=0")
    chat.page.wait_for_timeout(100)
    assert chat.last("used") == {"id": "a1", "block": 0, "what": "copied", "code": "1/0"}
    assert chat.count(".jv-insert") == 1
    chat.page.click(".jv-insert")
    used = chat.last("used")
    assert (used["what"], used["cell"]) == ("inserted", "cell0")
    chat.page.click(".jv-insertrun")
    assert chat.last("used")["what"] == "ran"
    assert chat.js("return [runs[0][0].code, shared.cells.map((one) => one.id)]") == ["1/0", ["cell0", "cell1"]]
    chat.js("""const [, future] = runs[0], cell = shared.cells[1];
        future.onIOPub({header: {msg_type: 'error'}, content: {ename: 'ZeroDivisionError', evalue: 'division by zero', traceback: []}});
        future.onReply({content: {execution_count: 3}}); cell.changed.emit()""")
    chat.page.wait_for_timeout(600)
    assert chat.last("outcome") == {"id": "a1", "block": 0, "what": "raised", "detail": "ZeroDivisionError: division by zero"}
    chat.js("shared.cells[1].source = '1/1'; shared.cells[1].outputs = []; shared.cells[1].execution_count = 4; shared.cells[1].changed.emit()")
    chat.page.wait_for_timeout(600)
    assert [one["what"] for one in chat.sent("outcome")] == ["raised", "edited", "ok"]
    chat.js("shared.cells.splice(0, 1); shared.changed.emit()")
    chat.page.wait_for_timeout(500)
    assert chat.last("outcome") == {"id": "a1", "block": 0, "what": "deleted"}


# ---- keys, scrolling, language


def test_the_keyboard_reaches_everything_and_the_notebook_hears_nothing(chat):
    assert chat.page.locator(".jv").get_attribute("data-lm-suppress-shortcuts") is not None
    chat.js("globalThis.heard = []; document.addEventListener('keydown', (event) => event.target.closest('.jv') && heard.push(event.key))")
    chat.asked()
    chat.page.locator(".jv-box").focus()
    chat.page.keyboard.press("Escape")
    active = "return document.activeElement.className"
    assert "jv-assistant" in chat.js(active)
    chat.page.keyboard.press("-")
    assert chat.last("rate") == {"id": "a1", "up": False}
    chat.page.keyboard.press("Escape")
    assert chat.count(".jv-why") == 0 and "jv-assistant" in chat.js(active)
    chat.page.keyboard.press("f")
    assert chat.js("return document.activeElement.classList.contains('jv-answerbox')")
    chat.page.keyboard.type(" Or four.")
    chat.page.keyboard.press("Control+Enter")
    chat.page.wait_for_timeout(700)
    assert "jv-assistant" in chat.js(active)
    chat.page.keyboard.press("r")
    assert chat.last("regen") == {"id": "a1"}
    chat.asked()
    chat.page.keyboard.press("ArrowUp")
    assert "jv-user" in chat.js(active)
    chat.page.keyboard.press("e")
    assert chat.js("return document.activeElement.classList.contains('jv-requestbox')")
    chat.page.keyboard.press("Escape")
    chat.page.keyboard.press("Escape")
    assert "jv-box" in chat.js(active)
    chat.page.keyboard.press("ArrowUp")
    assert chat.js("return document.activeElement.classList.contains('jv-requestbox')")
    chat.page.keyboard.press("Escape")
    reached = set()
    chat.page.locator(".jv-threadsbutton").focus()
    for _ in range(40):
        chat.page.keyboard.press("Tab")
        reached.add(chat.js("return document.activeElement.className"))
    for wanted in ("jv-thumb", "jv-fix", "jv-regen", "jv-handle", "jv-box", "jv-eye"):
        assert any(wanted in one for one in reached), wanted
    assert chat.js("return heard") == []


def test_a_tool_is_approved_by_keys_alone(chat):
    chat.snap(chat.user("u1", "x"))
    chat.js("globalThis.r = chat.run('r1', 'a1', 'u1'); r.tool({...given[0], status: 'proposed'}); r.tool(given[0])", CALL)
    chat.page.wait_for_function("document.querySelector('[aria-live=polite]').textContent.includes('edit_file')")
    assert "Arrow up" in chat.page.locator("[aria-live=polite]").text_content()
    at = "return document.activeElement.className"
    chat.page.locator(".jv-box").focus()
    chat.page.keyboard.press("ArrowUp")
    assert "jv-yes" in chat.js(at)
    chat.page.keyboard.press("Tab")
    chat.page.keyboard.press("Escape")  # back, and nothing is stopped
    assert "jv-box" in chat.js(at) and chat.sent("stop") == []
    chat.page.keyboard.type("meanwhile")
    chat.page.keyboard.press("Alt+ArrowUp")
    assert "jv-yes" in chat.js(at)
    chat.page.click(".jv-editargs")
    chat.page.locator(".jv-field input").first.focus()
    chat.page.keyboard.press("Escape")
    assert "jv-editargs" in chat.js(at) and chat.sent("stop") == []
    chat.page.click(".jv-callhead")  # folded
    chat.page.keyboard.press("Alt+ArrowUp")
    assert "jv-yes" in chat.js(at)
    chat.page.keyboard.press("Enter")
    assert chat.last("approve")["yes"] is True and chat.page.input_value(".jv-box") == "meanwhile"


def test_what_has_the_focus_tells_the_notebook_to_leave_its_keys_alone(chat):
    chat.asked()
    chat.page.locator(".jv-threadsbutton").focus()
    for _ in range(20):
        chat.page.keyboard.press("Tab")
        assert chat.js("const at = document.activeElement; return !at.closest('.jv') || at.hasAttribute('data-lm-suppress-shortcuts')")


def test_the_end_is_followed_only_from_the_end(chat):
    chat.snap(chat.user("u1", "x"))
    chat.js("globalThis.r = chat.run('r1', 'a1', 'u1'); r.say('line\\n\\n'.repeat(80))")
    chat.frame()
    end = "const el = document.querySelector('.jv-scroll'); return el.scrollHeight - el.scrollTop - el.clientHeight"
    assert chat.js(end) < 2
    chat.js("r.say('more\\n\\n'.repeat(20))")
    chat.frame()
    assert chat.js(end) < 2
    chat.page.hover(".jv-scroll")
    chat.page.mouse.wheel(0, -500)
    chat.page.wait_for_timeout(200)
    top = chat.js("return document.querySelector('.jv-scroll').scrollTop")
    chat.js("r.say('even more\\n\\n'.repeat(20))")
    chat.frame()
    assert chat.js("return document.querySelector('.jv-scroll').scrollTop") == top
    chat.page.click(".jv-jump")
    assert chat.js(end) < 2
    assert not chat.page.locator(".jv-jump").is_visible()


def test_korean(browser, server):
    chat = Chat(browser, server, locale="ko")
    chat.asked()
    assert chat.page.get_attribute(".jv", "lang") == "ko"
    assert chat.page.get_attribute(".jv-main", "aria-label") == "보내기"
    chat.page.fill(".jv-box", "초안")
    chat.page.click(".jv-lang-button")
    assert chat.js("return chat.traits.locale") == "en"
    assert chat.page.get_attribute(".jv-main", "aria-label") == "Send"
    assert chat.page.input_value(".jv-box") == "초안"
    assert chat.errors == []
    chat.context.close()


def test_math_and_colours_are_asked_for_once(chat):
    chat.snap(chat.user("u1", "x"), chat.answer("a1", "$x^2$ and $y_1$\n\n```python\nimport os\n```\n\n```python\nx = 1\n```", "u1"))
    chat.page.wait_for_selector(".jv-math math")
    chat.page.wait_for_selector(".hljs-keyword")
    assert sorted(one["name"] for one in chat.sent("asset")) == ["highlight", "math"]


# ---- frames, measured and told


def test_frames_while_200_kb_stream(chat, record_property):
    block = ("Paragraph with **bold**, `code` and [a link](https://example.com).\n\n- one\n- two\n\n"
             "```python\nfor i in range(10):\n    print(i)\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n")
    text = block * (200_000 // len(block) + 1)
    chat.snap(chat.user("u1", "x"))
    frames = chat.js("""
        const text = given[0], r = chat.run('r1', 'a1', 'u1'), frames = [];
        let last = performance.now(), going = true;
        const probe = (now) => { frames.push(now - last); last = now; if (going) requestAnimationFrame(probe); };
        requestAnimationFrame(probe);
        for (let at = 0; at < text.length; at += 1000) {
          r.say(text.slice(at, at + 1000));
          await new Promise((go) => setTimeout(go, 50));
        }
        r.done(); going = false;
        return frames.slice(2).sort((a, b) => a - b);""", text[:200_000])
    p95 = frames[int(len(frames) * 0.95)]
    record_property("frame_p95_ms", round(p95, 1))
    print(f"\n200 KB in 200 deltas: {len(frames)} frames, p50 {frames[len(frames) // 2]:.1f} ms, "
          f"p95 {p95:.1f} ms, longest {frames[-1]:.1f} ms")
    chat.page.wait_for_timeout(300)
    assert chat.count(".jv-code") == text[:200_000].count("```python")


# ---- what a model writes is hostile


AUDIT = """
    const root = document.querySelector('.jv'), bad = [];
    for (const el of root.querySelectorAll('*')) {
      const tag = el.localName, own = el.closest('.jv-icon');
      if (/^(script|style|iframe|object|embed|link|meta|base|form|template|video|audio|source|noscript|marquee|portal|isindex|image|use|foreignobject|annotation-xml|annotation|maction)$/.test(tag)) bad.push(tag);
      if (tag === 'svg' && !el.classList.contains('jv-icon')) bad.push('svg');
      const model = !el.closest('.jv-form, .jv-scope') && el.closest('.jv-words, .jv-callbody, .jv-said > .jv-body, .jv-title, .jv-thread, .jv-source');
      for (const {name, value} of el.attributes) {
        if (/^on/.test(name) || /^(srcdoc|formaction|ping|srcset|action|background|xlink:href|slot|is)$/.test(name)) bad.push(tag + '[' + name + ']');
        if (name.startsWith('data-') && !['data-lm-suppress-shortcuts', 'data-theme', 'data-state', 'data-step'].includes(name)) bad.push(tag + '[' + name + ']');
        if (model && !own && (name === 'style' || name === 'id' || name === 'name')) bad.push(tag + '[' + name + '=' + value + ']');
        if (name === 'href' && !/^(https?:\\/\\/|mailto:)/.test(value)) bad.push('href=' + value);
        if (name === 'src' && !/^data:image\\/(png|jpeg|gif|webp);base64,/.test(value)) bad.push('src=' + value);
      }
      if (tag === 'a' && el.href && (el.target !== '_blank' || !/noopener/.test(el.rel))) bad.push('link without noopener');
      if (model && /^(input|textarea|select)$/.test(tag)) bad.push(tag);
      if (model && tag === 'button' && !/jv-|hljs/.test(el.className)) bad.push('button');
    }
    if (/[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u202a-\\u202e\\u2066-\\u2069]/.test(root.textContent)) bad.push('control character');
    if (globalThis.caught.length) bad.push('ran: ' + JSON.stringify(globalThis.caught));
    return bad;"""


def hostile():
    return json.loads((ROOT / "tests" / "page" / "hostile.json").read_text())


def test_there_are_enough_hostile_strings():
    assert len(set(hostile())) >= 60


def hostile_page(browser, server):
    chat = Chat(browser, server)
    chat.page.on("dialog", lambda dialog: (chat.errors.append(f"dialog {dialog.message}"), dialog.dismiss()))
    chat.page.on("popup", lambda page: chat.errors.append(f"window {page.url}"))
    chat.page.on("framenavigated", lambda frame: chat.errors.append(f"went to {frame.url}"))
    # As JupyterLab does: a click anywhere runs the command that an attribute names.
    chat.js("""document.body.addEventListener('click', (event) => {
        const el = event.target.closest('[data-commandlinker-command]');
        if (el) globalThis.caught.push(['command', el.dataset.commandlinkerCommand]); });""")
    return chat


def outside(chat):
    return [url for url in chat.requests
            if not url.startswith((f"{chat.server}/javis/", f"{chat.server}/tests/page/harness", "blob:", "data:image/"))
            and not url.endswith("/favicon.ico")]


def poke(chat):
    "Move over and click all that a model wrote."
    chat.js("""for (const el of document.querySelectorAll('.jv-words *, .jv-callbody *')) {
        if (el.closest('button')) continue;
        for (const type of ['pointerover', 'mouseover', 'pointerdown', 'mousedown', 'focus', 'toggle'])
          el.dispatchEvent(new Event(type, {bubbles: true}));
        if (!el.closest('a[href]')) el.dispatchEvent(new MouseEvent('click', {bubbles: true, cancelable: true}));
      }""")


def judged(chat, text, where, wait=0):
    chat.frame()
    if wait:
        chat.page.wait_for_timeout(wait)
    poke(chat)
    bad = chat.js(AUDIT)
    assert (bad, chat.errors, outside(chat)) == ([], [], []), f"{where}: {text!r}"


def test_hostile_text_of_a_model(browser, server):
    chat = hostile_page(browser, server)
    for n, text in enumerate(hostile()):
        chat.js("""chat.snap([chat.user('u', 'x')]); const r = chat.run('r' + given[1], 'a' + given[1], 'u');
            const text = given[0], half = Math.ceil(text.length / 2);
            for (let at = 0; at < text.length; at += Math.max(7, Math.ceil(text.length / 12))) {
              r.say(text.slice(at, at + Math.max(7, Math.ceil(text.length / 12))));
              await new Promise(requestAnimationFrame); }
            r.done()""", text, n)
        judged(chat, text, "model")
    chat.snap(chat.user("u", "x"), chat.answer("a", "\n\n".join(hostile()), "u", sources=[
        {"n": 1, "label": "<img src=x onerror=alert(1)>", "place": "<b>", "score": 0.5, "text": "<script>alert(1)</script>"}]))
    judged(chat, "all of them", "model", wait=1500)
    chat.context.close()


def test_hostile_text_of_tools(browser, server):
    chat = hostile_page(browser, server)
    for text in hostile():
        for call in ({"status": "error", "result": text, "preview": {"kind": "command", "s": text}},
                     {"status": "waiting", "preview": {"kind": "diff", "s": f"-{text}\n+{text}"}, "rule": text, "pattern": text}):
            waiting(chat, name=text[:60], arguments={"path": text, text[:40]: [text]}, output=text, **call)
            judged(chat, text, "tool")
        chat.page.click(".jv-editargs")
        assert (chat.js(AUDIT), outside(chat)) == ([], []), text
    chat.context.close()


def test_hostile_titles_users_notes_and_completions(browser, server):
    chat = hostile_page(browser, server)
    for text in hostile():
        chat.js("""chat.answers.length = 1; chat.answers.push((m) => {
            if (m.op === 'threads') chat.kernel({op: 'threads', q: m.q, items: [{id: 'x', title: given[0], when: given[0], snippet: given[0]}]});
            if (m.op === 'complete') chat.kernel({op: 'comps', q: m.q, items: [{insert: '@' + given[0], label: given[0], detail: given[0], kind: given[0]}]});
            if (m.op === 'preview') chat.kernel({op: 'previewed', q: m.q, parts: [{label: given[0], tokens: 1, s: given[0]}], tokens: 1, room: 2}); })""", text)
        chat.snap(chat.user("u", text, mentions=[{"kind": text, "label": text, "tokens": 1}]),
                  chat.answer("a", "ok", "u", error=text, notes=[text], status="error", footer={"model": text, "adapter": text},
                              verdict={"up": False, "reasons": [text], "comment": text, "corrected": text, "candidate": True}), title=text)
        chat.kernel(op="note", s=text)
        chat.page.click(".jv-threadsbutton")
        judged(chat, text, "title and user")
        chat.page.keyboard.press("Escape")
    chat.context.close()


def test_a_remote_picture_waits_for_a_click(chat):
    asked = []
    chat.page.route("https://pictures.test/**", lambda route: (asked.append(route.request.headers.get("referer")), route.abort()))
    chat.snap(chat.user("u1", "x"), chat.answer("a1", "![a cat](https://pictures.test/cat.png)", "u1"))
    assert asked == [] and "pictures.test" in chat.text(".jv-loadimage")
    chat.page.click(".jv-loadimage")
    chat.page.wait_for_timeout(200)
    assert asked == [None]


# ---- accessibility


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe(browser, server, dark):
    axe = ROOT / "node_modules" / "axe-core" / "axe.min.js"
    if not axe.exists():
        pytest.skip("needs `npm ci` (axe-core)")
    chat = Chat(browser, server, dark=dark)
    chat.page.add_script_tag(content=axe.read_text())
    answering(chat)
    rich = MARKDOWN + "\n```\n\n![x](https://example.com/x.png) [1] [link](https://example.com)"
    source = {"n": 1, "label": "a.md", "place": "line 1", "score": 0.5, "text": "passage"}
    states = {
        "empty": lambda: chat.snap(),
        "rich": lambda: chat.snap(chat.user("u1", "x", siblings=["u0", "u1"], mentions=[{"kind": "variable", "label": "@df", "tokens": 3}]), chat.answer(
            "a1", rich, "u1", footer=FOOTER, sources=[source], siblings=["a1", "a2"], notes=["a note"],
            verdict={"up": True, "stars": None, "reasons": [], "comment": None, "corrected": None, "candidate": True})),
        "why": lambda: (chat.page.hover(".jv-assistant"), chat.page.click(".jv-thumb >> nth=1")),
        "editor": lambda: chat.page.click(".jv-fix"),
        "error": lambda: chat.snap(chat.user("u1", "x"), chat.answer("a1", "x", "u1", status="error", error="it broke")),
        "tool": lambda: waiting(chat),
        "arguments": lambda: chat.page.click(".jv-editargs"),
        "ran": lambda: waiting(chat, id="c3", status="ok", risk="exec", result="line\n" * 40, output="", ms=3.0),
        "pair": lambda: chat.snap(chat.user("u1", "x"), *[chat.answer(f"a{side}", "x", "u1", pair={"id": "p", "side": side, "picked": None})
                                                        for side in ("left", "right")]),
        "completion": lambda: (chat.page.fill(".jv-box", ""), chat.page.locator(".jv-box").type("@d"), chat.page.wait_for_selector(".jv-comp")),
        "threads": lambda: (chat.page.keyboard.press("Escape"), chat.page.click(".jv-threadsbutton"), chat.page.wait_for_selector(".jv-thread")),
    }
    found = {}
    for name, arrange in states.items():
        arrange()
        chat.page.wait_for_timeout(900 if name == "rich" else 250)
        result = chat.js("return (await axe.run('.jv')).violations.filter((one) => ['serious', 'critical'].includes(one.impact))"
                         ".map((one) => [one.id, one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160) + ' | ' + node.failureSummary.slice(0, 200))])")
        if result:
            found[name] = result
    assert found == {}, json.dumps(found, indent=1, ensure_ascii=False)
    assert chat.errors == []
    chat.context.close()
