"""JAVIS: grow an AI assistant of your own in notebooks. The names below load when they are first used."""
__version__ = "0.1.0"

_PLACES = {
    "Chat": "javis.widgets.chat",
    "ChatSession": "javis.session",
    "Engine": "javis.local",
    "JavisError": "javis.basics",
    "Settings": "javis.config",
    "Store": "javis.store",
    "Toolbox": "javis.tools.base",
    "load_settings": "javis.config",
    "tool": "javis.tools.base",
}
__all__ = sorted(_PLACES)


def __getattr__(name: str):
    "Import a name of `__all__` when it is first asked for."
    if name not in _PLACES:
        raise AttributeError(f"module 'javis' has no attribute {name!r}")
    from importlib import import_module
    value = globals()[name] = getattr(import_module(_PLACES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(shell) -> None:
    "Register the magics %javis and %%javis: `%load_ext javis`."
    from javis.widgets.magics import load_ipython_extension as load
    load(shell)
