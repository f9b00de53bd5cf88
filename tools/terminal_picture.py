"""A picture of `javis chat` for the README: a real conversation on a pseudo-terminal, with a scripted model.

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
from pathlib import Path

from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests")]
from pseudo_terminal import Terminal  # noqa: E402
from scripted_server import DONE, ScriptedServer, delta, said, sse, stream_head  # noqa: E402

COLUMNS, ROWS = 84, 42
FONTS = "'DejaVu Sans Mono', Menlo, Consolas, 'Noto Sans Mono CJK KR', monospace"
THEME = TerminalTheme((24, 26, 31), (216, 220, 228), [
    (24, 26, 31), (224, 108, 117), (152, 195, 121), (229, 192, 123), (97, 175, 239), (198, 120, 221), (86, 182, 194), (216, 220, 228)], [
    (124, 131, 144), (224, 108, 117), (152, 195, 121), (229, 192, 123), (97, 175, 239), (198, 120, 221), (86, 182, 194), (255, 255, 255)])
OLD = 'import logging\n\nlogging.basicConfig(\n    filename="logs/app.log",\n    level="INFO")\n'
CALL = "<tool_call>%s</tool_call>"
END = delta("stop") + sse({"choices": [], "usage": {"prompt_tokens": 410, "completion_tokens": 60}}) + DONE


def answers() -> list[str]:
    "What the model says."
    search = {"name": "search_text", "arguments": {"pattern": "basicConfig"}}
    write = {"name": "write_file", "arguments": {"path": "app/log.py", "content": OLD.replace("INFO", "DEBUG")}}
    return [CALL % json.dumps(search),
            f"Logging is set up in `app/log.py`, which writes to `logs/app.log`:\n\n```python\n{OLD}```\n\nFor more detail "
            f"its level should be DEBUG.\n" + CALL % json.dumps(write),
            "Done: everything from DEBUG upwards is in logs/app.log from now on."]


def coloured(screen) -> Text:
    "The window as rich sees it."
    names = {"brown": "yellow", "default": None} | {f"bright{one}": f"bright_{one}" for one in
                                                    "black red green yellow blue magenta cyan white".split()} | {"brightbrown": "bright_yellow"}
    found = Text()
    bottom = max((y for y in range(screen.lines) if any(screen.buffer[y][x].data.strip() for x in range(screen.columns))), default=0)
    for y in range(bottom + 1):
        for x in range(screen.columns):
            one = screen.buffer[y][x]
            colour = lambda name: names.get(name, f"#{name}" if re.fullmatch("[0-9a-f]{6}", name) else name)
            found.append(one.data, Style(color=colour(one.fg), bgcolor=colour(one.bg), bold=one.bold, italic=one.italics, reverse=one.reverse))
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
    target.write_text(console.export_svg(title="javis chat", theme=THEME, code_format=form, unique_id="terminal"), encoding="utf-8")


def main(target: Path, approval: bool) -> None:
    words = [re.findall(r"\s*\S+\s*", answer) for answer in answers()]
    with tempfile.TemporaryDirectory() as folder, ScriptedServer(
            *([stream_head(), *map(said, some), END] for some in words)) as server:
        home = Path(folder) / "project"
        for name, text in {"app/log.py": OLD, "configs/config.yaml": (
                "model: test\nendpoints:\n  test:\n    kind: openai\n    model: scripted\n    price_input: 3\n    price_output: 9\n"
                f"    url: {server.url}\n")}.items():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_text(text)
        with Window("chat", home=home, columns=COLUMNS, rows=ROWS, env={"NO_COLOR": "", "COLORTERM": "truecolor"}) as terminal:
            terminal.until("› ?").quiet().type("Which file sets up logging? 로그를 더 자세히 남기게 바꿔 줘.\r").until(r"Allow it\?").quiet()
            if not approval:
                time.sleep(0.5)
                terminal.type("y").until("from now on").quiet()
            picture(terminal.screen(), target)
    print(target)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    approval = "--approval" in arguments
    rest = [one for one in arguments if one != "--approval"]
    main(Path(rest[0]) if rest else ROOT / "nbs/images/terminal-chat.svg", approval)
