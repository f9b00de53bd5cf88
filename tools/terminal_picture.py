"""A picture of `javis chat` for the README: the session of nbs/tours/03_a_repository.ipynb on a real pseudo-terminal.

The model's words are scripted; its tools, the questions, the wall and the tests that run are real.

    pip install pyte                     # a terminal in Python; needed here only
    python tools/terminal_picture.py     # -> nbs/images/terminal-chat.svg
    python tools/terminal_picture.py --approval approval.svg
"""
import json
import os
import re
import sys
import tempfile
import time
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests")]
from pseudo_terminal import Terminal  # noqa: E402
from scripted_server import DONE, ScriptedServer, delta, said, sse, stream_head  # noqa: E402

COLUMNS, ROWS = 88, 64
FONTS = "'DejaVu Sans Mono', Menlo, Consolas, 'Noto Sans Mono CJK KR', monospace"
THEME = TerminalTheme((24, 26, 31), (216, 220, 228), [
    (24, 26, 31), (224, 108, 117), (152, 195, 121), (229, 192, 123), (97, 175, 239), (198, 120, 221), (86, 182, 194), (216, 220, 228)], [
    (124, 131, 144), (224, 108, 117), (152, 195, 121), (229, 192, 123), (97, 175, 239), (198, 120, 221), (86, 182, 194), (255, 255, 255)])
END = delta("stop") + sse({"choices": [], "usage": {"prompt_tokens": 410, "completion_tokens": 60}}) + DONE


def of_the_tour() -> tuple[dict[str, str], list[str]]:
    "The repository of the third tour, and what its scripted model says in the first turn."
    cells = json.loads((ROOT / "nbs/tours/03_a_repository.ipynb").read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    found: dict = {}
    exec(next(one for one in sources if one.startswith("FILES = ")), found)
    exec(next(one for one in sources if "ANSWERS = [" in one), found)
    return found["FILES"], found["ANSWERS"][:4]


def coloured(screen) -> Text:
    "The window as rich sees it."
    names = {"brown": "yellow", "default": None} | {f"bright{one}": f"bright_{one}" for one in
                                                    "black red green yellow blue magenta cyan white".split()} | {"brightbrown": "bright_yellow"}
    found = Text()
    bottom = max((y for y in range(screen.lines) if any(screen.buffer[y][x].data.strip() for x in range(screen.columns))), default=0)
    colour = lambda name: names.get(name, f"#{name}" if re.fullmatch("[0-9a-f]{6}", name) else name)
    style = lambda one: Style(color=colour(one.fg), bgcolor=colour(one.bg), bold=one.bold, italic=one.italics, reverse=one.reverse)
    for y in range(bottom + 1):
        for how, run in groupby((screen.buffer[y][x] for x in range(screen.columns)), style):
            found.append("".join(one.data for one in run), how)
        found.append("\n")
    return found


class Window(Terminal):
    "A terminal that knows what it shows."

    def screen(self):
        import pyte
        screen = pyte.Screen(COLUMNS, ROWS)
        pyte.Stream(screen).feed(self.all.replace("\x1b[2m", "\x1b[90m"))
        return screen

    def cursor(self) -> tuple[int, int]:
        at = self.screen().cursor
        return at.y + 1, at.x + 1


def picture(screen, target: Path) -> None:
    "Draw what a terminal shows."
    from rich._export_format import CONSOLE_SVG_FORMAT
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True, color_system="truecolor")
    console.print(coloured(screen), soft_wrap=True, end="")
    form = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.S).replace("Fira Code", FONTS.replace("'", "")).replace(
        f"font-family: {FONTS.replace(chr(39), '')}, monospace", f"font-family: {FONTS}")
    target.write_text(lighter(console.export_svg(title="javis chat", theme=THEME, code_format=form, unique_id="terminal")), encoding="utf-8")


def lighter(svg: str) -> str:
    "The picture without the frame around each row, which nothing here reaches out of."
    svg = re.sub(r'<clipPath id="terminal-line-\d+">.*?</clipPath>\n?', "", svg, flags=re.S)
    return re.sub(r' clip-path="url\(#terminal-line-\d+\)"', "", svg)


def main(target: Path, approval: bool) -> None:
    files, answers = of_the_tour()
    words = [re.findall(r"\s*\S+\s*", answer) for answer in answers]
    with tempfile.TemporaryDirectory() as folder, ScriptedServer(
            *([stream_head(), *map(said, some), END] for some in words)) as server:
        home = Path(folder) / "shop"
        for name, text in {**files, "configs/config.yaml": (
                "model: stronger\nendpoints:\n  stronger:\n    kind: openai\n    model: scripted\n    price_input: 3\n    price_output: 9\n"
                f"    url: {server.url}\ntools:\n  enabled: [read_file, list_dir, search_text, edit_file, run_shell]\n")}.items():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_text(text)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        with Window("chat", home=home, columns=COLUMNS, rows=ROWS, env={"NO_COLOR": "", "COLORTERM": "truecolor", "PATH": path}) as terminal:
            terminal.until("› ?").quiet().type("A test fails. Find out which, and put it right.\r").until(r"Allow it\?").quiet()
            time.sleep(0.5)
            terminal.type("y").until(r"Allow them\?").quiet()
            if not approval:
                time.sleep(0.5)
                terminal.type("a").until("one missing division").quiet()
            picture(terminal.screen(), target)
    print(f"{target}, {target.stat().st_size // 1000} kB")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    approval = "--approval" in arguments
    rest = [one for one in arguments if one != "--approval"]
    main(Path(rest[0]) if rest else ROOT / "nbs/images/terminal-chat.svg", approval)
