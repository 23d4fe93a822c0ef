# The single entry point for developers. Everything installs into .cache on first use.
PYTHON ?= python3
RUN := $(PYTHON) tools/environment.py run --
DEV := $(PYTHON) tools/environment.py run --dev --
TIERS ?=
ARGS ?=

.PHONY: help setup demo farm test test-browser kill-test farm-kill-test check bench train-demo evaluate clean

help:
	@echo "make demo          a finished video from the shipped model, through a real ComfyUI server"
	@echo "make farm          streams of the demo model on two workers, or a list of jobs of yours"
	@echo "make test          everything: checks and all test tiers (TIERS=\"unit nodes\" for some)"
	@echo "make test-browser  ComfyUI's page in Chromium: every template runs, panels and errors are read"
	@echo "make kill-test     kill the server 20 times in the middle of a relay (about 4 minutes)"
	@echo "make farm-kill-test  kill servers, workers and machines of a farm, and measure at small sizes"
	@echo "make check         format, lint, types"
	@echo "make bench         what the pack costs, in time and memory, beside targets (about 30 minutes)"
	@echo "make train-demo    train the small models in assets/demo again"
	@echo "make evaluate      measure the shipped models"
	@echo "make setup         only install and download"
	@echo "make clean         remove .cache and output"
	@echo "demo, bench, train-demo and evaluate take more arguments as ARGS=\"...\", test takes"
	@echo "pytest's: make test TIERS=unit ARGS=\"-k cache -x\"; make test-browser ARGS=\"-k render\""

setup:
	@$(PYTHON) tools/environment.py setup --dev

demo:
	@$(RUN) -m tools.demo $(ARGS)

farm:
	@$(DEV) -m farm $(or $(ARGS),run docs/examples/farm_jobs.jsonl --workers 2)

test:
	@$(DEV) -m tools.run_tests $(TIERS) -- $(ARGS)

test-browser:
	@$(DEV) -m tools.browser -- $(ARGS)

kill-test:
	@ADASTATE_KILLS=20 $(DEV) -m tools.run_tests integration-0.30.0 -- -k killed

farm-kill-test:
	@ADASTATE_FARM_KILLS=10 $(DEV) -m tools.run_tests farm -- -k "killed or machine or costs"

check:
	@$(DEV) -m nox --session check

bench:
	@$(DEV) -m benchmarks $(ARGS)

train-demo:
	@$(RUN) -m training $(ARGS)

evaluate:
	@$(RUN) -m training.evaluate $(ARGS)

clean:
	rm -rf .cache output
