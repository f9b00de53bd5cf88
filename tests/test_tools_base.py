"Tools and calls: what a model may send, and what it gets back."
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Annotated, Literal

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from javis.config import MissingExtra, register_secret
from javis.tools.base import (Call, Toolbox, ToolError, ToolRequest, ToolSyntaxError, clip,
                              current_call, parse_call, parse_tool_calls, printable,
                              render_tool_call, running, tool)


@tool("read")
def show(
    path: Path,  # a file
    start: Annotated[int, Field(ge=1, le=1000)] | None = None,  # first line
    ratio: float = 0.5,
    loud: bool = False,
    unit: Literal["line", "byte"] = "line",
    *,
    secret_limit: int = 3,
) -> str:
    """Show a file.

    More about it, which the model does not need.
    """
    return f"{path!s} {start} {ratio} {loud} {unit} {secret_limit}"


@pytest.fixture
def box():
    return Toolbox([show], max_output_chars=400)


def test_schema_comes_from_hints_comments_and_docstring():
    assert show.signature == "show(path, start?, ratio?, loud?, unit?)"
    assert show.description == "Show a file."
    properties = show.parameters["properties"]
    assert properties["path"] == {"type": "string", "format": "path", "description": "a file"}
    assert properties["start"] == {"type": "integer", "minimum": 1, "maximum": 1000,
                                   "description": "first line"}
    assert properties["unit"]["enum"] == ["line", "byte"]
    assert "secret_limit" not in properties
    assert show.parameters["required"] == ["path"]


def test_program_parameters_are_given():
    assert Toolbox([tool(secret_limit=9)(show.function.func)]).call("show", {"path": "a"}).endswith("9")


def test_a_function_without_a_docstring_is_no_tool():
    with pytest.raises(TypeError, match="docstring"):
        tool()(lambda word: word)


def test_hints_are_required_and_plain():
    def bare(word):
        "Do."
    def many(*words: str):
        "Do."
    class Model(BaseModel):
        x: int
    def nested(model: Model):
        "Do."
    nested.__annotations__["model"] = Model
    for function in (bare, many, nested):
        with pytest.raises(TypeError):
            tool()(function)


@pytest.mark.parametrize("sent, taken", [
    ({"path": "a"}, {"path": "a"}),
    ({"path": "a", "start": "7"}, {"path": "a", "start": 7}),
    ({"path": "a", "start": " 7 "}, {"path": "a", "start": 7}),
    ({"path": "a", "start": 7.0}, {"path": "a", "start": 7}),
    ({"path": "a", "start": None}, {"path": "a"}),
    ({"path": "a", "loud": "True"}, {"path": "a", "loud": True}),
    ({"path": "a", "ratio": "0.25"}, {"path": "a", "ratio": 0.25}),
    ({"path": "a", "ratio": 1}, {"path": "a", "ratio": 1}),
    ({"path": 2026}, {"path": "2026"}),
    ('{"path": "a"}', {"path": "a"}),
])
def test_safe_repairs(box, sent, taken):
    assert box.validate("show", sent) == taken
    assert not box.call("show", sent).startswith("error:")


@pytest.mark.parametrize("sent, message", [
    ({}, "'path' is missing"),
    ({"path": None}, "'path'"),
    ({"path": "a", "start": True}, "'start'.*not true"),
    ({"path": "a", "start": 7.5}, "'start'"),
    ({"path": "a", "start": "seven"}, "'start'"),
    ({"path": "a", "start": "7; rm"}, "'start'"),
    ({"path": "a", "start": 0}, "'start'.*greater than or equal to 1"),
    ({"path": "a", "start": -5}, "'start'"),
    ({"path": "a", "start": 10**30}, "'start'"),
    ({"path": "a", "start": "9" * 5000}, "'start'"),
    ({"path": "a", "ratio": float("nan")}, "ratio|JSON"),
    ({"path": "a", "loud": 1}, "'loud'"),
    ({"path": "a", "unit": "word"}, "'unit'"),
    ({"path": ["a"]}, "'path'"),
    ({"path": {"path": "a"}}, "'path'"),
    ({"path": True}, "'path'"),
    ({"path": "a", "file": "b"}, "no argument 'file'"),
    ({"path": "a", "file": None}, "no argument 'file'"),
    ({"path": "a", "secret_limit": 9}, "no argument 'secret_limit'"),
    ({"path": b"a"}, "not JSON"),
    (["a"], "must be a JSON object"),
    (None, "must be a JSON object"),
    ("[]", "JSON object"),
    ('{"path": "a", "path": "b"}', "twice"),
    ('{"path": "a"} trailing', "after the JSON object"),
])
def test_arguments_that_are_refused(box, sent, message):
    with pytest.raises(ToolError, match=message):
        box.validate("show", sent)
    answer = box.call("show", sent)
    assert answer.startswith("error: ") and len(answer) <= 400


def test_unknown_tools_are_never_guessed(box):
    with pytest.raises(ToolError, match="no tool 'shows'.*show"):
        box.validate("shows", {"path": "a"})
    assert box.call("Show", {"path": "a"}).startswith("error: there is no tool")


def test_text_protocol_round_trip():
    arguments = {"content": 'a "quoted"\n</tool_call> <tool_call>{ 안녕', "start": 1}
    text = render_tool_call("write_file", arguments)
    assert text.startswith('<tool_call>{"name": "write_file", "arguments": {') and "안녕" in text
    assert parse_tool_calls(f"Sure.\n{text}\n{text} done") == [ToolRequest("write_file", arguments)] * 2
    assert parse_tool_calls('<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>') == [ToolRequest("f", {})]
    assert parse_call('\n {"name": "f", "arguments": {}} ') == ToolRequest("f", {})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2**60, 2**60) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")),
                                                                inner, max_size=3), max_leaves=6)


@given(st.text(st.characters(codec="utf-8")).filter(lambda text: "tool_call>" not in text),
       st.dictionaries(st.text(st.characters(codec="utf-8")), json_values, max_size=4))
def test_whatever_is_rendered_is_read_back(prose, arguments):
    calls = parse_tool_calls(prose + render_tool_call("tool", arguments))
    assert calls == [ToolRequest("tool", arguments)]


@given(st.text())
def test_reading_never_fails_otherwise(text):
    for candidate in (text, "<tool_call>" + text, '<tool_call>{"name": "a", "arguments": {' + text):
        try:
            parse_tool_calls(candidate)
        except ToolSyntaxError as error:
            assert str(error)


@pytest.mark.parametrize("text, message", [
    ("<tool_call>", "JSON object"),
    ("the <tool_call> tag", "JSON object"),
    ("<tool_call>[]</tool_call>", "JSON object"),
    ('<tool_call>{"name": "f", "arguments": {}}', "must follow"),
    ('<tool_call>{"name": "f", "arguments": {}} and</tool_call>', "must follow"),
    ('<tool_call>{"name": "f", "arguments": {}</tool_call>', "not closed"),
    ("<tool_call>{'name': 'f', 'arguments': {}}</tool_call>", "broken"),
    ('<tool_call>{"name": "f", "arguments": {"a": 1, "a": 2}}</tool_call>', "'a' stands there twice"),
    ('<tool_call>{"name": "f", "name": "g", "arguments": {}}</tool_call>', "twice"),
    ('<tool_call>{"name": "f"}</tool_call>', "exactly two keys"),
    ('<tool_call>{"name": "f", "arguments": {}, "id": 1}</tool_call>', "exactly two keys"),
    ('<tool_call>{"name": "f", "arguments": "{}"}</tool_call>', "must be"),
    ('<tool_call>{"name": 7, "arguments": {}}</tool_call>', "must be"),
    ('<tool_call>{"name": "f", "arguments": {"a": NaN}}</tool_call>', "NaN"),
    ('<tool_call>{"name": "f", "arguments": {"a": "\\ud800"}}</tool_call>', "broken"),
    ('<tool_call>{"name": "f", "arguments": {"a": %s}}</tool_call>' % ("[" * 10_000), "deep"),
    ('<tool_call>{"name": "f", "arguments": {"a": "%s"}}</tool_call>' % ("x" * 300_000), "longer"),
    ('{"name": "f"}</tool_call>', "without <tool_call>"),
    (render_tool_call("f", {}) * 17, "more than 16"),
])
def test_broken_calls_say_why(text, message):
    with pytest.raises(ToolSyntaxError, match=message):
        parse_tool_calls(text)


def test_text_without_tags_has_no_calls():
    assert parse_tool_calls("") == parse_tool_calls('Use {"name": "f", "arguments": {}} for it.') == []


def test_call_schema_accepts_calls_and_nothing_else(box):
    schema = box.call_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    good = {"name": "show", "arguments": {"path": "a", "start": 3}}
    jsonschema.validate(good, schema)
    for bad in ({"name": "rm", "arguments": {}}, {"name": "show", "arguments": {}},
                {"name": "show", "arguments": {"path": "a", "x": 1}}, good | {"more": 1},
                {"name": "show", "arguments": {"path": "a", "start": 0}}, {"name": "show"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)
    assert "format" not in json.dumps(schema) and "description" not in json.dumps(schema)


def test_openai_schemas(box):
    assert box.schemas() == [{"type": "function", "function": {
        "name": "show", "description": "Show a file.", "parameters": show.parameters}}]


def test_failures_become_text():
    @tool()
    def broken(kind: str) -> str:
        "Fail."
        raise {"tool": ToolError("no such thing"), "extra": MissingExtra("get it with pip"),
               "bug": KeyError("x")}[kind]
    box = Toolbox([broken])
    assert box.call("broken", {"kind": "tool"}) == "error: no such thing"
    assert box.call("broken", {"kind": "extra"}) == "error: get it with pip"
    assert box.call("broken", {"kind": "bug"}) == "error: broken failed (KeyError: 'x')"


def test_output_is_bounded_masked_and_printable():
    register_secret("correct horse battery")
    @tool()
    def talk(kind: str) -> str:
        "Talk."
        return {"long": "a" * 5000 + "z", "secret": "it is correct horse battery!",
                "codes": "\x1b[2J\x1b]52;c;AAAA\x07x\u202ey\x00\ud800", "dict": {"a": "안"}}[kind]
    box = Toolbox([talk], max_output_chars=300)
    long = box.call("talk", {"kind": "long"})
    assert len(long) <= 300 and "characters left out" in long and long.endswith("z")
    assert box.call("talk", {"kind": "secret"}) == "it is ****!"
    assert box.call("talk", {"kind": "codes"}) == "xy\ufffd\ufffd"
    assert box.call("talk", {"kind": "dict"}) == '{"a": "안"}'


@given(st.text(max_size=500), st.integers(60, 400))
def test_clip_keeps_its_promise(text, limit):
    short = clip(text, limit)
    assert len(short) <= limit
    assert short == text if len(text) <= limit else (short[0], short[-1]) == (text[0], text[-1])


def test_printable_keeps_lines_and_tabs():
    assert printable("a\tb\r\nc\n안녕 é") == "a\tb\nc\n안녕 é"


def test_a_tool_knows_its_call():
    seen = []
    @tool()
    def look() -> str:
        "Look."
        seen.append(current_call())
        return ""
    stop = threading.Event()
    Toolbox([look]).call("look", {}, approved=True, cancelled=stop)
    Toolbox([look]).call("look", {})
    assert seen[0].approved and seen[0].cancelled is stop
    assert not seen[1].approved and not current_call().approved
    with running(Call(approved=True)):
        assert current_call().approved


def test_two_tools_of_one_name_are_refused():
    with pytest.raises(ValueError, match="show"):
        Toolbox([show, show])


def test_import_is_light():
    code = ("import sys, javis.tools.system; heavy = {'httpx', 'psutil', 'ddgs', 'torch', 'duckdb', 'IPython',"
            " 'sqlalchemy', 'fastcore'}; print(sorted(heavy & set(sys.modules)))")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
