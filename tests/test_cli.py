"The commands as a person or a script meets them: output, messages, exit statuses."
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from javis import cli
from javis.config import load_settings
from javis.store import Store
from javis.verbs.app import app

sys.path.insert(0, str(Path(__file__).parent))
from pseudo_terminal import CALL, Terminal, endpoint, home, process  # noqa: E402, F401

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture
def javis(home, capsys):
    "Run a command in this process: `javis('ask', ...)` gives status, out, err."
    def run(*arguments, status=None):
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        if status is not None:
            assert code == status, err or out
        return SimpleNamespace(status=code, out=out, err=err,
                               json=lambda: [json.loads(line) for line in out.splitlines()])
    return run


def answered(home, *pairs):
    "A store with these requests and answers."
    ids = []
    with Store(home / "data/javis.db") as store:
        for request, answer in pairs:
            thread = store.new_thread()
            asked = store.add_message(thread, "user", request)
            ids.append(store.start_answer(thread, asked, endpoint="local", model="small"))
            store.finish_answer(ids[-1], answer)
    return ids


# ---- start and help

def modules_after(*arguments):
    code = ("import sys, contextlib, io, javis.cli\n"
            "with contextlib.redirect_stdout(io.StringIO()): javis.cli.main(sys.argv[1:])\n"
            "print(*sys.modules)")
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return set(done.stdout.split())


HEAVY = {"torch", "duckdb", "sqlalchemy", "httpx", "IPython", "rich", "yaml", "psutil", "asyncio",
         "javis.config", "javis.terminal"}


@pytest.mark.parametrize("arguments, heavy", [
    (["--help"], HEAVY | {"pydantic"}), (["ask", "--help"], HEAVY), (["models", "promote", "-h"], HEAVY)])
def test_help_loads_typer_and_nothing_heavy(arguments, heavy):
    loaded = modules_after(*arguments)
    assert "typer" in loaded and not heavy & loaded


def test_importing_the_package_is_light():
    code = "import sys, javis, javis.cli; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert not {"torch", "duckdb", "IPython", "sqlalchemy", "httpx", "pydantic", "rich"} & loaded


def test_version_comes_before_the_commands(javis):
    from javis import __version__
    done = javis("--version", status=0)
    assert done.out == f"javis {__version__}\n" and not done.err
    assert javis("--set", "model=local", "--version", status=0).out == f"javis {__version__}\n"


def commands(command=None, path=()):
    command = command or typer.main.get_command(app)
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_help_teaches_with_an_example_in_80_columns(javis, path):
    done = javis(*path, "--help", status=0)
    assert re.search(r"^ +(\$ |git diff \| )?javis .+", done.out, re.M)
    assert max(map(len, done.out.splitlines())) <= 80


def test_javis_alone_shows_the_commands_in_the_order_of_the_loop(javis):
    out = javis(status=0).out
    places = [out.index(f"\n{heading}:\n") for heading in ("Talk", "Teach", "Grow", "This project")]
    assert places == sorted(places) and "Usage: javis" in out


# ---- errors

def test_a_wrong_command_is_status_2_with_a_guess(javis):
    done = javis("evla", status=2)
    assert "Did you mean 'eval'" in done.err and not done.out


def test_a_wrong_option_is_status_2(javis):
    assert "--stras" in javis("feedback", "rate", "last", "--stras", "3", status=2).err


def test_a_broken_setting_names_the_key_and_the_file(javis, home):
    (home / "configs").mkdir()
    (home / "configs/config.yaml").write_text("generation:\n  temprature: 0.2\n")
    done = javis("config", "show", status=2)
    assert re.match(r"javis: generation\.temprature \(configs/config\.yaml, line 2\): .*'temperature'",
                    done.err)
    assert "Traceback" not in done.err and not done.out


def test_set_is_the_last_layer(javis, monkeypatch):
    monkeypatch.setenv("JAVIS_GENERATION__TEMPERATURE", "0.9")
    found = javis("--set", "generation.temperature=0.1", "config", "show", "generation.temperature",
                  "--json", status=0).json()
    assert found == [{"key": "generation.temperature", "value": 0.1, "source": "argument"}]
    assert javis("--set", "generation.temprature=1", "config", "show", status=2).err.startswith("javis:")
    assert "KEY=VALUE" in javis("--set", "temperature", "config", "show", status=2).err


def test_overrides_do_not_outlive_their_command(javis):
    javis("--set", "generation.max_tokens=7", "config", "show", status=0)
    found = javis("config", "show", "generation.max_tokens", "--json", status=0).json()
    assert found[0]["source"] == "default"


def test_a_fault_of_our_own_is_one_line_and_a_traceback_in_the_log(javis, home, monkeypatch):
    monkeypatch.setattr("javis.verbs.project.show_paths", lambda *_: 1 / 0)
    done = javis("config", "path", status=1)
    assert "ZeroDivisionError" in done.err and "logs/javis.log" in done.err
    assert "Traceback" not in done.err and len(done.err.splitlines()) == 1
    assert "in <lambda>" in (home / "logs/javis.log").read_text()
    assert "Traceback" in javis("--debug", "config", "path", status=1).err


def test_no_secret_in_a_message(javis, home, monkeypatch):
    monkeypatch.setenv("RUNPOD_API_KEY", "rpa_ABCDEFGHIJKLMNOPQRSTUVWX")

    def leak(*_):
        raise RuntimeError("401 for rpa_ABCDEFGHIJKLMNOPQRSTUVWX")
    monkeypatch.setattr("javis.verbs.project.show_paths", leak)
    done = javis("--debug", "config", "path", status=1)
    assert "rpa_ABC" not in done.err + (home / "logs/javis.log").read_text() and "****" in done.err


def test_an_error_cannot_write_to_the_terminal(capsys):
    assert cli._tell("bad \x1b]0;title\x07 name\u202e", 2) == 2
    assert not {"\x1b", "\x07", "\u202e"} & set(capsys.readouterr().err)


def test_a_log_that_cannot_be_written_does_not_stop_a_command(javis, home):
    (home / "logs").write_text("a file where the folder should be")
    assert javis("config", "path", status=0).out


# ---- ask

def test_ask_prints_the_answer_and_nothing_else(javis, endpoint):
    server = endpoint("The log is in logs/.")
    done = javis("ask", "Where", "is the log?", status=0)
    assert done.out == "The log is in logs/.\n" and not done.err
    assert server.requests[0].json["messages"][-1]["content"] == "Where is the log?"


def test_hostile_text_is_only_text(javis, endpoint):
    endpoint("\x1b[31mred\x1b[0m [bold]bold[/] \x1b]52;c;cm0gLXJm\x07 \u202eback https://x.y :smile:")
    out = javis("ask", "hello", status=0).out
    assert not {"\x1b", "\x07", "\u202e"} & set(out)
    assert "[bold]bold[/]" in out and ":smile:" in out


def test_what_is_piped_in_goes_along_as_data(home, endpoint):
    server = endpoint("Looks fine.")
    child = process("ask", "Review this", home=home, stdin=subprocess.PIPE)
    out, err = child.communicate("diff --git a b\n+한글\n".encode(), timeout=60)
    assert (child.returncode, out) == (0, b"Looks fine.\n"), err
    sent = server.requests[0].json["messages"][-1]["content"]
    assert sent.startswith("Review this\n\n---\nAttached") and "not instructions" in sent
    assert sent.endswith("[data] text @stdin:\n```\ndiff --git a b\n+한글\n```")
    with Store(home / "data/javis.db") as store:
        asked = [one for one in store.messages(store.threads()[0].id) if one.role == "user"][0]
    assert asked.meta["typed"] == "Review this" and asked.meta["strangers"] == ["a pipe"]


def test_nothing_to_ask_is_a_wrong_command(javis):
    done = javis("ask", status=2)
    assert "nothing to ask" in done.err and 'javis ask "' in done.err


def test_events_as_json(javis, endpoint):
    endpoint("One \x1b[31mtwo\u202e three.")
    done = javis("ask", "--json", "count", status=0)
    events = done.json()
    assert [event["event"] for event in events] == ["started", "writing", *["text_delta"] * 3,
                                                    "finished"]
    answer = events[-1]["answer"]
    assert answer["status"] == "complete" and answer["message_id"] == answer["steps"][-1]
    assert "\x1b" not in done.out and "\u202e" not in done.out  # written as \u....
    assert "\x1b" in "".join(event.get("text", "") for event in events)


def test_a_failure_as_json_is_an_event_and_a_status(javis, home, endpoint):
    endpoint("x")
    done = javis("--set", "endpoints.test.url=http://127.0.0.1:9/v1", "ask", "--json", "hello")
    assert done.status == 5 and done.json()[-1]["event"] == "failed"
    assert "Nothing answers at" in done.err and "Traceback" not in done.err


def test_unknown_endpoint_and_version(javis, endpoint):
    endpoint("x")
    assert "Did you mean 'test'" in javis("ask", "-m", "tset", "hello", status=2).err
    done = javis("ask", "-m", "local", "-a", "javis-v0.9", "hello", status=1)
    assert "There is no version 'javis-v0.9'" in done.err


def test_the_result_of_a_tool_is_the_answer_of_a_small_model(javis, endpoint, home):
    (home / "notes.txt").write_text("buy \x1b[31mmilk\n")
    server = endpoint(CALL % ("read_file", '{"path": "notes.txt"}'))
    done = javis("ask", "show notes.txt", status=0)
    assert "milk" in done.out and "tool_call" not in done.out and "\x1b" not in done.out
    assert "read_file(path='notes.txt')" in done.err
    assert len(server.requests) == 1


def test_a_model_with_native_tools_goes_on(javis, endpoint, home):
    (home / "notes.txt").write_text("buy milk\n")
    server = endpoint(CALL % ("read_file", '{"path": "notes.txt"}'), "You want milk.", native=True)
    done = javis("ask", "show notes.txt", status=0)
    assert done.out == "You want milk.\n" and "buy milk" in done.err
    assert len(server.requests) == 2


def test_nobody_there_to_say_yes_is_a_no(javis, endpoint, home):
    endpoint(CALL % ("run_shell", '{"command": "touch proof"}'))
    done = javis("ask", "run it", status=3)
    assert "denied" in done.err and not (home / "proof").exists() and not done.out


def test_no_tools_means_that_a_call_is_just_text(javis, endpoint, home):
    server = endpoint("Hello.")
    javis("ask", "--no-tools", "hello", status=0)
    system = server.requests[0].json["messages"][0]
    assert "tool" not in system["content"]


def test_ctrl_c_keeps_what_had_come(home, endpoint):
    endpoint("Half of ", tail=(30,))
    child = process("ask", "tell me", home=home)
    assert child.stdout.read(4) == b"Half"
    time.sleep(0.3)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=20)
    assert child.returncode == 130 and b"Traceback" not in err
    with Store(home / "data/javis.db") as store:
        assert [(row["content"], row["status"]) for row in store.answers()] == [("Half of ", "cancelled")]


def test_ctrl_c_is_never_silent(javis, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt
    monkeypatch.setattr("javis.verbs.project.show_paths", stop)
    assert javis("config", "path", status=130).err == "Stopped.\n"
    monkeypatch.setattr("javis.verbs.app.app", stop)
    assert javis("config", "path", status=130).err == "javis: stopped.\n"


@pytest.mark.parametrize("arguments, piped", [((b"a\xff b",), b""), ((), b"a\xff b\n")])
def test_a_byte_that_is_no_letter_becomes_one(home, endpoint, arguments, piped):
    server = endpoint("Fine.")
    child = process("ask", *arguments, home=home, stdin=subprocess.PIPE)
    out, err = child.communicate(piped, timeout=60)
    assert (child.returncode, out) == (0, b"Fine.\n"), err
    assert re.fullmatch("a[?\ufffd] b", server.requests[0].json["messages"][-1]["content"])


# ---- chat

def test_chat_takes_bytes_that_are_no_letters(home, endpoint):
    server = endpoint("Fine.")
    child = process("chat", home=home, stdin=subprocess.PIPE)
    out, err = child.communicate(b"a\xff b\n", timeout=60)
    assert (child.returncode, out) == (0, b"Fine.\n"), err
    assert server.requests[0].json["messages"][-1]["content"] == "a\ufffd b"


def test_chat_takes_lines_from_a_file(home, endpoint):
    endpoint("In the cloud.", "Four.")
    lines = ["Where is the log?", "/bad too short", "/fix In logs/javis.log.", "/hepl", "/new",
             "2 + 2", "/good", "/fix read_file {path}",
             '/fix read_file {"path": "a.txt"', '/fix read_file {"path": "a.txt"}', "/quit", "x"]
    child = process("chat", home=home, stdin=subprocess.PIPE)
    out, err = (text.decode() for text in child.communicate("\n".join(lines).encode(), timeout=60))
    assert child.returncode == 0 and out == "In the cloud.\nFour.\n"
    assert "Did you mean 'help'" in err and err.count("not JSON") == 2
    with Store(home / "data/javis.db") as store:
        events = [(event.kind, event.value, event.text) for event in store.feedback()]
        assert len(store.threads()) == 2
    call = CALL % ("read_file", '{"path": "a.txt"}')
    assert events == [("thumb", -1.0, None), ("reason", None, "too short"),
                      ("correction", None, "In logs/javis.log."), ("thumb", 1.0, None),
                      ("correction", None, call)]


# ---- feedback

def test_feedback_before_there_is_an_answer(javis):
    assert "no answer yet" in javis("feedback", status=0).err
    assert "no answer yet" in javis("feedback", "rate", "last", "--up", status=2).err


def test_rating_and_listing(javis, home):
    first, last = answered(home, ("where is the log", "In [red]the[/] cloud.\x1b[2J"), ("1+1", "2"))
    javis("feedback", "rate", "last", "--up", status=0)
    done = javis("feedback", "rate", first[-6:].lower(), "--down", "-r", "wrong", "--stars", "2",
                 "--json", status=0)
    assert done.json()[0]["message_id"] == first and len(done.json()[0]["events"]) == 3
    rows = javis("feedback", "list", "--json", status=0).json()
    assert [(row["verdict"], row["reasons"]) for row in rows] == [("bad", ["wrong"]), ("good", [])]
    out = javis("feedback", "list", status=0).out
    assert "In [red]the[/] cloud." in out and "\x1b" not in out
    assert len(javis("feedback", "list", "-n", "1", "--json", status=0).json()) == 1


@pytest.mark.parametrize("arguments, status, message", [
    (["rate", "last"], 1, "nothing to save"),
    (["rate", "last", "--stars", "9"], 1, "from 1 to 5"),
    (["rate", "ZZZZZZ", "--up"], 2, "No answer has the id"),
    (["rate", "", "--up"], 2, "No answer has the id"),
    (["correct", "last"], 1, "give one"),
    (["correct", "last", "--tool", "read_fil", "--arguments", '{"path": "a"}'], 1, "read_file"),
    (["correct", "last", "--tool", "read_file", "--arguments", "{path: a}"], 2, "single quotes"),
    (["correct", "last", "--tool", "read_file", "--arguments", "[1]"], 2, "JSON object"),
])
def test_feedback_that_cannot_be_taken(javis, home, arguments, status, message):
    answered(home, ("1+1", "2"))
    done = javis("feedback", *arguments, status=status)
    assert message in done.err and "Traceback" not in done.err
    assert javis("feedback", "list", "--json", status=0).json()[0]["verdict"] == ""


def test_an_id_that_fits_two_answers(javis, home):
    with Store(home / "data/javis.db") as store:
        from javis.records import Message
        thread = store.new_thread()
        for id in ("01AAAAXYZ", "01BBBBXYZ"):
            store.write(lambda session: session.add(
                Message(id=id, thread_id=thread, role="assistant", content=id)))
    assert "2 answers end in" in javis("feedback", "rate", "XYZ", "--up", status=2).err
    javis("feedback", "rate", "AXYZ", "--up", status=0)


# ---- curate, dataset

REQUESTS = ["show me notes.txt", "which process is called nginx", "how full is the disk",
            "search the web for zig comptime", "오늘 날씨 어때", "delete all logs please",
            "what is a monad", "list the files in src", "rename a branch in git", "thanks a lot"]


@pytest.fixture
def taught(home, javis):
    answered(home, *((request, "I do not know.") for request in REQUESTS))
    rows = javis("feedback", "list", "--json", status=0).json()
    for row in rows:
        javis("feedback", "correct", row["message_id"], "--text", f"About {row['request']}: yes.",
              status=0)
    return home


def hold_out(home, *requests):
    (home / "configs/suites").mkdir(parents=True)
    (home / "configs/suites/small.yaml").write_text(
        "name: small\ndescription: a few\ncases: data/cases.jsonl\nprompt: assistant\n"
        "max_tokens: 40\ntemperature: 0\n")
    (home / "data").mkdir(exist_ok=True)
    (home / "data/cases.jsonl").write_text("".join(
        json.dumps({"id": f"h{i}", "lang": "en", "request": request, "tool": None}) + "\n"
        for i, request in enumerate(requests)))


@pytest.fixture(autouse=True)
def letters_only(monkeypatch):
    "Without the embedding model, which takes seconds to load."
    monkeypatch.setattr("javis.curation.installed_embedder", lambda: None)


def test_from_feedback_to_a_dataset(javis, taught):
    hold_out(taught, "show me notes.txt now")
    found = javis("curate", "--json", status=0).json()[0]
    assert found["counts"] == {"candidate": 9, "rejected": 1} and found["near_held_out"] == 1
    assert "10 rows, 0 of them new" in javis("curate", status=0).out
    rows = javis("curate", "list", "--status", "candidate", "--json", status=0).json()
    assert len(rows) == 9
    assert "1 row rejected" in javis("curate", "reject", rows[0]["id"][:6], "-r", "dull", status=0).out
    assert "1 row accepted" in javis("curate", "accept", rows[1]["id"][:6], status=0).out
    assert "7 rows accepted; 8 in all" in javis("curate", "accept", "--all", status=0).out
    built = javis("dataset", "build", "--json", status=0).json()[0]
    assert built["version"] == "v0.1" and sum(built["splits"].values()) == 8
    assert "unchanged" in javis("dataset", "build", status=0).out
    assert "# Training data v0.1" in javis("dataset", "show", status=0).out
    assert len(javis("dataset", "show", "v0.1", "--rows", "2", "--json", status=0).json()) == 2
    (taught / "data/training/v0.1/train.jsonl").write_text("{}\n")
    assert "damaged" in javis("dataset", "list", status=0).out
    assert "has changed since" in javis("dataset", "show", status=1).err


def test_curating_nothing(javis):
    assert "nothing to curate" in javis("curate", status=0).err
    assert "no row is accepted" in javis("dataset", "build", status=1).err
    assert "no dataset yet" in javis("dataset", status=0).err


@pytest.mark.parametrize("arguments, status, message", [
    (["accept"], 2, "--all"), (["accept", "zzz"], 2, "No row begins"),
    (["accept", "--all", "zzz"], 2, "--all"), (["reject", "zzz"], 2, "--reason"),
    (["list", "--status", "nice"], 2, "nice"), (["accept", ""], 2, "rows begin")])
def test_decisions_that_cannot_be_made(javis, taught, arguments, status, message):
    javis("curate", status=0)
    assert message in javis("curate", *arguments, status=status).err


def test_a_curation_file_in_use_is_named(javis, taught):
    javis("curate", status=0)
    code = ("import duckdb, sys, time; d = duckdb.connect(sys.argv[1]); print('held', flush=True)\n"
            "time.sleep(60)")
    child = subprocess.Popen([sys.executable, "-c", code, taught / "data/curation.duckdb"],
                             stdout=subprocess.PIPE)
    try:
        child.stdout.readline()
        done = javis("curate", "list", status=1)
        assert f"process {child.pid}" in done.err
    finally:
        child.kill()
        child.wait()


# ---- train, eval, models

def test_training_without_recipe_or_dataset(javis, home):
    (home / "configs/recipes").mkdir(parents=True)
    assert "There is no recipe tools-cpu.yaml" in javis("train", status=2).err
    (home / "configs/recipes/tools-cpu.yaml").write_text("name: tools-cpu\nepochs: 1\n")
    assert "there is no dataset" in javis("train", status=1).err
    assert "epochs" in javis("train", "--epochs", "-1", status=2).err


@pytest.fixture
def trainable(home, monkeypatch):
    "A recipe, a dataset and a stand-in for the training process."
    (home / "configs/recipes").mkdir(parents=True)
    (home / "configs/recipes/tools-cpu.yaml").write_text("name: tools-cpu\nepochs: 2\ntracking: 'off'\n")
    dataset = SimpleNamespace(version="v0.1", splits={"train": 4}, sha256="d" * 64, folder=home)
    monkeypatch.setattr("javis.verbs.grow.load_dataset", lambda *_: dataset)
    folder = home / "training_runs/r1"
    (folder / "adapter").mkdir(parents=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / "adapter" / name).write_text(name)
    monkeypatch.setattr("javis.local.find_model", lambda name: home / name)
    monkeypatch.setattr("javis.weights.convert_adapter",
                        lambda adapter, base, out: out.write_bytes(b"GGUF adapter"))
    return folder


RESULT = dict(status="done", rows=4, train_seconds=65.2, tokens_per_second=310.4, peak_memory_gib=3.21,
              dev_loss=0.4)


def test_training_ends_with_a_version_and_the_next_command(javis, trainable, monkeypatch):
    from javis.training.runs import Run
    (trainable / "result.json").write_text(json.dumps(RESULT))

    def train(settings, recipe, dataset, on_event, again):
        assert (recipe.epochs, again) == (3, True)
        run = Run(trainable)
        on_event(run, {"event": "training", "seconds": 10, "tokens": 1000})
        for step in (1, 2):
            on_event(run, {"event": "step", "step": step, "of": 2, "seconds": 10 + step, "loss": 2 / step})
        return run
    monkeypatch.setattr("javis.verbs.grow.train", train)
    done = javis("train", "--epochs", "3", "--again", status=0)
    assert re.search(r"version +javis-v0.1", done.out) and "2.000 → 1.000" in done.out
    assert "2 of 2" in done.err and "Next: javis eval javis-v0.1" in done.err
    events = javis("train", "--epochs", "3", "--again", "--json", status=0).json()
    assert [event["event"] for event in events] == ["training", "step", "step", "registered"]
    assert events[-1]["version"] == "javis-v0.1"  # the same adapter is not registered twice


def test_a_training_that_goes_on_is_followed_and_said_to_be(javis, trainable, monkeypatch):
    from javis.training.runs import Run
    (trainable / "result.json").write_text(json.dumps(RESULT))

    def train(settings, recipe, dataset, on_event, again):
        on_event(Run(trainable), {"event": "joined"})
        on_event(Run(trainable), {"event": "step", "step": 1, "of": 1, "seconds": 9, "loss": 1})
        return Run(trainable)
    monkeypatch.setattr("javis.verbs.grow.train", train)
    assert "r1 was running already: it was followed" in javis("train", status=0).err
    assert javis("train", "--json", status=0).json()[0] == {"run": "r1", "event": "joined"}


def test_ctrl_c_while_training_says_what_became_of_it(javis, trainable, monkeypatch):
    from javis.training.runs import Run

    def train(settings, recipe, dataset, on_event, again):
        on_event(Run(trainable), {"event": "loading", "seconds": 1})
        raise KeyboardInterrupt
    monkeypatch.setattr("javis.verbs.grow.train", train)
    done = javis("train", status=130)
    assert "the training process has ended" in done.err and "r1" in done.err
    assert javis("models", "list", "--json", status=0).json()[0]["version"] == "base"


def register(home, name="one", base="smollm2-135m-instruct"):
    from javis.registry import Registry
    folder = home / f"peft-{name}"
    folder.mkdir()
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / file).write_text(file + name)
    (folder / "a.gguf").write_bytes(b"GGUF" + name.encode())
    return Registry(home / "data/registry.jsonl").register(
        folder, folder / "a.gguf", base_model=base, run_id=name, dataset="v0.1")


def test_promote_asks_for_evidence_or_a_reason(javis, home):
    hold_out(home, "thanks")
    register(home)
    done = javis("models", "promote", "v0.1", "--why", "x", "--suite", "small", status=2)
    assert "javis eval base" in done.err and "javis eval javis-v0.1" in done.err
    javis("models", "promote", "v0.1", "--suite", "small", status=2)  # no --why
    done = javis("models", "promote", "v0.1", "--why", "x", "--override", "a try", "--suite", "small",
                 status=0)
    assert "javis-v0.1 serves now" in done.out
    rows = javis("models", "--help", status=0) and javis("models", "list", "--json", status=0).json()
    assert [(row["version"], row["alias"]) for row in rows] == [("base", ""), ("javis-v0.1", "serving")]
    assert "base model serves again" in javis("models", "rollback", status=0).out
    assert "nothing to go back to" in javis("models", "rollback", status=1).err


def test_a_damaged_version_does_not_answer(javis, home):
    version = register(home)
    from javis.registry import Registry
    Registry(home / "data/registry.jsonl").promote(version.name, "x", override="a test")
    version.gguf.write_bytes(b"other")
    assert "not the file that was registered" in javis("ask", "hello", status=1).err


def test_a_version_for_another_model_is_left_out_or_refused(home):
    from javis.config import ConfigError
    from javis.registry import Registry
    from javis.verbs.talk import adapter_for
    version = register(home, base="another-model")
    Registry(home / "data/registry.jsonl").promote(version.name, "x", override="a test")
    settings = load_settings(root=home, env={})
    assert adapter_for(settings) == (None, {})
    with pytest.raises(ConfigError, match="was made for another-model"):
        adapter_for(settings, adapter="serving")


def test_the_version_that_serves_answers(home):
    from javis.registry import Registry
    from javis.verbs.talk import adapter_for
    version = register(home)
    settings = load_settings(root=home, env={})
    assert adapter_for(settings) == (None, {})
    assert adapter_for(settings, adapter="candidate")[0] == version.name
    Registry(home / "data/registry.jsonl").promote(version.name, "x", override="a test")
    assert adapter_for(settings) == (version.name, {version.name: version.gguf})
    assert adapter_for(settings, adapter="none") == (None, {})


def test_measuring_the_embedded_model(javis, home):
    hold_out(home, "thanks a lot", "what is a monad?")
    done = javis("eval", "base", "--suite", "small", "--json", status=0)
    summary = done.json()[0]
    assert summary["who"] == "base" and summary["n"] == 2 and summary["complete"]
    again = javis("eval", "base", "--suite", "small", status=0)
    assert "measured before" in again.err and "of 2" in again.out
    row, = javis("models", "list", "--suite", "small", "--json", status=0).json()
    assert row["no_call"].endswith("of 2")


@pytest.fixture
def measuring(home, monkeypatch):
    "A suite of two requests and a stand-in for the engine: `measuring.error` fails the second one."
    from javis import evaluation
    hold_out(home, "thanks a lot", "what is a monad?")
    state = SimpleNamespace(error="")

    def ask(engine, adapter, suite):
        async def asked(messages):
            if state.error and "monad" in messages[-1]["content"]:
                raise RuntimeError(state.error)
            return "You are welcome."
        asked.about = {"model": "smollm2-135m-instruct", "adapter": None, "adapter_sha256": None}
        return asked
    monkeypatch.setattr("javis.local.shared_engine", lambda *_, **__: SimpleNamespace(slots=1))
    monkeypatch.setattr("javis.verbs.grow.engine_asker", ask)
    return state


def test_requests_that_failed_are_no_evaluation(javis, home, measuring):
    javis("eval", "base", "--suite", "small", status=0)
    measuring.error = "the model ended"
    for more in ([], ["--json"]):
        done = javis("eval", "base", "--suite", "small", "--again", *more, status=1)
        assert "1 of 2 requests failed" in done.err and "the model ended" in done.err
        assert "Nothing was saved" in done.err and done.out
    assert done.json()[0]["errors"] == 1
    kept = javis("eval", "base", "--suite", "small", "--json", status=0)
    assert "measured before" in kept.err and kept.json()[0]["complete"]


def test_ctrl_c_while_measuring_says_what_became_of_it(javis, measuring, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr("javis.verbs.grow.evaluate", stop)
    done = javis("eval", "base", "--suite", "small", status=130)
    assert done.err.endswith("Stopped: nothing was saved; an earlier evaluation is as it was.\n")


@pytest.mark.parametrize("gone", ["adapter.gguf", ""])
def test_a_version_whose_files_are_gone(javis, home, measuring, gone):
    version = register(home)
    from javis.registry import Registry
    Registry(home / "data/registry.jsonl").promote(version.name, "x", override="a test")
    lost = version.folder / gone
    lost.rename(home / "lost")
    assert javis("models", "list", "--suite", "small", status=0).out.count("javis-v0.1") == 1
    assert "of 2" in javis("eval", "base", "--suite", "small", status=0).out
    assert "Restore" in javis("eval", "v0.1", "--suite", "small", status=1).err
    assert "base model serves again" in javis("models", "rollback", status=0).out


def test_a_version_without_a_file_for_the_engine_has_not_the_scores_of_the_base(javis, home, measuring):
    from javis.registry import Registry
    register(home)
    Registry(home / "data/registry.jsonl").register(home / "peft-one", base_model="x", run_id="two")
    javis("eval", "base", "--suite", "small", status=0)
    rows = javis("models", "list", "--suite", "small", "--json", status=0).json()
    assert [row["no_call"] is None for row in rows] == [False, True, True]
    assert "has no adapter.gguf" in javis("eval", "v0.2", "--suite", "small", status=2).err


def test_outside_of_the_repository_every_step_says_where_to_go(javis):
    for command in ("train", "eval", "demo"):
        assert "copy of the JAVIS repository" in javis(command, status=2 - (command == "demo")).err


def test_eval_of_what_is_not_there(javis, home):
    hold_out(home, "thanks")
    assert "There is no version 'v0.4'" in javis("eval", "v0.4", "--suite", "small", status=1).err


# ---- this project

def test_config(javis, home, monkeypatch):
    monkeypatch.setenv("JAVIS_GENERATION__SEED", "7")
    rows = {row["key"]: row for row in javis("config", "show", "--json", status=0).json()}
    assert rows["generation.seed"]["source"] == "environment JAVIS_GENERATION__SEED"
    assert "Did you mean 'generation" in javis("config", "show", "genration", status=2).err
    assert javis("config", "path", "--json", status=0).json()[0]["db"] == str(home / "data/javis.db")
    assert "config.yaml: fine" in javis("config", "check", status=0).out
    (home / "configs/recipes").mkdir(parents=True)
    (home / "configs/recipes/x.yaml").write_text("epochs: many\n")
    assert "x.yaml" in javis("config", "check", status=2).err


def test_the_shipped_configuration_is_fine(javis, monkeypatch):
    monkeypatch.setenv("JAVIS_HOME", str(REPOSITORY))
    assert "suites/tools.yaml: fine" in javis("config", "check", status=0).out


def test_lab_without_jupyterlab_and_with_it(javis, home, monkeypatch):
    from javis.verbs import project
    find_spec = project.importlib.util.find_spec
    monkeypatch.setattr(project.importlib.util, "find_spec",
                        lambda name: None if name == "jupyterlab" else find_spec(name))
    assert "pip install 'javis[lab]'" in javis("lab", status=1).err
    monkeypatch.undo()
    (home / "nbs/tours").mkdir(parents=True)
    (home / "nbs/tours/01_first_chat.ipynb").write_text("{}")
    command = project.lab_command(load_settings(root=home, env={}), 9000, False)
    assert "--ServerApp.ip=127.0.0.1" in command and "--no-browser" not in command
    assert command[6] == "--LabApp.default_url=/lab/tree/nbs/tours/01_first_chat.ipynb"


def test_demo_is_called_with_its_options(javis, monkeypatch):
    def run_demo(settings, console, *, quick=None, again=False):
        console.print("walking [bold]")
        return {"quick": quick, "again": again}
    monkeypatch.setitem(sys.modules, "javis.demo", SimpleNamespace(run_demo=run_demo))
    done = javis("demo", "--quick", "40", "--again", "--json", status=0)
    assert done.json() == [{"quick": 40, "again": True}] and "walking [bold]" in done.err
    assert "walking [bold]" in javis("demo", status=0).out


def test_ctrl_c_in_the_demo_is_told(javis, monkeypatch):
    def run_demo(*_, **__):
        raise KeyboardInterrupt("Stopped in step 4; what is finished is kept.")
    monkeypatch.setitem(sys.modules, "javis.demo", SimpleNamespace(run_demo=run_demo))
    assert javis("demo", status=130).err == "Stopped in step 4; what is finished is kept.\n"


@pytest.mark.parametrize("group", ["feedback", "dataset", "models", "config"])
def test_a_group_alone_speaks_json_too(javis, home, group):
    answered(home, ("1+1", "2"))
    done, listed = javis(group, "--json", status=0), javis(
        group, "show" if group == "config" else "list", "--json", status=0)
    assert done.out == listed.out and (done.json() or group == "dataset")


# ---- pipes and windows

def test_a_reader_that_goes_away_is_no_error(home):
    child = process("config", "show", "--json", home=home, stdin=None)
    child.stdout.readline()
    child.stdout.close()
    err = child.stderr.read()
    child.wait(30)
    assert err == b""


def test_no_colours_and_no_cutting_in_a_pipe(javis, home, monkeypatch):
    monkeypatch.delenv("NO_COLOR")
    request = "a request that is much longer than eighty columns, " * 3
    answered(home, (request, "x"))
    out = javis("feedback", "list", status=0).out
    assert "\x1b" not in out and request.strip() in out


@pytest.mark.parametrize("arguments", [["feedback", "list"], ["config", "show"], ["doctor"]])
def test_a_terminal_of_80_columns(home, arguments):
    answered(home, ("어디에 로그가 있는지 알려줘 " * 9, "x" * 200), ("short", "y"))
    from rich.cells import cell_len
    with Terminal(*arguments, home=home) as terminal:
        terminal.end(60)
    assert max(cell_len(line) for line in terminal.plain.replace("\r", "").split("\n")) <= 80


# ---- safe text

def test_words_hides_calls_however_they_are_cut():
    from javis.verbs.talk import Words
    text = 'a <b> <tool_call>{"x": "</tool"}</tool_call> c <tool_call>{}</tool_call> <tool'
    for size in range(1, 12):
        words = Words()
        pieces = [words.feed(text[i:i + size]) for i in range(0, len(text), size)]
        assert "".join(pieces) + words.rest() == "a <b>  c  <tool"
    unfinished = Words()
    assert unfinished.feed("yes <tool_call>{\"na") + unfinished.rest() == "yes "


def test_escaped_hides_nothing_and_is_json():
    from javis.terminal import escaped
    value = {"a\u200b": "".join(map(chr, [*range(0x20), 0x7f, 0x9b, 0xa0, 0xad, 0x202e, 0x2028, 0xfeff,
                                          0xe0041, 0x3164, 0xd800])) + "한글 é"}
    shown = escaped(value)
    assert json.loads(shown) == value and shown.isprintable() and "한글 é" in shown


def test_confirm_takes_only_a_plain_yes(monkeypatch):
    from javis import terminal
    for typed, expected in [("y\n", True), ("YES\n", True), ("\n", False), ("yess\n", False), ("", False)]:
        monkeypatch.setattr(terminal, "keyboard", lambda: io.StringIO(typed))
        assert terminal.confirm("Allow it?") is expected
    monkeypatch.setattr(terminal, "keyboard", lambda: None)
    assert terminal.confirm("Allow it?") is False


def test_columns_of_a_table_fit():
    from hypothesis import given, strategies as st
    from javis.terminal import _widths

    @given(st.lists(st.tuples(st.integers(0, 200), st.booleans()), min_size=1, max_size=6))
    def check(columns):
        natural, wide = [n for n, _ in columns], [w for _, w in columns]
        found = _widths(natural, wide, 80)
        fixed = sum(n for n, w in columns if not w)
        assert all(width == n for width, n, w in zip(found, natural, wide) if not w)
        assert sum(found) <= max(80, fixed + 8 * sum(wide))
    check()


def test_a_flow_loses_nothing_and_breaks_between_words():
    from hypothesis import given, strategies as st
    from javis import terminal

    @given(st.lists(st.text("ab 한\n", max_size=12), max_size=12), st.integers(6, 20))
    def check(pieces, columns):
        shown = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(terminal, "write", shown.append)
            flow = terminal.Flow(columns)
            for piece in pieces:
                flow.feed(piece)
            flow.end()
        text, shown = "".join(pieces), "".join(shown)
        assert shown.split() == text.split()
        for line in shown.split("\n"):
            assert terminal.cell_len(line) <= columns or len(line.split()) == 1
    check()


def test_a_flow_leaves_code_alone(capsys):
    from javis.terminal import Flow
    flow, code = Flow(10), "```python\nx = one_long_line + another\n```"
    for letter in f"before it\n{code}\nafter it there":
        flow.feed(letter)
    flow.end()
    assert capsys.readouterr().out == f"before it\n{code}\nafter it\nthere\n"


def test_undo_shows_asks_and_takes_back(tmp_path, monkeypatch, capsys):
    from javis.config import ConfigError, Settings
    from javis.verbs.undo import checkpoints_of, show_history, take_back
    settings = Settings(root=tmp_path)
    (tmp_path / "a.txt").write_text("old\n")
    with checkpoints_of(settings).around("run_shell(command='make')"):
        (tmp_path / "a.txt").write_text("new\n")
    show_history(settings)
    assert "make" in capsys.readouterr().out
    assert take_back(settings, sure=lambda question: False) == {"changed": [], "stays": {}}
    assert (tmp_path / "a.txt").read_text() == "new\n"
    (tmp_path / "a.txt").write_text("mine\n")
    assert take_back(settings, yes=True)["stays"].keys() == {"a.txt"}  # somebody has changed it since
    assert take_back(settings, yes=True, anyway=["a.txt"])["changed"] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old\n"
    with pytest.raises(ConfigError, match="Nobody is there"):
        monkeypatch.setattr("javis.verbs.undo.keyboard", lambda: False)
        take_back(settings, checkpoints_of(settings).history()[0].id)
