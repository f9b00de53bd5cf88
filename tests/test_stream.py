"""The parser against the standard, and the reader against any JSON that a server may send."""
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from javis.stream import (
    ClientError, Incoming, ServerSentEvent, SSEParser, TextDelta, ToolCall, ToolCallDelta,
    join_tool_calls)


def parsed(chunks, **options):
    parser = SSEParser(**options)
    return [event for chunk in chunks for event in parser.feed(chunk)]


@pytest.mark.parametrize("stream, events", [
    (b"data: a\n\n", [("a", "message", "")]),
    (b"data:a\r\n\r\ndata:b\r\rdata:c\n\n", [(letter, "message", "") for letter in "abc"]),
    (b"data: a\ndata: b\ndata\n\n", [("a\nb\n", "message", "")]),
    (b"data: a\r\ndata: b\r\n\r\n", [("a\nb", "message", "")]),
    (b"data\n\ndata\ndata\n\ndata:", [("", "message", ""), ("\n", "message", "")]),  # own example
    (b": hello\n\nevent: x\nid: 7\ndata:  a\n\ndata: b\n\n",
     [(" a", "x", "7"), ("b", "message", "7")]),
    (b"event: lost\n\ndata: a\n\n", [("a", "message", "")]),
    (b"\xef\xbb\xbfdata: a\n\n", [("a", "message", "")]),
    (b"id: 1\x002\nretry: 5\nDATA: no\nunknown\ndata: \xff\n\n", [("\ufffd", "message", "")]),
    ("data: a\u2028b\x0bc\x85d\n\n".encode(), [("a\u2028b\x0bc\x85d", "message", "")]),
    (b"data: never ended\n", []),
])
def test_the_standard(stream, events):
    expected = [ServerSentEvent(*event) for event in events]
    assert parsed([stream]) == expected
    assert parsed(stream[i:i + 1] for i in range(len(stream))) == expected


def reference(stream: bytes) -> list[ServerSentEvent]:
    "The standard's algorithm on the whole stream at once, written in another way."
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    events, data, kind, last = [], "", "", ""
    lines = re.split("\r\n|\r|\n", text)
    for line in lines[:-1]:
        if line == "":
            if data:
                events.append(ServerSentEvent(data[:-1], kind or "message", last))
            data = kind = ""
        elif found := re.fullmatch("([^:]*)(?:: ?(.*))?", line, re.DOTALL):
            name, value = found[1], found[2] or ""
            data += value + "\n" if name == "data" else ""
            kind = value if name == "event" else kind
            last = value if name == "id" and "\0" not in value else last
    return events


PIECES = [b"data: a\r\n", b"data: b\r", b"\r\n\r\n", b"data", b"event", b"id", b":", b" ", b"\r",
          b"\n", b"\r\n", b"\n\n", b"data: ", b"\0", b"x", b"\xef\xbb\xbf", "안".encode(),
          "🙂".encode(), "\u2028".encode(), b"\xff", b"\xed\x95"]
STREAM = st.lists(st.sampled_from(PIECES) | st.binary(max_size=3), max_size=40).map(b"".join)


@settings(max_examples=300, deadline=None)
@given(STREAM, st.data())
def test_any_chunking_gives_the_same_events(stream, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)])]
    assert parsed(chunks) == parsed([stream]) == reference(stream)
    assert parsed(stream[i:i + 1] for i in range(len(stream))) == reference(stream)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=8),
       st.sampled_from(["\n", "\r", "\r\n"]), st.integers(1, 5))
def test_json_of_any_text_survives(texts, end, size):
    lines = (f"data: {json.dumps(text, ensure_ascii=False)}{end}{end}" for text in texts)
    stream = "".join(lines).encode()
    events = parsed(stream[i:i + size] for i in range(0, len(stream), size))
    assert [json.loads(event.data) for event in events] == texts


LEAF = st.sampled_from([None, True, 0, 7, float("inf"), "x", "", [], ["x"], {}, {"message": "x"}])


def shaped(**fields):
    "An object with some of these fields, or something else in its place."
    return st.fixed_dictionaries({}, optional=fields) | LEAF


CALL = shaped(index=LEAF, id=LEAF, function=shaped(name=LEAF, arguments=LEAF))
DELTA = shaped(role=LEAF, content=LEAF, tool_calls=st.lists(CALL, max_size=2) | LEAF)
CHOICE = shaped(index=LEAF, delta=DELTA, message=DELTA, finish_reason=LEAF)
CHUNK = shaped(choices=st.lists(CHOICE, max_size=2) | LEAF, error=LEAF, object=LEAF,
               usage=shaped(prompt_tokens=LEAF, completion_tokens=LEAF))


@settings(max_examples=400, deadline=None)
@given(CHUNK)
def test_any_json_is_a_delta_or_a_client_error(chunk):
    incoming = Incoming("http://127.0.0.1:8000/v1", "javis")
    try:
        deltas = incoming.take(ServerSentEvent(json.dumps(chunk)))
        calls = join_tool_calls(delta for delta in deltas if isinstance(delta, ToolCallDelta))
        incoming.end()
    except ClientError as error:
        assert str(error).isprintable() and len(str(error)) < 600
    else:
        texts = [delta.text for delta in deltas if isinstance(delta, TextDelta)]
        texts += [text for call in calls for text in (call.id, call.name, call.arguments)]
        assert all(isinstance(text, str) for text in [*texts, incoming.finish_reason or ""])


@pytest.mark.parametrize("start", [b"data: ", b": ", b"", b"data: a\ndata: "])
def test_a_line_without_end_is_bounded(start):
    parser, fed = SSEParser(limit=10_000), 0
    with pytest.raises(ValueError, match="10,000 characters"):
        for chunk in [start] + [b"x" * 1000] * 1000:
            list(parser.feed(chunk))
            fed += len(chunk)
    assert fed <= 11_000


def test_an_event_without_end_is_bounded():
    with pytest.raises(ValueError, match="without an end"):
        parsed([b"data: xxxxxxxxxx\n"] * 1000, limit=5_000)


def test_a_new_id_under_an_old_index_is_a_new_call():
    fragments = [ToolCallDelta(0, "a", "one", "{}"), ToolCallDelta(0, "b", "two", "{"),
                 ToolCallDelta(0, "b", "two", "}"), ToolCallDelta(0, "", "", " ")]
    assert join_tool_calls(fragments) == [ToolCall("a", "one", "{}"), ToolCall("b", "two", "{} ")]
