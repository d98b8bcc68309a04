"""Where other projects document the names that this site links to, kept in text beside it."""

import tempfile
import zlib
from pathlib import Path


def inventory(project, listing, folder):
    """Path of Sphinx's inventory (version 2) of the lines of a listing."""
    header = f"# Sphinx inventory version 2\n# Project: {project}\n# Version: \n"
    header += "# The remainder of this file is compressed using zlib.\n"
    path = Path(folder) / f"{project}.inv"
    path.write_bytes(header.encode() + zlib.compress(listing.encode()))
    return str(path)


def intersphinx_mapping(source):
    """Mapping of a file of listings: ``[project] address`` and lines as in inventories."""
    folder = tempfile.mkdtemp(prefix="inventories")
    mapping = {}
    for part in Path(source).read_text().split("\n[")[1:]:
        head, _, listing = part.partition("\n")
        project, address = head.split("] ")
        mapping[project] = (address, inventory(project, listing, folder))
    return mapping
