"""Every link inside the built documentation leads somewhere, and nothing is loaded from outside."""

from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

pytestmark = pytest.mark.site

LOADING = {"script", "img", "link", "source", "iframe"}


class Page(HTMLParser):
    """What a page links to, what it loads, and the anchors it has."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.anchors = set(), set(), {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors |= {attributes[key] for key in ("id", "name") if attributes.get(key)}
        target = attributes.get("href") or attributes.get("src")
        if target:
            (self.loads if tag in LOADING else self.links).add(target)
        for candidate in (attributes.get("srcset") or "").split(","):
            self.loads |= set(candidate.split()[:1])


@pytest.fixture(scope="module")
def parsed(pages):
    return {page.resolve(): Page(page.read_text(encoding="utf-8")) for page in pages}


def is_elsewhere(target):
    return bool(urlsplit(target).scheme or urlsplit(target).netloc)


def broken(path, target, parsed):
    """Whether a link from the page at a path leads nowhere."""
    file, anchor = urldefrag(target)
    to = (path.parent / unquote(urlsplit(file).path)).resolve() if file else path
    if to in parsed:
        return unquote(anchor) not in parsed[to].anchors
    return not to.is_file()


def test_links_lead_somewhere(site, parsed):
    found = [
        f"{path.relative_to(site.resolve())}: {target}"
        for path, page in parsed.items()
        for target in sorted(page.links | page.loads)
        if not is_elsewhere(target) and broken(path, target, parsed)
    ]
    assert found == []


def test_nothing_is_loaded_from_elsewhere(parsed):
    loads = {target for page in parsed.values() for target in page.loads}
    assert len(loads) > 10
    assert [target for target in loads if is_elsewhere(target) and "data:" not in target] == []


def test_checker_notices(tmp_path):
    page = tmp_path / "a.html"
    page.write_text('<p id="here"><a href="#there"><a href="b.html"><a href="#here">')
    parsed = {page: Page(page.read_text())}
    found = [target for target in sorted(parsed[page].links) if broken(page, target, parsed)]
    assert found == ["#there", "b.html"]
