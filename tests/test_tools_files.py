"The file tools: nothing leaves the project folder, and no file is half written."
import os
import shutil
import stat
import subprocess
import tempfile
import threading
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from javis.tools import contents
from javis.tools import root as gate
from javis.tools import search
from javis.tools.base import Call, Toolbox, ToolError, running, tool
from javis.tools.edit import edit_diff, edit_file
from javis.tools.files import (SafeRoot, find_files, list_dir, read_file, search_text, size_text,
                               write_diff, write_file)
from javis.tools.ignore import Ignores, glob_expression


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "proj"
    folder.mkdir()
    return folder


@pytest.fixture
def root(project):
    return SafeRoot(project)


def test_read_with_numbers(project, root):
    (project / "a.txt").write_bytes("\ufeffone\r\ntwo\n셋\n".encode())
    box = Toolbox([tool(root=root)(read_file)])
    assert box.call("read_file", {"path": "a.txt"}) == "a.txt, lines 1-3 of 3\n1  one\n2  two\n3  셋"
    assert box.call("read_file", {"path": "a.txt", "start": 2, "end": 99}).splitlines()[1:] == ["2  two", "3  셋"]
    assert box.call("read_file", {"path": "a.txt", "end": 1}).endswith("of 3\n1  one")
    assert "has 3 lines" in box.call("read_file", {"path": "a.txt", "start": 4})
    assert box.call("read_file", {"path": "a.txt", "start": 3, "end": 2}).startswith("error:")
    assert box.call("read_file", {"path": "a.txt", "start": 0}).startswith("error:")


def test_read_odd_files(project, root, monkeypatch):
    (project / "empty").write_bytes(b"")
    (project / "latin").write_bytes(b"caf\xe9\n")
    (project / "binary").write_bytes(b"MZ\0\1")
    assert "lines 1-0 of 0" in read_file("empty", root=root)
    assert "not all UTF-8" in read_file("latin", root=root) and "caf\ufffd" in read_file("latin", root=root)
    with pytest.raises(ToolError, match="is binary"):
        read_file("binary", root=root)
    with pytest.raises(ToolError, match="does not exist. Did you mean 'latin'"):
        read_file("latinn", root=root)
    with pytest.raises(ToolError):
        read_file(".", root=root)
    monkeypatch.setattr(contents, "_MOST_BYTES", 3)
    with pytest.raises(ToolError, match="larger than"):
        read_file("latin", root=root)


@pytest.mark.skipif(os.name == "nt", reason="POSIX files")
def test_only_regular_files_are_opened(project, root):
    os.mkfifo(project / "pipe")
    (project / "zero").symlink_to("/dev/zero")
    with pytest.raises(ToolError, match="not a regular file"):
        read_file("pipe", root=root)
    for path in ("zero", "/dev/zero", "/proc/self/environ"):
        with pytest.raises(ToolError), running(Call(approved=True)):
            read_file(path, root=root)
    assert "pipe" in list_dir(".", root=root)
    assert search_text("x", root=root) == "[matches: 0]"


@pytest.mark.parametrize("path", ["../secret.txt", "way/secret.txt", "link", "a/../../secret.txt"])
def test_hidden_ways_out_are_refused_even_when_approved(project, root, path):
    (project.parent / "secret.txt").write_text("hush")
    (project / "way").symlink_to(project.parent)
    (project / "link").symlink_to("../secret.txt")
    for action in (lambda: read_file(path, root=root), lambda: write_file(path, "x", root=root),
                   lambda: list_dir(path, root=root), lambda: search_text("hush", path, root=root)):
        with pytest.raises(ToolError, match="leads out"), running(Call(approved=True)):
            action()
    assert (project.parent / "secret.txt").read_text() == "hush"


def test_writing_a_new_file_below_a_link_is_refused(project, root):
    outside = project.parent / "elsewhere"
    outside.mkdir()
    (project / "data").symlink_to(outside)
    with pytest.raises(ToolError, match="leads out"):
        write_file("data/new/file.txt", "x", root=root)
    assert list(outside.iterdir()) == []


def test_places_outside_need_a_yes(project, root):
    other = project.parent / "other.txt"
    with pytest.raises(ToolError, match="not approved"):
        write_file(str(other), "x", root=root)
    with running(Call(approved=True)):
        assert str(other) in write_file(str(other), "x", root=root)
        assert read_file(str(other), root=root).endswith("1  x")
    box = Toolbox([tool(root=root)(read_file)])
    assert box.call("read_file", {"path": str(other)}).startswith("error:")
    assert box.call("read_file", {"path": str(other)}, approved=True).endswith("1  x")


def test_secrets_stay_closed_for_every_tool(project, root):
    (project / ".env").write_text("KEY=hush")
    (project / "notes.txt").symlink_to(".env")
    (project / ".ssh").mkdir()
    (project / ".ssh/config").write_text("hush")
    for path in (".env", "notes.txt", ".ssh/config"):
        with pytest.raises(ToolError, match="secrets"), running(Call(approved=True)):
            read_file(path, root=root)
    assert "hush" not in search_text("hush", root=root)
    with pytest.raises(ToolError, match="secrets"):
        search_text("hush", ".env", root=root)
    with pytest.raises(ToolError, match="secrets"):
        list_dir(".ssh", root=root)


@pytest.mark.skipif(not gate._CAN_WALK, reason="no walk by descriptors here")
def test_a_link_that_appears_after_the_check_is_not_followed(project, root, monkeypatch):
    (project / "a").mkdir()
    (project / "a/file.txt").write_text("fine")
    outside = project.parent / "outside"
    outside.mkdir()
    (outside / "file.txt").write_text("hush")
    checked = SafeRoot.place

    def swap_after_check(self, path):
        place = checked(self, path)
        (project / "a").rename(project / "b")
        (project / "a").symlink_to(outside)
        return place
    monkeypatch.setattr(SafeRoot, "place", swap_after_check)
    for action in (lambda: read_file("a/file.txt", root=root),
                   lambda: write_file("a/file.txt", "new", root=root),
                   lambda: list_dir("a", root=root)):
        with pytest.raises(ToolError):
            action()
        (project / "a").unlink()
        (project / "b").rename(project / "a")
    assert (outside / "file.txt").read_text() == "hush"


def test_list(project, root):
    (project / "z").mkdir()
    for number in range(30):
        (project / f"f{number:02}").write_bytes(b"x" * 2048)
    lines = list_dir(".", root=root, limit=5).splitlines()
    assert lines[0] == "., names: 31" and len(lines) == 7
    assert lines[1:3] == ["z/", "f00  2.0 KiB"] and lines[-1] == "[26 more names]"
    with pytest.raises(ToolError):
        list_dir("f00", root=root)
    with pytest.raises(ToolError, match="does not exist"):
        list_dir("nowhere", root=root)


RG = shutil.which("rg")


@pytest.fixture(params=["our own", pytest.param("ripgrep", marks=pytest.mark.skipif(not RG, reason="no ripgrep here"))])
def found_by(request, monkeypatch):
    find = (lambda root: None) if request.param == "our own" else (lambda root: RG)
    return lambda *arguments, **more: search_text(*arguments, find_rg=find, **more)


def test_search(project, root, found_by):
    for folder in ("src", ".git", "node_modules"):
        (project / folder).mkdir()
        (project / folder / "a.py").write_text("x = 1\n# Todo: (a+)+$ 안녕\n")
    (project / "b.bin").write_bytes(b"\0todo")
    assert found_by("todo", root=root) == "src/a.py:2: # Todo: (a+)+$ 안녕\n[matches: 1]"
    assert found_by("TODO", root=root).startswith("[matches: 0")
    assert "a.py:2" in found_by("(a+)+$", "src", root=root)  # plain text, no expression
    assert "src/a.py:2" in found_by("안녕", "src/a.py", root=root)
    assert found_by("x = 1\n#", root=root).startswith("[matches: 0")
    with pytest.raises(ToolError, match="does not exist"):
        found_by("x", "nowhere", root=root)


def test_search_is_bounded(project, root, found_by):
    (project / "many").write_text("hit\n" * 500 + "h" * 5000 + "hit")
    found = found_by("hit", root=root, limit=10).splitlines()
    assert len(found) == 11 and "cut short" in found[-1]
    assert "cut short" in found_by("hit", root=root, timeout_s=-1)
    stop = threading.Event()
    stop.set()
    with running(Call(cancelled=stop)):
        assert "cut short" in found_by("hit", root=root)
    assert max(map(len, found_by("hhhhit", root=root).splitlines())) < 300


def test_search_leaves_out_what_git_ignores(project, root, found_by):
    for path in ("a.log", "keep.log", "build/x.py", "src/build/x.py", "src/gen/y.py", "src/y.py", ".hidden/z.py"):
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text("todo\n")
    (project / ".gitignore").write_text("*.log\n!keep.log\n/build/\n")
    (project / "src/.gitignore").write_text("gen/\n")
    (project / ".ignore").write_text("*\n")  # a file of ripgrep's own does not count
    names = lambda said: [line.split(":")[0] for line in said.splitlines()[:-1]]
    assert names(found_by("todo", root=root)) == [".hidden/z.py", "keep.log", "src/build/x.py", "src/y.py"]
    assert names(found_by("todo", "src", root=root)) == ["src/build/x.py", "src/y.py"]
    assert names(found_by("todo", "build", root=root)) == ["build/x.py"]
    assert names(found_by("todo", "a.log", root=root)) == ["a.log"]
    assert find_files("*.py", root=root).splitlines()[:-1] == [".hidden/z.py", "src/build/x.py", "src/y.py"]


@pytest.mark.skipif(not RG, reason="no ripgrep here")
def test_ripgrep_runs_nothing_and_reads_no_settings(project, root, tmp_path, monkeypatch):
    config, sentinel = tmp_path / "rgrc", tmp_path / "ran"
    config.write_text(f"--pre=touch {sentinel}\n--hidden\n")
    monkeypatch.setenv("RIPGREP_CONFIG_PATH", str(config))
    (project / "a.txt").write_text("todo\n--pre=x\n")
    (project / "big.txt").write_bytes(b"x" * (8 * 2**20 + 1) + b"\ntodo\n")
    assert search_text("todo", root=root) == "a.txt:1: todo\n[matches: 1]"
    assert search_text("--pre=x", root=root).startswith("a.txt:2") and not sentinel.exists()
    (project / "rg").write_text(f"#!/bin/sh\ntouch {sentinel}\n")
    (project / "rg").chmod(0o755)
    monkeypatch.setenv("PATH", f"{project}:{os.environ['PATH']}")
    assert search_text("todo", root=root).startswith("a.txt:1") and not sentinel.exists()


NAMES = st.sampled_from(["a", "b", "ab", "a.b", "B", "a b", "!a", "#a", "a]", "-", "src"])
PIECES = st.sampled_from(["a", "b", "*", "?", "**", "/", "!", "[ab]", "[!a]", "[a-b]", "\\", "#", " ", ".", "[", "]",
                          "[]a]", "[[:alpha:]]", "-", "[b-a]", "***", "[a-]", "\\a", "[a/b]", "src", "B"])
LINES = st.lists(st.lists(PIECES, min_size=1, max_size=5).map("".join), min_size=1, max_size=3).map("\n".join)


@pytest.mark.skipif(not shutil.which("git"), reason="git is what it is compared with")
@settings(max_examples=150, deadline=None)
@given(LINES, LINES, st.lists(st.lists(NAMES, min_size=1, max_size=3).map("/".join), min_size=1, max_size=8, unique=True))
def test_ignore_files_mean_what_they_mean_to_git(top, inner, paths):
    with tempfile.TemporaryDirectory() as folder:
        project, files, ignores = Path(folder), [], Ignores()
        subprocess.run(["git", "init", "-q", folder], check=True)
        for path in paths:
            try:
                (project / path).parent.mkdir(parents=True, exist_ok=True)
                (project / path).open("x").close()
                files.append(path)
            except OSError:
                continue
        for above, text in (("", top), ("src/", inner)):
            if (project / above).is_dir():
                (project / above / ".gitignore").write_text(text)
                ignores.add(above, text)
        listed = subprocess.run(["git", "-C", folder, "ls-files", "-zo", "--exclude-per-directory=.gitignore"],
                                capture_output=True, text=True, check=True).stdout.split("\0")
        for path in files:
            parts = path.split("/")
            above = ["/".join(parts[:end]) for end in range(1, len(parts))]
            ours = ignores.has(path) or any(ignores.has(one, is_folder=True) for one in above)
            assert ours == (path not in listed), path


def test_find(project, root):
    for path in ("src/app.py", "src/deep/test_a.py", "test_b.py", "README.md", ".env"):
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text("")
    find = lambda *arguments, **more: find_files(*arguments, root=root, **more).splitlines()[:-1]
    assert find("*.py") == ["src/app.py", "src/deep/test_a.py", "test_b.py"]
    assert find("src/**/*.py") == ["src/app.py", "src/deep/test_a.py"] and find("/test_*") == ["test_b.py"]
    assert find("test_?.py", "src") == ["src/deep/test_a.py"] and find("deep/*", "src") == ["src/deep/test_a.py"]
    assert find(".env") == [] and "cut short" in find_files("*", root=root, limit=1)
    with pytest.raises(ToolError):
        find("*", "README.md")
    assert glob_expression("*a" * 60 + "b").fullmatch("a" * 250) is None


def edit(root, data, *arguments, path="f.txt", **more):
    (root.folder / path).write_bytes(data)
    said = edit_file(path, *arguments, root=root, **more)
    return said, (root.folder / path).read_bytes()


def test_edit_keeps_every_other_byte(project, root):
    said, data = edit(root, b"\xef\xbb\xbfa\r\nb\r\nlast \xff", "a\nb\n", "x\ny\nz\n")
    assert said == "edited f.txt at line 1" and data == b"\xef\xbb\xbfx\r\ny\r\nz\r\nlast \xff"
    assert edit(root, b"a\nb\r\nc\n", "c", "c\nd")[1] == b"a\nb\r\nc\nd\n"
    assert edit(root, b"a\nb\r\nc\n", "b\nc", "b\nC")[1] == b"a\nb\r\nC\n"
    assert edit(root, b"no end", "end", "")[1] == b"no "
    (project / "f.txt").write_bytes(b"x")
    (project / "f.txt").chmod(0o640)
    edit_file("f.txt", "x", "y", root=root)
    assert stat.S_IMODE((project / "f.txt").stat().st_mode) == 0o640 and os.listdir(project) == ["f.txt"]


@pytest.mark.parametrize("old, message", [
    ("a", r"2 times, from lines 1, 3"), ("aa", "not in f.txt, nor|similar|blanks"), ("", "is empty"), ("b", "nothing would"),
    ("  b", "From line 2 on only blanks differ; there it says:\n2  b"), ("zzzzz", "nor anything like it")])
def test_what_cannot_be_edited_says_why(project, root, old, message):
    with pytest.raises(ToolError, match=message):
        edit(root, b"a\nb\na\n", old, "b")
    assert (project / "f.txt").read_bytes() == b"a\nb\na\n"


def test_texts_that_overlap_themselves_are_not_unique(project, root):
    with pytest.raises(ToolError, match="2 times"):
        edit(root, b"aaa", "aa", "b")


def test_several_edits_are_all_made_or_none(project, root):
    text = b"one\ntwo\nthree\n"
    assert edit(root, text, "three", "3", more=[{"old": "one", "new": "two"}, {"old": "two", "new": "one"}])[1] == \
        b"two\none\n3\n"  # all speak of the file as it is
    for more in ([{"old": "four", "new": "4"}], [{"old": "ree", "new": ""}], [{"old": "x"}], [{"from": "", "to": ""}]):
        with pytest.raises(ToolError):
            edit(root, text, "three", "3", more=more)
        assert (project / "f.txt").read_bytes() == text
    box = Toolbox([tool("write", edit_diff, root=root)(edit_file)])
    call = {"path": "f.txt", "old": "one", "new": "1", "more": [{"old": "two", "new": "2"}]}
    assert "-one\n-two\n+1\n+2" in box.preview("edit_file", call)
    assert box.call("edit_file", call) == "edited f.txt at lines 1, 2"
    assert box.call("edit_file", {**call, "more": [{"old": 1, "new": 2}]}).startswith("error:")


def test_an_edit_that_comes_late_is_not_made(project, root, monkeypatch):
    really = contents.replace_file

    def late(root, place, data, before=None):
        (project / "f.txt").write_text("a and more")
        return really(root, place, data, before)
    monkeypatch.setattr("javis.tools.edit.replace_file", late)
    with pytest.raises(ToolError, match="changed by something else"):
        edit(root, b"a", "a", "b")
    assert (project / "f.txt").read_text() == "a and more"


def test_diffs_show_what_a_screen_does_not(project, root):
    (project / "f.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\r\n")
    assert write_diff("f.txt", "a\nb\n", root=root).splitlines()[3:] == ["-<BOM>a<CR>", "-b<CR>", "+a", "+b"]
    assert "\\ No newline" in write_diff("f.txt", "\ufeffa\r\nb", root=root)
    assert write_diff("f.txt", "\ufeffa\r\nb\r\n", root=root) == ""
    assert write_diff("new.txt", "", root=root) == "" and "/dev/null" in write_diff("new.txt", "x\n", root=root)


@pytest.mark.skipif(os.name == "nt", reason="names that Windows does not take")
def test_names_with_a_second_meaning_may_be_read_but_not_made(project, root):
    for name in ("aux.c", "a:b", "x.", "back\\slash", "LONGNA~1.TXT"):
        with pytest.raises(ToolError, match="is refused"):
            write_file(name, "x", root=root)
        (project / name).write_text("hi")
        assert read_file(name, root=root).endswith("1  hi")
        assert write_file(name, "x", root=root).startswith("replaced")


def test_a_name_typed_in_one_piece_finds_the_one_that_macos_took_apart(project, root):
    (project / unicodedata.normalize("NFD", "계획.md")).write_text("hi")
    assert read_file("계획.md", root=root).endswith("1  hi")
    assert write_file("계획.md", "ho", root=root).startswith("replaced") and len(os.listdir(project)) == 1
    assert list(find_files("*", root=root).splitlines()[:-1]) == os.listdir(project)


def test_many_roots_leave_no_descriptors_open(project):
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    for number in range(50):
        root = SafeRoot(project)
        write_file(f"{number}.txt", "x", root=root)
        search_text("x", root=root, find_rg=lambda root: None)
        find_files("*", root=root)
        with pytest.raises(ToolError):
            read_file("nowhere", root=root)
    del root
    assert before is None or len(os.listdir("/proc/self/fd")) <= before + 1


def test_write_is_whole_and_keeps_permissions(project, root):
    assert write_file("a/b/c.txt", "안녕\r\n", root=root) == "wrote a/b/c.txt (8 bytes)"
    target = project / "a/b/c.txt"
    assert target.read_bytes() == "안녕\r\n".encode()
    target.chmod(0o755)
    assert write_file("a/b/c.txt", "", root=root).startswith("replaced")
    assert target.read_bytes() == b"" and stat.S_IMODE(target.stat().st_mode) == 0o755
    assert os.listdir(target.parent) == ["c.txt"]


def test_a_failed_write_leaves_the_old_file(project, root, monkeypatch):
    (project / "a.txt").write_text("old")
    def full(handle):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(contents.os, "fsync", full)
    with pytest.raises(ToolError, match="No space left"):
        write_file("a.txt", "new", root=root)
    assert (project / "a.txt").read_text() == "old" and os.listdir(project) == ["a.txt"]


def test_what_is_not_written(project, root):
    (project / "folder").mkdir()
    (project / "locked.txt").write_text("old")
    (project / "locked.txt").chmod(0o444)
    (project / "file").write_text("")
    for path in ("folder", ".", "locked.txt", "file/below"):
        with pytest.raises(ToolError):
            write_file(path, "x", root=root)
    assert (project / "locked.txt").read_text() == "old"


def test_a_hard_link_is_parted_and_a_link_inside_is_followed(project, root):
    outside = project.parent / "twin"
    outside.write_text("old")
    os.link(outside, project / "hard")
    with pytest.raises(ToolError, match="2 names"):
        write_file("hard", "new", root=root)
    with running(Call(approved=True)):
        write_file("hard", "new", root=root)
    assert outside.read_text() == "old" and (project / "hard").read_text() == "new"
    (project / "real").write_text("old")
    (project / "soft").symlink_to("real")
    write_file("soft", "new", root=root)
    assert (project / "soft").is_symlink() and (project / "real").read_text() == "new"


# ---- whatever the tree, and whatever happens on the way ---------------------------------------------

PLACES = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=3).map("/".join)
ENDS = st.sampled_from(["..", "../..", "../out", "../../out", "a", "b", "a/b", "/", "/etc", "OUT", "OUT/f", "OUT/1", "OUT/2", "."])
MOVES = st.one_of(st.tuples(st.just("folder"), PLACES), st.tuples(st.just("file"), PLACES),
                  st.tuples(st.just("link"), PLACES, ENDS), st.tuples(st.just("rename"), PLACES, PLACES),
                  st.tuples(st.just("swap"), PLACES, ENDS))
ASKS = st.one_of(PLACES, st.tuples(PLACES, ENDS).map("/".join), st.tuples(ENDS, PLACES).map("/".join))


@st.composite
def journeys(draw):
    "A path that is asked for, with something there, and what happens to the way while it is gone."
    path = draw(PLACES)
    parts = path.split("/")
    swaps = st.tuples(st.just("swap"), st.integers(1, len(parts)).map(lambda end: "/".join(parts[:end])),
                      st.sampled_from(["OUT/f", "OUT/1", "OUT/2", "a"]))
    start = [("folder", path.rpartition("/")[0] or "."), ("file", path)]
    return path, start, draw(st.lists(st.one_of(swaps, MOVES), max_size=8))


def move(project, what, path, other=None):
    target = project / path
    leads = (other or "").replace("OUT", str(project.parent / "out"))
    ways = [target, project / other] if what == "rename" else [target]
    if not all(Path(os.path.realpath(way.parent)).is_relative_to(project) for way in ways):
        return  # what is outside does not move in by itself
    try:
        if what == "folder":
            target.mkdir(parents=True)
        elif what == "file" and not target.is_symlink():
            target.write_text("inside\n")
        elif what == "rename":
            target.rename(project / other)
        elif what in ("link", "swap"):
            if what == "swap" and os.path.lexists(target):
                target.rename(project / f"old{len(os.listdir(project))}")
            target.symlink_to(leads)
    except OSError:
        pass


def seen_outside(base):
    return sorted((str(path.relative_to(base)), path.read_bytes() if path.is_file() else None)
                  for path in (base / "out").rglob("*"))


@pytest.mark.skipif(not gate._CAN_WALK, reason="no walk by descriptors here")
@pytest.mark.parametrize("with_openat2", [True, False])
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(start=st.lists(MOVES, max_size=5), journey=journeys(), asks=st.lists(ASKS, max_size=2), every=st.integers(1, 6))
def test_nothing_outside_is_ever_opened(with_openat2, start, journey, asks, every):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        base, project = Path(folder).resolve(), Path(folder).resolve() / "proj"
        names = [f"1/{one}" for one in "abcd"] + [f"2/{one}/{two}" for one in "abcd" for two in "abcd"] + ["f"]
        for path in [*(f"out/{name}" for name in names), "a", "b"]:
            (base / path).parent.mkdir(parents=True, exist_ok=True)
            (base / path).write_text("outside\n")
        project.mkdir()
        outside, root, left, calls = seen_outside(base), SafeRoot(project), [], [0]
        list_dir(".", root=root)
        asks = [journey[0], journey[0].rpartition("/")[0] or ".", *asks]
        if not with_openat2:
            patch.setattr(gate, "_openat2", lambda: None)

        def in_flight(function):
            def call(*arguments, **more):
                calls[0] += 1
                if calls[0] > 0 and calls[0] % every == 0 and left:
                    calls[0] = -10**6  # nothing moves while something moves
                    move(project, *left.pop())
                    calls[0] = 0
                return function(*arguments, **more)
            return call
        # before each call that the gate and the tools make, something may be moved
        for name in ("open", "stat", "lstat", "replace", "mkdir", "scandir", "fstat", "listdir"):
            patch.setattr(os, name, in_flight(getattr(os, name)))
        for ask in asks:
            for action in (lambda: read_file(ask, root=root), lambda: search_text("side", ask, root=root),
                           lambda: search_text("side", ask, root=root, find_rg=lambda root: None),
                           lambda: write_file(f"{ask}/new", "written", root=root), lambda: list_dir(ask, root=root),
                           lambda: edit_file(ask, "outside", "edited", root=root), lambda: find_files("*", ask, root=root),
                           lambda: write_file(ask, "written", root=root)):
                calls[0] = -10**6
                for path in project.iterdir():
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
                for one in [*start, *journey[1]]:
                    move(project, *one)
                left[:], calls[0] = journey[2], 0
                try:
                    said = action()
                except ToolError as error:
                    said = str(error)
                assert "outside\n" not in said + "\n" or "is outside the project" in said
                assert ": outside" not in said and "edited" not in said
        patch.undo()
        assert seen_outside(base) == outside and sorted(os.listdir(base)) == ["a", "b", "out", "proj"]


@pytest.mark.skipif(not gate._CAN_WALK, reason="no walk by descriptors here")
def test_a_walk_does_not_enter_a_folder_that_became_a_link(project):
    outside = project.parent / "outside"
    outside.mkdir()
    (outside / "theirs").write_text("")
    (project / "a").mkdir()
    handle, seen = os.open(project, os.O_RDONLY), []
    for above, _, folders, others in contents.walk(handle, failed=lambda path: seen.append(f"not {path}")):
        seen += [above + entry.name for entry in others]
        if not above:
            (project / "a").rmdir()
            (project / "a").symlink_to(outside)
    os.close(handle)
    assert seen == ["not a"]


@pytest.mark.skipif(not gate._CAN_WALK, reason="no walk by descriptors here")
def test_a_race_with_another_thread(project, root):
    "The same with a real race: a folder and a link to the outside change places as fast as they can."
    outside = project.parent / "outside"
    outside.mkdir()
    (outside / "f").write_text("outside")
    (project / "a").mkdir()
    (project / "a/f").write_text("inside")
    (project / "link").symlink_to(outside)
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            for one, two in (("a", "real"), ("link", "a"), ("a", "link"), ("real", "a")):
                os.rename(project / one, project / two)
    thread = threading.Thread(target=swap)
    thread.start()
    read = refused = 0
    try:
        for number in range(3000):
            try:
                said = read_file("a/f", root=root) if number % 3 else edit_file("a/f", "side", "side!", root=root)
                assert "outside" not in said
                read += 1
            except ToolError:
                refused += 1
    finally:
        stop.set()
        thread.join()
    assert read and refused and (outside / "f").read_text() == "outside" and os.listdir(outside) == ["f"]


def test_size_text():
    assert [size_text(n) for n in (0, 1023, 1536, 5 * 2**30)] == ["0 bytes", "1023 bytes", "1.5 KiB", "5.0 GiB"]
