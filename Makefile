PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= $(or $(GRADCAM_PORT),8000)
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
DEVICE ?= cpu
ZOO_MODELS = service/gradcam_service/zoo/models
PYTEST = $(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder $(if $(CI),--durations=25)
CLIENTS = $(patsubst tests/dialects/%,build/dialects/%/.installed,$(patsubst %/,%,$(dir $(wildcard tests/dialects/*/requirements.txt tests/dialects/*/package.json))))
ENGINE = $(firstword $(shell command -v docker podman buildah))

.PHONY: serve test test-all test-dialects oracle chaos fuzz docs load bench bench-compiled bench-gpu sizing rolling protocol lint format zoo compiled image clean

serve: $(VENV)/.installed  ## start the service; HOST is the address to listen on
	@exec $(BIN)/python -E -P -m gradcam_service serve --host $(or $(HOST),$(GRADCAM_HOST),127.0.0.1) --port $(PORT)

test: lint  ## everything that must hold
	$(PYTEST)

test-all: lint  ## and every architecture of torchvision, and proofs at full length, which takes minutes more
	$(PYTEST) -m 'not clients'

test-dialects: $(VENV)/.dev  ## other inference servers' clients, each in an environment of its own
	$(MAKE) --jobs=2 $(CLIENTS)
	$(BIN)/pytest tests/dialects -m clients

load: THERE = $(if $(filter command%,$(origin HOST)),$(HOST))# some shells export this machine's name as HOST
load: export GRADCAM_API_KEY := $(or $(KEY),$(GRADCAM_API_KEY))
load: $(VENV)/.dev  ## put load on a service; HOST=URL KEY=… are of one that runs, LOAD=--help has all options
	PYTHONPATH=tests $(BIN)/python load_tests/load.py $(if $(THERE),--host $(THERE)) $(LOAD)

bench: $(VENV)/.dev  ## measure what load_tests/PERFORMANCE.md claims, in one run; the table is build/bench.md
	PYTHONPATH=tests $(BIN)/python load_tests/bench.py $(BENCH)

bench-compiled: $(VENV)/.dev  ## measure compiled models beside torch; the table is build/bench_compiled.md
	PYTHONPATH=tests $(BIN)/python load_tests/bench_compiled.py $(BENCH)

bench-gpu: $(VENV)/.dev  ## measure the first GPU; the table is build/bench_gpu.md
	PYTHONPATH=tests $(BIN)/python load_tests/bench_gpu.py $(BENCH)

sizing: $(VENV)/.dev  ## measure what a replica answers and takes; the table is build/sizing.md
	PYTHONPATH=tests $(BIN)/python load_tests/sizing.py $(BENCH)

rolling: $(VENV)/.dev  ## replace two replicas behind HAProxy under load; no request may fail
	PYTHONPATH=tests $(BIN)/python load_tests/rolling.py --html build/rolling.html $(LOAD)

oracle: build/evaluate/oracle/.installed  ## ask Quantus anew what the tests hold metrics to, in an environment of its own
	build/evaluate/oracle/bin/python tests/evaluate/oracle/ask.py

chaos: $(VENV)/.dev  ## every fault that docs/operations.md promises to tolerate, at full length
	$(BIN)/pytest -m 'not clients' tests/worker/test_fault_tolerance.py tests/compiled/test_fault_tolerance.py tests/worker/test_tasks_under_faults.py tests/worker/test_two_workers.py tests/worker/test_versions.py --chaos --timeout 1800 -rP --show-capture=stdout

fuzz: $(VENV)/.dev  ## thousands of made-up requests and damaged pictures
	$(BIN)/pytest -n 2 -m 'not clients' tests/fuzz --fuzz --timeout 1800 -rP --show-capture=stdout

docs: $(VENV)/.installed  ## write the tables of docs/ that the code fills, the client's options, and the rules for the Prometheus operator
	$(BIN)/python docs/tables.py
	$(BIN)/python docs/client_options.py
	$(BIN)/python deploy/prometheus/operator_rules.py

protocol: PROTOCOL = service/gradcam_service/api/grpc/protocol
protocol:  ## write gRPC's messages anew, by the oldest generator whose code the protobufs in use run
	$(PYTHON) -m venv build/protocol
	build/protocol/bin/pip install --disable-pip-version-check grpcio-tools==1.72.2
	cd $(PROTOCOL) && $(CURDIR)/build/protocol/bin/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. *.proto

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

zoo: TRAINING = $(if $(filter-out scenes,$(MODEL)),$(subst -,_,$(MODEL)).)train
zoo: $(VENV)/.zoo  ## train an embedded model from nothing; MODEL is scenes, policy, …, ZOO=--help has all options
	$(BIN)/python -m gradcam_service.zoo.$(TRAINING) $(ZOO)

compiled: $(VENV)/.installed  ## compile the embedded models anew; MODELS names some
	for model in $(or $(MODELS),$(notdir $(wildcard $(ZOO_MODELS)/*))); do \
	    rm -rf $(ZOO_MODELS)/$$model/1/compiled && $(BIN)/gradcam compile $$model -o $(ZOO_MODELS)/$$model/1/compiled || exit; \
	done

image:  ## build the container image for a CPU; make image DEVICE=cuda for GPUs, make image TARGET=slim without torch
	BUILDAH_FORMAT=docker $(ENGINE) build $(addprefix --target ,$(TARGET)) \
	    --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) $(if $(filter cuda,$(DEVICE)),--build-arg TORCH_INDEX=) \
	    --tag gradcam-service:$(VERSION)$(addprefix -,$(or $(TARGET),$(filter cuda,$(DEVICE)))) .

build/%/.installed: LIBRARIES = python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
build/%/.installed: tests/%/requirements.txt | $(VENV)/.dev
	$(BIN)/python -m venv --clear $(@D)
	$(BIN)/$(LIBRARIES) > $$($(@D)/bin/$(LIBRARIES))/shared.pth  # torch and the like, after what is its own
	$(@D)/bin/pip install --disable-pip-version-check -r $<
	@touch $@

build/dialects/%/.installed: PIP = $(BIN)/pip --python $(@D)/bin/python --disable-pip-version-check
build/dialects/%/.installed: tests/dialects/%/requirements.txt | $(VENV)/.installed
	$(PYTHON) -m venv --clear --without-pip $(@D)
	$(PIP) install --no-deps --no-compile -r $<
	$(PIP) check
	@touch $@

build/dialects/%/.installed: tests/dialects/%/package.json
	mkdir -p $(@D) && cp $< $(@D)
	npm install --prefix $(@D) --no-audit --no-fund --no-package-lock
	@touch $@

clean:
	rm -rf $(VENV) build dist service/*.egg-info

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(BIN)/pip install --disable-pip-version-check --no-deps -c constraints.txt --index-url $(TORCH_INDEX) torch torchvision)
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.zoo: $(VENV)/.installed
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[zoo]'
	@touch $@

$(VENV)/.dev: $(VENV)/.installed tests/real/requirements.txt
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/pip install --disable-pip-version-check --no-deps -r tests/real/requirements.txt
	@touch $@
