# The two commands:   make book     make test
# (make help lists the rest; CONTRIBUTING.md says when they are wanted.)

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The newest Python that is there, runs and can make an environment; a wrapper of a version manager may do neither.
PYTHONS := python3.14 python3.13 python3.12 python3.11 python3
FITS := import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))
PYTHON ?= $(shell for name in $(PYTHONS); do \
  if "$$name" -c '$(FITS)' 2>/dev/null; then command -v "$$name"; break; fi; done)
PROFILE ?= aviary
VENV ?= .venv
export PIP_DISABLE_PIP_VERSION_CHECK := 1

INSTALLED := $(VENV)/installed-from-lock
MATHS := book/node_modules/mathjax/es5/tex-svg-full.js

.PHONY: help book evidence test browser maths format notebooks clean

help:
	@echo "make book                 install, run all notebooks, build the book, print its first page's path"
	@echo "make book PROFILE=smoke   the same in seconds a notebook: it shows that all runs, its numbers mean nothing"
	@echo "make evidence             every world of every method and variant, kept for the book (hours; goes on when killed)"
	@echo "make test                 install, check the layout, unit tests, all notebooks in the smoke profile"
	@echo "make browser              open every page of the built book in a headless Chromium and check it (TEDLOC_BROWSER=firefox: in Firefox)"
	@echo "make notebooks            write each notebooks/NAME.ipynb anew from NAME.py"
	@echo "make format               lay out the code as make test wants it"
	@echo "make clean                remove the built pages and executed notebooks (runs and caches stay)"

book: $(INSTALLED) maths
	@echo "== notebooks, profile $(PROFILE)"
	@$(VENV)/bin/python -m tedloc.book run --profile $(PROFILE)
	@echo "== pages"
	@$(VENV)/bin/python -m tedloc.book build

evidence: $(INSTALLED)
	@echo "== every world of every method, profile $(PROFILE)"
	@$(VENV)/bin/python -m tedloc.book evidence --profile $(PROFILE)

test: $(INSTALLED)
	@echo "== layout"
	@$(VENV)/bin/ruff check --quiet && $(VENV)/bin/ruff format --check --quiet || \
	  { echo "run: make format, then look at what is left" >&2; exit 1; }
	@echo "== tests"
	@$(VENV)/bin/python -m pytest

browser: $(INSTALLED)
	@echo "== pages in a browser"
	@$(VENV)/bin/python -m pytest -n 0 -m browser tests/browser

# Exactly what the lock names, each file checked by its hash; then the package itself, editable. The stamp is newer
# than both files only when all of it went through, so an interrupted installation goes on at the next call.
$(INSTALLED): requirements.lock pyproject.toml
	@test -x $(VENV)/bin/pip || { test -n "$(PYTHON)" && "$(PYTHON)" -c '$(FITS)' 2>/dev/null; } || \
	  { echo "Python 3.11, 3.12, 3.13 or 3.14 with its venv is needed, and $(or $(PYTHON),none of $(PYTHONS)) is not one: install it (Debian, Ubuntu: apt install python3-venv; macOS: brew install python@3.13; conda: environment.yml), or name it: make PYTHON=/path/to/python3" >&2; exit 2; }
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

format: $(INSTALLED)
	@$(VENV)/bin/ruff check --quiet --fix; $(VENV)/bin/ruff format

notebooks: $(INSTALLED)
	@$(VENV)/bin/jupytext --quiet --update --to ipynb notebooks/*.py

clean:
	rm -rf book/_build book/executed
