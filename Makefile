# Everything runs in .venv, made on first use from constraints.txt.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.installed

TRITON := build/triton
PEERS := build/peers
INTO = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(PEERS)
CUDA := build/cuda
MODEL ?= mamba2-tiny
TEXT ?= $(wildcard spectra/zoo/texts/books/test/*.txt)
GPU_REPORT ?= mambascope-gpu-report
JOBS ?= 2

.PHONY: report forecast-study test test-triton test-cuda gpu-report check format bench soak mutations clean help

help:
	@echo "make report   the main job on the bundled models: mambascope-report/report.html"
	@echo "make test [JOBS=2]   the test suite, in that many processes"
	@echo "make check    lint, format, types, import contract"
	@echo "make soak     the long tests"
	@echo "make mutations     plant small faults in a copy, one at a time; the tests must catch each: build/mutations"
	@echo "make test-triton   the official Mamba-2 kernels under Triton's interpreter, without a GPU (5 minutes)"
	@echo "make test-cuda     the tests that need an NVIDIA GPU, with the official kernels where they are installed"
	@echo "make gpu-report [MODEL=...] [TRAIN_LENGTH=2k] [TEXT='FILE ...'] [LENGTHS=2k,16k]   on a GPU: kernels, tests,"
	@echo "              then spectrum, norms and perplexity of a model; one that is not bundled needs its TRAIN_LENGTH"
	@echo "make bench    speed against named peers, which it installs in $(PEERS): build/bench/bench.md"
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

# a file stays on one worker, with the runs that its tests share; files as they come, or those with few and long tests
# would all be last, on one worker
test: $(STAMP)
	$(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations 15

# mamba_ssm's Python files beside the environment, not in it: transformers would take them for working kernels
$(TRITON)/.installed: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(TRITON) \
		setuptools wheel packaging ninja "triton>=3.5" einops
	MAMBA_SKIP_CUDA_BUILD=TRUE MAMBA_FORCE_BUILD=TRUE PYTHONPATH=$(abspath $(TRITON)) $(BIN)/python -m pip install \
		--quiet --disable-pip-version-check --no-deps --no-build-isolation --upgrade --target $(TRITON) "mamba-ssm>=2.3"
	touch $@

test-triton: $(STAMP)
	@test -f $(TRITON)/.installed || $(MAKE) --no-print-directory $(TRITON)/.installed \
		|| echo "triton or mamba-ssm cannot be installed here; the tests that need them are skipped"
	TRITON_INTERPRET=1 PYTHONPATH=$(abspath $(TRITON)) $(BIN)/pytest tests/spectra/scan -m triton

test-cuda: $(STAMP)
	PYTHONPATH=$(abspath $(CUDA)) CUBLAS_WORKSPACE_CONFIG=:4096:8 $(BIN)/pytest -m cuda

# both packages build against the torch that is there, which takes minutes; without them plain torch runs everything.
# Beside the environment, too: transformers 5 would call them on the CPU as well, where `make test` compares with it
$(CUDA)/.installed: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(CUDA) \
		setuptools wheel packaging ninja einops \
		&& MAMBA_KEEP_CUDA_BUILD=TRUE PYTHONPATH=$(abspath $(CUDA)) $(BIN)/python -m pip install \
		--disable-pip-version-check --no-deps --no-build-isolation --upgrade --target $(CUDA) \
		"mamba-ssm>=2.2" "causal-conv1d>=1.4" \
		&& touch $@ || echo "the official kernels cannot be built here; plain torch runs instead"

# The dry run comes first: what a model or a text lacks is told before anything takes minutes. Started again, `evaluate`
# goes on where it was; spectrum and norms, one pass each, are measured again
GPU_OPTIONS = --device cuda $(if $(TRAIN_LENGTH),--train-length $(TRAIN_LENGTH)) --text $(TEXT)
GPU_LENGTHS = $(if $(LENGTHS),--lengths $(LENGTHS))
gpu-report: $(STAMP)
	@$(BIN)/python -c "import torch; assert torch.cuda.is_available()" 2>/dev/null \
		|| { echo "torch sees no NVIDIA GPU here; see $(BIN)/mambascope doctor"; exit 1; }
	$(BIN)/mambascope evaluate $(MODEL) $(GPU_OPTIONS) $(GPU_LENGTHS) --dry-run
	$(MAKE) --no-print-directory $(CUDA)/.installed test-cuda
	mkdir -p $(GPU_REPORT)
	PYTHONPATH=$(abspath $(CUDA)) $(BIN)/mambascope doctor --json > $(GPU_REPORT)/doctor.json
	PYTHONPATH=$(abspath $(CUDA)) $(BIN)/mambascope spectrum $(MODEL) $(GPU_OPTIONS) -o $(GPU_REPORT)/spectrum
	PYTHONPATH=$(abspath $(CUDA)) $(BIN)/mambascope norms $(MODEL) $(GPU_OPTIONS) $(GPU_LENGTHS) -o $(GPU_REPORT)/norms
	PYTHONPATH=$(abspath $(CUDA)) $(BIN)/mambascope evaluate $(MODEL) $(GPU_OPTIONS) $(GPU_LENGTHS) -o $(GPU_REPORT)/perplexity

check: $(STAMP) .types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p mambascope.spectra -p mambascope.simulate -p mambascope.analysis -p mambascope.figures
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# beside the environment, not in it, like $(TRITON); who cannot be installed is reported as absent, and tried again the
# next time
$(PEERS)/.installed: $(STAMP)
	@mkdir -p $(PEERS)
	@absent=; \
	$(INTO) "mambapy>=1.2" || absent="$$absent mambapy"; \
	$(INTO) --ignore-requires-python "torchmamba>=0.1.2" || absent="$$absent torchmamba"; \
	{ $(INTO) setuptools wheel packaging ninja einops && MAMBA_SKIP_CUDA_BUILD=TRUE MAMBA_FORCE_BUILD=TRUE \
		PYTHONPATH=$(abspath $(PEERS)) $(INTO) --no-build-isolation "mamba-ssm>=2.3"; } || absent="$$absent mamba-ssm"; \
	if test -z "$$absent"; then touch $@; else echo "cannot be installed here:$$absent"; fi

bench: $(STAMP) $(PEERS)/.installed
	$(BIN)/pytest tests/benchmarks -m bench --no-header -q

soak: $(STAMP)
	$(BIN)/pytest -m soak

# resumable: a fault whose sources and tests are as they were is not tried again
mutations: $(STAMP)
	$(BIN)/pytest tests/mutations -m mutations --no-header -q

clean:
	rm -rf .venv .types build *.egg-info .mypy_cache .ruff_cache .pytest_cache
