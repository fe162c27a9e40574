# The main targets are `make demo` and `make test`. Both set up .venv first, once.
PYTHON ?= python3
RUN := .venv/bin/python
TASK ?= classification

# The digit classifier, whose backbone the demos of the other tasks start from.
PRETRAINED := work_dirs/edgenext-xxsmall_digits/epoch_30.pth

.PHONY: help setup demo demo-classification demo-detection demo-segmentation demo-rotated test \
	check lowest lint format docs clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

setup:  ## set up .venv, unless it is up to date
	@$(PYTHON) tools/setup_env.py

demo: setup  ## train, test and run EdgeNeXt on real data (TASK=detection, ...)
	@$(MAKE) --no-print-directory demo-$(TASK)

demo-classification: data/digits
	$(call run_demo,classification/edgenext-xxsmall_digits,data/digits/val)

demo-detection: data/digit_scenes $(PRETRAINED)
	$(call run_demo,detection/ssdlite_edgenext-xxsmall_digits,data/digit_scenes/val/images)

demo-segmentation: data/digit_scenes $(PRETRAINED)
	$(call run_demo,segmentation/deeplabv3_edgenext-xxsmall_digits,data/digit_scenes/val/images)

demo-rotated: data/digit_scenes $(PRETRAINED)
	$(call run_demo,rotated_detection/rotated-gfl-le135_edgenext-xxsmall_fpn_digits,data/digit_scenes/val/images)

data/%:
	$(RUN) tools/dataset_converters/$*.py --out $@

$(PRETRAINED): | data/digits
	$(RUN) tools/train.py configs/classification/edgenext-xxsmall_digits.py --resume

# Train, test, infer and draw. $(1): config, $(2): images to run on.
define run_demo
	$(RUN) tools/train.py configs/$(1).py --resume
	$(RUN) tools/test.py configs/$(1).py $$(cat work_dirs/$(notdir $(1))/last_checkpoint) \
		--out work_dirs/$(notdir $(1))/metrics.json
	$(RUN) tools/infer.py configs/$(1).py $(2) --json --batch-size 32 \
		--checkpoint $$(cat work_dirs/$(notdir $(1))/last_checkpoint) \
		--out work_dirs/$(notdir $(1)) > work_dirs/$(notdir $(1))/predictions.json
	$(RUN) tools/analysis/plot_curves.py work_dirs/$(notdir $(1))
	@echo
	@echo "metrics:      work_dirs/$(notdir $(1))/metrics.json"
	@echo "predictions:  work_dirs/$(notdir $(1))/predictions.json, in pictures: predictions.png"
	@echo "training:     work_dirs/$(notdir $(1))/curves.png"
endef

test: setup  ## run all tests, one process per core (ARGS="-k name" selects some)
	OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses auto --dist loadfile --max-worker-restart 0 $(ARGS)

check: setup  ## lint, and test what changed since main, in 90 seconds on 2 cores
	@$(MAKE) --no-print-directory lint
	OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses auto --durations 3 --budget 40 \
		$$($(RUN) tests/changed.py)

# What is tested at the lowest versions: every module imports, models match timm and the published
# outputs, and classifiers and detectors train, resume and export.
LOWEST_TESTS := tests/test_requirements.py tests/models tests/checkpoints tests/test_configs.py

lowest:  ## set up .venv-lowest with the lowest versions of setup.py, and run a part of the tests
	$(PYTHON) tools/setup_env.py --lowest
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest --numprocesses auto --dist loadfile \
		$(LOWEST_TESTS)

# Your own scripts in the clone are not checked.
OURS := benchmarks configs edgenext_mm examples runtime setup.py tests tools

lint: setup  ## check style, spelling, layers and types
	.venv/bin/ruff check $(OURS)
	.venv/bin/ruff format --check $(OURS)
	.venv/bin/codespell $(OURS) *.md docs
	.venv/bin/lint-imports
	.venv/bin/mypy

format: setup  ## format the code
	.venv/bin/ruff check --fix $(OURS)
	.venv/bin/ruff format $(OURS)

docs: setup  ## update the generated tables and figures
	$(RUN) -m benchmarks.variants_table --update README.md configs/classification/README.md
	$(RUN) -m benchmarks.metafiles
	$(RUN) -m benchmarks.paper_tables --out docs

clean:  ## remove environments and build files, keep data and work_dirs
	rm -rf .venv .venv-lowest build *.egg-info .mypy_cache .pytest_cache .ruff_cache
