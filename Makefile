# `make demo` and `make test` work in a fresh checkout: they create .venv first.
PYTHON ?= python3.11
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OUTPUT ?= demo_output
# One thread to a test worker: TensorFlow, BLAS and numba would each take every core.
ONE_THREAD := TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 OMP_NUM_THREADS=1 \
	OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1

.PHONY: demo test test-all lint docs venv lock clean

demo: venv
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -m dgn_tf.predict --saved_model=saved_models/dgn \
		--depth='samples/*.png' --intrinsics=475,475,319.5,239.5 --depth_unit=1 \
		--output_dir=$(OUTPUT)
	@echo "Meshes (.ply), key points (.json) and pictures (.png): $(OUTPUT)/"

# Tests start many processes, each of which would compile all of TensorFlow's modules anew where
# PYTHONDONTWRITEBYTECODE is set: that takes three times as long as importing them.
BYTECODE := PYTHONDONTWRITEBYTECODE= PYTHONPYCACHEPREFIX=$(CURDIR)/.pytest_cache/bytecode

PYTEST = $(ONE_THREAD) $(BYTECODE) TF_CPP_MIN_LOG_LEVEL=2 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -rs

# TensorFlow keeps what a process has traced: in two runs a worker grows to 2.7 GB, in one to 4.7.
TRACING := $(addprefix tests/,annotation benchmarks conversion layers localize losses training)
BOTH = status=0; $(PYTEST) $(1) $(TRACING) || status=1; \
	$(PYTEST) $(1) $(TRACING:%=--ignore=%) tests || status=1; exit $$status

test: lint
	@$(call BOTH,-m 'not long')

# What is long too: installs, streams, fuzzers at length, kills in every writer.
test-all: lint
	@$(call BOTH)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy

# The pages as a site in build/site, by mkdocs-material in an environment of its own.
docs: venv
	$(PYTHON) -m venv build/docs_env
	build/docs_env/bin/pip install --quiet --disable-pip-version-check mkdocs==1.6.1 mkdocs-material==9.8.2
	$(BIN)/python docs/site.py build/pages
	build/docs_env/bin/mkdocs build --strict --quiet
	@echo "Open build/site/index.html"

venv: $(STAMP)

# The lock is complete, so nothing is resolved: the same versions everywhere.
$(STAMP): requirements.lock setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
		echo "$(PYTHON) is not Python 3.11; name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; \
		exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--no-build-isolation -e .
	$(BIN)/python -m pip check
	touch $@

# Resolves setup.cfg's ranges anew in an environment of its own and pins what came out.
lock:
	scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	$(PYTHON) -m venv "$$scratch" && \
	"$$scratch/bin/pip" install --quiet --disable-pip-version-check '.[camera,live,onnx,openvino,realsense,serving,table,usd,viz,dev]' && \
	{ grep '^#' requirements.lock; \
	  "$$scratch/bin/pip" freeze --all | grep -viE '^(pip==|dgn[_-]tf)' | sort -f; \
	} > requirements.lock.part && mv requirements.lock.part requirements.lock

clean:
	rm -rf $(OUTPUT) build .pytest_cache .ruff_cache .mypy_cache
