# make install | test | test-slow | demo | format
# VENV=/path/to/venv shares one environment between several clones.

VENV ?= .venv
PYTHON ?= python3
RUN := PYTHONPATH="$(CURDIR)" "$(VENV)/bin/

.PHONY: install lint test test-slow demo format clean

install: $(VENV)/.cvnets-installed

# The code of this clone comes first on the path (RUN), so that a shared environment serves all.
$(VENV)/.cvnets-installed: setup.py
	$(PYTHON) -m venv "$(VENV)"
	"$(VENV)/bin/pip" install --quiet torch torchvision
	rm -rf build
	"$(VENV)/bin/pip" install --quiet ".[dev]"
	rm -rf build cvnets.egg-info
	touch "$@"

lint: install
	$(RUN)ruff" format --check .
	$(RUN)ruff" check .
	$(RUN)mypy"

test: lint
	$(RUN)python" -m pytest

test-slow: install
	$(RUN)python" -m pytest -m "slow or gpu"

demo: install
	test -d results/shapes || $(RUN)cvnets" shapes --layout imagefolder --out results/shapes
	$(RUN)cvnets" train demo/classification
	$(RUN)cvnets" eval results/demo/checkpoint_best.pt

format: install
	$(RUN)ruff" format .
	$(RUN)ruff" check --fix .

clean:
	rm -rf build results .pytest_cache .mypy_cache .ruff_cache .hypothesis
