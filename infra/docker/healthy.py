"""A container's health check: exits with 0 where the URL answers 200 or the TCP port takes connections."""

import socket
import sys
import urllib.request
from urllib.parse import urlsplit

TIMEOUT_S = 4


def main(url: str) -> int:
    """`http://...` or `tcp://HOST:PORT`."""
    parts = urlsplit(url)
    try:
        if parts.scheme == "tcp":
            socket.create_connection((parts.hostname, parts.port), TIMEOUT_S).close()
            return 0
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310 - the address is in the image's check
            return 0 if answer.status == 200 else 1
    except OSError as error:
        sys.stderr.write(f"{url}: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
