"""Configuration of the site: ``tox -e docs`` builds it into ``site/``."""

import sys
import warnings
from pathlib import Path

from numpydoc.xref import DEFAULT_LINKS

import skmixed

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
import attributes  # noqa: E402
import inventories  # noqa: E402

project = "skmixed"
author = "skmixed developers"
copyright = author
version = release = skmixed.__version__
language = "en"

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "numpydoc",
    "myst_parser",
    "sphinx_design",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "attributes",
    "mathml",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "**/GALLERY_HEADER.rst"]
# Functions in the configuration cannot be kept from one build to the next.
suppress_warnings = ["config.cache"]
default_role = "code"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"
# scikit-learn writes these methods and their text for its metadata routing.
autodoc_default_options = {
    "exclude-members": "get_metadata_routing, set_fit_request, set_predict_request, "
    "set_predict_proba_request, set_decision_function_request, set_score_request, "
    "set_transform_request, set_partial_fit_request"
}
numpydoc_class_members_toctree = False
numpydoc_xref_param_type = True
# Classes of this and of other packages are links, Python's types are not.
numpydoc_xref_aliases = {name: name for name in DEFAULT_LINKS} | {
    "DataFrame": "pandas.DataFrame",
    "Series": "pandas.Series",
    "ndarray": "numpy.ndarray",
    "Bunch": "sklearn.utils.Bunch",
    **attributes.documented_classes(HERE / "api.md"),
}
numpydoc_xref_ignore = "all"

# Names of other projects are kept here: nothing is fetched in a build.
intersphinx_mapping = inventories.intersphinx_mapping(HERE / "_ext" / "inventories.txt")

html_math_renderer = "mathml"
trim_doctest_flags = True
highlight_options = {"python": {"stripnl": True}}
toc_object_entries_show_parents = "hide"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": "/plot_",
    "ignore_pattern": r"(^|/)(?!plot_)[^/]*\.py$",
    "subsection_order": [
        f"../examples/{folder}"
        for folder in "analyses slides designs generalised curves related rank".split()
    ]
    + ["*"],
    "within_subsection_order": "FileNameSortKey",
    "backreferences_dir": "gallery/backreferences",
    "doc_module": ("skmixed",),
    "reference_url": {"skmixed": None},
    "image_srcset": ["2x"],
    "show_memory": False,
    "write_computation_times": False,
    "show_signature": False,
    "download_all_examples": False,
}
warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")

html_theme = "pydata_sphinx_theme"
html_title = "skmixed"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "skmixed"},
    "header_links_before_dropdown": 6,
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
# Pages without pages below them have no navigation beside them.
html_sidebars = {
    page: []
    for page in "index install how-do-i data-sets benchmarks development glossary changelog "
    "citation search genindex".split()
}
