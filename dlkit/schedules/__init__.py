"""Noise schedules: alpha(t) and sigma(t) of the process x_t = alpha x0 + sigma eps, t in [0, 1], t = 0 clean."""

from dlkit.registry import Registry

registry: Registry = Registry("schedules", __name__, base=f"{__name__}._base:Schedule")
register, names, get, entry = registry.register, registry.names, registry.get, registry.entry
