"The benchmarks of the page: their arithmetic, what they do without a browser, and what they leave behind. No timings."
import signal
import subprocess
import sys
import time

import psutil
import pytest

import javis.bench_lab
import javis.bench_page
from javis.bench import _frame_figures, _word_figures, bench_page
from javis.bench_browser import frames_of, long_text
from javis.bench_lab import NoBrowser, find_chromium, running

FAMILY = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
open(sys.argv[1], "w").close()
time.sleep(60)
"""


def family(folder):
    "A process of ours, and one that it started in a session of its own."
    return [sys.executable, "-c", FAMILY, str(folder / "ready")]


def gone(processes):
    "Whether all have ended; nobody may have fetched their status yet."
    _, left = psutil.wait_procs(processes, timeout=1)
    return all(one.status() == psutil.STATUS_ZOMBIE for one in left)


def wait_for(file):
    end = time.monotonic() + 20
    while not file.exists():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_frames_are_counted_in_a_few_numbers():
    assert frames_of([20], []) == (20, 20, 20, None, 0)
    assert frames_of(list(range(100, 0, -1)), [100]) == (50.5, 96, 100, 5.05, 0)
    assert frames_of([10, 30, 20, 500, 40], [3, 4]) == (20, 30, 30, 0.06, 500)


def test_a_long_text_is_long_and_whole():
    assert len(long_text(200_000)) >= 200_000
    assert long_text(10_000).count("```") % 2 == 0


def test_figures_stand_beside_their_peer():
    pairs = [(frames_of([16, 16, 40, 90], [3, 4]), frames_of([16, 160, 400], []))] * 2
    *figures, shown, after = _frame_figures(200_000, pairs)
    assert [one.ratio for one in figures] == [0.1, 0.1, 0.1]
    assert (shown.values, shown.unit, after.values, after.unit) == ([0.072] * 2, "s", [90] * 2, "ms")
    whole, beyond = _word_figures([(120, 50), (90, 40)], [(60, 30), (50, 30)])
    assert whole.ratio == (2 + 1.8) / 2
    assert beyond.values == [70, 50] and beyond.peer_values == [30, 20]


def test_a_process_takes_along_what_it_started(tmp_path):
    with pytest.raises(KeyboardInterrupt), running(family(tmp_path)) as process:
        wait_for(tmp_path / "ready")
        whole = [process, *process.children(recursive=True)]
        raise KeyboardInterrupt
    assert len(whole) == 2 and gone(whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_behind_by_a_signal(tmp_path, number):
    code = ("import signal, sys, time; from javis.bench_lab import in_order, running\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "with in_order(), running(sys.argv[1:]):\n    time.sleep(60)")
    ours = subprocess.Popen([sys.executable, "-c", code, *family(tmp_path)], stderr=subprocess.DEVNULL)
    wait_for(tmp_path / "ready")
    whole = psutil.Process(ours.pid).children(recursive=True)
    ours.send_signal(number)
    assert ours.wait(20) != 0
    assert len(whole) == 2 and gone(whole)


def test_without_a_browser_the_rest_is_measured(monkeypatch, capsys):
    class Silent:
        def __init__(self, tokens):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(javis.bench_page, "Listener", Silent)
    monkeypatch.setattr(javis.bench_page, "bytes_of_an_answer", lambda listener: (1, 2, 3, 4))
    monkeypatch.setattr(javis.bench_page, "milliseconds_to_stop", lambda listener: 5)
    monkeypatch.setattr(javis.bench_page, "milliseconds_to_words", lambda listener: (7, 6))
    monkeypatch.setattr(javis.bench_lab.shutil, "which", lambda name: None)
    pytest.importorskip("playwright.sync_api")
    with pytest.raises(NoBrowser):
        find_chromium()
    assert len(bench_page(rounds=1)) == 4
    said = capsys.readouterr().err.strip()
    assert "left out" in said and "apt-get install chromium" in said and "\n" not in said
