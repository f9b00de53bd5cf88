"Pages are read, searches say what happened, and both are kept for a while; nothing here dials any other machine."
import gzip
import ipaddress
import json
import socket
import stat
import sys
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from javis.basics import ConfigError, MissingExtra
from javis.tools import readable as reading
from javis.tools import engines as search
from javis.tools.addresses import Reach, WebError, parse_url
from javis.tools.base import Call, Toolbox, ToolError, running, tool
from javis.tools.cache import WebCache
from javis.tools.readable import decoded, readable
from javis.tools.engines import Hit, ddgs_search, engines_of, search_in_turn, searxng_search
from javis.tools.transport import Page, download, in_time
from javis.tools.web import fetch_url, web_search


class Site(BaseHTTPRequestHandler):
    "A few pages, and a SearXNG server that can be in several moods."
    seen: list[tuple[str, dict]] = []
    mood: object = None

    def do_GET(self):
        Site.seen.append((self.path, dict(self.headers)))
        status, headers, body = self.answer()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def answer(self):
        path = urlsplit(self.path).path
        if path == "/search":
            return Site.mood if isinstance(Site.mood, tuple) else (200, {}, json.dumps(Site.mood).encode())
        html, plain = {"Content-Type": "text/html; charset=utf-8"}, {"Content-Type": "text/plain"}
        packed = gzip.compress(b"one ") + gzip.compress("안녕".encode())
        return {"/gzip": (200, plain | {"Content-Encoding": "x-gzip"}, packed),
                "/torn": (200, plain | {"Content-Encoding": "gzip"}, gzip.compress(b"x" * 5000)[:30]),
                "/broken": (200, plain | {"Content-Encoding": "gzip"}, b"no gzip"),
                "/pdf": (200, {"Content-Type": "application/pdf"}, b"%PDF"),
                "/korean": (200, {"Content-Type": "text/html; charset=EUC-KR"}, "<p>안녕 뷁".encode("cp949")),
                "/charset": (200, {"Content-Type": "text/plain; charset=nonsense"}, b"hi"),
                "/json": (200, {"Content-Type": "application/vnd.api+json"}, b'{"a": 1}'),
                "/nothing": (200, {}, b"<html><p>no type"),
                "/missing": (404, html, b"gone")}.get(path, (200, html, b"<title>T</title><p>hello <a href=/x>you</a>"))

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def place():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch):
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            assert ipaddress.ip_address(address[0]).is_loopback, f"dialled {address}"
        return connect(self, address)
    monkeypatch.setattr(socket.socket, "connect", guarded)
    Site.seen.clear()


@pytest.fixture
def fetch(place):
    return lambda path="/", **options: fetch_url(f"http://{place}{path}", download=partial(download, named=(place,)), **options)


# fetching

def test_fetch_url(fetch, place):
    assert fetch() == f"http://{place}/\n\nT\n\nhello you [1]\n\n[1] http://{place}/x"
    assert fetch("/korean").endswith("안녕 뷁") and fetch("/charset").endswith("hi") and fetch("/json").endswith('{"a": 1}')
    assert fetch("/gzip").endswith("one 안녕") and fetch("/nothing").endswith("no type")
    for path, message in (("/pdf", "application/pdf"), ("/missing", "404"), ("/broken", "cannot be fetched")):
        with pytest.raises(ToolError, match=message):
            fetch(path)


def test_what_was_cut_says_so(fetch, place):
    assert "(only its beginning)" in fetch("/torn")
    short = partial(download, named=(place,), limit=10)
    assert "(only its beginning)" in fetch_url(f"http://{place}/", download=short)


def test_the_request_tells_little(place):
    download(f"http://{place}/", named=(place,))
    headers = Site.seen[0][1]
    assert headers["Accept-Encoding"] == "gzip, identity" and not {"Cookie", "Referer", "Authorization"} & headers.keys()


def test_fetch_works_where_a_loop_is_running(place):
    import asyncio

    async def in_a_notebook():
        return download(f"http://{place}/", named=(place,)).status
    assert asyncio.run(in_a_notebook()) == 200


def test_a_closed_port_is_offline():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        here = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(WebError, match="cannot be fetched") as caught:
        download(f"http://{here}/", named=(here,))
    assert caught.value.kind == "offline"
    with pytest.raises(WebError, match="is not known here") as caught:
        download("name.example", resolve=lambda *_: [])
    assert caught.value.kind == "offline"


def test_ctrl_c_and_stop_leave_at_once():
    start, stop = time.monotonic(), threading.Event()
    threading.Timer(0.1, stop.set).start()
    with running(Call(cancelled=stop)), pytest.raises(ToolError, match="stopped"):
        in_time(lambda: time.sleep(3), 10)
    assert time.monotonic() - start < 1


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_an_address_or_refused(text):
    for url in (text, f"http://{text}/", f"http://good.example{text}"):
        try:
            parsed = parse_url(url)
        except WebError as error:
            assert error.kind == "refused"
        else:
            assert parsed.scheme in ("http", "https") and parsed.host and not parsed.userinfo and not parsed.fragment


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), st.booleans())
def test_nothing_private_is_open_without_leave(address, wrapped):
    if wrapped and address.version == 4:
        address = ipaddress.ip_address(f"::ffff:{address}")
    inner = getattr(address, "ipv4_mapped", None) or address
    if not Reach().refuses("a.example", 80, address):
        assert inner.is_global and not inner.is_loopback and not inner.is_multicast


# reading

def test_readable():
    page = readable("""<!doctype html><head><title> A  title </title><style>x</style></head>
      <body><header>Logo</header><nav>menu</nav><h2>Head</h2><p>one<b> two</b>  three</p><script>if (1 < 2) {}</script>
      <pre>def f():\n\n    return 1 &lt; 2</pre><ul><li>a<li>b<ol><li>c<li>d</ol></ul>
      <table><tr><th>n<th>x</tr><tr><td>1</td><td>2<br>3</td></tr></table>&copy; end <img alt="a cat" src=x></body>""")
    assert page.title == "A title"
    assert page.text == ("## Head\n\none two three\n\ndef f():\n\n    return 1 < 2\n\n- a\n- b\n  1. c\n  2. d\n\n"
                         "| n | x |\n| 1 | 2 3 |\n\n© end [image: a cat]")
    assert readable("plain").text == "plain" and str(readable("")) == "" and str(readable("<!-- -->\0")) == ""


@pytest.mark.parametrize("hidden", [
    "<p hidden>X</p>", "<p style='display:none'>X</p>", "<p style='font-size: 0'>X</p>", "<p style='opacity:0'>X</p>",
    "<p aria-hidden=true>X</p>", "<div class='cookie-banner'>X</div>", "<!-- X -->", "<template>X</template>",
    "<noscript>X</noscript>", "<div role=navigation>X</div>", "<select><option>X</select>", "<span class=sr-only>X</span>"])
def test_what_a_person_does_not_see_is_not_read(hidden):
    assert readable(f"<body><p>before</p>{hidden}after</body>").text == "before\n\nafter" or \
        readable(f"<body><p>before</p>{hidden}<p>after</p></body>").text == "before\n\nafter"


def test_the_main_part_is_read():
    words = "<p>" + "word " * 50
    page = f"<body><div class=menu>Menu</div><main><header>By A.</header>{words}</main><div>Related</div></body>"
    assert "Menu" not in readable(page).text and "By A." in readable(page).text
    several = f"<body><h1>List</h1><article>{words}</article><article>{words}</article></body>"
    assert readable(several).text.startswith("# List")
    assert "Real" in readable(f"<body><main>x</main><div>{words} Real</div></body>").text


def test_links_become_references():
    page = readable("<base href='https://b.example/d/'><p><a href=a>A</a> <a href='/c?x=1'>C</a> <a href=a>again</a> "
                    "<a href='javascript:x()'>J</a> <a href='#top'>T</a> <a href='data:,x'>D</a> <a href='http://[bad'>B</a> <a href=q></a>",
                    "https://a.example/")
    assert page.text == "A [1] C [2] again [1] J T D B" and page.links == ["https://b.example/d/a", "https://b.example/c?x=1"]
    many = readable("".join(f"<a href=/{n}>{n}</a> " for n in range(100)), "https://a.example/", most_links=3)
    assert len(many.links) == 3 and "99" in many.text


def test_tables_that_only_arrange_are_no_tables():
    page = readable("<table><tr><td><h1>Head</h1></td><td><p>one<p>two</td></tr></table>").text
    assert "# Head" in page and "|" not in page
    assert readable("<table><tr><td>only</table>").text == "only"


@pytest.mark.parametrize("name, declared", [
    ("cp949", "<meta charset=euc-kr>"), ("cp949", '<meta http-equiv=content-type content="text/html; charset=ks_c_5601-1987">'),
    ("cp949", ""), ("utf-8", ""), ("utf-8", "<meta charset=utf-8>"), ("utf-16", ""), ("utf-8-sig", "<meta charset=euc-kr>")])
def test_korean_in_any_encoding(name, declared):
    text = f"{declared}<p>서울에 첫눈이 왔다, 뷁"
    for content_type in ("text/html", "text/html; charset=utf-8"):
        assert decoded(text.encode(name), content_type).endswith("서울에 첫눈이 왔다, 뷁")


def test_a_page_that_is_cut_within_a_letter():
    assert decoded("눈이 온다".encode()[:-1]) == "눈이 온" and decoded(b"\xfd\xfe x", "text/html; charset=utf-8").endswith(" x")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(["<div>", "</div>", "<table>", "<tr>", "<td>", "</table>", "<ul>", "<li>", "</ul>", "<pre>", "</pre>",
                                 "<a href=/x>", "</a>", "<h2>", "</h2>", "text ", "<br>", "\n", "<!--", "-->", "<p", "&amp;", "<svg>", "\0"]),
                max_size=60))
def test_any_markup_is_read(pieces):
    page = readable("".join(pieces), "https://a.example/")
    assert isinstance(str(page), str) and all(url.startswith("https://a.example") for url in page.links)


@pytest.mark.parametrize("piece", ["<!", "<a ", "<a x='", "</", "<?", "<nav>", "<", "<![CDATA[", "<div>", "<b>", "<table>", "<li>", "<p><b>",
                                   "<a href=x>", "<table><tr><td>"])
def test_no_page_keeps_the_reader_busy(piece):
    start = time.monotonic()
    assert readable("<p>fine</p>" + piece * (1_000_000 // len(piece)), timeout_s=10).text.startswith("fine")
    assert time.monotonic() - start < 30


def test_the_reader_says_what_is_missing(monkeypatch):
    def missing(module, extra):
        raise MissingExtra(f"{module} is not installed. Try: pip install 'javis[{extra}]'")
    monkeypatch.setattr(reading, "need", missing)
    monkeypatch.setattr(search, "need", missing)
    html = lambda url: Page(url, 200, "text/html", b"<p>x", True)
    box = Toolbox([tool("net", download=html)(fetch_url), tool("net")(web_search)])
    assert box.call("fetch_url", {"url": "a.example"}) == "error: lxml.etree is not installed. Try: pip install 'javis[web]'"
    assert box.call("web_search", {"query": "x"}) == "error: ddgs is not installed. Try: pip install 'javis[web]'"


# keeping

def test_cache(tmp_path):
    clock = [0.0]
    cache = WebCache(tmp_path / "web", max_age_s=10, max_bytes=40_000, now=lambda: clock[0])
    cache.put("a", "b", value="안녕")
    assert cache.get("a", "b") == ("안녕", 0.0) and cache.get("ab") is None and cache.get("a") is None
    clock[0] = 11
    assert cache.get("a", "b") is None and cache.get("a", "b", max_age_s=20) == ("안녕", 11.0)
    clock[0] = 5  # somebody set the clock back
    assert cache.get("a", "b")[1] == 5
    if sys.platform != "win32":
        assert stat.S_IMODE(cache.path.stat().st_mode) == 0o600
    cache.clear()
    assert cache.get("a", "b") is None


def test_cache_is_bounded(tmp_path):
    import os
    cache = WebCache(tmp_path, max_bytes=40_000)
    for number in range(60):
        cache.put(str(number), value=os.urandom(1000).hex())
    kept = [number for number in range(60) if cache.get(str(number))]
    assert kept and kept == list(range(kept[0], 60)) and len(kept) < 40
    cache.put("large", value=os.urandom(20_000).hex())
    assert cache.get("large") is None and cache.get("59")


@pytest.mark.parametrize("damage", [b"", b"no database", b"SQLite format 3\0" + b"\0" * 500])
def test_a_broken_cache_is_begun_anew(tmp_path, damage):
    cache = WebCache(tmp_path)
    cache.put("x", value=1)
    cache.path.write_bytes(damage)
    assert cache.get("x") is None
    cache.put("x", value=2)
    assert cache.get("x")[0] == 2


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    cache = WebCache(tmp_path / "file" / "below")
    cache.put("x", value=1)
    assert cache.get("x") is None


def test_many_at_once(tmp_path):
    def work(number):
        cache = WebCache(tmp_path)
        for turn in range(20):
            cache.put(f"{number}-{turn}", value=turn)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert all(WebCache(tmp_path).get(f"{number}-{turn}") for number in range(4) for turn in range(20))


def test_pages_are_kept(tmp_path):
    clock, asked, cache = [0.0], [], WebCache(tmp_path, now=lambda: clock[0])
    answer = [Page("https://a.example/", 200, "text/plain", b"\xff one", True)]

    def serve(url):
        asked.append(url)
        if isinstance(answer[0], Exception):
            raise answer[0]
        return answer[0]
    get = partial(fetch_url, "a.example", download=serve, cache=cache)
    first = get()
    assert get() == first and fetch_url("https://a.example/#part", download=serve, cache=cache) == first and len(asked) == 1
    clock[0] = 600
    assert "10 min ago" in get() and len(asked) == 1 and "ago" not in get(fresh=True) and len(asked) == 2
    clock[0] = 9000
    answer[0] = WebError("no network", "offline")
    assert "2 h ago: it cannot be reached now" in get()
    answer[0] = WebError("a.example is 10.0.0.1", "refused")
    with pytest.raises(WebError, match="10.0.0.1"):
        get()


@pytest.mark.parametrize("page", [Page("https://a.example/", 200, "text/plain", b"x", True, lasting=False),
                                  Page("https://a.example/", 404, "text/plain", b"x", True)])
def test_what_is_not_kept(tmp_path, page):
    cache = WebCache(tmp_path)
    for _ in range(2):
        Toolbox([tool("net", download=lambda url: page, cache=cache)(fetch_url)]).call("fetch_url", {"url": "a.example"})
    assert cache.get("page", "https://a.example/") is None and cache.get("page", "https://a.example") is None


# searching

def engine(outcome):
    def ask(query, limit):
        if isinstance(outcome, str):
            raise WebError(f"the engine is {outcome}", outcome)
        return outcome
    return ask


HIT = Hit("t", "https://a.example/", "b")


@pytest.mark.parametrize("outcomes, expected", [
    ([[HIT]], "1. t\n   https://a.example/\n   b"), (["rate_limited", [HIT]], "1. t\n   https://a.example/\n   b"),
    ([[], [HIT]], "1. t\n   https://a.example/\n   b"), ([[]], "nothing found for 'q': try other words"),
    (["offline", []], "nothing found for 'q': try other words"), (["rate_limited"], "error: rate_limited: the engine is rate_limited"),
    (["offline", "rate_limited"], "error: rate_limited: "), (["offline", "failed"], "error: offline: "), (["slow"], "error: offline: "),
    (["failed"], "error: failed: the engine is failed."), ([], "nothing found")])
def test_outcomes_of_a_search(outcomes, expected):
    box = Toolbox([tool("net", engines=[engine(one) for one in outcomes])(web_search)])
    assert box.call("web_search", {"query": "q"}).startswith(expected)


def test_searches_are_kept(tmp_path):
    asked, cache = [], WebCache(tmp_path)

    def count(query, limit):
        asked.append(query)
        return [HIT]
    find = partial(web_search, engines=[count], cache=cache)
    assert find("Seoul  snow") == find("seoul snow") and len(asked) == 1
    find("seoul snow", fresh=True)
    assert len(asked) == 2
    for outcome in ([], "offline"):  # neither is worth keeping
        with pytest.raises(WebError) if outcome else __import__("contextlib").nullcontext():
            web_search("other", engines=[engine(outcome)], cache=cache)
    assert cache.get("search", "other") is None


def test_searxng(place):
    Site.mood = {"results": [{"title": "A <b>b</b>", "url": "https://a.example/", "content": "x\n y"},
                             {"title": "twice", "url": "https://a.example/"}, {"title": "odd", "url": "javascript:x"},
                             {"url": "https://b.example/", "content": None}]}
    found = searxng_search("눈 & 비", 5, server=f"http://{place}/")
    assert found == [Hit("A b", "https://a.example/", "x y"), Hit("", "https://b.example/", "")]
    assert parse_qs(urlsplit(Site.seen[0][0]).query) == {"q": ["눈 & 비"], "format": ["json"]}


@pytest.mark.parametrize("mood, kind", [
    ({"results": [], "unresponsive_engines": [["google", "Suspended: CAPTCHA"]]}, "rate_limited"),
    ({"results": [], "unresponsive_engines": [["google", "timeout"]]}, "offline"),
    ((429, {}, b""), "rate_limited"), ((403, {}, b"forbidden"), "failed"), ((500, {}, b"oops"), "failed"),
    ((200, {}, b"<html>"), "failed"), ((200, {}, b"[]"), "failed"), ((200, {}, b'{"results": 3}'), "failed")])
def test_searxng_failures(place, mood, kind):
    Site.mood = mood
    with pytest.raises(WebError) as caught:
        searxng_search("q", 5, server=f"http://{place}")
    assert caught.value.kind == kind


def test_searxng_that_is_away_or_leads_away(place):
    Site.mood = (302, {"Location": "http://127.0.0.1:9/"}, b"")  # naming one port opens no other
    with pytest.raises(WebError, match="it is this machine"):
        searxng_search("q", 5, server=f"http://{place}")
    Site.mood = {"results": []}
    assert searxng_search("q", 5, server=f"http://{place}") == []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(WebError) as caught:
        searxng_search("q", 5, server=f"http://127.0.0.1:{port}")
    assert caught.value.kind == "offline"


@pytest.mark.parametrize("failure, kind", [
    ("RatelimitException", "rate_limited"), ("TimeoutException", "offline"), ("DDGSException", "rate_limited"), ("none", None),
    ("hang", "offline"), ("dns", "offline"), ("rows", None)])
def test_ddgs(monkeypatch, failure, kind):
    ddgs, errors = pytest.importorskip("ddgs"), pytest.importorskip("ddgs.exceptions")

    class Fake:
        def __init__(self, **options):
            pass

        def text(self, query, max_results):
            if failure == "hang":
                time.sleep(2)
            if failure == "rows":
                return [{"title": "t", "href": "https://a.example/", "body": "b"}] * 3
            if failure in ("none", "dns"):
                raise errors.DDGSException("No results found." if failure == "none" else "dns error: failed to lookup")
            raise getattr(errors, failure)("https://x.example 202 Ratelimit")
    monkeypatch.setattr(ddgs, "DDGS", Fake)
    if kind is None:
        assert ddgs_search("x", 5) == ([] if failure == "none" else [HIT])
        return
    with pytest.raises(WebError) as caught:
        ddgs_search("x", 5, timeout_s=0.3)
    assert caught.value.kind == kind


def test_engines_of_the_settings():
    assert engines_of(["ddgs"]) == [ddgs_search] and engines_of(["http://a.example"])[0].keywords == {"server": "http://a.example"}
    with pytest.raises(ConfigError, match="no search engine"):
        engines_of(["bing"])
    assert search_in_turn("q", 1, []) == []
