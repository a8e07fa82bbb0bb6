"""Distributions that look installed: metadata and modules in a folder that is put on ``sys.path``."""

from pathlib import Path


def install(
    folder: Path,
    name: str,
    entry_points: dict[str, dict[str, str]],
    requires: tuple[str, ...] = (),
    version: str = "1.0",
) -> None:
    """Lay the metadata of a distribution: ``entry_points`` are the modules of parts by kind and name."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
    info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
    groups = [
        f"[dlkit.{kind}]\n" + "".join(f"{part} = {module}\n" for part, module in parts.items())
        for kind, parts in entry_points.items()
    ]
    info.joinpath("entry_points.txt").write_text("\n".join(groups))
