"""The built documentation as a browser shows it: markup, pictures, widths, search."""

import re
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytestmark = pytest.mark.site

SWITCHES = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update"
)
WIDE, NARROW = 1300, 420

# Text outside of code that only a writer should see.
RAW = [
    re.compile(pattern, re.M)
    for pattern in (
        r":\w+:`",
        r"^\.\. \w+",
        r"^:::",
        r"```",
        r"\$\$",
        r"\\(beta|sigma|Lambda|theta|mathrm|frac)\b",
        r"\*\*\w[^*\n]*\w\*\*",
        r"^\|.*\|$",
        r"\]\(\w[^)\s]*\)",
        r"\{(toctree|eval-rst|math|include|term)\}",
    )
]
DEBRIS = re.compile(r"<BLANKLINE>|# *doctest:")

LOOK = """
const done = arguments[arguments.length - 1];
const article = document.querySelector("article") || document.body;
const copy = article.cloneNode(true);
copy.querySelectorAll("pre, code, math, script, style").forEach((node) => node.remove());
copy.style.position = "absolute";
document.body.append(copy);
const text = copy.innerText;
copy.remove();
const code = [...article.querySelectorAll("pre")].map((node) => node.textContent).join("\\n");
const load = async (image) => {
  image.loading = "eager";
  try { await image.decode(); } catch { return image.src; }
  return null;
};
Promise.all([...document.images].map(load)).then((sources) => {
  done({text: text, code: code, missing: sources.filter((source) => source)});
});
"""
# Whatever reaches beyond the window must be inside something that scrolls or hides it.
WIDTHS = """
const held = (node) => {
  for (let at = node; at && at !== document.body; at = at.parentElement)
    if (getComputedStyle(at).overflowX !== "visible") return true;
  return false;
};
const cut = (node) => node.scrollWidth > node.clientWidth + 1;
const beyond = [...document.querySelectorAll("article table, article img, article pre, article p")]
  .filter((node) => node.getBoundingClientRect().right > window.innerWidth + 1 && !held(node))
  .map((node) => node.tagName + " " + node.className);
document.querySelectorAll("article :is(h1, h2, h3)").forEach((node) => {
  if (cut(node)) beyond.push(node.tagName);
});
if (document.documentElement.scrollWidth > window.innerWidth + 1) beyond.push("the page");
return beyond;
"""
COPIED = "document.addEventListener('copy', (event) => { window.copied = event.target.value; })"
FOUND = "return [...document.querySelectorAll('#search-results li a')].map((a) => a.href)"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def address(site):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for switch in [*SWITCHES.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(switch)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    browser.set_script_timeout(60)
    yield browser
    browser.quit()


def set_width(browser, width):
    size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def look(browser, page):
    """What a browser shows of a page: text, code, pictures that are missing, what is too wide."""
    set_width(browser, WIDE)
    browser.get(page)
    seen = browser.execute_async_script(LOOK)
    seen["beyond"] = browser.execute_script(WIDTHS)
    set_width(browser, NARROW)
    seen["beyond"] += [f"{node} (narrow)" for node in browser.execute_script(WIDTHS)]
    return seen


def raw_markup(text):
    return [found.group() for pattern in RAW if (found := pattern.search(text))]


@pytest.fixture(scope="module")
def seen(site, pages, address, browser):
    return {
        name: look(browser, address + name)
        for name in (page.relative_to(site).as_posix() for page in pages)
    }


def test_no_raw_markup(seen):
    found = {name: raw_markup(page["text"]) for name, page in seen.items()}
    assert {name: marks for name, marks in found.items() if marks} == {}


def test_no_debris_of_doctests(seen):
    assert [name for name, page in seen.items() if DEBRIS.search(page["code"])] == []
    assert ">>>" in seen["guide.html"]["code"]


def test_copied_code_runs(browser, address):
    """The button beside an example copies its code, without prompts and output."""
    set_width(browser, WIDE)
    browser.get(address + "index.html")
    browser.execute_script(COPIED)
    button = browser.find_elements("css selector", "button.copybtn")[-1]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()
    code = browser.execute_script("return window.copied")
    assert code.startswith("from skmixed import MixedLinearRegressor\nfrom skmixed.datasets")
    assert code.endswith("model.predict(X[:2]).round(1)")


def test_pictures_are_there(seen):
    assert {name: page["missing"] for name, page in seen.items() if page["missing"]} == {}


def test_nothing_is_too_wide(seen):
    assert {name: page["beyond"] for name, page in seen.items() if page["beyond"]} == {}


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("singular fit", "singular.html"),
        ("MixedLinearRegressor", "generated/skmixed.MixedLinearRegressor.html"),
        ("kenward roger", "p_values.html"),
    ],
)
def test_search(browser, address, words, page):
    from selenium.webdriver.support.ui import WebDriverWait

    set_width(browser, WIDE)
    browser.get(address + "index.html")
    browser.execute_script("document.querySelector('.search-button__button').click()")
    field = browser.execute_script("return document.querySelector('#pst-search-dialog input')")
    field.send_keys(words + "\n")
    WebDriverWait(browser, 30).until(
        lambda browser: any(address + page in found for found in browser.execute_script(FOUND)),
        f"a search for {words} does not find {page}",
    )


def test_looking_notices(tmp_path, browser):
    page = tmp_path / "bad.html"
    page.write_text(
        "<article><p>:math:`x` and **bold** words</p><img src='none.png'>"
        "<pre>&lt;BLANKLINE&gt;</pre><table style='width: 3000px'><tr><td>wide</td></tr></table>"
        "<h1 style='overflow: hidden; width: 50px'>Supercalifragilistic</h1>"
    )
    found = look(browser, page.as_uri())
    assert len(raw_markup(found["text"])) == 2
    assert DEBRIS.search(found["code"])
    assert len(found["missing"]) == 1
    assert [node.split()[0] for node in found["beyond"]] == ["TABLE", "H1", "the"] * 2
