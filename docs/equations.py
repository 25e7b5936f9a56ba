"""Typeset the equations of docstrings and pages from plain text: ``h[t] = decay v[t-1] + x[t]``.

An equation is a block of a docstring after ``::`` that is not Python, or a block of a page with the language
``equation``. Each line has a left side, a right side and, three or more spaces later, a remark. Indices and the part of
a name after an underscore become subscripts, names of Greek letters the letters, ``^`` a superscript.
"""

from __future__ import annotations

import ast
import html
import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

NAMES = ("alpha", "beta", "gamma", "delta", "epsilon", "eps", "lambda", "mu", "pi", "rho", "sigma")
GREEK = dict(zip((*NAMES, "tau", "theta", "omega"), "αβγδεελμπρστθω", strict=True))
SYMBOLS = {">=": "≥", "<=": "≤", "!=": "≠", "<-": "←", "->": "→", "-": "−", "*": "·", "-=": "−="}
NAME = r"[^\W\d_]\u0304?[^\W_]*(?:_\w+)?"  # v_rest, x, θ, v̄_seq
TOKEN = re.compile(rf"\s+|{NAME}|\d+(?:\.\d+)?|[<>!+\-]=|<-|->|.", re.S)
SIDES = re.compile(r"^(?:(\S(?:(?!   ).)*?)\s+)?(=|\+=|-=|<-)\s+(.*)$")


def letters(word: str) -> str:
    """Typeset a variable of one letter in italics, with ``d`` before it for a derivative, a longer word upright."""
    if word in GREEK or len(word.rstrip("\u0304")) == 1:
        return f"<i>{GREEK.get(word, word)}</i>"
    rest = word[1:]
    if word[0] == "d" and (rest in GREEK or re.fullmatch(r"[^\W\d_]\d?", rest)):
        return f"<i>d</i>{letters(rest)}"
    if re.fullmatch(r"[^\W\d_]\d+", word):
        return f"<i>{word[0]}</i><sub>{rest}</sub>"
    return html.escape(word)


def group(text: str, start: int) -> int:
    """Index at which the bracket at ``start`` ends."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] in "([{") - (text[place] in ")]}")
        if not depth:
            return place
    return len(text) - 1


def typeset(text: str) -> str:
    """One side of an equation as HTML."""
    text = re.sub(r"\bsum over ([\w, <>=]+?) of ", r"Σ[\1] ", text)
    out, place = [], 0
    while place < len(text):
        token = TOKEN.match(text, place)
        word = token[0]  # type: ignore[index]
        place = token.end()  # type: ignore[union-attr]
        if word == "a" and re.match(r" [a-z]{3,}\b", text[place:]):
            out.append(word)  # the article
        elif re.fullmatch(NAME, word):
            name, _, low = word.partition("_")
            if name == "sum" and (low or text[place : place + 2] == "_{"):
                name = "Σ"
                if not low:
                    end = group(text, place + 1)
                    low, place = text[place + 2 : end], end + 1
                    out.append(f"Σ<sub>{typeset(low)}</sub>")
                    continue
            below = [letters(low) if len(low) == 1 else html.escape(low)] if low else []
            if text[place : place + 1] == "[":
                end = group(text, place)
                below.append(typeset(text[place + 1 : end]))
                place = end + 1
            low = f"<sub>{', '.join(below)}</sub>" if below else ""
            out.append(("Σ" if name == "Σ" else letters(name)) + low)
        elif word == "^":
            if text[place] == "(":
                end = group(text, place)
                high, place = text[place + 1 : end], end + 1
            else:
                high = re.match(r"-?\w+", text[place:])[0]  # type: ignore[index]
                place += len(high)
            out.append(f"<sup>{typeset(high)}</sup>")
        else:
            out.append(" " if word.isspace() else SYMBOLS.get(word, html.escape(word)))
    return "".join(out)


def remark(text: str) -> str:
    """A remark: prose, or an equation."""
    return typeset(text) if re.search(r"[\[=]", text) else html.escape(text)


def table(text: str) -> str:
    """A block of equations, aligned at their signs."""
    rows = []
    for line in text.splitlines():
        sides = SIDES.match(line.strip())
        left, sign, right = sides.groups("") if sides else ("", "", line.strip())
        right, *remarks = re.split(r"\s{3,}", right)
        cells = typeset(left), f"{SYMBOLS.get(sign, sign)} {typeset(right)}", *map(remark, remarks)
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f'<table class="equations">{"".join(rows)}</table>'


def is_equation(text: str) -> bool:
    """Return whether a block of a docstring is not code and has a relation sign."""
    try:
        ast.parse(text)
    except SyntaxError:
        return not text.startswith(">>>") and re.search(r" (=|<-) ", text) is not None
    return False


def typeset_blocks(app: Sphinx, doctree: nodes.document) -> None:
    """Replace the text of equations by HTML."""
    docstrings = app.env.docname.startswith("api/")
    for block in list(doctree.findall(nodes.literal_block)):
        of_docstring = docstrings and "language" not in block and is_equation(block.astext())
        if of_docstring or block.get("language") == "equation":
            block.replace_self(nodes.raw("", table(block.astext()), format="html"))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("doctree-read", typeset_blocks)
    return {"parallel_read_safe": True}
