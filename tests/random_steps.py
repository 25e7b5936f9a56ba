"""Operations of random step functions."""

import torch

UNARY = [
    *(torch.neg, torch.abs, torch.relu, torch.sigmoid, torch.tanh, torch.sin, torch.cos, torch.sign, torch.floor),
    *(torch.square, lambda a: torch.exp(a.clamp(max=3)), lambda a: torch.log(a.abs() + 0.5)),
    *(lambda a: torch.sqrt(a * a + 0.1), lambda a: a.clamp(-0.5, 0.75), lambda a: a**3),
    *(lambda a: a + (torch.round(a) - a).detach(), lambda a: a.detach() * a),
]
BINARY = [
    *(torch.add, torch.sub, torch.mul, torch.minimum, torch.maximum, lambda a, b: a / (b * b + 0.5)),
    *(lambda a, b: torch.where(a > b, a * 0.5, b), lambda a, b: torch.where((a > 0) & ~(b >= 0.3), b, a)),
    *(lambda a, b: 1.5 - a * 0.25 + (a < b) * b, lambda a, b: torch.clamp(a, min=b)),
]


def run(instructions, values):
    values = list(values)
    for function, operands in instructions:
        values.append(function(*(values[k] for k in operands)))
    return values[-1], values[-2] * 0.5 + values[3 if len(values) > 3 else 0]
