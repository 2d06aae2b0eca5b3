#!/usr/bin/env bash
# Makes the virtual environment: hash-pinned dependencies, then every package of the workspace in editable form.
set -euo pipefail
cd "$(dirname "$0")/../.."
step() { printf '\033[1m[%s/4]\033[0m %s\n' "$1" "$2"; }

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed, $PYTHON is $("$PYTHON" --version)"; exit 1; }

step 1 "virtual environment in $VENV ($("$PYTHON" --version))"
[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"

step 2 "installer, pinned by hash"
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r infra/python/bootstrap.txt

step 3 "dependencies, pinned by hash ($(grep -c '^[a-z]' infra/python/requirements.txt) packages)"
# pip reads configuration (a company mirror, say) that uv does not: it gets a try where uv finds no registry.
"$VENV/bin/uv" pip install --python "$VENV/bin/python" --require-hashes -r infra/python/requirements.txt ||
  "$VENV/bin/python" -m pip install --disable-pip-version-check --require-hashes -r infra/python/requirements.txt

step 4 "workspace packages: $(ls -d libs/* services/* | xargs -n1 basename | tr '\n' ' ')"
editable=(); for package in libs/*/pyproject.toml services/*/pyproject.toml; do editable+=(-e "$(dirname "$package")"); done
"$VENV/bin/uv" pip install --quiet --python "$VENV/bin/python" --offline --no-deps --no-build-isolation "${editable[@]}"
