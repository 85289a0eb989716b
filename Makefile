# Reelmap on one machine: `make help`. Needs Python 3.11 or newer with venv and pip; no root, no Docker, no database.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Which build of torch: cuda (what the package index gives; also right for macOS) or cpu. The last choice is remembered.
TORCH ?= $(or $(shell cat $(VENV)/torch 2>/dev/null),cuda)
STAMP := $(VENV)/installed-$(TORCH)
LOCKS := requirements/lock.txt requirements/torch.txt

# make up
FOLDER ?= $(HOME)/.local/share/reelmap
HOST ?= 127.0.0.1
PORT ?= 8000
# make demo
VIDEOS ?=
MODELS ?=
N_CLUSTERS ?=
# make test
TESTS ?=
# make faults, make soak
FAULTS ?=
TIMING ?= short
MINUTES ?= 20
SEED ?=
# make lint: what stands where a secret would, in examples, tests and names of Secrets
NO_SECRETS := ^(password|secret|cookie_secret|reelmap|reelmap-tls)$$
# make audit
ADVISORIES ?=
# make secrets
SECRETS ?= secrets
# make lock
UPGRADE ?=
EXTRAS := keyframes embedding clustering exports api dispatcher local dev

# Recipes read these from the environment, so that the shell does not interpret the & and ? of a URL.
export VIDEOS MODELS N_CLUSTERS SEED
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help env demo up test faults soak fuzz audit compose-test lint secrets lock fmt

help: ## Show this list
	@echo "Reelmap: what is in my videos?"
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "TORCH=cpu with any of these takes the small build of torch, which needs no GPU."

demo: env ## Try everything once on a small corpus, or on VIDEOS="a.mp4 folder/ https://…" (also MODELS=, N_CLUSTERS=)
	@$(BIN)/python -m services.demo.main $${MODELS:+--models "$$MODELS"} $${N_CLUSTERS:+--n-clusters "$$N_CLUSTERS"} -- $$VIDEOS

up: env ## Start everything and stay until Ctrl-C (FOLDER=, HOST=, PORT=)
	@exec $(BIN)/reelmap up --folder "$(FOLDER)" --host "$(HOST)" --port "$(PORT)"

test: env ## Run all tests (TESTS="-k shots" to choose); real data is looked for in REELMAP_DATA_DIR
	@echo "Real clips, photos and weights: $${REELMAP_DATA_DIR:-REELMAP_DATA_DIR is not set, so tests that need them are skipped}"
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(TESTS)

faults: env ## Break a running Reelmap in every way on the list (FAULTS="F1 F6", TIMING=production, SEED=)
	@$(BIN)/python -m tests.faults run --timing $(TIMING) $${SEED:+--seed $$SEED} --keep-logs build/faults --json build/faults.json $(FAULTS)

soak: env ## Break it at random for MINUTES=20 while jobs keep coming (TIMING=production, SEED=)
	@$(BIN)/python -m tests.faults soak --minutes $(MINUTES) --timing $(TIMING) $${SEED:+--seed $$SEED} --keep-logs build/soak

fuzz: env ## Throw hostile URLs, media and requests at it for about MINUTES=20 (SEED=)
	@$(BIN)/python -m tests.fuzz.urls --count 1000 $${SEED:+--seed $$SEED}
	@$(BIN)/python -m tests.fuzz.media --count 2000 $${SEED:+--seed $$SEED}
	@$(BIN)/python -m tests.fuzz.api --minutes $(MINUTES) $${SEED:+--seed $$SEED}

audit: env ## Look the locked packages up among known advisories (ADVISORIES=folder of OSV records, without a network)
	@$(BIN)/python -m checks.advisories $(if $(ADVISORIES),--database "$(ADVISORIES)")

compose-test: env ## Build the images, run Reelmap with Docker, kill and update parts of it, see that nothing is lost
	@$(BIN)/python -m tests.compose --torch $(TORCH)

lint: env ## Check style, types, which module may import which, and that no secret is in a file
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@git ls-files -z | grep -zv '^requirements/' | xargs -0 $(BIN)/detect-secrets-hook --exclude-secrets '$(NO_SECRETS)'

# Readable by the containers, whose users are others than yours; the folder keeps the other people of this machine out.
secrets: ## Write the passwords that docker-compose.yml takes into the folder SECRETS=secrets, where they are not there yet
	@mkdir -p -m 700 "$(SECRETS)"
	@for name in database_password redis_password cookie_secret flower_password s3_secret_key; do \
	   test -s "$(SECRETS)/$$name" || { umask 222; head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' > "$(SECRETS)/$$name"; }; done

# The locks of the images choose among what the first one holds, so that an image has the versions that were tested.
LOCK := $(BIN)/uv pip compile --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --quiet
OF_LOCK := --constraint requirements/lock.txt
IMAGES := requirements/images

lock: env ## Write the lock files anew after a change of pyproject.toml (UPGRADE=--upgrade: newest versions)
	@$(BIN)/python -m pip install --quiet uv
	@$(LOCK) $(UPGRADE) pyproject.toml $(EXTRAS:%=--extra %) --output-file requirements/lock.txt
	@$(LOCK) $(UPGRADE) $(OF_LOCK) --group torch --output-file requirements/torch.txt
	@$(LOCK) $(OF_LOCK) pyproject.toml --extra api --extra commands --output-file $(IMAGES)/api.txt
	@$(LOCK) $(OF_LOCK) pyproject.toml --extra dispatcher --extra commands --output-file $(IMAGES)/dispatcher.txt
	@for service in keyframes embedding clustering exports; do \
	   $(LOCK) $(OF_LOCK) pyproject.toml --extra $$service --output-file $(IMAGES)/$$service.txt || exit 1; done
	@$(LOCK) $(UPGRADE) --group build --output-file $(IMAGES)/build.txt
	@$(LOCK) $(UPGRADE) $(OF_LOCK) --group flower --output-file $(IMAGES)/flower.txt

fmt: env ## Format the code and mend what can be mended
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

env: $(STAMP) ## Make the environment in .venv; done once, and again when the lock files change

# On a terminal pip shows its own progress, elsewhere it is quiet. The lock files are whole, so nothing is to be resolved:
# pip would look for the newest pydantic when another package asks for pydantic[email], and refuse it as not locked.
$(STAMP): $(LOCKS) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Reelmap needs Python 3.11 or newer; choose it with PYTHON=…")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@rm -f $(VENV)/installed-*
	@test -t 1 || quiet=--quiet; \
	 echo "Installing Reelmap's packages into $(VENV) …" && \
	 $(BIN)/python -m pip install $$quiet --no-deps --require-hashes -r requirements/lock.txt && \
	 $(MAKE) --no-print-directory torch-$(TORCH) && \
	 $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@echo $(TORCH) > $(VENV)/torch
	@touch $@

.PHONY: torch-cuda torch-cpu
torch-cuda:
	@echo "Installing torch with CUDA: about 3 GB to download the first time (TORCH=cpu: 0.2 GB) …"
	@test -t 1 || quiet=--quiet; $(BIN)/python -m pip install $$quiet --no-deps --require-hashes -r requirements/torch.txt

# The same versions; without hashes, because these wheels come from another place than the locked ones.
torch-cpu:
	@echo "Installing torch for CPUs: about 0.2 GB to download the first time …"
	@sed -n 's/ \\$$//; /^[A-Za-z0-9_.-]*==/p' $(LOCKS) > $(VENV)/versions.txt
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip install --python $(BIN)/python --torch-backend=cpu --constraint $(VENV)/versions.txt torch torchvision
