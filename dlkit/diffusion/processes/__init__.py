"""Forward processes: q_sample, posterior and prior."""

from dlkit.registry import Registry

registry: Registry = Registry("processes", __name__, base="dlkit.part:Part")
register, names, get, entry = registry.register, registry.names, registry.get, registry.entry
