"Each of the 67 attack cases has a test; which number belongs to which test is asked of pytest, that has collected them."
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
LISTING = """
import sys
import pytest

class Cases:
    def pytest_collection_modifyitems(self, items):
        for item in items:
            skipped = any(mark.name == "xfail" for mark in item.iter_markers())
            for mark in item.iter_markers("case"):
                for number in mark.args:
                    if not skipped:
                        print("case", number, item.nodeid)

sys.exit(pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", *sys.argv[1:]], [Cases()]))
"""


def collected():
    "The tests of each case."
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", LISTING, str(HERE), str(HERE.parent)], cwd=HERE.parent.parent, env=environment, capture_output=True, text=True, timeout=300)
    found = defaultdict(set)
    for line in done.stdout.splitlines():
        if line.startswith("case "):
            _, number, test = line.split(" ", 2)
            found[int(number)].add(test)
    assert found, done.stdout[-2000:] + done.stderr[-2000:]
    return found


OPEN = set()  # cases whose test is expected to fail


def test_every_case_has_a_test_that_is_not_expected_to_fail():
    found = collected()
    assert set(range(1, 68)) - found.keys() == OPEN, "these cases have no test"
    assert not found.keys() - set(range(1, 68)), "there are 67 cases"
