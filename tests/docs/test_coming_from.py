"""The pages for those who come from another library: both versions run and agree, where the library is installed."""

import re
from pathlib import Path

import pytest
import torch

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(DOCS.glob("coming_from_*.md"))
SIMULATORS = {"brian2", "nest"}  # their networks are written anew, not replaced


def blocks(text):
    """The code of a page, in order: ours, ``python``, and that which needs the library, ``{code-block} python``."""
    pattern = r"^```(?:python|\{code-block\} python\n(?::\w+:[^\n]*\n)*)\n?(.*?)^```"
    return re.findall(pattern, text, re.S | re.M)


def test_there_is_a_page_for_every_library_in_the_guides():
    names = {page.stem.removeprefix("coming_from_") for page in PAGES}
    assert names == {"spikingjelly", "snntorch", "norse", "sinabs"} | SIMULATORS
    guides = (DOCS / "guides.md").read_text()
    for page in PAGES:
        assert f"\n{page.stem}\n" in guides
        text = page.read_text()
        # Each has theirs, ours, the proof that they agree, and the line that replaces one by the other.
        simulator = page.stem.removeprefix("coming_from_") in SIMULATORS
        assert ("assert_array_equal" if simulator else "assert_close") in blocks(text)[2]
        assert simulator or any("replace(theirs, verify=" in block for block in blocks(text)[3:])


@pytest.mark.filterwarnings("ignore::snnfast.backend.BackendWarning")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_both_versions_agree(page):
    pytest.importorskip(page.stem.removeprefix("coming_from_"))
    torch.manual_seed(0)
    exec(compile("\n".join(blocks(page.read_text())), str(page), "exec"), {"__name__": "page"})
