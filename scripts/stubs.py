"""Write ``snnfast/ops/neurons.pyi`` and ``snnfast/nn/neurons.pyi``: signatures of generated ops and layers."""

import inspect
from pathlib import Path
from typing import Any

from snnfast.nn import neurons
from snnfast.reference.neuron_arguments import NEURONS
from snnfast.reference.surrogate import SurrogateLike

PACKAGE = Path(__file__).parents[1] / "snnfast"
HEAD = """# Made by scripts/stubs.py from the equations in snnfast/reference.
from torch import Tensor

from snnfast.reference.surrogate import SurrogateLike

__all__ = {}
"""


def signature(parameters: list[inspect.Parameter], margin: str) -> str:
    """Format parameters in few lines."""
    lines, starred = [margin], False
    for p in parameters:
        default = "" if p.default is p.empty else f" = {p.default!r}"
        words = ["*"] if p.kind == p.KEYWORD_ONLY and not starred else []
        starred = starred or bool(words)
        for word in (*words, f"{p.name}: {typed(p.annotation)}{default}"):
            if len(lines[-1]) + len(word) > 115:
                lines.append(margin)
            lines[-1] += f"{word}, "
    return "\n".join(line.rstrip() for line in lines)


def typed(annotation: Any) -> str:
    if annotation == SurrogateLike:
        return "SurrogateLike"
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return text.replace("torch.", "")


def of_ops() -> str:
    text = HEAD.format(sorted(NEURONS))
    for name, neuron in NEURONS.items():
        results = len(neuron.states) + 1
        arguments = signature([*inspect.signature(neuron.check).parameters.values()], "    ")
        result = f"tuple[{', '.join(['Tensor'] * results)}]" if not neuron.fires else "tuple[Tensor, ...]"
        text += f"\ndef {name}(\n{arguments}\n) -> {result}: ...\n"
    return text


def of_layers() -> str:
    text = HEAD.format(neurons.__all__) + "\nfrom .from_op import FromOp, Readout\n"
    for neuron in sorted(NEURONS.values(), key=lambda neuron: neuron.layer):
        if neuron.layer:
            parameters = inspect.signature(getattr(neurons, neuron.layer)).parameters.values()
            arguments = signature([*parameters], " " * 8)
            base = "FromOp" if neuron.fires else "Readout"
            states = "".join(f"    {name}: Tensor | None\n" for name in neuron.states)
            text += f"\nclass {neuron.layer}({base}):\n{states}    def __init__(\n        self,\n"
            text += f"{arguments}\n    ) -> None: ...\n"
    return text


def stubs() -> dict[str, str]:
    return {"ops/neurons.pyi": of_ops(), "nn/neurons.pyi": of_layers()}


if __name__ == "__main__":
    for path, text in stubs().items():
        (PACKAGE / path).write_text(text)
