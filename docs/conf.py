"""The site: Markdown pages, an API reference made from docstrings, and tutorials that run while it is built."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any, get_type_hints

from matplotlib.figure import Figure
from sphinx.application import Sphinx
from sphinx.ext.intersphinx import InventoryAdapter
from sphinx_gallery.scrapers import figure_rst

import snnfast

os.environ.setdefault("MPLBACKEND", "agg")
sys.path.insert(0, str(Path(__file__).parent))  # equations.py

project = "snnfast"
author = copyright = "the authors of snnfast"
version = release = snnfast.__version__
language = "en"

extensions = [
    "equations",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
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

# ---- API: a page for every name of a module's __all__; outdated pages are deleted
shutil.rmtree(Path(__file__).parent / "api", ignore_errors=True)
autosummary_generate = True
autosummary_ignore_module_all = False
autosummary_imported_members = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_type_aliases = dict.fromkeys(("Values", "npt.ArrayLike"), "numpy.typing.ArrayLike")
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_rtype, napoleon_use_ivar = False, True


def types_of_an_op(app: Sphinx, value: Any, bound: bool) -> None:
    """Give an op the annotations of its check, evaluated in the check's module."""
    if hasattr(value, "check"):
        hints = get_type_hints(value.check)
        hints.pop("return", None)
        value.__annotations__ = hints


def together(app: Sphinx, kind: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Join ``:ivar a, b:`` to ``a,b``, which Sphinx would read as ``b`` of type ``a,``."""
    for number, line in enumerate(lines):
        if field := re.match(r":(param|ivar) ([\w.]+, [^:]*):", line):
            lines[number] = line.replace(field[2], field[2].replace(", ", ","), 1)


def public_bases(app: Sphinx, name: str, value: type, options: Any, bases: list[type]) -> None:
    """Show the nearest public base of a class whose bases are private."""
    modules = [getattr(snnfast, module) for module in snnfast.__all__]
    public = {
        getattr(module, name) for module in modules for name in getattr(module, "__all__", ()) if name[0].isupper()
    }
    if any(getattr(base, "__module__", "").startswith("snnfast") and base not in public for base in bases):
        bases[:] = [next(c for c in value.__mro__[1:] if c in public or not c.__module__.startswith("snnfast"))]


# ---- links to other documentation, from stored inventories: a build needs no network
INVENTORIES = {
    "python": "https://docs.python.org/3/",
    "numpy": "https://numpy.org/doc/stable/",
    "torch": "https://docs.pytorch.org/docs/stable/",
    "matplotlib": "https://matplotlib.org/stable/",
}
intersphinx_mapping = {name: (url, f"inventories/{name}.txt") for name, url in INVENTORIES.items()}
nitpicky = True  # a broken reference is an error
nitpick_ignore_regex = [
    ("py:class", r"\w+\.(Annotated|OrderedDict)"),
    ("py:(class|obj)", r"\w+"),  # a type that only annotations name
    ("py:(class|obj)", r"snnfast(_zoo)?(\.\w+){3,}"),  # a base that is not public
]


def by_its_public_name(app: Sphinx, env: Any, node: Any, contents: Any) -> None:
    """Map names in annotations (``Tensor``, ``torch.nn.modules.module.Module``) to those in the inventories."""
    target = node.get("reftarget", "").strip("'")
    if node.get("refdomain") != "py" or target.startswith(("snnfast.", "snnfast_zoo.")):
        return
    package, _, name = target.rpartition(".")
    for known in InventoryAdapter(env).main_inventory.get("py:class", {}):
        same = package in ("", "nn") or package.split(".")[0] == known.split(".")[0]
        if same and known.rpartition(".")[2] == name:
            node["reftarget"] = known


def setup(app: Sphinx) -> None:
    """Connect the functions above to Sphinx."""
    app.connect("autodoc-before-process-signature", types_of_an_op)
    app.connect("autodoc-process-docstring", together, priority=900)  # after napoleon
    app.connect("autodoc-process-bases", public_bases)
    app.connect("missing-reference", by_its_public_name, priority=400)  # before intersphinx


# ---- tutorials, and the gallery
def new_figures(block: Any, variables: dict[str, Any], gallery: dict[str, Any]) -> str:
    """Figures that a block has made and named, also outside pyplot, and the files in ``pictures``."""
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
    return "".join(figure_rst([path], gallery["src_dir"]) for path in paths)


sphinx_gallery_conf = {
    "examples_dirs": ["../examples/tutorials", "../examples/gallery"],
    "gallery_dirs": ["tutorials", "gallery"],
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": (new_figures,),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "capture_repr": (),
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
html_favicon = "_static/icon.svg"
html_css_files = ["site.css"]
html_show_sphinx = False
pygments_style, pygments_dark_style = "friendly", "monokai"
copybutton_prompt_text = r">>> |\$ "
copybutton_prompt_is_regexp = True
