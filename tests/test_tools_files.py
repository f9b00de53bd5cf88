"The file tools: nothing leaves the project folder, and no file is half written."
import os
import stat
import threading

import pytest

from javis.tools import files
from javis.tools.base import Call, Toolbox, ToolError, running, tool
from javis.tools.files import SafeRoot, list_dir, read_file, search_text, size_text, write_file


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
    monkeypatch.setattr(files, "_MOST_BYTES", 3)
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
    assert search_text("x", root=root) == "[matches: 0, files searched: 0]"


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


@pytest.mark.skipif(not files._CAN_WALK, reason="no walk by descriptors here")
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


def test_search(project, root):
    for folder in ("src", ".git", "node_modules"):
        (project / folder).mkdir()
        (project / folder / "a.py").write_text("x = 1\n# Todo: (a+)+$ 안녕\n")
    (project / "b.bin").write_bytes(b"\0todo")
    found = search_text("todo", root=root)
    assert found == "src/a.py:2: # Todo: (a+)+$ 안녕\n[matches: 1, files searched: 2]"
    assert search_text("TODO", root=root).startswith("[matches: 0")
    assert "a.py:2" in search_text("(a+)+$", "src", root=root)  # plain text, no expression
    assert "src/a.py:2" in search_text("안녕", "src/a.py", root=root)
    assert search_text("x = 1\n#", root=root).startswith("[matches: 0")
    with pytest.raises(ToolError, match="does not exist"):
        search_text("x", "nowhere", root=root)


def test_search_is_bounded(project, root):
    (project / "many").write_text("hit\n" * 500 + "h" * 5000 + "hit")
    found = search_text("hit", root=root, limit=10).splitlines()
    assert len(found) == 11 and "cut short" in found[-1]
    assert "cut short" in search_text("hit", root=root, timeout_s=-1)
    stop = threading.Event()
    stop.set()
    with running(Call(cancelled=stop)):
        assert "cut short" in search_text("hit", root=root)
    assert max(map(len, search_text("hhhhit", root=root).splitlines())) < 300


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
    monkeypatch.setattr(files.os, "fsync", full)
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
    write_file("hard", "new", root=root)
    assert outside.read_text() == "old" and (project / "hard").read_text() == "new"
    (project / "real").write_text("old")
    (project / "soft").symlink_to("real")
    write_file("soft", "new", root=root)
    assert (project / "soft").is_symlink() and (project / "real").read_text() == "new"


def test_size_text():
    assert [size_text(n) for n in (0, 1023, 1536, 5 * 2**30)] == ["0 bytes", "1023 bytes", "1.5 KiB", "5.0 GiB"]
