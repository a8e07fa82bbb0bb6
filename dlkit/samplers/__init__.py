"""Samplers: from noise to a clean state with a given number of network calls."""

from dlkit.registry import Registry

registry: Registry = Registry("samplers", __name__, base=f"{__name__}._base:Sampler")
register, names, get, entry = registry.register, registry.names, registry.get, registry.entry
