"""The client against a server that does everything a server can do wrong."""
import asyncio
import logging
import random
import socket
import subprocess
import sys
import time
from contextlib import aclosing
from email.utils import formatdate

import httpx
import pytest
from pydantic import SecretStr

from javis.basics import ConfigError
from javis.client import (
    BadRequest, ChatClient, ClientError, ContextTooLong, Done, EndpointUnreachable, MalformedStream,
    RateLimited, Sampling, ServerError, StreamBroken, StreamStalled, TextDelta, ToolCall,
    ToolCallDelta, Unauthorized, UnknownModel, Usage)
from scripted_server import (
    ABORT, DONE, END, KEEP, LAST_CHUNK, ScriptedServer, body, chunked, delta, failure, head, said,
    sse, stream_head)

KEY = "sk-Zq81-nobody-may-read-this"
QUESTION = [{"role": "user", "content": "Say hello"}]


def ask(server, request=None, **options):
    "One whole answer from a scripted server, in a loop of its own."
    async def run():
        async with ChatClient(server.url, KEY, **{"backoff_s": 0.01, **options}) as client:
            asked = {"messages": QUESTION, "model": "javis"} | (request or {})
            return await client.complete(**asked)
    return asyncio.run(run())


def events_of(server):
    "All events of one answer."
    async def run():
        async with ChatClient(server.url) as client:
            return [event async for event in client.stream(QUESTION, model="javis")]
    return asyncio.run(run())


def fails(kind, server, **options):
    "The error of a request that must fail with exactly this kind."
    with pytest.raises(ClientError) as caught:
        ask(server, **options)
    assert type(caught.value) is kind, repr(caught.value)
    assert KEY not in str(caught.value)
    return caught.value


# --- whole answers

def test_text_usage_and_finish_reason_arrive_in_order():
    usage = {"prompt_tokens": 33, "completion_tokens": 2, "total_tokens": 35}
    with ScriptedServer([
        stream_head(), delta(role="assistant", content=None), said("Hel"), said("lo"),
        delta("length"), sse({"choices": [], "usage": usage}), DONE,
    ]) as server:
        events, reply = events_of(server), ask(server)
    assert events == [TextDelta("Hel"), TextDelta("lo"), Usage(33, 2), Done("length")]
    assert (reply.text, reply.tool_calls) == ("Hello", [])
    assert (reply.usage, reply.finish_reason) == (Usage(33, 2), "length")
    assert 0 < reply.first_token_s <= reply.latency_s < 5


def test_the_request_says_what_was_asked():
    messages = [{"role": "user", "content": "안녕 \ud800"}]
    tools = [{"type": "function", "function": {"name": "read_file", "parameters": {}}}]
    lora = [{"id": 0, "scale": 0.0}]
    extra = {"lora": lora, "stream_options": None}
    with ScriptedServer([stream_head(), said("ok"), END]) as server:
        ask(server, dict(messages=messages, tools=tools, extra=extra,
                         sampling=Sampling(temperature=0.0, max_tokens=9, seed=7, stop=("\n",))))
        ask(server)
    first, second = server.requests
    assert (first.method, first.path) == ("POST", "/v1/chat/completions")
    assert first.headers["authorization"] == f"Bearer {KEY}"
    assert first.headers["accept-encoding"] == "identity"
    assert first.json == {
        "model": "javis", "messages": messages, "stream": True, "tools": tools, "lora": lora,
        "temperature": 0.0, "max_tokens": 9, "seed": 7, "stop": ["\n"]}
    assert second.json == {
        "model": "javis", "messages": QUESTION, "stream": True, "max_tokens": 512,
        "stream_options": {"include_usage": True}}


def test_tool_calls_come_in_fragments_and_whole():
    def call(**entry):
        return delta(tool_calls=[entry])
    with ScriptedServer([
        stream_head(),
        call(index=0, id="c1", type="function", function={"name": "read_file", "arguments": ""}),
        call(index=0, function={"arguments": '{"path": '}),
        call(index=0, function={"arguments": '"README.md"}'}),
        call(index=1, id="c2", function={"name": "list_dir", "arguments": "{}"}),
        delta("tool_calls"), DONE,
    ]) as server:
        events, reply = events_of(server), ask(server)
    assert events[0] == ToolCallDelta(0, "c1", "read_file", "")
    assert events[1] == ToolCallDelta(0, "", "", '{"path": ')
    assert reply.tool_calls == [ToolCall("c1", "read_file", '{"path": "README.md"}'),
                                ToolCall("c2", "list_dir", "{}")]
    assert reply.finish_reason == "tool_calls"


def test_careless_servers_are_understood():
    calls = [{"id": "a", "function": {"name": "one", "arguments": {"x": 1}}},
             {"id": "b", "function": {"name": "two"}}]
    second = {"choices": [{"index": 1, "delta": {"content": "a second choice"}}], "error": None}
    with ScriptedServer([
        stream_head(), sse(""), sse({"choices": [{"delta": {"tool_calls": calls}}]}),
        sse({"id": "ping"}), sse(second | {"usage": None}),
        sse({"choices": [{"delta": None, "finish_reason": "tool_calls"}]}), DONE, said("too late"),
    ]) as server:
        reply = ask(server)
    assert reply.tool_calls == [ToolCall("a", "one", '{"x": 1}'), ToolCall("b", "two", "")]
    assert reply.text == ""


def test_an_answer_that_is_not_streamed():
    message = {"role": "assistant", "content": "Hello"}
    whole = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
             "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
    with ScriptedServer(body(200, whole)) as server:
        reply = ask(server)
    assert (reply.text, reply.usage, reply.finish_reason) == ("Hello", Usage(3, 1), "stop")


def test_a_finish_reason_without_done_is_a_whole_answer():
    with ScriptedServer([stream_head(), said("Hello"), delta("stop")]) as server:
        assert ask(server).text == "Hello"


def test_names_of_models():
    async def run(url):
        async with ChatClient(url, KEY) as client:
            return await client.models()
    names = {"data": [{"id": "javis-base"}, {"id": "javis-v0.1"}]}
    with ScriptedServer(body(200, names), body(200, {"models": []}),
                        body(200, "[" * 100_000)) as server:
        assert asyncio.run(run(server.url)) == ["javis-base", "javis-v0.1"]
        for _ in range(2):
            with pytest.raises(MalformedStream, match="no list of models"):
                asyncio.run(run(server.url))
    assert server.requests[0].path == "/v1/models" and server.requests[0].method == "GET"


# --- bytes

def test_korean_split_inside_characters():
    stream = said("안녕하세요, ") + said("자비스 🙂") + END
    for size in (1, 2, 3, 7):
        pieces = [stream[i:i + size] for i in range(0, len(stream), size)]
        with ScriptedServer([*chunked(*pieces), LAST_CHUNK]) as server:
            assert ask(server).text == "안녕하세요, 자비스 🙂"


def test_a_huge_line_ends_the_answer():
    with ScriptedServer([stream_head(), said("Hel"), b"data: ", *[b"x" * 2**18] * 64]) as server:
        error = fails(MalformedStream, server)
        assert "4,194,304 characters" in str(error) and error.partial == "Hel"
        assert server.wait_hung_up()


# --- faults in mid-answer

@pytest.mark.parametrize("junk", [
    b"data: {not json\n\n", b"data: [1, 2]\n\n", b'data: "text"\n\n', b"data: null\n\n",
    sse({"choices": "none"}), delta(content=["parts"]), delta(tool_calls=[7]), sse({"usage": [1]}),
    b"data: " + b"[" * 100_000 + b"\n\n"])
def test_malformed_events(junk):
    with ScriptedServer([stream_head(), said("Hel"), junk, said("lo"), END]) as server:
        error = fails(MalformedStream, server)
    assert error.partial == "Hel" and len(str(error)) < 600 and len(server.requests) == 1


def test_dropped_connection_in_mid_answer():
    with ScriptedServer(chunked(said("Hel"), said("lo "))) as server:
        error = fails(StreamBroken, server)
    assert error.partial == "Hello " and "Ask again" in str(error) and len(server.requests) == 1
    with ScriptedServer([stream_head(), said("Hel"), 0.05, ABORT]) as server:
        assert fails(StreamBroken, server).partial == "Hel"


def test_closed_without_done():
    with ScriptedServer([stream_head(), said("Hel"), said("lo")]) as server:
        error = fails(StreamBroken, server)
    assert error.partial == "Hello" and "before the answer was finished" in str(error)


def test_closed_before_any_answer_is_not_repeated():
    for script in ([ABORT], [], [b"HTTP/1.1 200 OK\r\n"], [b"SSH-2.0-OpenSSH_9.2\r\n"]):
        with ScriptedServer(script) as server:
            assert fails(StreamBroken, server).partial == "" and len(server.requests) == 1


@pytest.mark.parametrize("event, kind", [
    (sse(failure("Context size has been exceeded.", code=500)), ContextTooLong),  # llama.cpp
    (sse(failure("CUDA out of memory", code=500, type="server_error")), ServerError),
    (sse(failure("EngineCore died", code=500)) + DONE, ServerError),  # vLLM goes on to say [DONE]
    (sse(failure("bad grammar", code=400)), BadRequest),
    (sse(failure("slow down", code=429)), RateLimited),
    (sse({"object": "error", "message": "an older vLLM", "code": 400}), BadRequest),
    (sse({"error": "{'message': 'vLLM returned HTTP 500', 'type': 'worker_error'}"}), ServerError),
    (b'event: error\ndata: {"message": "worker lost"}\n\n', ServerError),
])
def test_error_in_mid_stream(event, kind):
    with ScriptedServer([stream_head(), said("Hel"), event, said("lo"), END]) as server:
        error = fails(kind, server)
    assert error.partial == "Hel" and len(server.requests) == 1


def test_stalled_stream():
    with ScriptedServer([stream_head(), said("Hel"), 30]) as server:
        started = time.monotonic()
        error = fails(StreamStalled, server, idle_timeout_s=0.2)
        assert 0.15 < time.monotonic() - started < 1.5
        assert error.partial == "Hel" and "went quiet for 0.2 s" in str(error)
        assert server.wait_hung_up()


@pytest.mark.parametrize("script", [
    [30], [stream_head(), 30], [stream_head(), *[b": working\n\n", 0.05] * 100],
    [stream_head(), delta(role="assistant", content=""), 30]])
def test_stalled_first_token(script):
    with ScriptedServer(script) as server:
        error = fails(StreamStalled, server, first_token_timeout_s=0.2)
        assert error.partial == "" and "first_token_timeout_s" in str(error)
        assert server.wait_hung_up() and len(server.requests) == 1


def test_an_answer_that_takes_too_long():
    with ScriptedServer([stream_head(), *[said("ha"), 0.05] * 100, END]) as server:
        error = fails(StreamStalled, server, timeout_s=0.3, idle_timeout_s=5)
        assert error.partial.startswith("haha") and "`timeout_s`" in str(error)
        assert server.wait_hung_up()


def test_keep_alive_comments_and_slow_thinking_are_no_stall():
    script = [*[b": working\n\n", 0.1] * 4, said("Hello"), END]
    with ScriptedServer([stream_head(), delta(reasoning_content="hm"), *script]) as server:
        assert ask(server, first_token_timeout_s=0.3, idle_timeout_s=0.3).text == "Hello"


# --- refusals

@pytest.mark.parametrize("status, content, kind, words", [
    (400, failure("Expected 'messages' to be an array"), BadRequest, "Expected 'messages'"),
    (400, failure("request (631 tokens) exceeds the available context size (256 tokens)"),
     ContextTooLong, "631 tokens"),
    (400, failure("no", code="context_length_exceeded"), ContextTooLong, "Start a new one"),
    (413, "<html>Request Entity Too Large</html>", ContextTooLong, "Request Entity Too Large"),
    (422, {"detail": [{"loc": ["messages"], "msg": "Field required"}]}, BadRequest, "required"),
    (401, failure(f"Invalid API key: {KEY}"), Unauthorized, "api_key"),
    (403, {"error": "forbidden"}, Unauthorized, "forbidden"),
    (404, failure("The model `javis` does not exist."), UnknownModel, "'javis'"),
    (400, failure("?", code="model_not_found"), UnknownModel, "Correct `model`"),
    (404, {"detail": "Not Found"}, EndpointUnreachable, "most end in /v1"),
    (405, "", EndpointUnreachable, "Method Not Allowed"),
    (301, "", EndpointUnreachable, "Correct `url`"),
    (402, {"error": "no credit"}, BadRequest, "no credit"),
    (500, failure("boom"), ServerError, "boom"),
    (500, "", ServerError, "Internal Server Error"),
    (418, "\x1b[31mteapot\x00" + "x" * 100_000, BadRequest, "[31mteapot x"),
])
def test_a_refusal_names_its_remedy(status, content, kind, words):
    kind_of_text = "text/plain" if isinstance(content, str) else "application/json"
    with ScriptedServer(body(status, content, kind_of_text)) as server:
        error = fails(kind, server)
    assert words in str(error) and error.status == status and len(server.requests) == 1
    assert str(error).isprintable() and len(str(error)) < 600


def test_a_page_is_not_an_answer():
    with ScriptedServer(body(200, "<html>Welcome to nginx!</html>", "text/html")) as server:
        assert "not as a model endpoint" in str(fails(EndpointUnreachable, server))


def test_an_error_with_a_body_that_never_ends():
    with ScriptedServer([head(400, content_length=99), b"half", 30]) as server:
        assert "Bad Request" in str(fails(BadRequest, server, first_token_timeout_s=0.2))
    with ScriptedServer([head(400, connection="close"), *[b"x" * 2**18] * 64]) as server:
        assert len(str(fails(BadRequest, server))) < 600
        assert server.wait_hung_up()


# --- repeats

ANSWER = [stream_head(), said("Hello"), END]


def busy(status, **headers):
    return body(status, failure("busy"), **headers)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_repeats_when_nothing_was_answered(status):
    with ScriptedServer(busy(status), busy(status), ANSWER) as server:
        assert ask(server).text == "Hello"
    assert len(server.requests) == 3
    assert server.requests[0].body == server.requests[2].body


def test_retry_after_in_seconds_is_honoured():
    with ScriptedServer(busy(429, retry_after=1), ANSWER) as server:
        assert ask(server).text == "Hello"
    assert 1.0 <= server.requests[1].arrived - server.requests[0].arrived < 2.5


def test_retry_after_as_a_date_is_honoured():
    date = formatdate(time.time() + 2, usegmt=True)
    with ScriptedServer(busy(503, retry_after=date), ANSWER) as server:
        assert ask(server).text == "Hello"
    assert 0.8 <= server.requests[1].arrived - server.requests[0].arrived < 4


@pytest.mark.parametrize("as_date", [False, True])
def test_a_long_retry_after_is_passed_on(as_date):
    value = formatdate(time.time() + 3600, usegmt=True) if as_date else "3600"
    with ScriptedServer(busy(429, retry_after=value), ANSWER) as server:
        error = fails(RateLimited, server)
    assert 3500 < error.retry_after_s <= 3600 and "asks to wait" in str(error)
    assert len(server.requests) == 1


def test_a_wait_beyond_the_cap_is_not_waited_for():
    with ScriptedServer(busy(503, retry_after=5), ANSWER) as server:
        started = time.monotonic()
        assert fails(ServerError, server, max_wait_s=0.5).retry_after_s == 5
    assert time.monotonic() - started < 2 and len(server.requests) == 1


@pytest.mark.parametrize("value", ["soon", "-5", "9" * 400, "1e9", "0, 1",
                                   "Fri, 99 Feb 2026 00:00:00 GMT"])
def test_nonsense_retry_after(value):
    with ScriptedServer(busy(429, retry_after=value), ANSWER) as server:
        if value.isdigit():
            assert len(str(fails(RateLimited, server))) < 600
        else:
            assert ask(server).text == "Hello"


def test_repeats_end():
    with ScriptedServer(busy(503)) as server:
        error = fails(ServerError, server, retries=2)
    assert len(server.requests) == 3 and error.status == 503
    with ScriptedServer(busy(429, retry_after=1)) as server:
        started = time.monotonic()
        assert fails(RateLimited, server, timeout_s=0.5).retry_after_s == 1
    assert time.monotonic() - started < 0.5 and len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_no_repeat_where_it_cannot_help_or_is_not_safe(status):
    with ScriptedServer(busy(status), ANSWER) as server:
        with pytest.raises(ClientError):
            ask(server)
    assert len(server.requests) == 1


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_nothing_listens(caplog):
    url = f"http://127.0.0.1:{free_port()}/v1"

    async def run():
        async with ChatClient(url, backoff_s=0.01, retries=2) as client:
            await client.complete(QUESTION, model="javis")
    caplog.set_level(logging.INFO, "javis")
    with pytest.raises(EndpointUnreachable) as caught:
        asyncio.run(run())
    for words in (url, "javis doctor", "configs/config.yaml"):
        assert words in str(caught.value)
    assert sum("Trying again" in record.message for record in caplog.records) == 2


def test_a_server_that_comes_up_late_is_found():
    port = free_port()

    async def run():
        async def start():
            await asyncio.sleep(0.15)
            async def serve(reader, writer):
                await reader.readuntil(b"\r\n\r\n")
                writer.writelines(ANSWER)
                writer.close()
            return await asyncio.start_server(serve, "127.0.0.1", port)
        starting = asyncio.create_task(start())
        async with ChatClient(f"http://127.0.0.1:{port}/v1", backoff_s=0.1) as client:
            reply = await client.complete(QUESTION, model="javis")
        (await starting).close()
        return reply
    assert asyncio.run(run()).text == "Hello"


def test_a_name_that_does_not_resolve():
    async def run():
        async with ChatClient("http://no-such-host.invalid/v1", retries=0) as client:
            await client.models()
    with pytest.raises(EndpointUnreachable, match="no-such-host.invalid"):
        asyncio.run(run())


# --- stopping

LONG = [stream_head(), *[said("word "), 0.05] * 200, END]


def test_cancelling_the_task_closes_the_socket():
    async def run(url):
        client = ChatClient(url)
        seen = asyncio.Event()

        async def read():
            async for _ in client.stream(QUESTION, model="javis"):
                seen.set()
        task = asyncio.create_task(read())
        await asyncio.wait_for(seen.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.wait_hung_up)
    with ScriptedServer(LONG) as server:
        asyncio.run(run(server.url))


def test_cancelling_before_the_first_byte_closes_the_socket():
    async def run(url):
        task = asyncio.create_task(ChatClient(url).complete(QUESTION, model="javis"))
        while not server.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.wait_hung_up)
    with ScriptedServer([30]) as server:
        asyncio.run(run(server.url))


def test_cancelling_a_pause_before_a_repeat():
    async def run(url):
        task = asyncio.create_task(ChatClient(url).complete(QUESTION, model="javis"))
        while not server.requests:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 0.5)
    with ScriptedServer(busy(429, retry_after=15), ANSWER) as server:
        asyncio.run(run(server.url))
    assert len(server.requests) == 1


def test_leaving_the_stream_closes_the_socket():
    async def run(url):
        client = ChatClient(url)
        async with aclosing(client.stream(QUESTION, model="javis")) as events:
            assert await anext(events) == TextDelta("word ")
        assert await asyncio.to_thread(server.wait_hung_up)
        async for _ in client.stream(QUESTION, model="javis"):  # dropped, without aclosing
            break
        assert await asyncio.to_thread(server.wait_hung_up, 1)
    with ScriptedServer(LONG) as server:
        asyncio.run(run(server.url))


def test_the_stream_is_closed_when_aclose_returns():
    class Endless(httpx.AsyncByteStream):
        closed = False

        async def __aiter__(self):
            while True:
                yield said("word ")

        async def aclose(self):
            self.closed = True

    async def run():
        endless = Endless()
        transport = httpx.MockTransport(lambda request: httpx.Response(200, stream=endless))
        client = ChatClient("http://127.0.0.1:8000/v1", transport=transport)
        events = client.stream(QUESTION, model="javis")
        await anext(events)
        await events.aclose()
        assert endless.closed
    asyncio.run(run())


# --- many at once

def test_two_requests_at_once():
    async def run(url):
        async with ChatClient(url) as client:
            started = time.monotonic()
            asked = [client.complete(QUESTION, model=name) for name in ("a", "b")]
            replies = await asyncio.gather(*asked)
            return replies, time.monotonic() - started
    with ScriptedServer([stream_head(), said("one"), 0.4, END]) as server:
        replies, seconds = asyncio.run(run(server.url))
    assert [reply.text for reply in replies] == ["one", "one"] and seconds < 0.75
    assert {request.json["model"] for request in server.requests} == {"a", "b"}


def test_one_client_in_several_loops():
    with ScriptedServer([*chunked(said("Hello"), END), LAST_CHUNK, KEEP]) as server:
        client = ChatClient(server.url)
        for _ in range(3):
            assert asyncio.run(client.complete(QUESTION, model="javis")).text == "Hello"
        assert len(client._connections._pools) == 1


def test_a_finished_answer_leaves_its_connection_to_the_next():
    script = [*chunked(said("Hello"), END), 0.02, LAST_CHUNK]

    async def run(url):
        async with ChatClient(url) as client:
            return [(await client.complete(QUESTION, model="javis")).text for _ in range(3)]
    with ScriptedServer([*script, KEEP], script, script) as server:
        assert asyncio.run(run(server.url)) == ["Hello"] * 3
    connections = [request.connection for request in server.requests]
    assert connections == [0, 0, 1]  # the second answer ended the first connection


def test_a_server_that_holds_the_line_after_done_does_not_hold_the_answer():
    with ScriptedServer([stream_head(), said("Hello"), END, 30]) as server:
        started = time.monotonic()
        assert ask(server).text == "Hello"
        assert time.monotonic() - started < 1.5 and server.wait_hung_up()


def test_a_thousand_tokens_a_second():
    tick = b"".join(said(f"{i % 10}") for i in range(10))
    script = [stream_head(), *[tick, 0.008] * 200, END]
    with ScriptedServer(script) as server:
        started = time.process_time()
        reply = ask(server)
        spent = time.process_time() - started
    assert reply.text == "0123456789" * 200
    assert spent < reply.latency_s  # client and server together keep less than one core busy


# --- keys, URLs, proxies, imports

def test_the_key_stays_secret(caplog):
    caplog.set_level(logging.DEBUG)
    refused = body(401, failure(f"Incorrect API key provided: {KEY}"))
    with ScriptedServer(busy(429), refused) as server:
        error = fails(Unauthorized, server)
        client = ChatClient(server.url, SecretStr(KEY))
    assert "****" in str(error) and KEY not in str(ClientError(f"wrong key {KEY}"))
    assert KEY not in repr(client) + repr(error) + caplog.text
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_key_is_not_cut_in_two_and_shown():
    with ScriptedServer(body(401, failure("x" * 280 + KEY))) as server:
        assert KEY[:8] not in str(fails(Unauthorized, server))


def test_a_key_with_a_line_end_is_cleaned_and_one_with_letters_is_refused():
    async def run(url):
        async with ChatClient(url, KEY + "\r\n") as client:
            return await client.complete(QUESTION, model="javis")
    with ScriptedServer(ANSWER) as server:
        asyncio.run(run(server.url))
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    for key in ("sk-one\nsk-two-abcdef", "sk-비밀비밀비밀"):
        with pytest.raises(ConfigError) as caught:
            ChatClient("http://127.0.0.1:8000/v1", key)
        assert key not in str(caught.value)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000/v1", "ftp://host/v1", "http://",
                                 "http://host:99999/v1", "http://[::1/v1"])
def test_urls_that_cannot_work(url):
    with pytest.raises(ConfigError, match="not the URL of a model endpoint"):
        ChatClient(url)


@pytest.mark.parametrize("url", [
    "https://me:hunter2@host/v1", "me:hunter2@host/v1", "https://me:hunter2@host:99999/v1",
    "https://host/v1?key=hunter2", "https://host/v1#hunter2"])
def test_urls_with_secrets(url):
    with pytest.raises(ConfigError) as caught:
        ChatClient(url)
    assert "hunter2" not in str(caught.value) and "api_key" in str(caught.value)


def test_proxies_are_for_other_machines_only(monkeypatch):
    async def run(url):
        async with ChatClient(url, KEY, retries=0) as client:
            return (await client.complete(QUESTION, model="javis")).text
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with ScriptedServer(ANSWER) as proxy, ScriptedServer(ANSWER) as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert asyncio.run(run(server.url)) == "Hello"
        assert asyncio.run(run(server.url.replace("127.0.0.1", "localhost"))) == "Hello"
        assert proxy.requests == []
        assert asyncio.run(run("http://model.invalid/v1")) == "Hello"
    [request] = proxy.requests
    assert request.path == "http://model.invalid/v1/chat/completions"


def test_importing_the_client_is_cheap():
    code = ("import sys, javis.client; heavy = 'httpx', 'tenacity', 'pydantic', 'IPython'; "
            "print([name for name in heavy if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_pauses_double_stay_in_bounds_and_differ():
    client = ChatClient("http://127.0.0.1:8000/v1", backoff_s=1, max_wait_s=4)
    error = RateLimited("", retry_after_s=3)
    random.seed(0)
    for attempt, low in ((1, 3), (2, 3), (3, 4), (9, 4)):
        pauses = {client._limits.pause(attempt, error) for _ in range(20)}
        assert low <= min(pauses) and max(pauses) <= low * 1.25 and len(pauses) > 1
