"""Objectives: what a student and its fake score are trained on."""

from dlkit.registry import Registry

registry: Registry = Registry("objectives", __name__, base=f"{__name__}._base:Objective")
register, names, get, entry = registry.register, registry.names, registry.get, registry.entry
