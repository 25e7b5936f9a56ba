"""The site: Markdown pages, an API reference made from docstrings, and tutorials that run while it is built."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

import snnfast

os.environ.setdefault("MPLBACKEND", "agg")

project = "snnfast"
author = copyright = "the authors of snnfast"
version = release = snnfast.__version__
language = "en"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
root_doc = "index"
templates_path = ["_templates"]
suppress_warnings = ["config.cache"]  # the gallery's settings hold a function
exclude_patterns = ["_build", "**/sg_execution_times.rst", "sg_execution_times.rst"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

# ---- API: every name of a module's __all__ has a page; those of names that are gone go
shutil.rmtree(Path(__file__).parent / "api", ignore_errors=True)
autosummary_generate = True
autosummary_ignore_module_all = False
autosummary_imported_members = True
autodoc_typehints = "none"  # docstrings say more: shapes, units, defaults
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_rtype, napoleon_use_ivar = False, True


# ---- tutorials, and the gallery
def new_figures(block: Any, variables: dict[str, Any], gallery: dict[str, Any]) -> str:
    """The figures that a block has made and named, whether pyplot knows them or not, and the files in ``pictures``."""
    found = variables["example_globals"]
    paths = []
    for figure in {id(f): f for f in found.values() if isinstance(f, Figure)}.values():
        if not hasattr(figure, "shown"):
            figure.shown = True  # type: ignore[attr-defined]
            paths.append(next(variables["image_path_iterator"]))
            figure.savefig(paths[-1], dpi=120)
    for picture in found.pop("pictures", ()):
        paths.append(next(variables["image_path_iterator"]))
        shutil.copy(picture, paths[-1])
    return figure_rst(paths, gallery["src_dir"])  # type: ignore[no-any-return]


sphinx_gallery_conf = {
    "examples_dirs": ["../examples/tutorials", "../examples/gallery"],
    "gallery_dirs": ["tutorials", "gallery"],
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": (new_figures,),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "min_reported_time": 1e9,
    "show_memory": False,
    "show_signature": False,
    "remove_config_comments": True,
    "plot_gallery": os.environ.get("SNNFAST_DOCS_RUN", "1") == "1",
}

# ---- looks
html_theme = "furo"
html_title = f"snnfast {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
pygments_style, pygments_dark_style = "friendly", "monokai"
copybutton_prompt_text = r">>> |\$ "
copybutton_prompt_is_regexp = True
