"Fetching reaches public addresses only; nothing here dials any other machine."
import gzip
import ipaddress
import socket
import threading
import time
import tracemalloc
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from javis.config import MissingExtra
from javis.tools import web
from javis.tools.base import Toolbox, ToolError, tool
from javis.tools.web import download, fetch_url, readable, web_search


BOMB = gzip.compress(b"x" * 50_000_000)


class Site(BaseHTTPRequestHandler):
    seen: list[tuple[str, dict]] = []

    def do_GET(self):
        Site.seen.append((self.path, dict(self.headers)))
        body, headers, status = self.answer()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            for part in body:
                self.wfile.write(part)
                self.wfile.flush()
        except OSError:
            pass  # the reader has had enough

    def answer(self):
        html, plain = {"Content-Type": "text/html; charset=utf-8"}, {"Content-Type": "text/plain"}
        path, _, target = self.path.partition("?to=")
        if path == "/redirect":
            return [], {"Location": target}, 302
        if path == "/loop":
            return [], {"Location": "/loop"}, 301
        if path == "/gzip":
            return [gzip.compress("안녕".encode())], plain | {"Content-Encoding": "gzip"}, 200
        if path == "/bomb":
            return [BOMB], plain | {"Content-Encoding": "gzip"}, 200
        if path == "/broken":
            return [b"no gzip"], plain | {"Content-Encoding": "gzip"}, 200
        if path == "/br":
            return [b"?"], plain | {"Content-Encoding": "br"}, 200
        if path == "/endless":
            return (b"x" * 65536 for _ in range(100_000)), plain, 200
        if path == "/drip":
            return (time.sleep(0.1) or b"x" for _ in range(600)), plain, 200
        if path == "/pdf":
            return [b"%PDF"], {"Content-Type": "application/pdf"}, 200
        if path == "/korean":
            return ["<p>안녕".encode("euc-kr")], {"Content-Type": "text/html; charset=EUC-KR"}, 200
        if path == "/charset":
            return [b"hi"], {"Content-Type": "text/plain; charset=nonsense"}, 200
        if path == "/json":
            return [b'{"a": 1}'], {"Content-Type": "application/vnd.api+json"}, 200
        if path == "/missing":
            return [b"gone"], html, 404
        return [b"<title>T</title><p>hello"], html, 200

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def site():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def no_dialling_out(monkeypatch):
    "A test that would connect to anything but loopback fails."
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            assert ipaddress.ip_address(address[0]).is_loopback, f"dialled {address}"
        return connect(self, address)
    monkeypatch.setattr(socket.socket, "connect", guarded)
    Site.seen.clear()


local = partial(download, private=True)


@pytest.mark.parametrize("address", [
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1",
    "169.254.169.254", "169.254.1.1", "168.63.129.16", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "192.0.2.1", "198.18.0.1", "::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1",
    "2002:7f00:1::", "2001:db8::1", "2001:4860::5efe:7f00:1", "fe80::5efe:7f00:1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2"])
def test_closed_addresses(address):
    with pytest.raises(ToolError, match="stays closed"):
        download("http://name.example/", resolve=lambda host, port: [address])
    with pytest.raises(ToolError, match="stays closed"):  # one of several is enough
        download("http://name.example/", resolve=lambda host, port: ["93.184.215.14", address])


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:4700:4700::1111", "::ffff:93.184.215.14",
                                     "64:ff9b::5db8:d70e"])
def test_open_addresses(address):
    assert web._is_open(ipaddress.ip_address(address), private=False)


def test_private_opens_loopback_but_never_metadata():
    for address in ("127.0.0.1", "::1", "192.168.1.1", "fc00::1"):
        assert web._is_open(ipaddress.ip_address(address), private=True)
    for address in ("169.254.169.254", "168.63.129.16", "fd00:ec2::254", "0.0.0.0", "224.0.0.1", "fe80::1"):
        assert not web._is_open(ipaddress.ip_address(address), private=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0",
                                  "[::1]", "[::ffff:127.0.0.1]", "127.0.0.1.", "１２７.０.０.１", "[fe80::1%25lo]"])
def test_spellings_of_this_machine_reach_nobody(site, host):
    port = site.rpartition(":")[2]
    with pytest.raises(ToolError):
        download(f"http://{host}:{port}/")
    assert Site.seen == []


@pytest.mark.parametrize("url", [
    "file:///etc/passwd", "ftp://a.example/", "gopher://a.example/", "data:text/plain,hi", "javascript:alert(1)",
    "http:///path", "http://", "https://user@a.example/", "https://user:pw@a.example/", "http://a.example\\@b.example/",
    "http://a.example\0.b.example/", "http://a.exa mple/", "http://a.example/\r\nX: y", "http://[::1", ""])
def test_what_is_no_web_address(url):
    asked = []
    with pytest.raises(ToolError):
        download(url, resolve=lambda host, port: asked.append(host) or ["127.0.0.1"])
    assert asked == []


def test_unknown_names():
    def nobody(host, port):
        raise socket.gaierror(-2, "Name or service not known")
    with pytest.raises(ToolError, match="name.example is not known"):
        download("name.example", resolve=nobody)


def test_the_vetted_address_is_dialled_and_the_name_is_sent(site):
    port = int(site.rpartition(":")[2])
    asked = []

    def once(host, port):  # a second question would be answered differently
        asked.append((host, port))
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]
    page = download(f"http://docs.example:{port}/x", resolve=once, private=True)
    assert page.status == 200 and asked == [("docs.example", port)]
    assert Site.seen[0][1]["Host"] == f"docs.example:{port}" and page.url.startswith("http://docs.example")


def test_proxies_of_the_environment_are_not_used(site, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert local(site).status == 200


def test_redirects_are_vetted_again(site):
    assert local(f"{site}/redirect?to=/next").url == f"{site}/next"
    for target in ("file:///etc/passwd", "http://169.254.169.254/latest", "//user@127.0.0.1/"):
        with pytest.raises(ToolError):
            local(f"{site}/redirect?to={target}")
    with pytest.raises(ToolError, match="more than five times"):
        local(f"{site}/loop")
    assert len(Site.seen) == 1 + 1 + 3 + 6

    def resolve(host, port):
        return {"good.example": ["127.0.0.1"]}.get(host, ["10.9.9.9"])
    port = site.rpartition(":")[2]
    before = web._is_open
    try:
        web._is_open = lambda address, private: str(address) == "127.0.0.1"
        with pytest.raises(ToolError, match="bad.example is 10.9.9.9"):
            download(f"http://good.example:{port}/redirect?to=http://bad.example/", resolve=resolve)
    finally:
        web._is_open = before


def test_the_body_is_bounded_after_unpacking(site):
    assert local(f"{site}/gzip").body == "안녕".encode()
    for path in ("/bomb", "/endless"):
        start = time.monotonic()
        page = local(site + path, limit=10_000)
        assert len(page.body) == 10_000 and not page.whole and time.monotonic() - start < 5
    for path in ("/broken", "/br"):
        with pytest.raises(ToolError):
            local(site + path)


def test_a_bomb_is_never_unpacked(site):
    tracemalloc.start()
    try:
        local(f"{site}/bomb", limit=10_000)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_slow_server_has_a_deadline(site):
    start = time.monotonic()
    with pytest.raises(ToolError, match="within 0.5 s"):
        local(f"{site}/drip", timeout_s=0.5)
    assert time.monotonic() - start < 5


def test_fetch_url(site):
    fetch = partial(fetch_url, download=local)
    assert fetch(site) == f"{site}\nT\n\nhello"
    assert fetch(f"{site}/korean").endswith("안녕")
    assert fetch(f"{site}/charset").endswith("hi") and fetch(f"{site}/json").endswith('{"a": 1}')
    assert "(only its beginning)" in fetch_url(f"{site}/endless", download=partial(local, limit=100))
    for path, message in (("/pdf", "application/pdf"), ("/missing", "404")):
        with pytest.raises(ToolError, match=message):
            fetch(site + path)


def test_fetch_works_where_a_loop_is_running(site):
    import asyncio

    async def in_a_notebook():
        return local(site).status
    assert asyncio.run(in_a_notebook()) == 200


def test_a_closed_port_is_a_sentence(site):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ToolError, match="cannot be fetched"):
        local(f"http://127.0.0.1:{port}/")


def test_readable():
    title, text = readable("""<!doctype html><head><title> A  title </title><style>x</style></head>
      <body><nav>menu</nav><h2>Head</h2><p>one<b> two</b>  three</p><script>if (1 < 2) {}</script>
      <pre>def f():\n    return 1 &lt; 2</pre><ul><li>a</li><li>b</li></ul>
      <table><tr><td>1</td><td>2</td></tr></table>&copy; end""")
    assert title == "A title"
    assert text == ("## Head\n\none two three\n\ndef f():\n    return 1 < 2\n\n- a\n- b\n\n| 1 | 2\n\n"
                    "© end")
    assert readable("<nav>never closed<main>text")[1] == "text"
    assert readable("plain")[1] == "plain" and readable("") == ("", "")


@pytest.mark.parametrize("piece", ["<!", "<a ", "<a x='", "</", "<?", "<nav>", "<", "<![CDATA["])
def test_no_page_keeps_the_reader_busy(piece):
    start = time.monotonic()
    readable("<p>fine</p>" + piece * (1_000_000 // len(piece)), timeout_s=0.3)
    assert time.monotonic() - start < 8


def test_web_search():
    results = [{"title": f"t{n}", "href": f"https://a.example/{n}", "body": "b"} for n in range(9)]
    text = web_search("q", search=lambda query, limit: results, limit=2)
    assert text == "1. t0\n   https://a.example/0\n   b\n2. t1\n   https://a.example/1\n   b"
    assert web_search("q", search=lambda query, limit: []) == "nothing was found for 'q'"


def test_web_search_says_what_is_missing(monkeypatch):
    def missing(module, extra):
        raise MissingExtra(f"{module} is not installed. Install it with: pip install 'javis[{extra}]'")
    monkeypatch.setattr(web, "need", missing)
    answer = Toolbox([tool("net")(web_search)]).call("web_search", {"query": "x"})
    assert answer == "error: ddgs is not installed. Install it with: pip install 'javis[web]'"


@pytest.mark.parametrize("failure, message", [
    ("RatelimitException", "rate limited"), ("TimeoutException", "in time"), ("DDGSException", "error: the search failed: 202"),
    ("none", "nothing was found")])
def test_web_search_failures(monkeypatch, failure, message):
    ddgs, errors = pytest.importorskip("ddgs"), pytest.importorskip("ddgs.exceptions")

    class Broken:
        def __init__(self, **options):
            pass

        def text(self, query, max_results):
            if failure == "none":
                raise errors.DDGSException("No results found.")
            raise getattr(errors, failure)("202")
    monkeypatch.setattr(ddgs, "DDGS", Broken)
    assert message in Toolbox([tool("net")(web_search)]).call("web_search", {"query": "x"})


def test_httpx_headers_are_plain(site):
    local(site)
    headers = Site.seen[0][1]
    assert headers["Accept-Encoding"] == "gzip, identity" and "Cookie" not in headers
    assert httpx.__version__ not in headers["User-Agent"]
