"""Spaces: token ids to continuous states and back, with the prior of the state."""

from dlkit.registry import Registry

registry: Registry = Registry("spaces", __name__, base=f"{__name__}._base:Space")
register, names, get, entry = registry.register, registry.names, registry.get, registry.entry
