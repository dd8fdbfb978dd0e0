# Everything runs from .venv. .ci/prepare makes it and keeps it at the versions of requirements.lock.
BIN := $(CURDIR)/.venv/bin
AGENTS := .agents/node_modules/.bin
CLAUDE := @anthropic-ai/claude-code@2.1.197
CODEX := @openai/codex@0.169.0
OPENCODE := opencode-ai@1.18.33
GEMINI := @google/gemini-cli@0.61.0
MINI := mini-swe-agent==2.4.6
AIDER := aider-chat==0.86.2

# Two more than the number of cores: tests wait for processes and for time limits much of their time.
TESTERS := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 2)

export PATH := $(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help test faults matrix hostile growth check demo picture settings commands schemas chaos bench bench-long agents lock simulation
.DEFAULT_GOAL := help

help:
	@echo "make test        run the tests"
	@echo "make check       run what must pass before a commit: conventions/gates/, as factoryd runs them on this repository"
	@echo "make demo        run factoryd on a small shop, with a scripted agent; KEEP=yes keeps its folder"
	@echo "make picture     draw docs/status.svg from a run of the demo"
	@echo "make commands    write the tables in docs/commands.md from factory/cli/parsers.py"
	@echo "make schemas     write docs/json/ from the rows that commands print"
	@echo "make settings    write the table in docs/configuration.md from factory/ground/settings_file.py"
	@echo "make matrix      run each real agent CLI under a real daemon, with and without failures (a quarter of an hour)"
	@echo "make hostile     measure the memory and the longest turn of a daemon with hostile agents (a minute); DEEDS='yes-as-text …' for some"
	@echo "make growth      measure what a unit costs with 100 to 100,000 finished units, and draw docs/growth.svg (half an hour); SIZES=100,5000"
	@echo "make load        drop 500 and 2,000 task files at once over 10,000 finished units, and measure the daemon (ten minutes); CROWDS='scoped' for one"
	@echo "make faults      kill the daemon at every fault point, on each side, at its first and second passage"
	@echo "make chaos       kill a daemon again and again: UNITS=200 KILLS=1000 DISASTERS=500 SEED=… (an hour; less with fewer)"
	@echo "make simulation  run thousands of histories in virtual time: HISTORIES=5000 SEED=first; SEED=n HISTORIES=1 for one"
	@echo "make bench       compare factoryd with bare git (three minutes)"
	@echo "make bench-long  the same for half an hour"
	@echo "make agents      install the real agent CLIs from npm and PyPI into .agents/, for the tests marked agents"
	@echo "make lock        write requirements.lock again, from pyproject.toml"

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

growth: .venv/ready
	@$(BIN)/python -m tests.load.growth --draw $(if $(SIZES),--sizes $(SIZES))

load: .venv/ready
	@$(BIN)/python -m tests.load.crowd $(CROWDS)

demo: .venv/ready
	@$(BIN)/factoryd demo $(if $(KEEP),--keep)

picture: .venv/ready
	@$(BIN)/python docs/picture.py

settings: .venv/ready
	@$(BIN)/python docs/settings.py

commands: .venv/ready
	@$(BIN)/python docs/commands.py

schemas: .venv/ready
	@$(BIN)/python docs/schemas.py

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

# The lock must not name the machine that makes it (index host, paths).
lock: .venv/ready
	@$(BIN)/python -m venv .venv/lock
	@.venv/lock/bin/pip install --quiet pip-tools
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["dev"], sep="\n")' > .venv/dev.in
	@.venv/lock/bin/pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe --no-header --no-annotate \
		--no-emit-options --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--output-file requirements.lock pyproject.toml .venv/dev.in
