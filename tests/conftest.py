"What all tests share."
import logging
import signal

import pytest


def pytest_configure(config):
    "Ctrl-C must work in tests of it, also where the whole run was started in the background and ignores it."
    if hasattr(signal, "SIGINT"):
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def one_log_each():
    "A log that a test or a notebook has opened in its folder is closed with it: the next one does not write there."
    log = logging.getLogger("javis")
    before, level = list(log.handlers), log.level
    yield
    for handler in [one for one in log.handlers if one not in before]:
        log.removeHandler(handler)
        handler.close()
    log.setLevel(level)
