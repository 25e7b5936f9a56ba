"""Properties that hold for any shape, dtype and parameter."""

import inspect

import torch
from backends import PRESENT, force
from hypothesis import assume, given
from hypothesis import strategies as st
from samples import assert_all, assert_equal, assert_gradients_close, firing, over_neurons, scanned

from snnfast import ops
from snnfast.check import state_dtype

data = st.data()
shapes = st.tuples(st.integers(0, 40)) | st.tuples(st.integers(0, 40), st.integers(0, 3), st.integers(0, 70))
dtypes = st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16])
wide_dtypes = st.sampled_from([torch.float64, torch.float32])
seeds = st.integers(0, 2**31)


@st.composite
def runs(draw, op, dtypes=dtypes, shapes=shapes):
    """Draw input, states and parameters of any kind for an op."""
    shape, dtype = draw(shapes), draw(dtypes)
    generator = torch.Generator().manual_seed(draw(seeds))
    wide = state_dtype(dtype)

    def normal(shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    arguments = {"x": (normal(shape) * 1.5 + 0.5).to(dtype)}
    for name in op.states:
        if draw(st.booleans()):
            arguments[name] = normal(shape[1:]).to(wide)

    def parameter(numbers, low=0.0, high=1.0):
        if draw(st.booleans()):
            return draw(numbers)
        where = tuple(n if draw(st.booleans()) else 1 for n in shape[1:])
        where = where[draw(st.integers(0, len(where))) :]
        values = torch.rand(where, generator=generator, dtype=torch.float64)
        return (values * (high - low) + low).to(wide)

    unit = st.floats(0, 1)
    for name in op.decays:
        if draw(st.booleans()):
            arguments[name] = parameter(unit)
        elif draw(st.booleans()):
            arguments[name.replace("decay", "tau")] = draw(st.floats(1, 1e6))
    for name in op.params:
        if draw(st.booleans()):
            bounds = op.ranges.get(name)
            arguments[name] = parameter(st.floats(*bounds or (-2, 5)), *bounds or (0.0, 1.0))
    for name, choices in op.options.items():
        if draw(st.booleans()):
            arguments[name] = draw(st.sampled_from(choices))
    if op.accepts("decay_input"):
        arguments["decay_input"] = draw(st.booleans())
    if op.accepts("v_rest"):
        arguments["v_rest"] = draw(st.floats(-1, 1))
    if op.fires:
        hard = st.floats(-3, 0.5)
        arguments["v_reset"] = draw(hard if op.runs_away else st.none() | hard)
        arguments["detach_reset"] = draw(st.booleans())
        arguments["return_v_seq"] = True
        arguments["surrogate"] = draw(st.sampled_from(["atan", "sigmoid", "fast_sigmoid", "triangle", "gaussian"]))
    return arguments


def cpu_and_emulation():
    for name in ("cpu", "cuda_emulation"):
        if name in PRESENT:
            with force(name):
                yield name


@given(data=data)
def test_outputs_of_any_call_equal_the_reference(op, data):
    arguments = data.draw(runs(op))
    want = op.reference(**arguments)
    for _ in cpu_and_emulation():
        assert_equal(op(**arguments), want)


def graded(function, arguments):
    """Return outputs, and gradients of a fixed weighting of them."""
    arguments = {k: a.clone().requires_grad_() if isinstance(a, torch.Tensor) else a for k, a in arguments.items()}
    outputs = function(**arguments)
    generator = torch.Generator().manual_seed(0)
    loss = sum(
        (torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out) * out).sum() for out in outputs
    )
    inputs = {k: a for k, a in arguments.items() if isinstance(a, torch.Tensor)}
    grads = torch.autograd.grad(loss, list(inputs.values()), allow_unused=True)
    return outputs, dict(zip(inputs, grads, strict=True))


@given(data=data)
def test_gradients_of_any_call_equal_the_reference(op, data):
    arguments = data.draw(runs(op, st.just(torch.float64)))
    if not arguments["x"].numel():
        return
    _, want = graded(op.reference, arguments)
    for _ in cpu_and_emulation():
        assert_gradients_close(graded(op, arguments)[1], want, tolerance=1e-11)


@over_neurons("op", scanned)
@given(data=data, cut=st.integers(0, 40))
def test_time_in_two_calls_equals_one(op, data, cut):
    """Outputs are equal bit for bit, and so are the gradients of x and of the states, which pass the cut unchanged.

    Gradients of parameters are sums over the steps: their terms may cancel, so that in float32 they are compared on
    the scale of x's gradient.
    """
    arguments = data.draw(runs(op, wide_dtypes))
    if not arguments["x"].numel():
        return

    def in_two(x, **rest):
        first, *states = op(x=x[:cut], **rest)
        rest.update(zip(op.states, states, strict=False))
        second, *after = op(x=x[cut:], **rest)
        states_after = after[: len(op.states)]
        sequences = [torch.cat([first, second])]
        if op.fires:
            sequences.append(torch.cat([states[-1], after[-1]]))
        return (sequences[0], *states_after, *sequences[1:])

    for _ in cpu_and_emulation():
        whole, grads = graded(op, arguments)
        parts, part_grads = graded(in_two, arguments)
        assert_equal(list(parts), list(whole))
        passed = ("x", *op.states)
        assert_equal([part_grads.get(name) for name in passed], [grads.get(name) for name in passed])
        assert_gradients_close(part_grads, grads, cancelling=arguments["x"].dtype != torch.float64)


@over_neurons("op", scanned)
@given(data=data, seed=seeds)
def test_neurons_in_another_order_do_the_same(op, data, seed):
    arguments = data.draw(runs(op))
    x = arguments["x"]
    if x.dim() < 3 or not x.numel():
        return
    order = torch.randperm(x.shape[-1], generator=torch.Generator().manual_seed(seed))

    def shuffled(a):
        if not isinstance(a, torch.Tensor) or not a.dim() or a.shape[-1] == 1:
            return a
        return a[..., order]

    for _ in cpu_and_emulation():
        want = [shuffled(out) for out in op(**arguments)]
        assert_equal(list(op(**{k: shuffled(a) for k, a in arguments.items()})), want)


@over_neurons("op", firing)
@given(data=data)
def test_membrane_is_v_reset_after_each_spike_and_below_threshold_otherwise(op, data):
    arguments = data.draw(runs(op))
    arguments |= op.steady
    threshold = arguments.get("v_threshold", 1.0)
    for _ in cpu_and_emulation():
        spikes, *_, v_seq = op(**arguments)
        fired = spikes == 1
        assert ((spikes == 0) | fired).all()
        if arguments["v_reset"] is not None:
            assert_all(v_seq[fired], arguments["v_reset"])
        wide = torch.as_tensor(threshold, dtype=v_seq.dtype).expand(v_seq.shape)
        assert (v_seq[~fired] < wide[~fired]).all()


@over_neurons("op", lambda op: firing(op) and scanned(op))
@given(data=data)
def test_last_state_is_the_last_of_the_sequence(op, data):
    arguments = data.draw(runs(op))
    for _ in cpu_and_emulation():
        _, v, *_, v_seq = op(**arguments)
        if len(v_seq):
            assert_equal(v, v_seq[-1])


@given(data=data, power=st.integers(-8, 8))
def test_scale_of_all_voltages_together_changes_no_spike(op, data, power):
    """The scale is a power of two, so that nothing rounds: spikes stay, membranes scale."""
    arguments = data.draw(runs(op, wide_dtypes))
    scale = 2.0**power
    parameters = inspect.signature(getattr(ops, op.name)).parameters
    scaled = dict(arguments)
    for name in ("x", *op.voltages, *op.inverse):
        value = arguments.get(name, parameters[name].default)
        factor = 1 / scale if name in op.inverse else scale
        scaled[name] = None if value is None else value * factor
    factors = [scale if name in op.voltages else 1 for name in op.states] + [scale] * op.fires
    for _ in cpu_and_emulation():
        first, *rest = op(**arguments)
        first_scaled, *rest_scaled = op(**scaled)
        # A diverging state overflows earlier at a larger scale.
        assume(all(bool(r.isfinite().all()) for r in (*rest, *rest_scaled)))
        assert_equal(first_scaled, first if op.fires else first * scale)
        # Values that become denormal in float32 would round, but are too small to occur here.
        assert_equal(rest_scaled, [r * f for r, f in zip(rest, factors, strict=True)])


@over_neurons("op", scanned)
@given(data=data)
def test_one_step_at_a_time_equals_all_at_once(op, data):
    arguments = data.draw(runs(op, wide_dtypes))
    x = arguments.pop("x")
    if not x.numel():
        return
    for _ in cpu_and_emulation():
        whole, *states_whole = op(x=x, **arguments)
        steps, options = [], dict(arguments)
        for t in range(len(x)):
            step, *states = op(x=x[t : t + 1], **options)
            steps.append(step)
            options.update(zip(op.states, states, strict=False))
        assert_equal(torch.cat(steps), whole)
        for name, state in zip(op.states, states_whole, strict=False):
            assert_equal(options[name], state)


@over_neurons("op", scanned)
@given(data=data, factor=st.sampled_from([0.5, 2.0, 4.0]))
def test_gradient_is_linear_in_the_incoming_gradient(op, data, factor):
    arguments = data.draw(runs(op))
    x = arguments["x"]
    if not x.numel() or x.dtype in (torch.float16,):  # its smallest numbers scale inexactly
        return
    for _ in cpu_and_emulation():
        _, plain = graded(op, arguments)
        _, many = graded(lambda **a: [out * factor for out in op(**a)], arguments)
        want = {k: None if g is None else g * factor for k, g in plain.items()}
        assert_gradients_close(many, want, tolerance=2**-8 if x.dtype == torch.bfloat16 else 1e-6)
