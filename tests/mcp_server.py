"A real MCP server, good or bad, for tests: python mcp_server.py [--http PORT] [--mood MOOD] [--say TEXT]"
import argparse
import os
import signal
import subprocess
import sys
import time

words = argparse.ArgumentParser()
words.add_argument("--http", type=int)
words.add_argument("--mood", default="")
words.add_argument("--say", default="Add two numbers.")
words.add_argument("--touch")
words = words.parse_args()
if words.touch:
    with open(words.touch, "a") as file:
        file.write(f"{os.getpid()}\n")
if words.mood == "slow":
    time.sleep(3)
if words.mood == "mute":
    time.sleep(600)
if words.mood == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"],
                     start_new_session=True, stdin=subprocess.DEVNULL)
if words.mood == "noisy":
    print("Welcome!\n[not json\n\x1b[31mred", flush=True)
    print("x" * 3_000_000, file=sys.stderr, flush=True)
if words.mood == "nonsense":
    for line in sys.stdin:
        print('{"jsonrpc": "2.0", "id": 1, "result": [7', flush=True)
        print('{"jsonrpc": "2.0", "id": 1, "result": {"tools": 7}}', flush=True)

from mcp.server import MCPServer  # noqa: E402
from mcp_types import ImageContent, ToolAnnotations  # noqa: E402

server = MCPServer("test")


@server.tool(description=words.say, annotations=ToolAnnotations(readOnlyHint=True))
def add(a: int, b: int = 2) -> int:
    return a + b


@server.tool()
def pid() -> str:
    "The number of this process."
    return str(os.getpid())


@server.tool()
def variables() -> str:
    "The names of all variables."
    return " ".join(sorted(os.environ))


@server.tool()
def crash() -> str:
    "End with last words."
    print("the disk is on fire", file=sys.stderr, flush=True)
    os._exit(7)


@server.tool()
def sleep(seconds: float) -> str:
    "Sleep."
    time.sleep(seconds)
    return "awake"


@server.tool()
def long(size: int) -> str:
    "A long text."
    return "x" * size


@server.tool()
def fail() -> str:
    "Fail."
    raise ValueError("no such city")


@server.tool()
def picture() -> list[ImageContent]:
    "A picture."
    return [ImageContent(type="image", data="QUJD", mime_type="image/png")]


@server.tool(name="odd name.with/dots")
def odd() -> str:
    "An odd name."
    return "odd"


if words.mood == "many":
    for number in range(300):
        server.add_tool(pid, name=f"pid{number}")
if words.http:
    server.run("streamable-http", host="127.0.0.1", port=words.http)
else:
    server.run("stdio")
if words.mood == "stubborn":
    time.sleep(600)
