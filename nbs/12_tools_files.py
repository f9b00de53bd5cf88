# %% [markdown]
# # Files
#
# > Read, list, search and write files without leaving the project folder
#
# A path from a model may climb out with `..`, hide behind a link, name a device, or change between
# the check and the opening. So every file is opened through one gate that follows the path first and
# then walks to it folder by folder. Above the gate stand four small tools. Nothing here knows the
# rules in full; a person's approval arrives with the call.

# %%
#| default_exp tools.files

# %%
#| export
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated

from pydantic import Field

from javis.config import atomic_write, did_you_mean
from javis.tools.base import ToolError, clip, current_call
from javis.tools.policy import Place, Rules, matching_pattern, place_of

# %%
#| hide
import tempfile

from fastcore.test import test_eq, test_fail
from javis.tools.base import Toolbox, tool


# %% [markdown]
# ## One gate
#
# The gate repeats what the policy checks, because it must hold when something else calls a tool: no
# hidden way out, no secret file, and a place outside only where a person has agreed to this call.

# %%
#| export
@dataclass(frozen=True)
class SafeRoot:
    "The folder that the file tools may work in."
    folder: Path
    secrets: tuple[str, ...] = tuple(Rules().secrets)  # patterns of files that stay closed

    def place(self, path: str | Path) -> Place:
        "Where the path leads; `ToolError` where no tool may go."
        place = place_of(self.folder, path)
        if place.kind == "escape":
            raise ToolError(f"{place.given} leads out of the project folder, to {place.shown}")
        if self.is_secret(place):
            raise ToolError(f"{place.shown} is closed: it may hold secrets")
        if place.kind == "outside" and not current_call().approved:
            raise ToolError(f"{place.shown} is outside the project folder and was not approved")
        return place

    def is_secret(self, place: Place) -> bool:
        "Whether the place, or the name that led there, is one of the closed ones."
        return any(matching_pattern(name, self.secrets) for name in (place.shown, place.given))


# %%
folder = tempfile.TemporaryDirectory()
project = Path(folder.name)
(project / "src").mkdir()
(project / "src/app.py").write_text("import os\n\n# TODO: say more\nprint('안녕')\n", encoding="utf-8")
(project / ".env").write_text("API_KEY=xyz\n")
(project / "passwords").symlink_to("/etc/passwd")

root = SafeRoot(project)
test_fail(lambda: root.place("../other"), contains="leads out of the project folder")
test_fail(lambda: root.place("passwords"), contains="leads out of the project folder")
test_fail(lambda: root.place(".env"), contains="may hold secrets")
test_fail(lambda: root.place("/etc/hosts"), contains="was not approved")
root.place("src/../src/app.py").shown

# %% [markdown]
# Between the check and the opening, a folder on the way may be swapped for a link. So the way is
# walked with the system's own "no links" flag, each step relative to the folder before it. Windows
# has no such walk; there the path is opened as it was checked.

# %%
#| export
_CAN_WALK = os.open in os.supports_dir_fd
_STEP = getattr(os, "O_PATH", 0) | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


# %%
#| export
@contextmanager
def _parent(
    real: Path,  # absolute and without links
    make: bool = False,  # whether missing folders are made
) -> Iterator[int | None]:  # a descriptor, or None where the system has no such walk
    "The folder that holds `real`, reached without following a link."
    if not _CAN_WALK:
        if make:
            real.parent.mkdir(parents=True, exist_ok=True)
        yield None
        return
    here = os.open(real.anchor, _STEP)
    try:
        for name in real.parts[1:-1]:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=here)
            above, here = here, os.open(name, _STEP, dir_fd=here)
            os.close(above)
        yield here
    finally:
        os.close(here)


# %%
#| export
def _open(real: Path) -> int:
    "A descriptor for reading what is at `real`, opened without following a link or waiting."
    with _parent(real) as parent:
        return os.open(real if parent is None else real.name or ".", _FLAGS, dir_fd=parent)


# %% [markdown]
# What the system says of a failure is turned into a sentence; a name that is not there gets a guess.

# %%
#| export
@contextmanager
def _explained(place: Place) -> Iterator[None]:
    "Turn what the system says about the place into a `ToolError`."
    try:
        yield
    except FileNotFoundError:
        parent = place.real.parent
        guess = did_you_mean(place.real.name, os.listdir(parent)) if parent.is_dir() else ""
        raise ToolError(f"{place.shown} does not exist.{guess}") from None
    except OSError as error:
        raise ToolError(f"{place.shown}: {error.strerror or error}") from None


# %% [markdown]
# Sizes are bounded before anything is read into memory, and only regular files have one.

# %%
#| export
def size_text(count: int) -> str:
    "A number of bytes, for people: `512 bytes`, `1.5 KiB`."
    size, unit = float(count), 0
    while size >= 1024 and unit < 4:
        size, unit = size / 1024, unit + 1
    return f"{size:.1f} {'KMGT'[unit - 1]}iB" if unit else f"{count} bytes"


# %%
#| export
_MOST_BYTES = 8 * 2**20  # of one file


# %%
#| export
def _content(place: Place) -> bytes:
    "The bytes of a regular file of bounded size; `ToolError` for anything else."
    with _explained(place), open(_open(place.real), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ToolError(f"{place.shown} is not a regular file")
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ToolError(f"{place.shown} is larger than the {size_text(_MOST_BYTES)} that are read "
                        "at once; a command such as sed or tail shows a part of it")
    return data


# %%
#| export
def _text(place: Place) -> tuple[str, str]:
    "The text of a file, and a note where its bytes are not all UTF-8."
    data = _content(place)
    if b"\0" in data[:8192]:
        raise ToolError(f"{place.shown} is binary ({size_text(len(data))}), not text")
    try:
        return data.decode("utf-8-sig"), ""
    except UnicodeDecodeError:
        return data.decode("utf-8-sig", "replace"), " (not all UTF-8: wrong bytes appear as \ufffd)"


# %% [markdown]
# ## Reading
#
# Lines come with their numbers, so that the next call can ask for more of them, and an answer can say
# where something stands.

# %%
#| export
LineNumber = Annotated[int, Field(ge=1, le=100_000_000)]


# %%
#| export
def read_file(
    path: Path,  # the file, such as src/app.py
    start: LineNumber | None = None,  # the first line, counted from 1
    end: LineNumber | None = None,  # the last line, included
    *,
    root: SafeRoot,
) -> str:  # a line about the file, then its lines with their numbers
    "Read a text file, or the lines from start to end of it."
    place = root.place(path)
    text, note = _text(place)
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n") if text else []
    first, last = start or 1, min(end or len(lines), len(lines))
    if first > max(last, 1):
        raise ToolError(f"there is no line {first} to {end or 'the end'} in {place.shown}: "
                        f"it has {len(lines)} lines")
    width = len(str(last))
    numbered = [f"{number:>{width}}  {line}" for number, line in
                enumerate(lines[first - 1:last], first)]
    return "\n".join([f"{place.shown}, lines {first}-{last} of {len(lines)}{note}", *numbered])


# %%
test_fail(lambda: read_file("src/ap.py", root=root), contains="Did you mean 'app.py'?")
test_fail(lambda: read_file("src/app.py", 9, root=root), contains="it has 4 lines")
print(read_file("src/app.py", 3, root=root))


# %% [markdown]
# ## Looking around

# %%
#| export
def _entry(entry: os.DirEntry) -> tuple[bool, str]:
    "How a name in a folder is shown; folders sort before files."
    if entry.is_symlink():
        return True, f"{entry.name} (a link)"
    if entry.is_dir(follow_symlinks=False):
        return False, f"{entry.name}/"
    return True, f"{entry.name}  {size_text(entry.stat(follow_symlinks=False).st_size)}"


# %%
#| export
def list_dir(
    path: Path,  # the folder; . is the project folder
    *,
    root: SafeRoot,
    limit: int = 200,  # names that are shown
) -> str:
    "List the files and folders in a folder."
    place = root.place(path)
    with _explained(place):
        handle = _open(place.real) if os.scandir in os.supports_fd else None
        try:
            with os.scandir(place.real if handle is None else handle) as entries:
                found = sorted(map(_entry, islice(entries, 20_000)))
        finally:
            if handle is not None:
                os.close(handle)
    names = [name for _, name in found]
    more = [f"[{len(names) - limit} more names]"] if len(names) > limit else []
    return "\n".join([f"{place.shown}, names: {len(names)}", *names[:limit], *more])


# %%
print(list_dir(".", root=root))

# %% [markdown]
# ## Searching
#
# A search walks a whole tree, so it has to leave out what nobody means: version control, installed
# packages, binary files, closed files. Links are not followed.

# %%
#| export
_NOT_OURS = {".git", ".hg", ".svn", "node_modules", "__pycache__", ".venv", "venv", ".tox", ".eggs",
             ".ipynb_checkpoints", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis"}


# %%
#| export
def _files_below(place: Place, root: SafeRoot) -> Iterator[Place]:
    "The regular files at or below a place that a search should look into, in order."
    if not place.real.is_dir():
        yield place
        return
    for folder, names, files in os.walk(place.real):
        names[:] = sorted(name for name in names if name not in _NOT_OURS)
        for name in sorted(files):
            real = Path(folder, name)
            shown = (Path(place.shown) / real.relative_to(place.real)).as_posix()
            found = Place(shown, real, place.kind, shown)
            if not real.is_symlink() and not root.is_secret(found):
                yield found


# %%
[file.shown for file in _files_below(root.place("."), root)]


# %% [markdown]
# The pattern is plain text, as the request has it: a regular expression from a model can take a
# machine for minutes. A pattern without capital letters fits both cases.

# %%
#| export
def _matches(place: Place, pattern: bytes) -> Iterator[str]:
    "The lines of one file that hold the pattern, as `path:line: text`."
    fold = pattern == pattern.lower()
    data = _content(place)
    if b"\0" in data[:8192] or pattern not in (data.lower() if fold else data):
        return
    for number, line in enumerate(data.split(b"\n"), 1):
        if pattern in (line.lower() if fold else line):
            yield f"{place.shown}:{number}: {clip(line.decode('utf-8', 'replace').strip(), 200)}"


# %%
#| export
def search_text(
    pattern: Annotated[str, Field(min_length=1, max_length=500)],  # plain text within a line
    path: Path = Path("."),  # the folder or file to search
    *,
    root: SafeRoot,
    limit: int = 100,  # matches that are shown
    timeout_s: float = 10,
) -> str:  # lines `path:line: text`, and how much was searched
    "Find the lines that contain a text, in a file or in all files of a folder."
    place, found, count, late = root.place(path), [], 0, False
    deadline, stop = time.monotonic() + timeout_s, current_call().cancelled
    with _explained(place):
        os.stat(place.real)
    for file in _files_below(place, root):
        late = time.monotonic() > deadline or stop.is_set()
        if late or len(found) > limit:
            break
        try:
            found += islice(_matches(file, pattern.encode()), limit + 1 - len(found))
            count += 1
        except ToolError:  # too large, or gone meanwhile: among many files the others will do
            if file is place:
                raise
    cut = "; cut short, a narrower search sees more" if late or len(found) > limit else ""
    return "\n".join([*found[:limit],
                      f"[matches: {len(found[:limit])}, files searched: {count}{cut}]"])


# %%
print(search_text("todo", root=root))
print(search_text("API_KEY", root=root))


# %% [markdown]
# ## Writing
#
# A file is replaced in one step: its new content is written beside it and then takes its name. So a
# reader never sees half of it, and a link that takes the name meanwhile is replaced, not followed.

# %%
#| export
def _mode_of(name: str, parent: int) -> int | None:
    "The permissions of the file that is to be replaced, None if there is none; `ToolError` if not."
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise ToolError(f"{name} is not a regular file")
    if not found.st_mode & stat.S_IWUSR:
        raise ToolError(f"{name} is write-protected")
    return stat.S_IMODE(found.st_mode)


# %%
#| export
def _replace(real: Path, data: bytes) -> bool:
    "Put the data at `real` in one step, and say whether there was a file before."
    with _parent(real, make=True) as parent:
        if parent is None:
            old = real.exists()
            atomic_write(real, data)
            return old
        mode = _mode_of(real.name, parent)
        new = f".javis.{secrets.token_hex(8)}"
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o666, dir_fd=parent)
        try:
            with open(handle, "wb") as file:
                if mode is not None:
                    os.fchmod(handle, mode)
                file.write(data)
                file.flush()
                os.fsync(handle)
            os.replace(new, real.name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            os.unlink(new, dir_fd=parent)
            raise
        return mode is not None


# %%
#| export
def write_file(
    path: Path,  # the file; missing folders are made
    content: Annotated[str, Field(max_length=1_000_000)],  # the whole new content
    *,
    root: SafeRoot,
) -> str:
    "Write a text file; a file that has this name is replaced whole."
    place, data = root.place(path), content.encode()
    if not place.real.name or place.real == Path(os.path.realpath(root.folder)):
        raise ToolError(f"{place.given} is a folder")
    with _explained(place):
        old = _replace(place.real, data)
    return f"{'replaced' if old else 'wrote'} {place.shown} ({size_text(len(data))})"


# %%
print(write_file("docs/plan.md", "# 계획\n", root=root))
print(write_file("docs/plan.md", "# Plan\n\n- read\n", root=root))
test_fail(lambda: write_file("docs", "", root=root), contains="not a regular file")
test_eq([path.name for path in (project / "docs").iterdir()], ["plan.md"])

# %% [markdown]
# ## As tools
#
# The model sees none of the parameters that the program gives, and outside places need a yes.

# %%
toolbox = Toolbox([tool("read", root=root)(read_file), tool("read", root=root)(list_dir),
                   tool("read", root=root)(search_text), tool("write", root=root)(write_file)])
print(toolbox.call("read_file", {"path": "/etc/hosts"}))
print(toolbox.call("read_file", {"path": "docs/plan.md", "start": "1", "end": 1}))
toolbox
