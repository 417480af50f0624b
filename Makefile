# Everything runs in .venv, made on first use from constraints.txt.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: report forecast-study test check format bench soak clean help

help:
	@echo "make report   the main job on the bundled models: mambascope-report/report.html"
	@echo "make test     the test suite"
	@echo "make check    lint, format, types, import contract"
	@echo "make soak     the long tests"
	@echo "make bench    speed against named peers"
	@echo "make forecast-study DATA=FOLDER   forecasts of harm against measurements, on models trained for it"

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python not found; run make PYTHON=/path/to/python3 (3.11 or newer)"; exit 1; }
	@$(PYTHON) -c "import sys; assert sys.version_info >= (3, 11), 'Python 3.11 or newer is needed'"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(STAMP)

# symlinks through which type checkers see the folders under their installed names
.types: $(STAMP)
	mkdir -p .types/mambascope
	for p in spectra simulate analysis figures; do ln -sfn ../../$$p .types/mambascope/$$p; done

report: $(STAMP)
	$(BIN)/mambascope report -o mambascope-report

# trains small models on DATA/*.txt, foretells the harm of each and of the bundled ones, then measures it
forecast-study: $(STAMP)
	@test -n "$(DATA)" || { echo "give DATA=FOLDER with books to train on, none of them a bundled text"; exit 1; }
	$(BIN)/mambascope forecast mamba2-tiny mamba-tiny mamba2-tiny-usual --study $(DATA)/*.txt --check --open-loop \
		-o mambascope-forecast

test: $(STAMP)
	$(BIN)/pytest

check: $(STAMP) .types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p mambascope.spectra -p mambascope.simulate -p mambascope.analysis -p mambascope.figures
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	$(BIN)/pytest tests/benchmarks -m bench --no-header -q

soak: $(STAMP)
	$(BIN)/pytest -m soak

clean:
	rm -rf .venv .types build *.egg-info .mypy_cache .ruff_cache .pytest_cache
