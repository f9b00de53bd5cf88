"The attack suite: each test names the cases that it carries."


def pytest_configure(config):
    config.addinivalue_line("markers", "case(n, ...): the numbers of the attack cases that a test carries")
