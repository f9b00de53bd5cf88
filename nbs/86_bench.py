# %% [markdown]
# # Benchmarks
#
# > What JAVIS costs on this machine, each figure beside a peer measured in the same run
#
# A speed without a comparison says more about the machine than about the program. So everything here is measured
# several times, in turn with what somebody would otherwise write: a raw `httpx` call to the same engine, a plain TRL
# script on the same rows. Medians and ratios are printed, and `--json` gives all of it to a script. Nothing here is
# part of the tests: `make bench`.

# %%
#| default_exp bench

# %%
#| export
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from javis.basics import JavisError, atomic_write, need
from javis.config import Settings, load_settings

# %%
from fastcore.test import test_eq

# %% [markdown]
# ## A figure

# %%
#| export
@dataclass(frozen=True)
class Figure:
    "A measured quantity: its values in order, and those of a peer measured in turn with it."
    name: str
    unit: str
    values: list[float]
    peer: str = ""
    peer_values: list[float] | None = None

    @property
    def ratio(self) -> float | None:
        "The median over pairs of ours divided by the peer's."
        if not self.peer_values:
            return None
        return median(own / other for own, other in zip(self.values, self.peer_values))

    def row(self) -> list[str]:
        "Name, median, range, peer, the peer's median, ratio: as texts."
        spread = f"{min(self.values):.3g} to {max(self.values):.3g}"
        beside = [self.peer, f"{median(self.peer_values):.3g}", f"{self.ratio:.2f}"] if self.peer_values else [""] * 3
        return [f"{self.name} ({self.unit})", f"{median(self.values):.3g}", spread, *beside]

# %%
test_eq(Figure("start", "s", [2, 4], "other", [1, 1]).ratio, 3)
Figure("start", "ms", [120, 100, 110]).row()

# %%
#| export
def in_turn(
    rounds: int,  # how often each is measured
    ours: Callable[[], float],
    peer: Callable[[], float],
) -> tuple[list[float], list[float]]:  # ours and the peer's
    "Measure two things alternately, after one uncounted round of each."
    ours(), peer()
    pairs = [(ours(), peer()) for _ in range(rounds)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]

# %%
counter = iter(range(100))
test_eq(in_turn(2, lambda: next(counter), lambda: -1), ([1, 2], [-1, -1]))

# %% [markdown]
# ## The command line
#
# What a person feels on every use, beside the same Python doing nothing.

# %%
#| export
def _milliseconds(command: list[str]) -> float:
    "How long a command takes."
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return (time.perf_counter() - start) * 1000

# %%
#| export
def bench_cli(
    rounds: int = 9,
) -> list[Figure]:
    "Start of the command line against a bare start of Python."
    code = "import sys; from javis.cli import main; sys.argv = ['javis', '{}']; main()"
    bare = [sys.executable, "-c", "pass"]
    figures = []
    for option in ("--version", "--help"):
        ours = [sys.executable, "-c", code.format(option)]
        values, peers = in_turn(rounds, lambda: _milliseconds(ours), lambda: _milliseconds(bare))
        figures.append(Figure(f"javis {option}", "ms", values, "python -c pass", peers))
    return figures

# %% [markdown]
# ## The engine, and a chat through JAVIS
#
# The same request goes through a `ChatSession` (context, record in SQLite, events) and as a raw `httpx` stream to the
# same engine; both read the stream to its end, and both find the prompt in the engine's cache.

# %%
#| export
def bench_engine(
    settings: Settings,
    rounds: int = 3,
) -> list[Figure]:
    "From nothing to a listening engine, in this process, after a first use that is not counted."
    from javis.local import Engine
    seconds = []
    for _ in range(rounds + 1):
        with Engine(settings.endpoint("local").model) as engine:
            seconds.append(engine.start_s)
    return [Figure("engine start", "s", seconds[1:])]
