# make install | test | test-slow | demo | demo-detection | demo-segmentation | format
# VENV=/path/to/venv shares one environment between several clones.

VENV ?= .venv
PYTHON ?= python3
RUN := PYTHONPATH="$(CURDIR)" "$(VENV)/bin/
PARALLEL := -n auto --dist worksteal  # one process per CPU, all busy to the end

.PHONY: install lint test test-slow demo demo-detection demo-segmentation format clean

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
	OMP_NUM_THREADS=1 $(RUN)python" -m pytest $(PARALLEL)

test-slow: install
	OMP_NUM_THREADS=1 $(RUN)python" -m pytest -m "slow or gpu" $(PARALLEL)

demo: install
	test -d results/shapes || $(RUN)cvnets" shapes --layout imagefolder --out results/shapes
	$(RUN)cvnets" train demo/classification
	$(RUN)cvnets" eval results/demo/checkpoint_best.pt

# its backbone starts from the classifier of `make demo`, as otherwise from ImageNet weights
demo-detection: install
	test -f results/demo/checkpoint_best.pt || $(MAKE) demo
	test -d results/shapes_coco || \
		$(RUN)cvnets" shapes --layout coco --out results/shapes_coco --train 3000 --val 250
	$(RUN)cvnets" train demo/detection
	$(RUN)cvnets" eval results/demo_detection/checkpoint_ema_best.pt

# as above
demo-segmentation: install
	test -f results/demo/checkpoint_best.pt || $(MAKE) demo
	test -d results/shapes_voc || \
		$(RUN)cvnets" shapes --layout voc --out results/shapes_voc --train 1600 --val 200
	$(RUN)cvnets" train demo/segmentation
	$(RUN)cvnets" eval results/demo_segmentation/checkpoint_ema_best.pt

format: install
	$(RUN)ruff" format .
	$(RUN)ruff" check --fix .

clean:
	rm -rf build results .pytest_cache .mypy_cache .ruff_cache .hypothesis
