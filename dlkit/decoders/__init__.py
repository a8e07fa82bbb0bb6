"""Decoders: continuous states to token ids."""

from dlkit.registry import Registry

registry: Registry = Registry("decoders", __name__, base=f"{__name__}._base:Decoder")
register, names, get, entry = registry.register, registry.names, registry.get, registry.entry
