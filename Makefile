# Sublet's house commands. `make help` lists them. On a fresh machine (Python 3.11 to 3.13, git, make) each
# one sets up what it needs: an own virtual environment in .venv, from the lock file, and bubblewrap by apt.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help check test demo bench clean lint unit light format lock reference system
SHELL := /bin/bash

UV_VERSION := 0.13.9
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo "$$python" && break; done)
BIN := .venv/bin
UV := UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT=$(CURDIR)/.venv $(BIN)/uv
PYTEST := $(BIN)/python -m pytest
# Two workers even on one core: most tests wait for processes, not for the processor.
WORKERS ?= 2

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

check: lint unit ## format, lint, types, import contracts, unit tests, docs: under two minutes

test: .venv/synced-dev system-if-possible ## the whole test suite
	$(PYTEST) -n $(WORKERS) --dist loadfile

demo: .venv/synced system ## a real job on three providers, one of which dies; then the bill and the audit
	@$(BIN)/python -m compileall -q src
	@$(BIN)/python examples/digits/demo.py

bench: .venv/synced-dev system-if-possible ## one benchmark: make bench NAME=overhead|lease_latency|log|install|idle|crash|recovery|data_plane|sandbox|log_postgres|packing|throughput|matching_scale|orders|determinism|hostile|vouchers|ledger|gas|render_exact|render_trace|render_verify
	@test -n "$(NAME)" || { echo "make bench NAME=x, where x is one of:" $(patsubst benchmarks/%.py,%,$(filter-out benchmarks/__init__.py,$(wildcard benchmarks/*.py))); exit 2; }
	@test -f "benchmarks/$(NAME).py" || { echo "no benchmark is called $(NAME)"; exit 2; }
	@[ "$(NAME)" != gas ] || $(MAKE) --no-print-directory .cache/usdc/installed || echo "going on without Circle's USDC"
	@$(BIN)/python -m compileall -q src
	@$(BIN)/python -m benchmarks.$(NAME)

lint: .venv/synced-dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit -q -c pyproject.toml -r src

unit: .venv/synced-dev # with the docs: tests/style holds them to the code, src holds the examples
	$(PYTEST) -n $(WORKERS) --dist loadfile tests/unit tests/style src

light: .venv/bootstrapped # what a tenant installs has no extras, and works
	UV_PROJECT_ENVIRONMENT=$(CURDIR)/.cache/light UV_PYTHON_DOWNLOADS=never $(BIN)/uv sync --quiet --locked --no-dev --python "$(PYTHON)"
	.cache/light/bin/python -c 'import sublet; print(f"sublet has {len(sublet.__all__)} public names")'
	.cache/light/bin/sublet --help >/dev/null

format: .venv/synced-dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

audit: .venv/synced-dev ## known holes in what we depend on; 3 means that it could not be checked
	@$(BIN)/python .ci/audit.py

fuzz: .venv/synced-fuzz ## one parser, coverage-guided: make fuzz NAME=x|all SECONDS=n
	@$(BIN)/python -m tests.fuzz "$(NAME)" "$(or $(SECONDS),60)"

sbom: .venv/bootstrapped # what is in it, as CycloneDX: dist/sublet.cdx.json
	@mkdir -p dist
	$(UV) export --quiet --locked --all-extras --no-dev --format cyclonedx1.5 --preview-features sbom-export -o dist/sublet.cdx.json >/dev/null

.PHONY: audit contracts fuzz sbom
lock: .venv/bootstrapped
	$(UV) lock

contracts: .venv/synced-dev # compiles them; their ABI and bytecode go into the package
	$(BIN)/python contracts/write_artifacts.py

reference: .venv/synced-dev # writes the generated pages anew
	$(BIN)/python docs/reference/write_cli.py
	$(BIN)/python docs/reference/write_errors.py

clean: ## remove what make made: .venv, caches, demo output
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build demo-output
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# ---- set-up; the stamp files make a second run instant ------------------------------------------------

.venv/bootstrapped: Makefile
	@test -n "$(PYTHON)" || { echo "Sublet needs Python 3.11, 3.12 or 3.13; install it, for example: apt-get install python3 python3-venv"; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || $(call apt_install,python3-venv)
	@test -x .venv/bin/python || "$(PYTHON)" -m venv .venv
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@echo "setting up .venv with uv $(UV_VERSION)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)"
	@touch $@

# The packages are compiled now: start-up time counts, and PYTHONDONTWRITEBYTECODE may be set.
# --inexact: the demo alone takes no development tools, but leaves them where they are.
.venv/synced: pyproject.toml uv.lock .venv/bootstrapped
	@echo "installing what uv.lock says; the first time it is downloaded"
	@$(UV) sync --quiet --locked --all-extras --no-extra fast --no-extra pdf --no-extra render --no-dev --inexact --compile-bytecode
	@touch $@

.venv/synced-dev: pyproject.toml uv.lock .venv/bootstrapped
	@echo "installing what uv.lock says, development tools too; the first time it is downloaded"
	@$(UV) sync --quiet --locked --all-extras --group dev --group contracts --group books --compile-bytecode
	@touch .venv/synced $@

.venv/synced-fuzz: .venv/synced-dev
	@$(UV) sync --quiet --locked --all-extras --group dev --group contracts --group books --group fuzz
	@touch $@

# ---- the two system packages --------------------------------------------------------------------------

SYSTEM_OK := command -v bwrap >/dev/null && /sbin/ldconfig -p 2>/dev/null | grep -q 'libseccomp\.so\.2'

system:
	@{ $(SYSTEM_OK); } || $(call apt_install,bubblewrap libseccomp2)

# What the tests need beside: gocryptfs and FUSE for encrypted scratch; a C compiler for a fake GPU driver.
TESTS_OK := command -v gocryptfs >/dev/null && command -v fusermount3 >/dev/null
# What Blender's Python module is linked with, though it opens no window.
BLENDER := libx11-6 libxrender1 libxfixes3 libxi6 libxkbcommon0 libsm6 libgl1
BLENDER_OK := for name in X11 Xrender Xfixes Xi xkbcommon SM GL; do /sbin/ldconfig -p | grep -q "lib$$name\.so" || exit 1; done
# The other sandboxes, and what the tests build their images of.
CONTAINERS := crun runsc catatonit skopeo busybox-static
CONTAINERS_OK := for name in crun runsc catatonit skopeo busybox; do command -v $$name >/dev/null || exit 1; done

.PHONY: system-if-possible
system-if-possible:
	@{ command -v ssh && command -v rsync; } >/dev/null || $(call apt_install,openssh-client rsync) || echo "going on without ssh and rsync: what needs them is skipped, with the reason"
	@command -v hledger >/dev/null || $(call apt_install,hledger) || echo "going on without hledger: what needs it is skipped, with the reason"
	@command -v jq >/dev/null || $(call apt_install,jq) || echo "going on without jq: what needs it is skipped, with the reason"
	@{ $(SYSTEM_OK); } || $(call apt_install,bubblewrap libseccomp2) || echo "going on without a sandbox: what needs one is skipped, with the reason"
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || $(call install_postgresql) || echo "going on without PostgreSQL: what needs it is skipped, with the reason"
	@{ $(TESTS_OK); } || $(call apt_install,gocryptfs fuse3) || echo "going on without encrypted scratch: what needs it is skipped, with the reason"
	@{ command -v cc || command -v gcc; } >/dev/null || $(call apt_install,gcc libc6-dev) || echo "going on without a C compiler: what needs it is skipped, with the reason"
	@( $(BLENDER_OK) ) || $(call apt_install,$(BLENDER)) || echo "going on without X's libraries: what needs Blender is skipped, with the reason"
	@command -v anvil >/dev/null || $(MAKE) --no-print-directory .cache/anvil/installed || echo "going on without anvil: what needs a chain is skipped, with the reason"
	@( $(CONTAINERS_OK) ) || $(call apt_install,$(CONTAINERS)) || echo "going on without containers: what needs them is skipped, with the reason"

# A chain for tests: anvil's binary comes inside an npm package, pinned with its hash in .ci/anvil.
.cache/anvil/installed: .ci/anvil/package.json .ci/anvil/package-lock.json
	@command -v npm >/dev/null || $(call apt_install,npm)
	@mkdir -p .cache/anvil && cp .ci/anvil/package.json .ci/anvil/package-lock.json .cache/anvil/
	@cd .cache/anvil && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@

# Circle's own USDC, for `make bench NAME=gas` alone.
.cache/usdc/installed: .ci/usdc/package.json .ci/usdc/package-lock.json
	@mkdir -p .cache/usdc && cp .ci/usdc/package.json .ci/usdc/package-lock.json .cache/usdc/
	@cd .cache/usdc && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
	@touch $@

# As root, or with a sudo that asks for no password; otherwise one line that says what to do.
define apt_install
( \
	if ! command -v apt-get >/dev/null; then echo "please install with this system's package manager: $(1)"; exit 1; fi; \
	if [ "$$(id -u)" = 0 ]; then as=; elif sudo -n true 2>/dev/null; then as="sudo -n"; \
	else echo "please run: sudo apt-get install $(1)"; exit 1; fi; \
	echo "installing by apt: $(1)"; \
	$$as apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$as apt-get install -qq -y $(1) >/dev/null )
endef

# Tests make clusters of their own; Debian's package would start another, so it is told not to.
define install_postgresql
( if [ "$$(id -u)" = 0 ] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then \
	mkdir -p /etc/postgresql-common; echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf; fi; \
	$(call apt_install,postgresql) )
endef
