# make demo [VIDEO=my.mp4] | install | test | check. Everything happens in .venv; nothing else on the machine is changed.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev

VIDEO := examples/dog.mp4

.PHONY: demo install test check clean

install: $(STAMP)

$(STAMP): requirements/run.txt pyproject.toml hatch_build.py $(wildcard native/*)
	@sh scripts/make_venv.sh $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements/run.txt -r requirements/build.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
	@echo "duovsr is installed: $(BIN)/duovsr --help"

$(DEV_STAMP): $(STAMP) requirements/dev.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements/dev.txt
	@touch $@

demo: export VIDEO := $(VIDEO)
demo: $(STAMP)
	@$(BIN)/python examples/demo.py --out demo -- "$$VIDEO"

test: $(DEV_STAMP)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n auto --maxprocesses=4

check: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n auto --maxprocesses=4 -m "not slow"

clean:
	rm -rf $(VENV) build dist demo
