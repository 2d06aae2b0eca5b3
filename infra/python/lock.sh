#!/usr/bin/env bash
# Pins the dependencies of every package, for every platform, by hash and without the address of any registry.
set -euo pipefail
cd "$(dirname "$0")/../.."
compile() { "$VENV/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate "$@"; }
ours=(); for package in libs/*/pyproject.toml services/*/pyproject.toml; do ours+=(--no-emit-package "$(sed -n 's/^name = "\(.*\)"/\1/p' "$package" | head -n1)"); done
compile infra/python/bootstrap.in -o infra/python/bootstrap.txt
compile --group pyproject.toml:dev libs/*/pyproject.toml services/*/pyproject.toml "${ours[@]}" -o infra/python/requirements.txt
# nkeys (an extra of k3s-daas-common) has no wheel: only images install it, from its source archive. What it adds, alone.
{ echo "# written by infra/python/lock.sh: the extra nkeys of k3s-daas-common, as far as the lock lacks it"
  compile --extra nkeys -c infra/python/requirements.txt libs/common/pyproject.toml | awk '/^[a-z]/ {keep = /^(nkeys|pynacl)==/} keep'; } >infra/docker/nkeys.new
mv infra/docker/nkeys.new infra/docker/nkeys.txt
# Each image installs its own share of the lock.
"$VENV/bin/python" infra/docker/requirements.py
