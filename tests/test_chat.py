import _thread
import threading
import time

import pytest
from IPython.utils.capture import capture_output
from scripted_server import END, ScriptedServer, said, stream_head

from javis.config import Settings
from javis.events import Approval, ApprovalNeeded, ToolFinished, ToolRun, Warned
from javis.feedback import FeedbackError
from javis.registry import Registry
from javis.session import ChatSession
from javis.store import Store
from javis.tools.base import Toolbox, render_tool_call, tool
from javis.tools.policy import Policy
from javis.turn import scripted_client
from javis.widgets.chat import Chat, NothingAnswered
from javis.widgets.exports import transcript
from javis.widgets.view import View, ask_person, safe_html
from javis.widgets.wire import words_of


@tool()
def look(at: str) -> str:
    "Look at something."
    return f"{at} is <b>blue</b>"


LOOK = render_tool_call("look", {"at": "a.txt"})


@pytest.fixture
def chat_with(tmp_path):
    opened = []

    def make(*answers, url=None, **options):
        endpoint = {"kind": "vllm", "model": "m", "url": url or "http://127.0.0.1:9/v1", "native_tools": False}
        settings = Settings(root=tmp_path, model="main", endpoints={"main": endpoint})
        client = scripted_client(*answers) if answers else None
        session = ChatSession(settings, Store(tmp_path / "javis.db"), Toolbox([look]), Policy(tmp_path), client=client)
        opened.append(Chat(session, **options))
        return opened[-1]
    yield make
    for chat in opened:
        chat.session.close()
        chat.store.close()


def shown(chat, text):
    with capture_output() as captured:
        chat(text)
    return captured.stdout + "".join(str(output) for output in captured.outputs)


# ----------------------------------------------------------------------------------------------- safe

@pytest.mark.parametrize("markdown", [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "![a](https://spy.test/x.png)",
    "![a][b]\n\n[b]: https://spy.test/x.png", "[x](javascript:alert(1))", "[x](data:text/html,<script>)",
    "<iframe src=//spy.test></iframe>", "\\`<img src=//spy.test>`", "~~~\n```\n~~~\n<img src=//spy.test>",
    "<a data-commandlinker-command='x'>y</a>", "<!-- --><svg onload=alert(1)>", "| a |\n|---|\n| <img src=x> |",
    "&lt;script&gt;", "<style>@import '//spy.test'</style>"])
def test_nothing_acts_or_loads_by_itself(markdown):
    html = safe_html(markdown).lower()
    for part in ("<script", "<img", "<iframe", "<svg", "<style", "<a data", 'href="javascript', 'href="data'):
        assert part not in html


def test_markdown_still_works():
    html = safe_html("# A\n\n*b* `c` [d](https://e.test)\n\n```python\nx < 1\n```\n\n| f |\n|---|\n| g |")
    for part in ("<h1>", "<em>b</em>", "<code>c</code>", 'href="https://e.test"', "x &lt; 1", "<td>g</td>"):
        assert part in html


def test_words_of_an_answer():
    assert words_of("Hello <tool", ended=False) == "Hello "
    assert words_of("Hello " + LOOK + " and more") == "Hello "
    assert words_of("1 <2 and a<b") == "1 <2 and a<b"


def test_a_tools_result_is_text_on_the_page():
    view = View()
    view.take(ToolFinished(ToolRun("1", "look", {"at": "<i>"}, "ok", "<b>" + "x" * 2000)))
    view.take(Warned("<u>careful</u>"))
    html = view._repr_html_()
    assert "<b>" not in html and "<i>" not in html and "<u>" not in html
    assert len(html) < 1000


# ----------------------------------------------------------------------------------------------- chat

def test_an_answer_is_shown_and_kept(chat_with):
    chat = chat_with("Hello there.", timings=False)
    assert chat.thread is None and "0 messages" in repr(chat)
    text = shown(chat, "Hi")
    assert "Hello there." in text and "(m)" in text
    assert chat.answer.text == "Hello there."
    assert chat.store.thread(chat.thread).title == "Hi"
    assert [message.role for message in chat.messages] == ["system", "user", "assistant"]
    assert chat._repr_markdown_() == "**You:** Hi\n\n**JAVIS:** Hello there."
    chat.new_thread()
    assert chat.thread is None and chat.messages == []


def test_rating_and_correcting_find_their_message(chat_with):
    chat = chat_with(LOOK, "It is blue.", "Fine.", timings=False)
    with pytest.raises(NothingAnswered):
        chat.rate(up=True)
    assert "look(at='a.txt')" in shown(chat, "What colour?")
    call, words = chat.answer.steps
    assert chat.rate(up=False, reason="wrong tool").good is False
    assert "look" in chat.correct(tool="look", arguments={"at": "b.txt"}).corrected
    assert chat.correct("It is red.").corrected == "It is red."
    kinds = lambda id: [(one.kind, one.text) for one in chat.store.feedback(message_id=id)]
    assert kinds(call) == [("correction", render_tool_call("look", {"at": "b.txt"}))]
    assert kinds(words) == [("thumb", None), ("reason", "wrong tool"), ("correction", "It is red.")]
    shown(chat, "Thanks.")
    chat.rate(stars=5, message_id=call)
    assert [kind for kind, _ in kinds(call)] == ["correction", "rating"]
    with pytest.raises(FeedbackError):
        chat.rate()
    assert transcript(chat.messages).count("> `look(at='a.txt')`: ok") == 1


def test_a_failure_is_said_below_the_cell(chat_with):
    chat = chat_with()
    assert "Nothing answers at" in shown(chat, "Hi")
    assert chat.answer.status == "error"


def test_interrupting_the_cell_keeps_the_answer(chat_with):
    with ScriptedServer([stream_head(), said("Hello!"), 30, END]) as server:
        chat = chat_with(url=server.url)

        def interrupt():
            while not server.requests:
                time.sleep(0.05)
            time.sleep(1.5)  # the first words are there
            _thread.interrupt_main()
        threading.Thread(target=interrupt, daemon=True).start()
        text = shown(chat, "Talk.")
    assert "Hello!" in text and "Stopped" in text
    assert (chat.messages[-1].status, chat.messages[-1].content) == ("cancelled", "Hello!")
    assert chat.rate(up=False).good is False


def test_the_promoted_version_answers_unless_another_is_asked_for(tmp_path):
    settings = Settings(root=tmp_path)
    for name in ("adapter_config.json", "adapter_model.safetensors", "adapter.gguf"):
        (tmp_path / name).write_text(name)
    registry = Registry(settings.paths.registry)
    with Store(tmp_path / "javis.db") as store:
        assert Chat(settings=settings, store=store).session.adapter is None
        version = registry.register(tmp_path, tmp_path / "adapter.gguf", base_model="smollm2-135m-instruct")
        registry.promote(version.name, "a test", override="a test")
        session = Chat(settings=settings, store=store).session
        assert (session.adapter, session.adapters) == ("javis-v0.1", {"javis-v0.1": version.gguf})
        assert session.follow_up is False and session.approve is ask_person
        assert Chat(settings=settings, store=store, adapter=None).session.adapter is None
        other = Settings(root=tmp_path, endpoints={"local": {"kind": "local", "model": "other.gguf"}})
        assert Chat(settings=other, store=store).session.adapter is None


def test_nobody_at_the_keyboard_is_a_no(monkeypatch):
    def no_keyboard(prompt):
        raise EOFError
    monkeypatch.setattr("builtins.input", no_keyboard)
    question = ApprovalNeeded("1", "run_shell", {"command": "ls"}, "a rule", "exec", "3f9a")
    assert ask_person(question) == Approval(False, "3f9a")
    for typed, yes in [("y", True), ("YES ", True), ("네", True), ("", False), ("n", False), ("yesterday", False), ("s", False)]:
        monkeypatch.setattr("builtins.input", lambda prompt: typed)
        assert ask_person(question) == Approval(yes, "3f9a")


def test_after_many_questions_the_keyboard_can_end_the_turn(monkeypatch):
    prompts = []
    monkeypatch.setattr("builtins.input", lambda prompt: prompts.append(prompt) or "s")
    question = ApprovalNeeded("1", "run_shell", {"command": "ls"}, "a rule", "exec", "3f9a", asked=6)
    assert ask_person(question) == Approval(False, "3f9a", stop=True)
    assert "6 questions in this turn by now; s stops it" in prompts[0]


def test_in_a_kernel_one_output_is_redrawn(tmp_path):
    "A real kernel, as in JupyterLab: one display, then updates of it."
    from jupyter_client.manager import start_new_kernel
    code = f"""
from javis.widgets.chat import Chat, NothingAnswered
from javis.widgets.exports import transcript
from javis.widgets.view import View, ask_person, safe_html
from javis.widgets.wire import words_of
from javis.session import *; from javis.config import *; from javis.store import *
from javis.tools.base import *; from javis.tools.policy import *
settings = Settings(root={str(tmp_path)!r}, model="main", endpoints={{"main": dict(kind="vllm", model="m", url=URL)}})
chat = Chat(ChatSession(settings, Store(settings.paths.db), Toolbox([]), Policy(settings.root)))
"""
    script = [stream_head(), *[step for n in range(8) for step in (said(f"w{n} "), 0.08)], END]
    manager, client = start_new_kernel()
    messages = []
    try:
        with ScriptedServer(script) as server:
            reply = client.execute_interactive(code.replace("URL", repr(server.url)), timeout=60)
            assert reply["content"]["status"] == "ok", reply["content"]
            client.execute_interactive("chat('Count.')", timeout=60, output_hook=messages.append)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    kinds = [message["msg_type"] for message in messages if "display" in message["msg_type"]]
    assert kinds[0] == "display_data" and set(kinds[1:]) == {"update_display_data"} and 3 <= len(kinds) <= 14
    last = [message for message in messages if message["msg_type"] == "update_display_data"][-1]
    assert "w0 w1 w2 w3 w4 w5 w6 w7" in last["content"]["data"]["text/html"]
