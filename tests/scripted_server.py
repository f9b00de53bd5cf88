"""A local HTTP server that plays back raw bytes, and remembers what it was sent.

    with ScriptedServer([stream_head(), said("Hel"), 0.5, said("lo"), END]) as server:
        ...  # talk to server.url
    server.requests[0].json["messages"]

The n-th request gets the n-th script (the last one again when they run out). A step of a script is
bytes to send as they are, a number of seconds to pause, or one of two words: ABORT resets the
connection, KEEP leaves it open for the next request. At the end of a script the connection is
closed in order.
"""
import asyncio
import json
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

ABORT, KEEP = object(), object()


def head(status: int = 200, **headers: Any) -> bytes:
    "The head of an answer; `retry_after=1` becomes `retry-after: 1`."
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def stream_head(**headers: Any) -> bytes:
    "The head of a stream that lasts until the connection is closed."
    return head(content_type="text/event-stream", connection="close", **headers)


def body(status: int, content: Any, kind: str = "application/json", **headers: Any) -> list[bytes]:
    "A whole answer: JSON unless `content` is text."
    data = (content if isinstance(content, str) else json.dumps(content)).encode()
    headers |= {"content_type": kind, "content_length": len(data), "connection": "close"}
    return [head(status, **headers), data]


def failure(message: Any, **more: Any) -> dict[str, Any]:
    "The error object of OpenAI, llama.cpp and vLLM."
    return {"error": {"message": message, **more}}


def sse(data: Any) -> bytes:
    "One event."
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"data: {text}\n\n".encode()


def delta(finish_reason: str | None = None, **fields: Any) -> bytes:
    "An event of an answer with these fields in its delta."
    return sse({"choices": [{"index": 0, "delta": fields, "finish_reason": finish_reason}]})


def said(text: str) -> bytes:
    "An event with some text of the answer."
    return delta(content=text)


def chunked(*pieces: bytes) -> list[bytes]:
    "A stream in chunked encoding, without its end."
    start = head(content_type="text/event-stream", transfer_encoding="chunked")
    return [start, *(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)]


DONE = sse("[DONE]")
END = delta("stop") + DONE
LAST_CHUNK = b"0\r\n\r\n"


@dataclass
class Request:
    "What a client sent, and when it hung up."
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int  # which connection it came on, from 0
    arrived: float = field(default_factory=time.monotonic)
    hung_up: float | None = None  # when the client closed the connection before the script ended

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class ScriptedServer:
    def __init__(self, *scripts: list[Any]):
        self.scripts = scripts
        self.requests: list[Request] = []
        self._connections = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "ScriptedServer":
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def wait_hung_up(self, index: int = 0, within: float = 1.0) -> bool:
        "Whether the client closes the connection of a request within so many seconds."
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            if len(self.requests) > index and self.requests[index].hung_up:
                return True
            time.sleep(0.005)
        return False

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(5)

    async def _stop(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection, self._connections = self._connections, self._connections + 1
        try:
            while request := await self._read(reader, connection):
                if not await self._play(request, reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, connection: int) -> Request | None:
        if not (line := await reader.readline()):
            return None
        method, path, _ = line.decode().split()
        headers = {}
        while line := (await reader.readline()).strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        content = await reader.readexactly(int(headers.get("content-length", 0)))
        request = Request(method, path, headers, content, connection)
        self.requests.append(request)
        return request

    async def _play(
        self,
        request: Request,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        "Play the script for a request; whether the connection stays open."
        for step in self.scripts[min(len(self.requests), len(self.scripts)) - 1]:
            if step is KEEP:
                return True
            if step is ABORT:
                connection = writer.get_extra_info("socket")
                linger = struct.pack("ii", 1, 0)  # a reset in place of an orderly end
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
                return False
            try:
                if isinstance(step, bytes):
                    writer.write(step)
                    await writer.drain()
                elif await self._hears_goodbye(reader, step):
                    raise ConnectionResetError
            except ConnectionError:
                request.hung_up = time.monotonic()
                return False
        return False

    async def _hears_goodbye(self, reader: asyncio.StreamReader, seconds: float) -> bool:
        try:
            return not await asyncio.wait_for(reader.read(1), seconds)
        except TimeoutError:
            return False
