"""Mistakes in normlif and NormLIF: name, path, what becomes what, and tests if they are others."""

TESTS = (
    "tests/ops/test_normlif.py",
    "-k",
    "by_hand or outputs_equal_the_reference or test_gradients_equal_the_reference or give_the_same",
)
LAYER = ("tests/nn/test_normlif.py",)
MISTAKES = (
    (
        "normlif: shift dropped",
        "csrc/core/normlif.h",
        "Leaky::charge(c[kFactor] * x + c[kSummand], c, state, left);",
        "Leaky::charge(c[kFactor] * x, c, state, left);",
    ),
    (
        "normlif: gradient of the scale without its input",
        "csrc/core/normlif.h",
        "grad_params[kScale] += grad_input * x;",
        "grad_params[kScale] += grad_input;",
    ),
    (
        "normlif: gradient of the shift dropped",
        "csrc/core/normlif.h",
        "grad_params[kShift] += grad_input;",
        "",
    ),
    (
        "normlif: gradient of x not scaled",
        "csrc/core/normlif.h",
        "return grad_input * c[kFactor];",
        "return grad_input;",
    ),
    (
        "normlif: gradient of the decay by the input as it comes",
        "csrc/core/normlif.h",
        "Leaky::charge_backward(c[kFactor] * x + c[kSummand], before",
        "Leaky::charge_backward(x, before",
    ),
    (
        "rows of parameters: a run of neurons that share a value begins anew in each block",
        "csrc/cpu/rows.cpp",
        "within = n0 % p.inner;",
        "within = 0;",
    ),
    (
        "rows of parameters: after the last value comes what is behind it",
        "csrc/cpu/rows.cpp",
        "if (k == p.count) k = 0;",
        "",
    ),
    (
        "numbers with tensors: the last parameters are shared, too",
        "csrc/core/neuron.h",
        "return Uniform && k < Neuron::kParams - Neuron::kEach;",
        "return Uniform && k < Neuron::kParams;",
    ),
    (
        "cuda: numbers with tensors read as those of the first neuron",
        "csrc/cuda/neuron_kernel.cuh",
        "return coefficients[kAlike<Neuron, Uniform> ? 0 : i];",
        "return coefficients[Uniform ? 0 : i];",
    ),
    (
        "NormLIF: gradient of the variance dropped",
        "snnfast/nn/normlif.py",
        "slope = -g * scale * rstd.square() / n",
        "slope = 0 * g",
        LAYER,
    ),
    (
        "NormLIF: gradient of the mean dropped",
        "snnfast/nn/normlif.py",
        "summand = -scale * grad_shift / n",
        "summand = 0 * grad_shift",
        LAYER,
    ),
    (
        "NormLIF: gradient of the weight without the shift's",
        "snnfast/nn/normlif.py",
        "g = grad_scale - mean * grad_shift",
        "g = grad_scale",
        LAYER,
    ),
    (
        "NormLIF: batches are not counted",
        "snnfast/batch_norm.py",
        "norm.num_batches_tracked.add_(1)",
        "pass",
        LAYER,
    ),
    (
        "NormLIF: hooks passed over",
        "snnfast/nn/normlif.py",
        "and not any(map(hooked, (time, norm, neuron)))",
        "",
        LAYER,
    ),
    (
        "NormLIF: what repeats is normalised at every step",
        "snnfast/nn/normlif.py",
        "and not (len(x) > 1 and x.stride(0) == 0)",
        "",
        LAYER,
    ),
)
