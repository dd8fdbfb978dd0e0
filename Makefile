# Everything is run from .venv, which .ci/prepare makes and keeps at what requirements.lock says.
BIN := $(CURDIR)/.venv/bin
AGENTS := .agents/node_modules/.bin
CLAUDE := @anthropic-ai/claude-code@2.1.197
CODEX := @openai/codex@0.169.0
OPENCODE := opencode-ai@1.18.33
GEMINI := @google/gemini-cli@0.61.0
MINI := mini-swe-agent==2.4.6
AIDER := aider-chat==0.86.2

# One more than there are cores: tests wait for processes half of their time.
TESTERS := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

export PATH := $(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help test faults matrix hostile check demo picture chaos bench bench-long agents lock simulation
.DEFAULT_GOAL := help

help:
	@echo "make test    the tests"
	@echo "make check   what has to pass before a commit: conventions/gates/, as the line runs them here"
	@echo "make faults  the daemon killed at every fault point, each side by itself, at its first and second passage"
	@echo "make matrix  each real agent CLI in a whole line, in good and bad hours; a quarter of an hour"
	@echo "make hostile the memory and the longest turn of a daemon whose agents do their worst, in a minute: DEEDS='yes-as-text …' for some"
	@echo "make demo    factoryd at work on a small shop, with a scripted agent; KEEP=yes keeps its folder"
	@echo "make picture docs/status.svg anew, from a run of the demo"
	@echo "make chaos   the line, killed at every turn: UNITS=200 KILLS=1000 DISASTERS=500 SEED=… (an hour; far less with fewer)"
	@echo "make bench   the line against bare git, in three minutes; bench-long: in half an hour"
	@echo "make simulation  thousands of histories in virtual time: HISTORIES=5000 SEED=first, or SEED=n HISTORIES=1 for one"
	@echo "make agents  real agent CLIs from npm and PyPI into .agents/, for the tests marked agents"
	@echo "make lock    requirements.lock anew from pyproject.toml"

test: .venv/ready
	$(BIN)/python -m pytest -q -n $(TESTERS) --dist worksteal

check: .venv/ready
	@set -e; for gate in conventions/gates/*.sh; do echo "── $$gate"; sh "$$gate"; done

faults: .venv/ready
	FACTORY_FAULTS=all $(BIN)/python -m pytest -q -n $(TESTERS) --dist worksteal tests/faults

matrix: agents
	FACTORY_MATRIX=all FACTORY_TEST_AGENTS=$(CURDIR)/$(AGENTS) $(BIN)/python -m pytest -q -rs -n $(TESTERS) --dist worksteal \
		tests/acceptance/test_matrix.py tests/test_agents_real.py

hostile: .venv/ready
	@$(BIN)/python -m tests.load.hostile $(DEEDS)

demo: .venv/ready
	@$(BIN)/factoryd demo $(if $(KEEP),--keep)

picture: .venv/ready
	@$(BIN)/python docs/picture.py

chaos: .venv/ready
	@$(BIN)/python -m tests.chaos.chaos $(if $(UNITS),--units $(UNITS)) $(if $(KILLS),--kills $(KILLS)) $(if $(DISASTERS),--disasters $(DISASTERS)) \
		$(if $(SEED),--seed $(SEED)) $(if $(MINUTES),--minutes $(MINUTES))

bench: .venv/ready
	@$(BIN)/python benchmarks/run.py

bench-long: .venv/ready
	@$(BIN)/python benchmarks/run.py --long

simulation: .venv/ready
	@HISTORIES=$${HISTORIES:-5000} $(BIN)/python -m pytest -q -s tests/simulation

.venv/ready: requirements.lock pyproject.toml .ci/prepare
	@sh .ci/prepare

agents: .agents/$(subst /,_,$(CLAUDE)_$(CODEX)_$(OPENCODE)_$(GEMINI)_$(MINI)_$(AIDER))

.agents/$(subst /,_,$(CLAUDE)_$(CODEX)_$(OPENCODE)_$(GEMINI)_$(MINI)_$(AIDER)): .venv/ready
	@command -v npm > /dev/null || { echo "npm is missing: apt-get install npm, or brew install node"; exit 1; }
	@HOME="$${HOME:-$(CURDIR)/.agents}" npm install --prefix .agents --no-save --no-audit --no-fund --fetch-retries 1 \
		$(CLAUDE) $(CODEX) $(OPENCODE) $(GEMINI)
	@$(BIN)/python -m venv .agents/mini && .agents/mini/bin/pip install --quiet $(MINI) mcp
	@ln -sf ../../mini/bin/mini $(AGENTS)/mini
	@for python in python3.12 python3.11; do \
		if $$python -c 'import ensurepip' > /dev/null 2>&1; then \
			$$python -m venv .agents/aider && .agents/aider/bin/pip install --quiet $(AIDER) && \
				ln -sf ../../aider/bin/aider $(AGENTS)/aider; exit; \
		fi; \
	done; echo "no aider: it needs Python 3.11 or 3.12"
	@touch $@

# Nothing of the machine that makes it (index host, paths) is written into the lock.
lock: .venv/ready
	@$(BIN)/python -m venv .venv/lock
	@.venv/lock/bin/pip install --quiet pip-tools
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["dev"], sep="\n")' > .venv/dev.in
	@.venv/lock/bin/pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe --no-header --no-annotate \
		--no-emit-options --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--output-file requirements.lock pyproject.toml .venv/dev.in
