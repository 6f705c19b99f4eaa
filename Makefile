# Everything a contributor needs. `make` alone lists the targets.
#   PYTHON=python3.12   which Python makes the environment
#   VENV=.venv          where it lies
#   PY=python           use this Python's environment as it is, make none

PYTHON ?= python3
VENV ?= .venv
PY ?= $(VENV)/bin/python

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help env export refresh book test audit records lab clean

ifeq ($(origin PY),file)
# The stamp's name holds a sum of what the environment is made from, so that
# neither a fresh checkout's times nor a second call make it anew.
STAMP = $(VENV)/.made-from-$(shell cat settings.ini setup.py constraints.txt | cksum | tr ' ' '-')
endif

help:  ## list the targets
	@echo "lossbook: make TARGET"
	@sed -n 's/^\([a-z]*\):.*  ## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name what; do printf '  %-8s %s\n' "$$name" "$$what"; done
	@echo "  settings: PYTHON=python3.12 (for env), VENV=.venv, PY=python (use an environment of your own)"

env: $(STAMP)  ## make .venv: the exact environment of constraints.txt
	@:

$(VENV)/.made-from-%:
	@command -v $(PYTHON) >/dev/null || { echo "make: there is no $(PYTHON). Set PYTHON=/path/to/python3."; exit 1; }
	@$(PYTHON) -c 'import configparser, sys; \
	c = configparser.ConfigParser(delimiters=["="]); c.read("settings.ini"); need = c["DEFAULT"]["min_python"]; \
	low = sys.version_info[:2] < tuple(map(int, need.split("."))); \
	sys.exit("make: $(PYTHON) is Python %d.%d, lossbook needs %s or later. Set PYTHON=/path/to/python%s." % (*sys.version_info[:2], need, need) if low else 0)'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "make: $(PYTHON) cannot make environments. On Debian: apt-get install python3-venv."; exit 1; }
	@rm -f $(VENV)/.made-from-*
	@# Another Python than the one inside: start over.
	@if [ -d $(VENV) ] && [ "$$($(VENV)/bin/python -c 'import sys; print(sys.version_info[:2])' 2>/dev/null)" != "$$($(PYTHON) -c 'import sys; print(sys.version_info[:2])')" ]; then \
	  $(PYTHON) -m venv --clear $(VENV); else $(PYTHON) -m venv $(VENV); fi
	@# setuptools first and from constraints.txt, so that the build is of known parts too.
	$(VENV)/bin/python -m pip install -q --no-input -c constraints.txt setuptools wheel
	$(VENV)/bin/python -m pip install -q --no-input -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

export: env  ## notebooks -> lossbook/*.py
	@$(PY) tools/export.py

refresh: export  ## execute the notebooks that changed and keep their outputs
	@$(PY) tools/refresh.py

book: refresh  ## build the site in _site/ and print its address
	@$(PY) tools/book.py

test: env  ## run every check; ends with the count
	@$(PY) tools/test.py

audit: env  ## measure every loss against exact values
	@$(PY) tools/audit.py

records: export  ## measure anew what the pages show, on this machine
	@LOSSBOOK_RECORD=all $(PY) tools/refresh.py
	@$(PY) tools/readme.py

lab: env  ## open the notebooks in JupyterLab
	@$(PY) -c 'from nbformat.sign import TrustNotebookApp as A; A.launch_instance()' $$(ls index.ipynb 2>/dev/null) $$(find nbs -name '*.ipynb' -not -path '*/.*')
	@$(PY) -m jupyterlab

clean:  ## remove what was built, but not .venv
	@rm -rf _site _docs _proc _artifacts .cache build dist *.egg-info .pytest_cache .hypothesis
	@find lossbook nbs tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
	@find nbs -name .ipynb_checkpoints -type d -prune -exec rm -rf {} +
