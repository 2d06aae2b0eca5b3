#!/usr/bin/env bash
# Hands the enclave its settings once it listens: /etc/daas/enclave.json over vsock, CID 16, port 7777.
set -euo pipefail
settings=${1:-/etc/daas/enclave.json} cid=${2:-16} port=${3:-7777}
exec python3 -I - "$settings" "$cid" "$port" <<'PYTHON'
import socket, sys, time
path, cid, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
data = open(path, "rb").read()
deadline = time.monotonic() + 120
while True:
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as parent:
        try:
            parent.connect((cid, port))
        except OSError as error:
            if time.monotonic() > deadline:
                sys.exit(f"the enclave does not listen: {error}")
            time.sleep(0.5)
            continue
        parent.sendall(data)
        break
PYTHON
