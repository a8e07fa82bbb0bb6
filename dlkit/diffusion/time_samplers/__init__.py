"""Time samplers: the distribution of the times a network is trained at."""

from dlkit.registry import Registry

registry: Registry = Registry("time_samplers", __name__, base=f"{__name__}._base:TimeSampler")
register, names, get, entry = registry.register, registry.names, registry.get, registry.entry
