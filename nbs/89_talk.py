# %% [markdown]
# # Talk
#
# > Ask once, or hold a conversation, in a terminal; and say there how good an answer was
#
# A session tells what happens as events. Here they are put on a screen: words as they come, tool
# calls on the side, a question before anything risky. Behind `javis ask` and `javis chat` stand the
# same few functions. They know nothing of widgets, and leave all recording to the session.

# %%
#| default_exp verbs.talk

# %%
#| export
import json
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from javis.config import ConfigError, JavisError, Settings, did_you_mean, redact
from javis.events import (
    Answer, ApprovalNeeded, Cancelled, Event, Failed, Finished, TextDelta, ToolFinished,
    ToolProposed, ToolRun, Warned, call_text)
from javis.feedback import correct, rate
from javis.registry import Registry
from javis.session import ChatSession, open_session
from javis.terminal import confirm, escaped, keyboard, line, note, print_json, write

# %%
from tempfile import TemporaryDirectory

from fastcore.test import test_eq, test_fail

from javis.config import load_settings
from javis.store import Store
from javis.tools.base import Toolbox, render_tool_call, tool
from javis.tools.policy import Policy
from javis.turn import scripted_client

# %% [markdown]
# ## Words, without the calls in them
#
# A model without native tools writes its calls into its answer. A person wants the words alone, and
# at once; so only what may be the beginning of a call is held back until it is clear.

# %%
#| export
class Words:
    "Takes an answer in pieces and gives what of it is meant for people."
    _open, _close = "<tool_call>", "</tool_call>"

    def __init__(self):
        self._held, self._inside = "", False

    def feed(self, text: str) -> str:
        "What may be shown now."
        self._held, shown = self._held + text, ""
        while True:
            mark = self._close if self._inside else self._open
            before, found, after = self._held.partition(mark)
            if not found:
                break
            shown, self._held = shown + before * (not self._inside), after
            self._inside = not self._inside
        if self._inside:
            return shown
        keep = next((n for n in range(len(mark) - 1, 0, -1) if self._held.endswith(mark[:n])), 0)
        end = len(self._held) - keep
        shown, self._held = shown + self._held[:end], self._held[end:]
        return shown

    def rest(self) -> str:
        "What was held back and was no call after all."
        return "" if self._inside else self._held


# %%
words = Words()
pieces = ["Let me <b>look</b>", " <too", "l_call>{…}</tool", "_call> now <", "!"]
[words.feed(piece) for piece in pieces]

# %% [markdown]
# ## Events as lines
#
# A script gets each event as one line of JSON, with everything in it.

# %%
#| export
def event_record(event: Event) -> dict[str, Any]:
    "An event as JSON can hold it; the key `event` has its kind, such as `tool_finished`."
    kind = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(event).__name__).lower()
    return {"event": kind} | {field.name: _plain(getattr(event, field.name))
                              for field in fields(event)}


# %%
#| export
def _plain(value: Any) -> Any:
    "A field of an event as JSON can hold it."
    if isinstance(value, Exception):
        return {"kind": type(value).__name__, "message": redact(str(value))}
    if isinstance(value, Answer):
        return asdict(value) | {"message_id": value.message_id}
    if hasattr(value, "record"):
        return value.record()
    return asdict(value) if is_dataclass(value) else value


# %%
event_record(ToolProposed("01", "read_file", {"path": "notes.txt"}))

# %% [markdown]
# ## Events on a screen
#
# Words go to the standard output. So does the result of a tool, where nothing is said about it
# later: then it is the answer. Everything else goes to the other stream.

# %%
#| export
class Show:
    "Prints the events of a turn; `answer` is there at the end."

    def __init__(
        self,
        results: bool = False,  # whether what a tool returns is the answer
    ):
        self.results, self.answer = results, None
        self._words, self._column = Words(), 0

    def _say(self, text: str) -> None:
        "Print words of the answer."
        text = text.lstrip() if not self._column else text
        if text:
            write(text)
            self._column = len(text) - text.rfind("\n") - 1 or 1

    def end_line(self) -> None:
        "Begin a new line, unless there is one."
        self._say(self._words.rest())
        if self._column:
            write("\n")
        self._words, self._column = Words(), 0

    def __call__(self, event: Event) -> None:
        "Print one event; raises what went wrong."
        if isinstance(event, TextDelta):
            self._say(self._words.feed(event.text))
        elif isinstance(event, (ToolProposed, Warned, ApprovalNeeded)):
            self.end_line()
        if isinstance(event, ToolProposed):
            note(f"→ {call_text(event.name, event.arguments)}", "cyan")
        elif isinstance(event, Warned):
            note(event.message, "yellow")
        elif isinstance(event, ToolFinished):
            self._result(event.run)
        elif isinstance(event, (Finished, Failed, Cancelled)):
            self.end_line()
            self.answer = event.answer
        if isinstance(event, Failed):
            raise event.error

    def _result(self, run: ToolRun) -> None:
        "Print what a tool returned."
        if run.status == "ok" and self.results:
            write(run.result.rstrip("\n") + "\n")
        elif run.status == "ok":
            shown = run.result.strip().splitlines()
            more = f" … {len(shown) - 3} more lines" if len(shown) > 3 else ""
            note("\n".join(f"  {line(one, 76)}" for one in shown[:3]) + more)
        else:
            note(f"  {run.status}: {line(run.result.removeprefix('error: '), 300)}", "red")


# %%
show = Show()
for event in [TextDelta("It is "), TextDelta("22 degrees.")]:
    show(event)
show.end_line()

# %% [markdown]
# ## Before something risky
#
# The whole call is shown, every argument on a line of its own and written so that nothing can hide
# in it. No answer is a no.

# %%
#| export
def approval_text(question: ApprovalNeeded) -> str:
    "What a person reads before saying yes."
    arguments = [f"  {escaped(name)[1:-1]} = {escaped(value)}"
                 for name, value in question.arguments.items()]
    return "\n".join([f"{question.name} wants to run with", *arguments,
                      f"and has to ask: {line(question.rule, 200)}"])


# %%
hostile = {"command": "rm -r build\n\x1b[1A\x1b[2Kls"}
question = ApprovalNeeded("01", "run_shell", hostile, "the default for the effect exec")
print(approval_text(question))


# %%
#| export
def approve(question: ApprovalNeeded) -> bool:
    "Ask a person about a call."
    note(approval_text(question), "bold yellow")
    return confirm("Allow it?")


# %% [markdown]
# ## Who answers
#
# The version that serves answers by itself, where it was made for the model of the endpoint. A
# server somewhere knows its adapters by their own names.

# %%
#| export
def adapter_for(
    settings: Settings,
    model: str | None = None,  # an endpoint's name; by default the one of the settings
    adapter: str | None = None,  # a version or alias, or `none`; by default what serves
) -> tuple[str | None, dict[str, Path]]:  # its name, and its file for the embedded engine
    "The adapter to answer with, its files checked; raises `RegistryError` or `ConfigError`."
    endpoint = settings.endpoint(model)
    if adapter == "none":
        return None, {}
    if endpoint.kind != "local":
        return adapter, {}
    registry = Registry(settings.paths.registry)
    version = registry.resolve(adapter) if adapter else registry.serving()
    if version is None or (adapter is None and version.base_model != endpoint.model):
        return None, {}
    if version.base_model != endpoint.model or version.gguf is None:
        why = f"was made for {version.base_model}" if version.gguf else "has no adapter.gguf"
        raise ConfigError(f"{version.name} {why}, and {model or settings.model} runs "
                          f"{endpoint.model}. Choose another with --adapter, or --adapter none.")
    return version.name, {version.name: version.verify().gguf}


# %%
with TemporaryDirectory() as folder:
    settings = load_settings(root=folder, env={})
    test_eq(adapter_for(settings), (None, {}))
    test_fail(lambda: adapter_for(settings, adapter="v0.7"), contains="There is no version 'v0.7'")

# %% [markdown]
# A small embedded model chooses a tool well, and then has little to say about what came back. So
# with it the result is the answer; a model that knows tools by itself goes on to use it.

# %%
#| export
@contextmanager
def session_for(
    settings: Settings,
    model: str | None = None,
    adapter: str | None = None,
) -> Iterator[ChatSession]:
    "A session that asks on the terminal, closed at the end together with its store."
    name, files = adapter_for(settings, model, adapter)
    native = settings.endpoint(model).native_tools
    session = open_session(settings, endpoint=model, adapter=name, adapters=files, follow_up=native,
                           approve=approve if keyboard() else None)
    try:
        yield session
    finally:
        session.close()
        session.store.close()


# %% [markdown]
# ## Ask once
#
# Text that is piped in belongs to the request. A terminal is not waited for, and neither is a
# device that gives nothing.

# %%
#| export
_MOST_PIPED = 4_000_000  # bytes


# %%
#| export
def piped() -> str:
    "The text that comes through a pipe or from a file, if any; `JavisError` if it is too long."
    try:
        kind = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return ""
    if not (stat.S_ISFIFO(kind) or stat.S_ISREG(kind) or stat.S_ISSOCK(kind)):
        return ""
    data = sys.stdin.buffer.read(_MOST_PIPED + 1)
    if len(data) > _MOST_PIPED:
        raise JavisError(f"What is piped in is longer than {_MOST_PIPED // 1_000_000} MB. Send a "
                         "part of it, for example with `head -c 100000`.")
    return data.decode(errors="replace").strip()


# %%
#| export
def whole_request(text: str, more: str) -> str:
    "A request with the text that came through a pipe; `ConfigError` if there is neither."
    parts = [part for part in (text.strip(), more) if part]
    if not parts:
        raise ConfigError('There is nothing to ask. Try: javis ask "Where is the log?"')
    return "\n\n".join(parts)


# %%
test_fail(lambda: whole_request(" ", ""), contains="nothing to ask")
whole_request("Review this.", "diff --git a b")


# %%
#| export
def one_turn(
    session: ChatSession,
    text: str,
    as_json: bool = False,  # events as lines of JSON, and nothing else
) -> Answer:
    "Ask, and show what happens; raises what went wrong, and `KeyboardInterrupt` at Ctrl-C."
    show = Show(results=not session.follow_up)
    with closing(session.stream(text)) as events:
        try:
            for event in events:
                if as_json:
                    print_json(event_record(event))
                else:
                    show(event)
        except KeyboardInterrupt:
            show.end_line()
            raise
    if as_json and isinstance(event, Failed):
        raise event.error
    return event.answer


# %%
@tool(effect="read")
def count_words(
    text: str,  # what to count in
) -> int:
    "Count the words of a text."
    return len(text.split())


def example(folder: str, *answers: str) -> ChatSession:
    settings = load_settings(root=folder, env={})
    return ChatSession(settings, Store(settings.paths.db), Toolbox([count_words]),
                       Policy(settings.root), client=scripted_client(*answers), follow_up=False)


with TemporaryDirectory() as folder, example(folder, render_tool_call(
        "count_words", {"text": "to be or not to be"})) as session:
    answer = one_turn(session, "How many words are in 'to be or not to be'?")
answer.tool_calls

# %% [markdown]
# On a terminal one line says who answered, how fast, and how to judge it.

# %%
#| export
def closing_line(answer: Answer) -> str:
    "Who answered, and how fast."
    who = f"{answer.model} with {answer.adapter}" if answer.adapter else answer.model
    time = f"{answer.latency_s:.1f} s" if answer.latency_s is not None else ""
    speed = f"{answer.tokens_per_s:.0f} tokens/s" if answer.tokens_per_s else ""
    cost = f"${answer.cost_usd:.4f}" if answer.cost_usd else ""
    return " · ".join(filter(None, [who, time, speed, cost]))


# %%
answer.model in closing_line(answer)


# %%
#| export
def ask(
    settings: Settings,
    text: str,
    *,
    model: str | None = None,
    adapter: str | None = None,
    as_json: bool = False,
) -> int:  # exit status: 1 when a tool was called and none gave a result
    "Answer one request on the terminal."
    request = whole_request(text, piped())
    with session_for(settings, model, adapter) as session:
        answer = one_turn(session, request, as_json)
    if sys.stderr.isatty() and not as_json:
        note(f"{closing_line(answer)} · rate it: javis feedback rate last --up")
    failed = [run for run in answer.tool_calls if run.status != "ok"]
    return int(bool(failed) and len(failed) == len(answer.tool_calls) and not session.follow_up)


# %% [markdown]
# ## A conversation
#
# A line that starts with a slash and a word is a command; a path such as `/etc/hosts` is not.

# %%
#| export
HELP = """\
/good             the last answer was good
/bad [reason]     it was not
/fix TEXT         what it should have said
/fix TOOL {...}   which tool it should have called, with its arguments as JSON
/new              begin a new conversation
/help             this list
/quit             leave (or Ctrl-D); Ctrl-C stops an answer and keeps what had come
A line that ends with \\ goes on in the next one."""


# %%
#| export
def split_command(text: str) -> tuple[str, str]:
    "The command of a line and what follows it; ('', line) where it is none."
    found = re.fullmatch(r"/([a-z]+)(?:\s+(.*))?", text.strip(), re.DOTALL)
    return (found[1], (found[2] or "").strip()) if found else ("", text)


# %%
test_eq(split_command("/etc/hosts is what?"), ("", "/etc/hosts is what?"))
split_command("/bad wrong tool"), split_command("/good")


# %%
#| export
def correction_of(text: str) -> dict[str, Any]:
    "What `/fix` means: a text, or a tool with its arguments; `JavisError` for broken JSON."
    found = re.fullmatch(r"(\w+)\s*(\{.*\})", text.strip(), re.DOTALL)
    if not found:
        return {"text": text}
    try:
        return {"tool": found[1], "arguments": json.loads(found[2])}
    except ValueError as error:
        raise JavisError(f"The arguments are not JSON ({error}). Write them like "
                         f'{found[1]} {{"path": "notes.txt"}}.') from None


# %%
correction_of("Run the tests first."), correction_of('read_file {"path": "notes.txt"}')

# %% [markdown]
# A judgement belongs to the last answer, finished or not.

# %%
#| export
class Talk:
    "A conversation on a terminal, line by line."

    def __init__(self, session: ChatSession):
        self.session, self.going, self.interrupted = session, True, False

    def _last(self) -> str:
        "The id of the last answer; `JavisError` before there is one."
        answers = [one.id for one in self.session.messages() if one.role == "assistant"]
        if not answers:
            raise JavisError("There is no answer yet. Ask something first.")
        return answers[-1]

    def take(self, text: str) -> None:
        "Do what one line says."
        name, rest = split_command(text)
        if not name:
            return self._ask(text)
        command = getattr(self, f"_do_{name}", None)
        if command is None:
            names = [one.removeprefix("_do_") for one in dir(self) if one.startswith("_do_")]
            raise JavisError(f"There is no command /{name}.{did_you_mean(name, names)} "
                             "/help lists them.")
        command(rest)

    def _ask(self, text: str) -> None:
        try:
            one_turn(self.session, text)
        except KeyboardInterrupt:
            self.interrupted = True
            note("Stopped; what had come is kept. Ctrl-C again leaves.", "yellow")

    def _do_good(self, rest: str) -> None:
        rate(self.session.store, self._last(), True, comment=rest or None)
        note("Noted: good.", "green")

    def _do_bad(self, rest: str) -> None:
        rate(self.session.store, self._last(), False, reason=rest or None)
        note("Noted: bad. /fix says what it should have been.", "green")

    def _do_fix(self, rest: str) -> None:
        correct(self.session.store, self._last(), **correction_of(rest),
                toolbox=self.session.toolbox)
        note("Noted. `javis curate` makes training rows of corrections.", "green")

    def _do_new(self, rest: str) -> None:
        self.session.open_thread()
        note("A new conversation.")

    def _do_help(self, rest: str) -> None:
        note(HELP, "")

    def _do_quit(self, rest: str) -> None:
        self.going = False


# %%
with TemporaryDirectory() as folder, example(folder, "The log is in logs/.") as session:
    talk = Talk(session)
    test_fail(lambda: talk.take("/good"), contains="no answer yet")
    test_fail(lambda: talk.take("/hepl"), contains="Did you mean 'help'")
    for text in ["Where is the log?", "/bad too short", '/fix count_words {"text": "a b"}']:
        talk.take(text)
    events = session.store.feedback()
[event.kind for event in events]

# %% [markdown]
# The prompt remembers what was typed, also tomorrow, with secrets masked. Where Python has no
# readline (on Windows) it just forgets.

# %%
#| export
@contextmanager
def typing_history(path: Path) -> Iterator[Callable[[str], None]]:
    "Gives a function that remembers a line; the arrow keys bring the lines of `path` back."
    try:
        import readline
    except ImportError:
        yield lambda text: None
        return
    readline.clear_history()
    readline.set_auto_history(False)
    with suppress(OSError):
        readline.read_history_file(path)
    try:
        yield lambda text: readline.add_history(redact(text.replace("\n", " ")))
    finally:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            readline.set_history_length(1000)
            os.close(os.open(path, os.O_CREAT, 0o600))
            readline.write_history_file(path)


# %%
#| export
def read_line(prompt: str) -> str:
    "One line of input, or several that are joined by a backslash; `EOFError` at the end."
    text = input(prompt)
    while text.endswith("\\"):
        text = text[:-1] + "\n" + input("  " if prompt else "")
    return text


# %%
#| export
def _lines(talk: Talk, remember: Callable[[str], None]) -> Iterator[str]:
    "What a person types, until Ctrl-D or the second Ctrl-C in a row."
    prompt = "› " if sys.stdin.isatty() else ""
    while talk.going:
        try:
            text = read_line(prompt)
        except EOFError:
            return
        except KeyboardInterrupt:
            if talk.interrupted:
                raise
            talk.interrupted = True
            note("\nCtrl-C again leaves, and so does Ctrl-D.")
            continue
        talk.interrupted = False
        if text.strip():
            remember(text)
            yield text


# %%
#| export
def chat(
    settings: Settings,
    *,
    model: str | None = None,
    adapter: str | None = None,
) -> int:  # exit status
    "Hold a conversation on the terminal, or with the lines of a file."
    history = typing_history(settings.paths.cache / "chat_history")
    with session_for(settings, model, adapter) as session, history as remember:
        talk = Talk(session)
        if sys.stdin.isatty():
            who = f"{session.endpoint.model}{f' with {session.adapter}' if session.adapter else ''}"
            note(f"{settings.app.name} · {who} · /help for help, Ctrl-D to leave")
        for text in _lines(talk, remember):
            try:
                talk.take(text)
            except JavisError as error:
                note(error, "red")
    return 0
