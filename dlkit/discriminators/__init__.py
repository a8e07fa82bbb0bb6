"""Discriminators: heads over features that tell real states from generated ones."""

from dlkit.registry import Registry

registry: Registry = Registry("discriminators", __name__, base=f"{__name__}._base:Head")
register, names, get, entry = registry.register, registry.names, registry.get, registry.entry
