.DEFAULT_GOAL := help
.PHONY: help setup demo run check test test-wheels test-lowest test-python lint types bench docs wheels lock changelog clean

UV ?= $(shell command -v uv || echo .tools/bin/uv)
PORT ?= 8000
DATA ?= .starfish-data
# One package in an environment of its own: that package, its extras and its test tools.
ALONE = $(UV) run --quiet --isolated --no-default-groups --package starfish-$(PKG) --all-extras
# A dependency group of the package, where it has one of that name.
group = $(if $(shell grep -s '^$(1) = ' packages/$(PKG)/pyproject.toml),--group $(1))
PKGS = $(if $(PKG),$(PKG),$(notdir $(patsubst %/,%,$(wildcard packages/*/))))
# The lock without hosts: every version with its hashes.
EXPORT = $(UV) export --quiet --all-packages --all-extras --all-groups --no-emit-workspace --no-header --no-annotate --format requirements.txt
EDITABLE = $(UV) pip install --quiet --no-build-isolation
MANIFESTS = pyproject.toml requirements.lock $(wildcard packages/*/pyproject.toml)

help:           ## show this text
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.tools/bin/uv:  # only where uv is not installed
	@python3 -m pip --version >/dev/null 2>&1 || { echo "uv is missing, and python3 has no pip to fetch it with: install either (Debian: apt install python3-pip)" >&2; exit 1; }
	@echo "fetching uv into .tools"
	@python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target .tools uv

setup: .venv/.complete  ## create or refresh .venv with every package and the tools, as requirements.lock says

.venv/.complete: $(MANIFESTS) | $(filter .tools/bin/uv,$(UV))
	@test -d .venv || $(UV) venv --quiet
	@$(UV) pip sync --quiet --require-hashes requirements.lock
	@$(EDITABLE) --no-deps $(addprefix -e packages/,$(notdir $(patsubst %/,%,$(wildcard packages/*/))))
	@touch .venv/.complete .venv/.demo

# A quarter of the whole: the five packages of the story, in versions of the lock.
.venv/.demo: $(MANIFESTS) | $(filter .tools/bin/uv,$(UV))
	@test -d .venv || $(UV) venv --quiet
	@$(UV) pip install --quiet --constraints requirements.lock hatchling editables
	@$(EDITABLE) --constraints requirements.lock -e packages/disk -e packages/protocol -e "packages/http[serve]" -e "packages/server[serve,console]" -e packages/projection \
	  -e "packages/outbox[http]" -e packages/artifact-registry -e "packages/mpack-wire[cli,git]"
	@touch .venv/.demo

demo: .venv/.demo  ## run the story: offline writes, a merge, a list, a SIGKILL, a proof, a clone; KEEP=1 leaves the console open
	@.venv/bin/python docs/demo $(if $(KEEP),--keep)

run: .venv/.demo  ## serve the composed service on loopback (PORT=8000 DATA=.starfish-data)
	@$(UV) run --quiet --no-sync python docs/demo/service.py --data "$(DATA)" --port $(PORT)

check: setup    ## lint, types and the fast tests: for each save
	@$(MAKE) --no-print-directory --jobs 2 _lint types
	@.venv/bin/pytest --quiet --numprocesses 2 --dist loadfile -m "not slow and not network"

ifdef PKG
test: $(filter .tools/bin/uv,$(UV))  ## run all tests, or one package's alone: PKG=outbox
	@$(ALONE) --group test $(call group,test-extra) pytest packages/$(PKG)
else
# Two files at a time: much of the time of a test is waiting for a process, a server or a disk.
test: setup
	@.venv/bin/pytest --numprocesses 2 --dist loadfile
endif

# A copy of the checkout without the sources, and an environment with the wheels in their place.
test-wheels: wheels  ## run every package's tests against the built wheels, the sources out of sight
	@rm -rf .wheels && mkdir .wheels
	@git ls-files -z -co --exclude-standard -- . ':!packages/*/src' | xargs -0 cp --parents -t .wheels
	@$(UV) venv --quiet .wheels/.venv
	@VIRTUAL_ENV=.wheels/.venv $(UV) pip sync --quiet --require-hashes requirements.lock
	@VIRTUAL_ENV=.wheels/.venv $(UV) pip install --quiet --no-deps dist/starfish_*.whl
	@cd .wheels && .venv/bin/pytest --numprocesses 2 --dist loadfile $(addprefix packages/,$(PKGS))

# Direct requirements at their lower bounds, each package in an environment of its own.
test-lowest: $(filter .tools/bin/uv,$(UV))  ## run every package's tests with the lowest versions that it allows
	@for pkg in $(PKGS); do $(MAKE) --no-print-directory _lowest PKG=$$pkg || exit 1; done

.PHONY: _lowest
_lowest:
	@echo "== $(PKG)"
	@rm -rf .lowest && $(UV) venv --quiet .lowest
	@VIRTUAL_ENV=.lowest $(UV) pip install --quiet --resolution lowest-direct --editable "packages/$(PKG)" --requirements packages/$(PKG)/pyproject.toml --all-extras \
	  --group pyproject.toml:test $(if $(call group,test-extra),--group packages/$(PKG)/pyproject.toml:test-extra)
	@.lowest/bin/pytest --quiet --numprocesses 2 --dist loadfile packages/$(PKG)

test-python: $(filter .tools/bin/uv,$(UV))  ## run all tests with another version of Python: V=3.13
	@$(UV) run --quiet --isolated --python $(V) --all-packages --all-extras --group test-extra pytest --numprocesses 2 --dist loadfile

lint: setup _lint  ## ruff, import contracts, declared dependencies, spelling, language, changelogs, the lock
	@$(EXPORT) --output-file .venv/requirements.lock
	@cmp --silent .venv/requirements.lock requirements.lock || { echo "requirements.lock is stale: run make lock" >&2; exit 1; }

.PHONY: _lint
_lint:
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/lint-imports --no-logo
	@for pkg in $(PKGS); do (cd packages/$$pkg && ../../.venv/bin/deptry src --ignore DEP002 --per-rule-ignores DEP001=compression) || exit 1; done
	@.venv/bin/codespell packages/*/src packages/*/*.md docs README.md Makefile
	@.venv/bin/pytest --quiet tests/workspace

types: setup    ## mypy and pyright, both strict
	@.venv/bin/mypy
	@.venv/bin/pyright --pythonpath .venv/bin/python

bench: $(filter .tools/bin/uv,$(UV))  ## measure against the wanted figures, side by side: PKG=outbox for one
	@status=0; for pkg in $(PKGS); do for bench in packages/$$pkg/benchmarks/bench_*.py; do \
	  echo "== $$bench"; \
	  $(MAKE) --no-print-directory _bench PKG=$$pkg BENCH=$$bench || status=1; \
	done; done; exit $$status

.PHONY: _bench
_bench:
	@$(ALONE) $(call group,bench) python $(BENCH)

docs: setup     ## the documentation as a site in site/, its links checked, readable without a server
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --quiet --clean --config-file .ci/site.yml
	@echo "open site/index.html"

wheels: $(filter .tools/bin/uv,$(UV))  ## build every package into dist/
	@rm -f dist/starfish_*.whl
	@$(UV) build --quiet --all-packages --wheel --out-dir dist
	@ls dist/*.whl

lock: $(filter .tools/bin/uv,$(UV))  ## resolve all versions again and write requirements.lock
	@$(UV) lock --quiet
	@$(EXPORT) --output-file requirements.lock

changelog: setup  ## show what the next changelog of each package will say
	@for pkg in $(PKGS); do .venv/bin/towncrier build --draft --version next --config packages/$$pkg/pyproject.toml --dir packages/$$pkg; done

clean:          ## remove what the other commands made
	@rm -rf .venv .tools .wheels .lowest dist .starfish-data
