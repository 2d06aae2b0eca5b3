#!/usr/bin/env bash
# Pins the dependencies of every package, for every platform, by hash and without the address of any registry.
set -euo pipefail
cd "$(dirname "$0")/../.."
compile() { "$VENV/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate "$@"; }
ours=(); for package in libs/*/pyproject.toml services/*/pyproject.toml; do ours+=(--no-emit-package "$(sed -n 's/^name = "\(.*\)"/\1/p' "$package" | head -n1)"); done
compile infra/python/bootstrap.in -o infra/python/bootstrap.txt
compile --group pyproject.toml:dev libs/*/pyproject.toml services/*/pyproject.toml "${ours[@]}" -o infra/python/requirements.txt
# Each image installs its own share of the lock.
"$VENV/bin/python" infra/docker/requirements.py
