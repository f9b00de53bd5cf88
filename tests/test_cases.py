import json

import pytest

from javis.cases import BadSuite, Case, grade, load_suite, read_cases
from javis.config import ConfigError, load_settings
from javis.tools.base import Toolbox, render_tool_call, tool
from javis.tools.system import default_toolbox


@tool("read")
def read_file(path: str, start: int | None = None, end: int | None = None) -> str:
    "Read a file."


@tool("read")
def disk_usage(path: str | None = None) -> str:
    "How full a disk is."


@tool("net")
def web_search(query: str) -> str:
    "Search the web."


TOOLBOX = Toolbox([read_file, disk_usage, web_search])
GOOD = {"id": "c1", "lang": "en", "request": "show main.rs", "tool": "read_file",
        "arguments": {"path": "main.rs"}}


def call(name="read_file", **arguments):
    return render_tool_call(name, arguments)


def case(tool="read_file", arguments=None, **more):
    return Case("c1", "en", "a request", tool, arguments or {}, **more)


# Reading

@pytest.fixture
def cases_file(tmp_path):
    def write(*rows):
        text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
        path = tmp_path / "cases.jsonl"
        path.write_text(text, encoding="utf-8")
        return path
    return write


@pytest.mark.parametrize("bad, fault", [
    ("{", "this is not JSON"),
    ("[1]", "a case is a JSON object"),
    ('{"id": "a", "id": "b"}', "the key 'id' is there twice"),
    (GOOD | {"extra": 1}, "there is no key 'extra'"),
    (GOOD | {"line": 3}, "there is no key 'line'"),
    (GOOD | {"id": ""}, "'id' must be a text"),
    (GOOD | {"request": "  "}, "'request' must be a text"),
    (GOOD | {"lang": None}, "'lang' must be a text"),
    ({"id": "c", "lang": "en", "request": "x"}, "'tool' must be the name"),
    (GOOD | {"tool": 3}, "'tool' must be the name"),
    (GOOD | {"tool": None}, "without a tool there are no arguments"),
    ({"id": "c", "lang": "en", "request": "x", "tool": "ls"}, "must be objects"),
    (GOOD | {"optional": {"path": "x"}}, "'path' is in 'arguments' and in 'optional'"),
    (GOOD | {"arguments": {"path": {"any": []}}}, "should be a plain value"),
    (GOOD | {"arguments": {"path": {"contains": "x"}}}, "should be a plain value"),
    (GOOD | {"arguments": {"path": {"contains": [1]}}}, "must be texts"),
    (GOOD | {"arguments": {"path": None}}, "should not be null"),
    (GOOD, "the id 'c1' stands on line 1 already"),
])
def test_a_bad_case_is_named_with_its_line(cases_file, bad, fault):
    with pytest.raises(BadSuite) as caught:
        read_cases(cases_file(GOOD, "", bad), "cases.jsonl")
    assert "cases.jsonl, line 3: " in str(caught.value) and fault in str(caught.value)


def test_files_that_hold_no_cases(cases_file, tmp_path):
    with pytest.raises(BadSuite, match="holds no cases"):
        read_cases(cases_file("", ""))
    with pytest.raises(BadSuite, match="could not be read"):
        read_cases(tmp_path / "nothing.jsonl")
    (tmp_path / "latin.jsonl").write_bytes('{"id": "ä"}'.encode("latin-1"))
    with pytest.raises(BadSuite, match="not text in UTF-8"):
        read_cases(tmp_path / "latin.jsonl")


SUITE = "name: s\ndescription: d\ncases: cases.jsonl\nprompt: assistant\nmax_tokens: 9\ntemperature: 0\n"


@pytest.mark.parametrize("old, new, fault", [
    ("prompt: assistant\n", "", "line 1: 'prompt' must be a prompt's name"),
    ("max_tokens: 9", "max_tokens: 0", "line 5: 'max_tokens' must be a whole number from 1"),
    ("max_tokens: 9", "max_tokens: true", "line 5: 'max_tokens'"),
    ("temperature: 0", "temperature: -1", "line 6: 'temperature'"),
    ("temperature: 0", "temperature: .nan", "line 6: 'temperature'"),
    ("temperature: 0", "temprature: 0", "Did you mean 'temperature'"),
    ("name: s", "name: ''", "line 1: 'name'"),
])
def test_a_bad_suite_is_named_with_its_line(tmp_path, old, new, fault):
    (tmp_path / "cases.jsonl").write_text(json.dumps(GOOD))
    (tmp_path / "suite.yaml").write_text(SUITE.replace(old, new))
    with pytest.raises(BadSuite) as caught:
        load_suite(tmp_path / "suite.yaml", tmp_path)
    assert "suite.yaml, " in str(caught.value) and fault in str(caught.value)


def test_a_suite_remembers_what_it_was_read_from(tmp_path):
    (tmp_path / "cases.jsonl").write_text(json.dumps(GOOD))
    (tmp_path / "suite.yaml").write_text(SUITE)
    suite = load_suite(tmp_path / "suite.yaml", tmp_path)
    (tmp_path / "cases.jsonl").write_text(json.dumps(GOOD | {"lang": "ko"}))
    changed = load_suite(tmp_path / "suite.yaml", tmp_path)
    assert suite.sha256 == changed.sha256 and suite.cases_sha256 != changed.cases_sha256
    with pytest.raises(BadSuite, match="There is no suite other.yaml"):
        load_suite(tmp_path / "other.yaml", tmp_path)
    (tmp_path / "suite.yaml").write_text("name: [")
    with pytest.raises(ConfigError, match="suite.yaml, line"):
        load_suite(tmp_path / "suite.yaml", tmp_path)


def test_the_suite_of_javis_fits_its_tools(pytestconfig):
    suite = load_suite(pytestconfig.rootpath / "configs/suites/tools.yaml", pytestconfig.rootpath)
    toolbox = default_toolbox(load_settings(root=pytestconfig.rootpath, env={}))
    suite.check(toolbox)
    assert {case.tool for case in suite.cases} == {*toolbox.names, None}
    assert len({case.request for case in suite.cases}) == len(suite.cases) > 150


@pytest.mark.parametrize("expected, fault", [
    (case("read_fle"), "there is no tool 'read_fle'. Did you mean 'read_file'"),
    (case(arguments={"file": "x"}), "argument 'path' is missing"),
    (case(arguments={"path": "x", "start": {"contains": ["a"]}}), "no call could be right"),
    (case(arguments={"path": "x"}, optional={"start": "first"}), "no call could be right"),
])
def test_a_case_that_no_call_could_get_right(tmp_path, expected, fault):
    (tmp_path / "cases.jsonl").write_text(json.dumps(GOOD))
    (tmp_path / "suite.yaml").write_text(SUITE)
    suite = load_suite(tmp_path / "suite.yaml", tmp_path)
    object.__setattr__(suite, "cases", (expected,))
    with pytest.raises(BadSuite) as caught:
        suite.check(TOOLBOX)
    assert fault in str(caught.value)


# Grading

@pytest.mark.parametrize("expected, said, right", [
    ("src", "src/", True), ("src/", "src", True), ("src", "./src", True), ("src", "././src//", True),
    (".", "./", True), ("/", "/", True), ("/", ".", False), ("/", "", False), (".", "", True),
    ("src", "/src", False), ("src", "Src", False), ("src", "src/x", False), ("../a", "a", False),
    (".env", "./.env", True), (".env", "env", False), ("~", "~/", True), ("src ", "src", False),
])
def test_paths_are_compared_as_places(expected, said, right):
    assert grade(case(arguments={"path": expected}), call(path=said), TOOLBOX).right is right


@pytest.mark.parametrize("expected, said, right", [
    ("Next.js", "next.js", False),
    ({"any": ["a", "b"]}, "b", True), ({"any": ["a", "b"]}, "ab", False),
    ({"contains": ["Next.js"]}, "NEXT.JS 최신 버전", True),
    ({"contains": ["맥북", "가격"]}, "맥북 프로 가격", True),
    ({"contains": ["맥북", "가격"]}, "맥북 프로", False),
    ("./x", "x", False),
])
def test_other_texts_are_compared_as_they_are(expected, said, right):
    wanted = case("web_search", {"query": expected})
    assert grade(wanted, call("web_search", query=said), TOOLBOX).right is right


@pytest.mark.parametrize("answer, right", [
    (call(path="a", start=1, end=3), True),
    (call(path="a", end=3), True),
    (call(path="a", end="3"), True),  # a chat repairs that too
    (call(path="a", start=None, end=3), True),
    (call(path="a", start=2, end=3), False),
    (call(path="a", start=1), False),
    (call(path="a", end=3.5), False),
    (call(path="a", end=True), False),
    (call(path="a", end=3, encoding="utf-8"), False),
])
def test_optional_and_needless_arguments(answer, right):
    wanted = case(arguments={"path": "a", "end": 3}, optional={"start": 1})
    assert grade(wanted, answer, TOOLBOX).right is right


def test_an_argument_that_nobody_asked_for():
    found = grade(case("disk_usage"), call("disk_usage", path="src"), TOOLBOX)
    assert (found.format, found.tool, found.arguments) == (True, True, False)
    assert found.why == "path was not asked for"
    assert grade(case("disk_usage", optional={"path": "/"}), call("disk_usage", path="/"), TOOLBOX).right


@pytest.mark.parametrize("answer, parts", [
    (call(path="a"), (True, True, True)),
    ("I will read it. " + call(path="a"), (True, True, True)),
    (call(path="b"), (True, True, False)),
    (call("disk_usage", path="a"), (True, False, None)),
    (call(file="a"), (False, True, False)),
    (call("web_search", path="a"), (False, False, None)),
    (call("open_file", path="a"), (False, False, None)),
    (call(path="a") + call(path="a"), (False, False, None)),
    ("", (False, False, None)), ("Of course!", (False, False, None)),
    ('{"name": "read_file", "arguments": {"path": "a"}}', (False, False, None)),
    ("<tool_call>read_file(a)</tool_call>", (False, False, None)),
    (call(path="a")[:-3], (False, False, None)),
    ("<tool_call>" * 1000, (False, False, None)),
    ("<tool_call>" + "{" * 100_000, (False, False, None)),
    ('<tool_call>{"name": "read_file", "arguments": {"path": "a", "path": "b"}}</tool_call>',
     (False, False, None)),
])
def test_what_is_wrong_with_a_call_is_kept_apart(answer, parts):
    found = grade(case(arguments={"path": "a"}), answer, TOOLBOX)
    assert (found.format, found.tool, found.arguments) == parts
    assert found.right is (parts == (True, True, True)) and bool(found.why) is not found.right


@pytest.mark.parametrize("answer, right", [
    ("Gladly.", True), ("천만에요", True), ("", False), (" \n\t", False),
    ("Use read_file(path) for that, or disk_usage.", True),
    ("`-r` makes grep search folders: grep -r \"name\" .", True),
    (call(path="a"), False), ("Sure. " + call(path="a"), False),
    (call("no_such_tool"), False), ("<tool_call>", False), ("oops </tool_call>", False),
    ("<TOOL_CALL>{}", False), ("<tool_call", False),
    ('{"name": "read_file"', False), ('```json\n{"path": "a"}\n```', False),
    ('then "arguments": {"path": "a"}', False),
    ("read_file(a)", False), ("Call: read_file {a}", False), ("`disk_usage()`", False),
    ("read_filed my taxes (all of them)", True), ("A set is written {1, 2} in maths.", True),
])
def test_where_words_are_right(answer, right):
    found = grade(case(None), answer, TOOLBOX)
    assert found.right is right and found.format is None and bool(found.why) is not right


def test_a_constrained_answer_is_one_object_without_tags():
    wanted = case(arguments={"path": "a"})
    answer = '{"name": "read_file", "arguments": {"path": "a"}}'
    assert grade(wanted, answer, TOOLBOX, constrained=True).right
    assert not grade(wanted, answer, TOOLBOX).right
    assert not grade(wanted, call(path="a"), TOOLBOX, constrained=True).right


def test_a_long_answer_leaves_a_short_reason():
    answer = call("x" * 100_000, path="y" * 100_000)
    assert len(grade(case(arguments={"path": "a"}), answer, TOOLBOX).why) < 500
    assert len(grade(case(arguments={"path": "a"}), call(path="y" * 100_000), TOOLBOX).why) < 500
    assert len(grade(case(None), call("x" * 90_000), TOOLBOX).why) < 500
