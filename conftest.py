"""For all tests: properties are held to behaviour, never to time; how fast something is, benchmarks tell."""

from hypothesis import settings

settings.register_profile("k3s-daas", deadline=None)
settings.load_profile("k3s-daas")
