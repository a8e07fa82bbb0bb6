"""Teacher families: how each is fitted, and how its original checkpoints are read and written."""

from dlkit.registry import Registry

registry: Registry = Registry("teachers", __name__, base=f"{__name__}._base:TeacherFamily")
register, names, get, entry = registry.register, registry.names, registry.get, registry.entry
