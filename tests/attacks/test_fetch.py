"Cases 32-42: what a fetch may be tricked into. Decoys listen on loopback; whatever reaches one got through."
import gzip
import ipaddress
import socket
import threading
import time
import tracemalloc
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import psutil
import pytest

from javis.tools import addresses, transport
from javis.tools.addresses import Reach, WebError
from javis.tools.base import Call, ToolError, running
from javis.tools.transport import download

PUBLIC = "93.184.215.14"
BOMB = gzip.compress(b"x" * 200_000_000)
dialled: list[tuple] = []


class Site(BaseHTTPRequestHandler):
    "A web site that does what it is asked to, and remembers who came."
    def do_GET(self):
        self.server.seen.append((self.path, dict(self.headers)))
        path, _, target = self.path.partition("?to=")
        kind = {"/redirect": 302, "/for-good": 308}.get(path, 200)
        self.send_response(kind)
        self.send_header("Content-Type", "text/plain")
        for name, value in {"/redirect": [("Location", target)], "/for-good": [("Location", target)],
                            "/bomb": [("Content-Encoding", "gzip")], "/br": [("Content-Encoding", "br")],
                            "/twice": [("Content-Encoding", "gzip, gzip")], "/huge": [("Content-Length", str(10**9))],
                            "/cookie": [("Set-Cookie", "a=b; Path=/")]}.get(path, []):
            self.send_header(name, value)
        self.end_headers()
        body = {"/bomb": [BOMB], "/twice": [gzip.compress(BOMB)], "/br": [b"\x8f\x07\x80hi"] * 5,
                "/endless": (b"x" * 65536 for _ in range(10**5)), "/huge": (b"x" * 65536 for _ in range(10**5)),
                "/drip": (time.sleep(0.1) or b"x" for _ in range(600))}.get(path, [b"the secret of this machine"])
        try:
            for part in body:
                self.wfile.write(part)
                self.wfile.flush()
        except OSError:
            pass

    def log_message(self, *args):
        pass


@contextmanager
def listening():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.daemon_threads, server.seen, server.port = True, [], server.server_port
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def decoy():
    with listening() as server:
        yield server


@pytest.fixture
def good():
    with listening() as server:
        yield server


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch):
    "Nothing but loopback can be dialled: what tries is refused and written down. Only test names resolve."
    connect, lookup = socket.socket.connect, socket.getaddrinfo
    dialled.clear()

    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            dialled.append(address[:2])
            if not ipaddress.ip_address(address[0].partition("%")[0]).is_loopback:
                raise ConnectionRefusedError("no test dials out")
        return connect(self, address)

    def local_names(host, port, *rest, **options):
        name = host.decode() if isinstance(host, bytes) else str(host)
        if any(letter.isalpha() for letter in name.replace("0x", "")) and not name.startswith("localhost") and ":" not in name:
            raise socket.gaierror(-2, "Name or service not known")
        return lookup(host, port, *rest, **options)
    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket, "getaddrinfo", local_names)


def got_through(decoy, url, **options):
    "Whether the decoy was reached."
    before = len(decoy.seen)
    try:
        download(url, timeout_s=options.pop("timeout_s", 5), **options)
    except ToolError:
        pass
    return len(decoy.seen) > before


# 33 and 34: this machine under other names

SPELLINGS = ["127.0.0.1", "localhost", "LOCALHOST", "localhost.", "2130706433", "0x7f000001", "0x7F.0.0.1", "0177.0.0.1",
             "017700000001", "127.1", "127.0.1", "127.0.0.1.", "0", "0.0.0.0", "0x0", "127.255.255.254", "１２７.０.０.１",
             "127。0。0。1", "①②⑦.⓪.⓪.①", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
             "[0:0:0:0:0:ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]", "[::1%25lo]",
             "%31%32%37.0.0.1", "127.0.0.1%00.a.example", "127.0.0.1%2f.a.example"]
WRAPPED = ["::1", "::", "::ffff:127.0.0.1", "::ffff:0:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::7f00:1",
           "2002:7f00:1::", "2001:4860::5efe:7f00:1", "2001:4860::200:5efe:7f00:1", "fe80::1%lo", "2001:0:7f00:1::",
           "2001:0:4136:e378:8000:63bf:3fff:fdd2", "::ffff:10.0.0.1", "2002:a00:1::", "64:ff9b::c0a8:1", "fc00::1", "ff02::1"]
METADATA = ["169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254",
            "fd20:ce::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "0.0.0.0", "224.0.0.1"]


def attack_spellings(decoy, good):
    return any(got_through(decoy, f"http://{host}:{decoy.port}/") for host in SPELLINGS)


def attack_wrapped(decoy, good):
    "A name that resolves to a wrapped address; the wrapped ones are not dialled here, so the judgement counts."
    def opened(address):
        with pytest.raises(WebError) as caught:
            download("http://name.example/", resolve=lambda *_: [address], timeout_s=2)
        return caught.value.kind != "refused"
    return any(map(opened, WRAPPED))


def attack_metadata(decoy, good):
    "Where cloud machines get their keys: closed even for a user who opened the own network and named the host."
    def opened(address):
        with pytest.raises(WebError) as caught:
            download("http://keys.example/", resolve=lambda *_: [address], private=True,
                     named=("keys.example", "keys.example:80"), timeout_s=2)
        return caught.value.kind != "refused"
    return any(map(opened, METADATA))


# 36-38: a good name that leads elsewhere

def attack_redirect(decoy, good):
    here = f"good.example:{good.port}"
    ways = [f"http://127.0.0.1:{decoy.port}/", f"//localhost:{decoy.port}/", f"http://2130706433:{decoy.port}/",
            f"http://good.example:{decoy.port}/", f"http://[::ffff:127.0.0.1]:{decoy.port}/"]
    return any(got_through(decoy, f"http://{here}/{kind}?to={way}", named=(here,), resolve=lambda *_: ["127.0.0.1"])
               for way in ways for kind in ("redirect", "for-good"))


def attack_headers(decoy, good):
    "A key for one server is asked for by another one."
    names = (f"good.example:{good.port}", f"evil.example:{decoy.port}")
    download(f"http://{names[0]}/redirect?to=http://{names[1]}/", named=names, resolve=lambda *_: ["127.0.0.1"],
             headers={"Authorization": "Bearer key-of-good", "X-Api-Key": "key-of-good"})
    assert good.seen[-1][1]["Authorization"] == "Bearer key-of-good"
    return "key-of-good" in str(decoy.seen)


def attack_rebinding(decoy, good):
    "The first look-up says something harmless, every later one says this machine."
    answers = iter([PUBLIC])
    real = socket.getaddrinfo

    def turncoat(host, port, *rest, **options):
        if "turncoat" in str(host):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers, "127.0.0.1"), port))]
        return real(host, port, *rest, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", turncoat)
        return got_through(decoy, f"http://turncoat.example:{decoy.port}/")


def attack_mixed(decoy, good):
    orders = [[PUBLIC, "127.0.0.1"], ["127.0.0.1", PUBLIC], ["2606:4700::1111", "127.0.0.1", PUBLIC]]
    return any(got_through(decoy, f"http://mixed.example:{decoy.port}/", resolve=lambda *_, order=order: order)
               for order in orders)


# 39: what two programs read differently

CONFUSING = ["http://good.example@127.0.0.1:{port}/", "http://127.0.0.1:{port}@good.example/", "http://good.example:80@127.0.0.1:{port}/",
             "http://127.0.0.1:{port}\\@good.example/", "http://good.example\\@127.0.0.1:{port}/", "http://127.0.0.1:{port}\0.good.example/",
             "http://good.example\0@127.0.0.1:{port}/", "http://127.0.0.1:{port}/\r\nHost: x",
             "http://good.example\t@127.0.0.1:{port}/", "http:/\\127.0.0.1:{port}/"]
ODD = ["http:127.0.0.1:{port}/", "//127.0.0.1:{port}/", "http://127.0.0.1:{port}#@good.example/", "http://127.0.0.1:{port}?@good.example/",
       " http://127.0.0.1:{port}/", "HTTP://127.0.0.1:{port}/", "127.0.0.1:{port}"]


def attack_confusing(decoy, good):
    "The names are the user's own, so a fetch that takes one part for the host would go through; none is even looked up."
    named, asked = ("good.example", "good.example:80", f"good.example:{decoy.port}"), []
    resolve = lambda host, port: asked.append(host) or ["127.0.0.1"]
    options = dict(named=named, resolve=resolve)
    reached = [got_through(decoy, url.format(port=decoy.port), **options) for url in CONFUSING]
    confused = bool(asked)
    return any(reached) or confused or any(got_through(decoy, url.format(port=decoy.port), **options) for url in ODD)


# 32: other schemes

def attack_schemes(decoy, good):
    here = f"good.example:{good.port}"

    def opened(url):
        with pytest.raises(WebError) as caught:
            download(url, named=(here,), resolve=lambda *_: ["127.0.0.1"], timeout_s=2)
        return caught.value.kind != "refused"
    schemes = ["file:///etc/passwd", "ftp://a.example/", "gopher://127.0.0.1:70/_x", "data:text/plain,hi", "javascript:alert(1)",
               "dict://127.0.0.1:11211/", "ws://a.example/", "FILE:///etc/passwd", "file:/etc/passwd"]
    return any(opened(url) or opened(f"http://{here}/redirect?to={url}") for url in schemes)


# 40: more than can be taken

def attack_bomb(decoy, good):
    tracemalloc.start()
    try:
        return any(_greedy(good, path) for path in ("/bomb", "/endless", "/huge", "/twice", "/br")) \
            or tracemalloc.get_traced_memory()[1] > 20_000_000
    finally:
        tracemalloc.stop()


def _greedy(good, path):
    here, start = f"127.0.0.1:{good.port}", time.monotonic()
    try:
        page = download(f"http://{here}{path}", named=(here,), limit=100_000, timeout_s=8)
    except ToolError:
        return time.monotonic() - start > 6
    return len(page.body) > 100_000 or page.whole or time.monotonic() - start > 6


def attack_drip(decoy, good):
    here, start = f"127.0.0.1:{good.port}", time.monotonic()
    with pytest.raises(WebError):
        download(f"http://{here}/drip", named=(here,), timeout_s=0.5)
    return time.monotonic() - start > 3


def attack_slow_names(decoy, good):
    "A name server that takes its time cannot hold anybody up."
    start = time.monotonic()
    with pytest.raises(WebError):
        download("http://slow.example/", resolve=lambda *_: time.sleep(5) or [PUBLIC], timeout_s=0.5)
    return time.monotonic() - start > 3


# 41: the environment

def attack_proxy(decoy, good):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
            patch.setenv(name, f"http://127.0.0.1:{decoy.port}")
        patch.setenv("NO_PROXY", "")
        return got_through(decoy, "http://name.example/", resolve=lambda *_: [PUBLIC])


# 42: servers of this machine

def attack_own_port(decoy, good):
    "The own network is open and another port is named; neither opens this one. Nor does another name for it."
    own = [one.address for every in psutil.net_if_addrs().values() for one in every if one.family == socket.AF_INET]
    other = (f"127.0.0.1:{good.port}", "127.0.0.1", "localhost")
    direct = any(got_through(decoy, f"http://{host}:{decoy.port}/", private=True, named=other)
                 for host in ["127.0.0.1", "localhost", *own])
    alias = got_through(decoy, f"http://evil.example:{decoy.port}/", private=True, named=(f"127.0.0.1:{decoy.port}",),
                        resolve=lambda *_: ["127.0.0.1"])
    return direct or alias


ATTACKS = {attack_schemes: 32, attack_spellings: 33, attack_wrapped: 34, attack_metadata: 35, attack_redirect: 36,
           attack_headers: 36, attack_rebinding: 37, attack_mixed: 38, attack_confusing: 39, attack_bomb: 40, attack_drip: 40,
           attack_slow_names: 40, attack_proxy: 41, attack_own_port: 42}


@pytest.mark.parametrize("attack", [pytest.param(attack, marks=pytest.mark.case(n), id=f"{n}-{attack.__name__[7:]}")
                                    for attack, n in ATTACKS.items()])
def test_attack(attack, decoy, good):
    assert attack(decoy, good) is False


# a weakened build lets one of them through

def weaken_schemes(patch):
    patch.setattr(transport, "parse_url", lambda url: httpx.URL(url) if "://" in url else httpx.URL(f"https://{url}"))
    patch.setattr(transport, "port_of", lambda url: url.port or 80)


def weaken_judgement(patch):
    patch.setattr(Reach, "refuses", lambda self, host, port, address: "")


def weaken_wrapped(patch):
    patch.setattr(addresses, "_meant", lambda address: [address])


def weaken_closed(patch):
    patch.setattr(addresses, "_CLOSED", [])


def weaken_redirects(patch):
    real = transport.vetted
    patch.setattr(transport, "vetted", lambda host, port, reach, resolve:
                  resolve(host, port) if Site.hops.append(host) or len(Site.hops) % 2 == 0 else real(host, port, reach, resolve))
    patch.setattr(Site, "hops", [], raising=False)


def weaken_headers(patch):
    real = transport._hop
    key = {"Authorization": "Bearer key-of-good"}
    patch.setattr(transport, "_hop", lambda target, headers, limit, found: real(target, key, limit, found))


def weaken_pin(patch):
    real = transport._pinned

    def by_name(target, address, headers):
        request = real(target, address, headers)
        request.url = target
        return request
    patch.setattr(transport, "_pinned", by_name)


def weaken_mixed(patch):
    real = transport.vetted

    def first_only(host, port, reach, resolve):
        found = resolve(host, port)
        real(host, port, reach, lambda *_: found[:1])
        return found
    patch.setattr(transport, "vetted", first_only)


def weaken_confusing(patch):
    weaken_schemes(patch)


def weaken_size(patch):
    async def all_of_it(chunks, coding, limit):
        data = b"".join([chunk async for chunk in chunks])
        return gzip.decompress(data), True
    patch.setattr(transport, "_unpacked", all_of_it)


def weaken_deadline(patch):
    real = transport.run_apart
    patch.setattr(transport, "run_apart", lambda work, timeout_s: real(work, 4 if timeout_s < 1 else timeout_s))


def weaken_proxy(patch):
    async def as_usual(target, headers, limit, found):
        async with httpx.AsyncClient() as client:
            response = await client.get(target)
            return transport.Page(str(target), response.status_code, "", response.content, True), ""
    patch.setattr(transport, "_hop", as_usual)


def weaken_own_port(patch):
    patch.setattr(addresses, "_is_this_machine", lambda address: False)


WEAKENED = {weaken_schemes: attack_schemes, weaken_judgement: attack_spellings, weaken_wrapped: attack_wrapped,
            weaken_closed: attack_metadata, weaken_redirects: attack_redirect, weaken_headers: attack_headers,
            weaken_pin: attack_rebinding, weaken_mixed: attack_mixed, weaken_confusing: attack_confusing,
            weaken_size: attack_bomb, weaken_deadline: attack_drip, weaken_proxy: attack_proxy, weaken_own_port: attack_own_port}


@pytest.mark.parametrize("weaken", WEAKENED, ids=[one.__name__ for one in WEAKENED])
def test_a_weakened_build_lets_something_through(weaken, decoy, good, monkeypatch):
    weaken(monkeypatch)
    try:
        breached = WEAKENED[weaken](decoy, good)
    except pytest.fail.Exception:  # what should have been refused was not
        breached = True
    assert breached is True


# what stays possible

@pytest.mark.case(42)
def test_what_the_user_names_is_open(good):
    for host in (f"127.0.0.1:{good.port}", f"localhost:{good.port}"):
        assert download(f"http://{host}/", named=(host,)).body == b"the secret of this machine"
    assert not download(f"http://{host}/", named=(host,)).lasting  # and is never kept


@pytest.mark.case(36, 37)
def test_one_request_one_connection_one_address(good):
    "No cookie and no connection is shared between two names, and each is asked for once."
    asked = []
    names = tuple(f"{name}.example:{good.port}" for name in ("a", "b"))

    def resolve(host, port):
        asked.append(host)
        return ["127.0.0.1"]
    download(f"http://{names[0]}/cookie", named=names, resolve=resolve)
    download(f"http://{names[0]}/redirect?to=http://{names[1]}/", named=names, resolve=resolve)
    assert asked == ["a.example", "a.example", "b.example"] and len(dialled) == 3
    assert [headers["Host"] for _, headers in good.seen] == [names[0], names[0], names[1]]
    assert not any("Cookie" in headers for _, headers in good.seen)


@pytest.mark.case(37)
def test_an_answer_from_elsewhere_is_refused(good, monkeypatch):
    real = transport._pinned
    monkeypatch.setattr(transport, "_pinned", lambda target, address, headers: real(target, "127.0.0.1", headers))
    with pytest.raises(WebError, match="came from 127.0.0.1"):
        download(f"http://name.example:{good.port}/", resolve=lambda *_: [PUBLIC])


@pytest.mark.case(36)
def test_redirects_have_an_end(good):
    here = f"127.0.0.1:{good.port}"
    assert _chain(here, 5).status == 200
    with pytest.raises(WebError, match="more than five times"):
        _chain(here, 6)


def _chain(here, length):
    "A page behind so many redirects."
    hops = iter(range(length))
    real = Site.do_GET

    def hop(self):
        if next(hops, None) is None:
            return real(self)
        self.send_response(302)
        self.send_header("Location", "/next")
        self.end_headers()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Site, "do_GET", hop)
        return download(f"http://{here}/", named=(here,))


@pytest.mark.case(40)
def test_stop_ends_a_fetch(good):
    here, stop = f"127.0.0.1:{good.port}", threading.Event()
    threading.Timer(0.2, stop.set).start()
    start = time.monotonic()
    with running(Call(cancelled=stop)), pytest.raises(ToolError, match="stopped"):
        download(f"http://{here}/drip", named=(here,), timeout_s=30)
    assert time.monotonic() - start < 2


def test_another_address_is_tried_where_the_first_is_closed(good):
    named = (f"two.example:{good.port}",)
    page = download(f"http://{named[0]}/", named=named, resolve=lambda *_: ["127.0.0.2", "127.0.0.1"])
    assert page.status == 200 and dialled == [("127.0.0.2", good.port), ("127.0.0.1", good.port)]
