"Attacks through paths, on real files; each case also runs against builds with one guard taken out."
import io
import os
import stat
import tarfile
import threading
import unicodedata
from pathlib import Path

import pytest

from javis.tools import names
from javis.tools import root as gate
from javis.tools.base import Toolbox, ToolError, tool
from javis.tools.edit import edit_diff, edit_file
from javis.tools.files import list_dir, read_file, write_diff, write_file
from javis.tools.policy import Policy
from javis.tools.names import second_meaning
from javis.tools.root import SafeRoot, open_file
from javis.tools.search import find_files, search_text
from javis.undo import Checkpoints

pytestmark = pytest.mark.skipif(os.name == "nt", reason="made of POSIX links, pipes and permissions")
HUSH = "hush, not for you"


class Place:
    "A project, and beside it what nobody may reach."

    def __init__(self, folder):
        self.project, self.outside = folder / "proj", folder / "elsewhere"
        for path in (self.project / "src", self.project / ".git/hooks", self.outside, folder / "proj-evil"):
            path.mkdir(parents=True)
        (self.project / "src/app.py").write_text("print('hi')\n")
        (self.project / ".env").write_text(HUSH)
        for path in (self.outside / "secret.txt", folder / "proj-evil/secret.txt", folder / "secret.txt"):
            path.write_text(HUSH)
        self.root = SafeRoot(self.project)
        self.policy = Policy(self.project, "edit")
        self.tools = Toolbox([tool("read", root=self.root)(one) for one in (read_file, list_dir, find_files, search_text)]
                             + [tool("write", write_diff, root=self.root)(write_file),
                                tool("write", edit_diff, root=self.root)(edit_file)])

    def verdict(self, name, **arguments):
        return self.policy.decide(self.tools[name], arguments).verdict

    def refused(self, path, approved=False):
        "All tools refuse the path, and none lets anything out or changes it."
        for name, arguments in {"read_file": {}, "list_dir": {}, "find_files": {"pattern": "*"},
                                "search_text": {"pattern": "hush"}, "write_file": {"content": "x"},
                                "edit_file": {"old": "hush", "new": "x"}}.items():
            said = self.tools.call(name, {"path": path, **arguments}, approved=approved)
            assert said.startswith("error:") and HUSH not in said, (name, said)
        for path in (self.outside / "secret.txt", self.outside.parent / "secret.txt", self.project / ".env"):
            assert path.read_text() == HUSH
        return True


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


# ---- the attacks: each takes a place, and fails with an AssertionError where it gets through -----------

def climbing_out(place):
    for path in ("../secret.txt", "src/../../secret.txt", "src/../../elsewhere/secret.txt", "../../etc/passwd"):
        assert place.refused(path, approved=True) and place.verdict("read_file", path=path) == "deny"
    said = place.tools.call("read_file", {"path": "../secret.txt"})
    assert str(place.outside.parent / "secret.txt") in said  # where it really leads is shown


def outside_by_name(place):
    for path in (str(place.outside / "secret.txt"), "~/javis-does-not-exist.txt"):
        assert place.verdict("read_file", path=path) == place.verdict("write_file", path=path, content="") == "ask"
        assert place.tools.call("read_file", {"path": path}).startswith("error:")
        assert "not approved" in place.tools.call("write_file", {"path": path, "content": ""})
    assert HUSH in place.tools.call("read_file", {"path": str(place.outside / "secret.txt")}, approved=True)


def same_beginning(place):
    path = str(place.outside.parent / "proj-evil/secret.txt")
    assert place.verdict("read_file", path=path) == "ask" and place.refused(path)
    assert place.refused("../proj-evil/secret.txt", approved=True)


def link_to_a_file(place):
    (place.project / "notes.txt").symlink_to("../secret.txt")
    (place.project / "key.txt").symlink_to(".env")
    assert place.refused("notes.txt", approved=True) and place.refused("key.txt", approved=True)
    assert HUSH not in place.tools.call("search_text", {"pattern": "hush"})


def link_above_a_new_file(place):
    (place.project / "docs").symlink_to(place.outside)
    for path in ("docs/new.txt", "docs/deep/new.txt"):
        assert "leads out" in place.tools.call("write_file", {"path": path, "content": "x"}, approved=True)
    assert os.listdir(place.outside) == ["secret.txt"]


def swapped_after_the_check(place, monkeypatch=None):
    "Between the check and the opening the file, then a folder above it, becomes a link."
    (place.project / "src/sub").mkdir()
    for path in ("src/sub/secret.txt", "src/sub/other.txt"):
        (place.project / path).write_text("fine\n")
    (place.outside / "other.txt").write_text(HUSH)
    src, checked = place.project / "src", SafeRoot.place

    def file_swapped(self, path):
        found = checked(self, path)
        if found.real.name == "secret.txt":
            found.real.unlink()
            found.real.symlink_to(place.outside / "secret.txt")
        return found

    def folder_swapped(self, path):
        found = checked(self, path)
        (src / "sub").rename(src / "real")
        (src / "sub").symlink_to(place.outside)
        return found
    actions = [lambda: read_file("src/sub/secret.txt", root=place.root),
               lambda: write_file("src/sub/secret.txt", "x", root=place.root),
               lambda: edit_file("src/sub/secret.txt", "hush", "x", root=place.root),
               lambda: search_text("hush", "src/sub", root=place.root),
               lambda: list_dir("src/sub", root=place.root), lambda: find_files("*", "src/sub", root=place.root)]
    for swap in (file_swapped, folder_swapped):
        for number, action in enumerate(actions):
            if swap is file_swapped and number > 2:
                continue
            SafeRoot.place = swap
            try:
                said = action()
            except ToolError as error:
                said = str(error)
            finally:
                SafeRoot.place = checked
            assert HUSH not in said and (place.outside / "secret.txt").read_text() == HUSH
            assert "other.txt" not in said or swap is file_swapped
            if swap is folder_swapped:
                (src / "sub").unlink()
                (src / "real").rename(src / "sub")
            elif (src / "sub/secret.txt").is_symlink():
                (src / "sub/secret.txt").unlink()
                (src / "sub/secret.txt").write_text("fine\n")


def hard_link(place):
    os.link(place.outside / "secret.txt", place.project / "notes.txt")
    for name, arguments in {"write_file": {"content": "x"}, "edit_file": {"old": "hush", "new": "x"}}.items():
        assert "2 names" in place.tools.call(name, {"path": "notes.txt", **arguments})
        assert place.verdict(name, path="notes.txt", **arguments) == "ask"
    assert "replaced" in place.tools.call("write_file", {"path": "notes.txt", "content": "x"}, approved=True)
    assert (place.outside / "secret.txt").read_text() == HUSH  # a yes parts the two; it never writes through


def not_regular(place):
    os.mkfifo(place.project / "pipe")
    (place.project / "zero").symlink_to("/dev/zero")
    done, opened = threading.Event(), []

    def all_tools():
        for path in ("pipe", "zero", "/dev/zero", "/dev/null", "/proc/self/environ"):
            for name, arguments in {"read_file": {}, "write_file": {"content": ""}, "search_text": {"pattern": "a"},
                                    "edit_file": {"old": "a", "new": ""}}.items():
                said = place.tools.call(name, {"path": path, **arguments}, approved=True)
                opened.extend([path] * (not said.startswith("error:")))
        place.tools.call("search_text", {"pattern": "a"})
        done.set()
    threading.Thread(target=all_tools, daemon=True).start()
    assert done.wait(10) and not opened


WINDOWS = [r"\\?\C:\x", r"\??\C:\x", r"\\server\share\x", "//server/share/x", "CON", "nul.txt", "src/COM1", "aux .py",
           "a.txt:x", "a.txt::$DATA", "PROGRA~1", "src/LONGNA~2.TXT", "a.txt.", "a.txt ", "src /app.py"]


def windows_names(place):
    for path in WINDOWS:
        assert second_meaning(path)
        with pytest.raises(ToolError, match="on Windows it means"):
            names.check_name(path, place.project, windows=True)
        for approved in (False, True):
            said = place.tools.call("write_file", {"path": path, "content": "x"}, approved=approved)
            assert "is refused" in said or "is not a path" in said, said
    assert place.tools.call("read_file", {"path": "//" + str(place.outside / "secret.txt").lstrip("/")},
                            approved=True).startswith("error:")


def twins(place):
    "A disk that takes other spellings, made by a fake of what it answers."
    fold = lambda name: unicodedata.normalize("NFC", name).casefold()
    listdir, lstat, lexists = os.listdir, os.lstat, os.path.lexists

    def real(path):
        path = Path(path)
        if path == Path(path.anchor):
            return path
        above = real(path.parent)
        listed = listdir(above) if above.is_dir() else []
        return above / next((name for name in listed if fold(name) == fold(path.name)), path.name)
    (place.project / "é.key").write_text(HUSH)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(names, "_takes_other_cases", lambda folder: True)
        patch.setattr(gate.os, "lstat", lambda path, **more: lstat(real(path), **more))
        patch.setattr(gate.os.path, "lexists", lambda path: lexists(real(path)))
        for path in (".ENV", ".Git/hooks/pre-commit", "E\u0301.KEY", "SRC/APP.PY"):
            try:
                found = place.root.place(path).shown
            except ToolError as error:
                assert "closed" in str(error)
                continue
            assert found == {"SRC/APP.PY": "src/app.py", ".Git/hooks/pre-commit": ".git/hooks/pre-commit"}.get(path)


def twins_of_secrets(place):
    "A disk that finds a secret under a name that no pattern fits."
    (place.project / ".ssh").mkdir()
    listed = names._listed_name
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(names, "_takes_other_cases", lambda folder: True)
        real = os.lstat
        odd = {str(place.project / ".\u017fsh"): str(place.project / ".ssh")}
        patch.setattr(gate.os, "lstat", lambda path, **more: real(odd.get(str(path), path), **more))
        assert listed(place.project, ".\u017fsh") == ".ssh"
        with pytest.raises(ToolError, match="closed"):
            place.root.place(".\u017fsh/config")


def control_letters(place):
    for path in ("a\0b", "src/app.py\n", "a\nb", "\x1b[2J", "a\rb", "\x7f", "\ud800", "x" * 5000):
        assert place.refused(path, approved=True)
    assert sorted(os.listdir(place.project)) == [".env", ".git", "src"]


PROTECTED = [".git/hooks/pre-commit", ".git/config", ".jupyter/jupyter_config.py", "x.pth", "conftest.py",
             "tests/conftest.py", ".bashrc", ".vscode/settings.json", "configs/tools.yaml", "configs/config.yaml"]


def protected_files(place):
    for path in PROTECTED:
        assert place.verdict("write_file", path=path, content="") == "ask"
        assert "was not approved" in place.tools.call("write_file", {"path": path, "content": "x"})
        assert not (place.project / path).exists()
    (place.project / "conftest.py").write_text("x = 1\n")
    assert "was not approved" in place.tools.call("edit_file", {"path": "conftest.py", "old": "1", "new": "2"})
    assert (place.project / "conftest.py").read_text() == "x = 1\n"


def undo_through_a_link(place):
    checkpoints = Checkpoints(place.project, place.outside.parent / "undo")
    (place.project / "src/secret.txt").write_text("old\n")
    with checkpoints.around("call") as id:
        (place.project / "src/app.py").write_text("new\n")
        (place.project / "src/secret.txt").unlink()
    (place.project / "src").rename(place.outside.parent / "moved")
    (place.project / "src").symlink_to(place.outside)
    result = checkpoints.undo(id, anyway=["src/app.py", "src/secret.txt"])
    assert {"src/app.py", "src/secret.txt"} <= set(result.stays)
    assert "link" in result.stays["src/secret.txt"]
    assert os.listdir(place.outside) == ["secret.txt"] and (place.outside / "secret.txt").read_text() == HUSH


def dashes(place):
    for name in ("-rf", "--pre=sh", "-e hush"):
        place.tools.call("write_file", {"path": name, "content": "todo\n"})
        assert f"{name}:1: todo" in place.tools.call("search_text", {"pattern": "todo"})
        assert f"{name}:1: todo" in place.tools.call("search_text", {"pattern": "todo", "path": name})
    (place.project / "dash").write_text("--pre=touch ran\n")
    assert "dash:1" in place.tools.call("search_text", {"pattern": "--pre=touch ran"})
    assert not (place.project / "ran").exists()


ATTACKS = {1: [climbing_out], 2: [outside_by_name], 3: [same_beginning], 4: [link_to_a_file],
           5: [link_above_a_new_file], 6: [swapped_after_the_check], 7: [hard_link], 8: [not_regular],
           9: [windows_names], 10: [twins, twins_of_secrets], 11: [control_letters], 12: [protected_files],
           13: [undo_through_a_link], 22: [dashes]}


@pytest.mark.parametrize("attack", [pytest.param(attack, id=f"{number}-{attack.__name__}", marks=pytest.mark.case(number))
                                    for number, attacks in ATTACKS.items() for attack in attacks])
def test_case(attack, place):
    attack(place)


@pytest.mark.case(6, 4, 5)
@pytest.mark.parametrize("attack", [swapped_after_the_check, link_to_a_file, link_above_a_new_file, not_regular])
def test_without_openat2(attack, place, monkeypatch):
    monkeypatch.setattr(gate, "_openat2", lambda: None)
    attack(place)


@pytest.mark.case(6)
def test_on_windows_what_was_opened_is_asked(place, monkeypatch):
    "The branch for Windows, with a fake of what Windows answers."
    monkeypatch.setattr(gate, "_CAN_WALK", False)
    monkeypatch.setattr(gate, "_FLAGS", 0)
    monkeypatch.setattr(gate, "_final_path", lambda handle: os.readlink(f"/proc/self/fd/{handle}"))
    assert "print" in read_file("src/app.py", root=place.root)
    found = place.root.place("src/app.py")
    (place.project / "src").rename(place.project / "old")
    (place.project / "src").symlink_to(place.project / "old")
    with pytest.raises(ToolError, match="replaced while it was being opened"):
        open_file(place.root, found)


@pytest.mark.case(6)
def test_the_project_folder_itself_is_replaced(place):
    read_file("src/app.py", root=place.root)
    place.project.rename(place.project.with_name("before"))
    place.project.symlink_to(place.outside)
    with pytest.raises(ToolError):
        read_file("secret.txt", root=place.root)


@pytest.mark.skipif(not hasattr(tarfile, "data_filter"), reason="this Python has no filters for archives")
@pytest.mark.case(14)
def test_an_archive_is_unpacked_without_links_and_ways_out(tmp_path):
    """No tool unpacks archives; a command may. What Python offers for it holds, and undo sees and takes
    back what a bad archive left in the project."""
    place = Place(tmp_path)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as file:
        for name, kind, leads in [("../out.txt", tarfile.REGTYPE, ""), ("link", tarfile.SYMTYPE, "/etc"),
                                  ("dev", tarfile.CHRTYPE, ""), ("fine.txt", tarfile.REGTYPE, "")]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, leads
            file.addfile(info)
    with Checkpoints(place.project, tmp_path / "undo").around("unpack") as id:
        archive.seek(0)
        with tarfile.open(fileobj=archive) as file:
            for member in file:
                try:
                    file.extract(member, place.project, filter="data")
                except tarfile.FilterError:
                    continue
    assert not (tmp_path / "out.txt").exists() and not os.path.lexists(place.project / "link")
    assert not os.path.lexists(place.project / "dev") and (place.project / "fine.txt").exists()
    Checkpoints(place.project, tmp_path / "undo").undo(id)
    assert not (place.project / "fine.txt").exists()


# ---- mutation: with one guard out, something gets through --------------------------------------------

def any_place(self, path):
    return gate._place(self.folder, str(path))


def reach_by_path(above, names, make=False):
    here = os.open(f"/proc/self/fd/{above}/{'/'.join(names)}", os.O_RDONLY)
    return here


WEAKER = {
    "no look where a path leads": (SafeRoot, "place", any_place),
    "no walk without links": (gate, "_reach", reach_by_path),
    "links are followed at the end": (gate, "_FLAGS", os.O_NONBLOCK),
    "no closed files": (SafeRoot, "is_secret", lambda self, place: False),
    "no second meanings": (gate, "check_name", lambda *arguments, **more: None),
    "no spelling of the disk": (gate, "listed_path", lambda real, base: real),
}


def getting_through(place_in, numbers=ATTACKS):
    "The cases that get through."
    through = []
    for number, attack in [(number, attack) for number in numbers for attack in ATTACKS[number]]:
        try:
            attack(Place(place_in(f"{number}-{attack.__name__}")))
        except (AssertionError, OSError, pytest.fail.Exception, ValueError):
            through.append(number)
    return through


@pytest.fixture
def place_in(tmp_path):
    def make(name):
        (tmp_path / name).mkdir()
        return tmp_path / name
    return make


def test_the_attacks_all_fail_on_the_real_build(place_in):
    assert getting_through(place_in) == []


@pytest.mark.parametrize("guard, numbers", [
    ("no look where a path leads", [1, 2, 4, 5]), ("no walk without links", [6]),
    ("links are followed at the end", [6]), ("no closed files", [4]), ("no second meanings", [9]),
    ("no spelling of the disk", [10])])
def test_a_weaker_build_lets_something_through(guard, numbers, place_in, monkeypatch):
    monkeypatch.setattr(*WEAKER[guard])
    assert set(getting_through(place_in, numbers)) & set(numbers)


def test_without_asking_about_kinds_a_pipe_is_opened(place_in, monkeypatch):
    monkeypatch.setattr(gate, "stat", type("stat", (), {"S_ISREG": lambda mode: True, "S_ISDIR": stat.S_ISDIR}))
    assert getting_through(place_in, [8]) == [8]


def test_without_leave_to_write(place_in, monkeypatch):
    for module in ("javis.tools.edit", "javis.tools.files"):
        monkeypatch.setattr(f"{module}.check_writable", lambda root, place: None)
    assert getting_through(place_in, [7, 12]) == [7, 12]


def test_without_the_walk_undo_writes_through_a_link(place_in, monkeypatch):
    monkeypatch.setattr(gate, "_walk_to", lambda above, names, make: reach_by_path(above, names))
    monkeypatch.setattr(gate, "_openat2", lambda: None)
    assert getting_through(place_in, [13]) == [13]


def test_without_the_check_of_letters(place_in, monkeypatch):
    monkeypatch.setattr("javis.tools.policy._NOT_IN_A_PATH", __import__("re").compile("(?!)"))
    assert getting_through(place_in, [11]) == [11]
