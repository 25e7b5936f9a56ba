"""Mistakes in recurrent: name, path, what becomes what, and tests if they are others."""

TESTS = (
    "tests/ops/test_recurrent.py",
    "tests/ops/test_recurrent_by_hand.py",
    "tests/ops/test_recurrent_registration.py",
    "tests/ops/test_recurrent_errors.py",
)
LAYER = ("tests/nn/test_recurrent.py",)
MISTAKES = (
    (
        "the delay is a step too long",
        "csrc/cpu/recurrent_loop.h",
        "ring(memory.under_way, t + 1 + lag.steps, g)[j] += lag.early",
        "ring(memory.under_way, t + 2 + lag.steps, g)[j] += lag.early",
    ),
    (
        "spikes of before are taken from the first on",
        "csrc/cpu/recurrent_loop.h",
        "read_samples<C>(r.past, t + r.K,",
        "read_samples<C>(r.past, -1 - t,",
    ),
    (
        "spikes under way at a checkpoint are lost",
        "csrc/cpu/recurrent_loop.h",
        "sent < t - 1; sent++",
        "sent < t - 2; sent++",
    ),
    (
        "a delay that is clamped has a gradient",
        "csrc/cpu/recurrent_loop.h",
        "if (spikes && lag.moves) sum[j]",
        "if (spikes) sum[j]",
    ),
    (
        "gradients of the step after the last one of the ring are those of its first before",
        "csrc/cpu/recurrent_loop.h",
        "j < (at == 0 ? H : 0)",
        "j < 0",
    ),
    (
        "what arrives is found for too few steps",
        "csrc/cpu/recurrent_loop.h",
        "set_out(rows, begin);",
        "",
    ),
    (
        "the weights of the gradient are not turned",
        "csrc/cpu/recurrent_loop.h",
        "const C* to_pre = static_cast<const C*>(r.to_pre);",
        "const C* to_pre = static_cast<const C*>(r.to_post);",
    ),
    (
        "the last neuron is left out of the dense product",
        "csrc/cpu/recurrent_sums.h",
        "i < H; i++) {\n    Vector row[V];",
        "i + 1 < H; i++) {\n    Vector row[V];",
    ),
    (
        "the last part of the gradient of the weights is not added",
        "csrc/cpu/recurrent.cpp",
        "for (int64_t part = 1; part < count; part++)",
        "for (int64_t part = 1; part + 1 < count; part++)",
    ),
    (
        "a spike that is too late arrives at once",
        "csrc/core/recurrent.h",
        "return {0, C(0), C(0), false};",
        "return {0, C(1), C(0), false};",
    ),
    (
        "cuda: events of a warp in the order of the others",
        "csrc/cuda/recurrent_steps.cuh",
        "at += __popc(here & before);",
        "at += __popc(here & ~before) - 1;",
    ),
    (
        "cuda: no barrier before the sum over the neurons",
        "csrc/cuda/recurrent_kernel.cuh",
        "      __syncthreads();\n      for (int64_t i = threadIdx.x; i < H; i += blockDim.x) {\n        C sum",
        "      for (int64_t i = threadIdx.x; i < H; i += blockDim.x) {\n        C sum",
    ),
    (
        "the layer forgets the spikes of an earlier call",
        "snnfast/nn/delaying.py",
        "else torch.cat([past, x])",
        "else x",
        LAYER,
    ),
    (
        "self-connections are off at the beginning only",
        "snnfast/nn/recurrent.py",
        "return torch.diagonal_scatter(weight, weight.new_zeros(self.features))",
        "return weight",
        LAYER,
    ),
)
