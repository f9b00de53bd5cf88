"What all tests share."
import signal


def pytest_configure(config):
    "Ctrl-C must work in tests of it, also where the whole run was started in the background and ignores it."
    if hasattr(signal, "SIGINT"):
        signal.signal(signal.SIGINT, signal.default_int_handler)
