"Routes and short versions on a terminal: shown, corrected, stopped."
import json
import sys
from pathlib import Path

import pytest

from javis.store import Store

sys.path.insert(0, str(Path(__file__).parent))
from pseudo_terminal import Terminal, endpoint, home, process  # noqa: E402, F401

PROMPT = "› ?"
MANY = ("tools:\n  enabled: [read_file, list_dir, search_text, write_file, run_shell, web_search, fetch_url, find_process,"
        " disk_usage, edit_file, find_files, run_python, git_status, git_log, current_time, list_ports, show_environment]\n")


@pytest.fixture
def chat(home):
    opened = []

    def start(*arguments, **options):
        terminal = Terminal("chat", *arguments, home=home, **options)
        opened.append(terminal)
        return terminal.until(PROMPT).quiet()
    yield start
    for terminal in opened:
        terminal.__exit__()


@pytest.fixture
def seed(home):
    folder = home / "data/seed"
    folder.mkdir(parents=True)
    (folder / "corrections.jsonl").write_text(json.dumps({"request": "list the files in src", "tool": "list_dir"}) + "\n")


def told(home, *arguments):
    out, err = process(*arguments, home=home, env={"NO_COLOR": "1", "COLUMNS": "200"}).communicate(timeout=60)
    return out.decode(), err.decode()


def test_a_route_is_shown_and_put_right(chat, endpoint, home, seed):
    server = endpoint("Two files.", native=True, more=MANY)
    terminal = chat()
    terminal.type("list the files in docs\r").until("Two files").quiet()
    terminal.type("/route\r").until("files by example: it is like 'list the files in src'").until("only named: .*run_shell").until("Wrong").quiet()
    out, err = told(home, "context", "show")
    assert "files by example" in out and "Other tools" not in out
    assert "web_search" in out and "only named: run_shell" in out
    assert json.loads(told(home, "context", "show", "--json")[0])["route"]["intent"] == "files"
    terminal.type("/route shell\r").until("shell by example: it is 'list the files in docs'").until("from the next request on").quiet()
    terminal.type("list the files in docs\r").until("Two files").quiet()
    names = [[tool["function"]["name"] for tool in request.json["tools"]] for request in server.requests]
    assert "run_shell" not in names[0] and "write_file" in names[0]
    assert "run_shell" in names[1] and "write_file" not in names[1]
    terminal.type("/route shel\r").until("Did you mean 'shell'")


def test_the_model_tells_a_conversation_in_short(chat, endpoint, home):
    server = endpoint("It is blue.", "They asked for the colour.", "Yes.")
    terminal = chat()
    terminal.type("what colour is it?\r").until("It is blue").quiet()
    terminal.type("/compact\r").until("They asked for the colour").until("in these words from here on").quiet()
    terminal.type("is it?\r").until("Yes").quiet()
    assert "what colour is it?" in server.requests[1].json["messages"][1]["content"]
    told = server.requests[2].json["messages"][1]["content"]
    assert "They asked for the colour." in told and "- asked last: what colour is it?" in told


def test_ctrl_c_leaves_a_conversation_whole(chat, endpoint, home):
    server = endpoint("It is blue.", "They asked")
    server.scripts = (server.scripts[0], [*server.scripts[1][:-1], 30])
    terminal = chat()
    terminal.type("what colour is it?\r").until("It is blue").quiet()
    terminal.type("/compact\r").quiet(1).type("\x03").until("stays as it was").quiet()
    with Store(home / "data/javis.db") as store:
        thread, = store.threads()
        assert [one.role for one in store.messages(thread.id)] == ["system", "user", "assistant"]
