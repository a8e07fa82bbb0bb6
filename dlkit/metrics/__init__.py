"""Numbers that say how good and how varied generated texts are.

A metric is a file of this package; its name is the file's name. Every metric reads the same
:class:`~dlkit.metrics._base.Cases` (sources, samples, references) and says in ``needs`` what it cannot do without.
"""

from dlkit.registry import Registry

registry: Registry = Registry("metrics", __name__, base=f"{__name__}._base:Metric")
register, names, get, entry = registry.register, registry.names, registry.get, registry.entry
