#!/usr/bin/env bash
# Builds the scheduler-enclave's root file system twice-alike: the same commit gives the same bytes, on any machine.
#   infra/nitro/build-rootfs.sh OUT.cpio NATS_CA.pem [WHEELS]
# WHEELS is a folder for the downloads, kept between builds; every file in it is checked against its pinned hash.
set -euo pipefail
out=$(realpath -m "${1:?OUT.cpio}") ca=$(realpath "${2:?NATS_CA.pem}") here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
requirements=$here/../docker/requirements/enclave.txt
scratch=$(mktemp -d); trap 'rm -rf "$scratch"' EXIT
wheels=$(realpath -m "${3:-$scratch/wheels}"); mkdir -p "$wheels"
if [ -z "$(ls -A "$wheels")" ]; then
  # The base image's Python is 3.11 on glibc 2.36 (Debian 12).
  "$python" -m pip download --quiet --no-deps --require-hashes --only-binary :all: --dest "$wheels" \
    --implementation cp --python-version 3.11 --abi cp311 --abi abi3 --abi none \
    --platform manylinux_2_34_x86_64 --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
    --platform manylinux2014_x86_64 -r "$requirements"
fi
exec "$python" -I "$here/rootfs.py" --wheels "$wheels" --nats-ca "$ca" --out "$out"
