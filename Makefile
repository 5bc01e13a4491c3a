.DEFAULT_GOAL := help
.PHONY: help setup demo run test lint types bench wheels clean

UV ?= $(shell command -v uv || echo .tools/bin/uv)
PORT ?= 8000
DATA ?= .starfish-data
# One package in an environment of its own: that package, its extras and its test tools.
ALONE = $(UV) run --quiet --isolated --no-default-groups --package starfish-$(PKG) --all-extras
# A dependency group of the package, where it has one of that name.
group = $(if $(shell grep -s '^$(1) = ' packages/$(PKG)/pyproject.toml),--group $(1))
PKGS = $(if $(PKG),$(PKG),$(notdir $(patsubst %/,%,$(wildcard packages/*/))))

help:           ## show this text
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.tools/bin/uv:  # only where uv is not installed
	@echo "fetching uv into .tools"
	@python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target .tools uv

setup: $(filter .tools/bin/uv,$(UV))  ## create or refresh .venv with every package and the tools
	@$(UV) sync --quiet --all-packages --all-extras --group test-extra

demo: setup     ## run the story: offline writes, a drain, a merge, a list, a SIGKILL, a proof, a clone
	@$(UV) run --no-sync python docs/demo

run: setup      ## serve the composed service on loopback (PORT=8000 DATA=.starfish-data)
	@$(UV) run --no-sync python docs/demo/service.py --data "$(DATA)" --port $(PORT)

ifdef PKG
test: $(filter .tools/bin/uv,$(UV))  ## run all tests, or one package's alone: PKG=outbox
	@$(ALONE) --group test $(call group,test-extra) pytest packages/$(PKG)
else
# Two files at a time: much of what tests do is wait for a process, a server or a disk.
test: setup
	@$(UV) run --no-sync pytest --numprocesses 2 --dist loadfile
endif

lint: setup     ## ruff and the import contracts
	@$(UV) run --no-sync ruff check
	@$(UV) run --no-sync ruff format --check
	@$(UV) run --no-sync lint-imports --no-logo

types: setup    ## mypy and pyright, both strict
	@$(UV) run --no-sync mypy
	@$(UV) run --no-sync pyright

bench: $(filter .tools/bin/uv,$(UV))  ## measure against the wanted figures, side by side: PKG=outbox for one
	@status=0; for pkg in $(PKGS); do for bench in packages/$$pkg/benchmarks/bench_*.py; do \
	  echo "== $$bench"; \
	  $(MAKE) --no-print-directory _bench PKG=$$pkg BENCH=$$bench || status=1; \
	done; done; exit $$status

.PHONY: _bench
_bench:
	@$(ALONE) $(call group,bench) python $(BENCH)

wheels: $(filter .tools/bin/uv,$(UV))  ## build every package into dist/
	@$(UV) build --quiet --all-packages --wheel --out-dir dist
	@ls dist/*.whl

clean:          ## remove what the other commands made
	@rm -rf .venv .tools dist .starfish-data
