# Two commands do everything: `make demo` and `make test`. Both set up .venv first, once.
PYTHON ?= python3
RUN := .venv/bin/python
TASK ?= classification

.PHONY: help setup demo demo-classification test lint format docs clean

help:  ## show what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

setup:  ## make .venv complete; does nothing where it is
	@$(PYTHON) tools/setup_env.py

demo: setup  ## train, test and run EdgeNeXt on real data in minutes
	@$(MAKE) --no-print-directory demo-$(TASK)

demo-classification: CONFIG := configs/classification/edgenext-xxsmall_digits.py
demo-classification: WORK := work_dirs/edgenext-xxsmall_digits
demo-classification:
	$(RUN) tools/dataset_converters/digits.py --out data/digits
	$(RUN) tools/train.py $(CONFIG) --work-dir $(WORK) --resume
	$(RUN) tools/test.py $(CONFIG) $$(cat $(WORK)/last_checkpoint) --out $(WORK)/metrics.json
	$(RUN) tools/infer.py $(CONFIG) data/digits/val --checkpoint $$(cat $(WORK)/last_checkpoint) \
		--batch-size 32 --out $(WORK) --json > $(WORK)/predictions.json
	$(RUN) tools/analysis/plot_curves.py $(WORK)
	@echo
	@echo "metrics:      $(WORK)/metrics.json"
	@echo "predictions:  $(WORK)/predictions.json, in pictures: $(WORK)/predictions.png"
	@echo "training:     $(WORK)/curves.png"

test: setup  ## run the tests (ARGS="-k name" for some of them)
	$(RUN) -m pytest $(ARGS)

lint: setup  ## style, spelling and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/codespell
	.venv/bin/mypy

format: setup  ## mend style
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

docs: setup  ## write the generated tables anew
	$(RUN) tools/analysis/variants_table.py --update README.md configs/classification/README.md

clean:  ## remove .venv and what was built; data and work_dirs stay
	rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache
