"""The built documentation, where there is one."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def site():
    folder = Path(__file__).parents[2] / "site"
    if not (folder / "index.html").exists():
        pytest.skip("the documentation is not built: tox run -e docs")
    return folder


@pytest.fixture(scope="session")
def pages(site):
    """Paths of all pages in the site."""
    return sorted(
        page for page in site.rglob("*.html") if not page.relative_to(site).parts[0].startswith("_")
    )
