"""Error messages of ``snnfast/check.py``."""

import inspect
import re
from pathlib import Path

from neurons.errors import mistakes
from samples import neurons

from snnfast import check


def test_every_message_of_check_is_tested():
    """The message of each ``raise`` in ``snnfast/check.py`` appears in the tests."""
    raised = re.findall(r'f"\{op\}: (.*?)[\[{"]', inspect.getsource(check))
    raised += re.findall(r'f"\{op\}: \{\w+\} (.*?)[\[{"]', inspect.getsource(check))
    messages = " ".join(m.message for op in neurons() for m in mistakes(op)) + " must be on the device of x, "
    others = set(Path(__file__).parent.rglob("test_*.py"))
    messages += " ".join(file.read_text() for file in others)
    assert len(raised) >= 12
    for words in raised:
        assert words.strip() in messages, words
