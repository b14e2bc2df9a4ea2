# The two commands:   make book     make test
# (make help lists the rest; CONTRIBUTING.md says when they are wanted.)

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PROFILE ?= aviary
VENV ?= .venv
export PIP_DISABLE_PIP_VERSION_CHECK := 1

INSTALLED := $(VENV)/installed-from-lock
MATHS := book/node_modules/mathjax/es5/tex-svg-full.js

.PHONY: help book test browser maths notebooks clean

help:
	@echo "make book                 install, run all notebooks, build the book, print its first page's path"
	@echo "make book PROFILE=smoke   the same in seconds a notebook: it shows that all runs, its numbers mean nothing"
	@echo "make test                 install, then unit tests and all notebooks in the smoke profile"
	@echo "make browser              open every page of the built book in a headless Chromium and check it"
	@echo "make notebooks            write each notebooks/NAME.ipynb anew from NAME.py"
	@echo "make clean                remove the built pages and executed notebooks (runs and caches stay)"

book: $(INSTALLED) maths
	@echo "== notebooks, profile $(PROFILE)"
	@$(VENV)/bin/python -m tedloc.book run --profile $(PROFILE)
	@echo "== pages"
	@$(VENV)/bin/python -m tedloc.book build

test: $(INSTALLED)
	@echo "== tests"
	@$(VENV)/bin/python -m pytest

browser: $(INSTALLED)
	@echo "== pages in a browser"
	@$(VENV)/bin/python -m pytest -n 0 -m browser tests/browser

# Exactly what the lock names, each file checked by its hash; then the package itself, editable. The stamp is newer
# than both files only when all of it went through, so an interrupted installation goes on at the next call.
$(INSTALLED): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" && "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "Python 3.11 is needed, and $(or $(PYTHON),no python3) is not it: install it, or name it: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "== installing into $(VENV) from requirements.lock (a few minutes the first time)"
	@test -x $(VENV)/bin/pip || "$(PYTHON)" -m venv $(VENV)
	@$(VENV)/bin/python -m pip install -qq --require-hashes -r requirements.lock
	@$(VENV)/bin/python -m pip install -qq --no-deps --no-build-isolation -e .
	@touch $@

# Formulas are drawn by MathJax, and the page "Try it on your image" runs its model with ONNX Runtime. With npm both are
# installed, pinned, and the book needs no network; without, the pages load MathJax from the network when they are read,
# and that page shows its samples only.
maths:
	@if [ book/package-lock.json -ot $(MATHS) ]; then :; \
	elif command -v npm >/dev/null; then \
	  echo "== MathJax and ONNX Runtime, for pages that need no network"; \
	  npm ci --prefix book --ignore-scripts --no-audit --no-fund --loglevel=error && touch $(MATHS) || \
	  echo "npm could not install MathJax and ONNX Runtime: formulas will need a network when the book is read, and no model runs in it" >&2; \
	else echo "npm is not installed: formulas will need a network when the book is read, and no model runs in it" >&2; fi

notebooks: $(INSTALLED)
	@$(VENV)/bin/jupytext --quiet --update --to ipynb notebooks/*.py

clean:
	rm -rf book/_build book/executed
