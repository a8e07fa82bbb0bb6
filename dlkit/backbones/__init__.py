"""Backbones: networks only, forward(x, time) -> raw output and features."""

from dlkit.registry import Registry

registry: Registry = Registry("backbones", __name__, base=f"{__name__}._base:Backbone")
register, names, get, entry = registry.register, registry.names, registry.get, registry.entry
