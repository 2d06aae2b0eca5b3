"""Verified user secret keys in memory, by session: bounded, and gone when the session ends."""

from collections import OrderedDict

from daas.seal.session import Clock


class KeyCache:
    """Keys of one session open nothing for another; the oldest use makes room.

    Args:
        keys_max: over all sessions.
        clock: ms since the epoch.
    """

    def __init__(self, keys_max: int, clock: Clock) -> None:
        self._keys_max = keys_max
        self._clock = clock
        #: (session key, server's object id, full id) to (user secret key, ms since the epoch at which it is forgotten).
        self._keys: OrderedDict[tuple[bytes, bytes, bytes], tuple[bytes, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"KeyCache({len(self._keys)} keys)"

    def get(self, session: bytes, server: bytes, identity: bytes) -> bytes | None:
        """The key, unless it is unknown or its session is over."""
        name = (session, server, identity)
        found = self._keys.get(name)
        if found is None:
            return None
        key, expires_ms = found
        if self._clock() >= expires_ms:
            del self._keys[name]
            return None
        self._keys.move_to_end(name)
        return key

    def put(self, session: bytes, server: bytes, identity: bytes, key: bytes, expires_ms: int) -> None:
        """Keeps a verified key until its session ends."""
        if not self._keys_max:
            return
        if len(self._keys) >= self._keys_max:
            self.purge()
        while len(self._keys) >= self._keys_max:
            self._keys.popitem(last=False)
        self._keys[session, server, identity] = (key, expires_ms)

    def purge(self) -> None:
        """Forgets the keys of sessions that are over."""
        now = self._clock()
        for name in [name for name, (_, expires_ms) in self._keys.items() if now >= expires_ms]:
            del self._keys[name]

    def forget(self, session: bytes) -> None:
        """Forgets all keys of one session."""
        for name in [name for name in self._keys if name[0] == session]:
            del self._keys[name]
