.PHONY: help demo demo-stop up down test lint lock bench environment

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' Makefile | expand -t 20

demo: environment ## Airflow with three nodes of its own on this machine, samples coming in
	@.venv/bin/python -m demo up

demo-stop: ## end all that make demo started; the data stay in .evc
	@[ ! -x .venv/bin/python ] || .venv/bin/python -m demo down

up: ## the production stack in containers: Airflow, PostgreSQL, registry, Grafana; writes .env at first
	@tools/stack.sh up

down: ## end the stack; its data stay in volumes
	@tools/stack.sh down

test: environment ## all checks and tests; installs the Debian packages they need
	@tests/packages.sh
	@$(MAKE) --no-print-directory lint
	.venv/bin/pytest -n 2 --dist loadgroup

lint: environment ## ruff, mypy, import contracts
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

bench: environment ## figures beside their peers and floors
	.venv/bin/python -m bench

lock: environment ## renew requirements.lock from pyproject.toml; UPGRADE=--upgrade for newer versions
	.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    $(UPGRADE) --group dev pyproject.toml -o requirements.lock

environment:
	@tools/environment.sh
