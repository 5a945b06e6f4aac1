# Every target works from a fresh checkout with nothing but make and Python >= 3.11.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MEMCLI ?= $(BIN)/memcli
READY := $(VENV)/.ready
LEXICON ?= ../shared/lexicon
TEACHER ?= ../shared/models/all-MiniLM-L6-v2
CORPUS ?= ../shared/corpus
# Of `make fuzz`, for each target; without TARGETS all of them.
SECONDS ?= 60
TARGETS ?=
STS ?= ../shared/data/eval/stsb-dev.csv
# Everyday language counts more, long technical documents less; chosen on STS.
TEXTS := banking.txt.gz clinc.txt.gz coco.txt.gz=5 irc.txt.gz=0.3 peps.txt.gz=0.15 rfcs.txt.gz=0.15 \
	tatoeba.txt.gz tldr.txt.gz topicalchat.txt.gz wordnet.txt.gz

.DEFAULT_GOAL := help
.PHONY: help setup demo test torture fuzz lint fix bench bench-readme readme wheel model calibrate lexicon clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## make the virtual environment with everything that the other targets use

$(READY): pyproject.toml .constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint .constraints.txt --group dev --editable .
	touch $@

demo: $(if $(filter $(BIN)/memcli,$(MEMCLI)),setup) ## ingest the fixtures into a temporary database, print the report, search it
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	export MEMCLI_DB="$$folder/memory.db" MEMCLI_DATA_DIR="$$folder" && set -x && \
	$(MEMCLI) ingest fixtures/transcripts && \
	$(MEMCLI) ingest fixtures/transcripts && \
	$(MEMCLI) search "what did we decide about retries" -k 5

test: setup ## run the tests
	$(BIN)/python -m pytest -m "not torture"

torture: setup ## run the long crash and concurrency tests
	$(BIN)/python -m pytest -m torture

fuzz: setup ## attack readers, rules, gates, settings, queries and more with mutated bytes: SECONDS=60 for each TARGETS=
	$(BIN)/python -m pip install --quiet --constraint .constraints.txt --group fuzz
	$(BIN)/python tests/fuzz/run.py --seconds $(SECONDS) $(TARGETS)

lint: setup ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: setup ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## measure everything, in five minutes
	$(MEMCLI) bench

bench-readme: setup ## measure everything and put the figures into README.md
	$(MEMCLI) bench --markdown README.md

readme: setup ## refresh the generated parts of README.md
	$(BIN)/python tests/support_readme.py

wheel: setup ## build the wheel into dist/
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

model: setup ## rebuild the default embedding model from TEACHER=folder and CORPUS=folder
	$(MEMCLI) model distill --teacher $(TEACHER) --corpus $(addprefix $(CORPUS)/,$(TEXTS)) --sts $(STS) \
		--card fixtures/default_model.toml --cache .teacher --out memcli/embed/default

calibrate: setup ## choose the near threshold of the default embedding model
	$(BIN)/python -m memcli.bench.calibrate fixtures/dedup_pairs.jsonl memcli/embed/default

lexicon: setup ## rebuild the lexicon of dedup from LEXICON=folder and TEACHER=folder
	$(BIN)/python -m memcli.dedup.make_lexicon $(LEXICON) $(TEACHER) memcli/dedup/lexicon.tsv.gz

clean: ## remove everything that was made
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .fuzz
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
