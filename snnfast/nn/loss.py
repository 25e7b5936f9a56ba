"""Losses on spike times, on sequences of spikes and membranes, and on rates; the decision by the first spike."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from snnfast import check
from snnfast.reference.bp_stdp_network import output_error

from .readout import Count, FirstSpike, Last, Max, Rate, steps_within

__all__ = [
    "bp_stdp_error",
    "bp_stdp_loss",
    "ce_count",
    "ce_membrane",
    "ce_rate",
    "ce_steps",
    "ce_time",
    "first_spike",
    "first_spike_cross_entropy",
    "mse_count",
    "rate_bounds",
    "rate_l1",
    "revival",
    "spike_time_squared_error",
    "tet",
    "virtual_times",
]


def virtual_times(t: Tensor, u_max: Tensor, *, t_max: float, v_threshold: float = 1.0, scale: float = 4.0) -> Tensor:
    """Spike times with a finite time, and a gradient, for silent neurons.

    ::

        t_max + scale (1 - u_max / v_threshold)      where t is inf, else t

    So a silent neuron comes after all that fire: the farther it stayed from the threshold, the later.

    Args:
        t: spike times ``[B, O]`` in milliseconds, ``inf`` for silent.
        u_max: largest potential of silent neurons, ``[B, O]``; from :class:`snnfast.nn.SpikeProp`.
        t_max: end of the observation.
        v_threshold: threshold.
        scale: by how many milliseconds a neuron that stays at 0 comes after ``t_max``.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape or range, also in the losses below.
    """
    _times("virtual_times", t)
    check.shape("virtual_times", "u_max", u_max, t.shape)
    t_max = check.number("virtual_times", "t_max", t_max)
    v_threshold = check.positive("virtual_times", "v_threshold", v_threshold)
    scale = check.number("virtual_times", "scale", scale)
    return torch.where(t.isinf(), t_max + scale * (1 - u_max / v_threshold), t)


def spike_time_squared_error(t: Tensor, target: Tensor) -> Tensor:
    """SpikeProp's loss: half the squared distance to the target times, summed over neurons, mean over samples.

    A neuron with ``inf`` for time or target does not count (Bohte et al. 2002, equation 4).

    Args:
        t: spike times ``[B, O]`` in milliseconds.
        target: the times that the neurons should have, broadcast to ``[B, O]``.

    Returns:
        scalar, in ms^2.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape or range.
    """
    _times("spike_time_squared_error", t)
    check.tensor("spike_time_squared_error", "target", target)
    try:
        target = target.expand_as(t)
    except RuntimeError:
        raise ValueError(
            f"spike_time_squared_error: target must broadcast to t's {list(t.shape)}, got {list(target.shape)}"
        ) from None
    # Masked before the square: inf - inf has no gradient, not even one that is multiplied by 0.
    counts = t.isfinite() & target.isfinite()
    distance = torch.where(counts, t, 0) - torch.where(counts, target, 0)
    return distance.square().sum() / (2 * len(t))


def first_spike_cross_entropy(
    t: Tensor, labels: Tensor, *, temperature: float = 1.0, t_max: float | None = None
) -> Tensor:
    """Cross-entropy of ``softmax(-t / temperature)`` with the labels, mean over samples.

    Pulls the neuron of the class before all others, by about ``temperature`` milliseconds, and asks for no time in
    particular. Silent neurons take no part, unless :func:`virtual_times` gives them times. A sample needs that where
    the neuron of its class is silent: otherwise its loss is infinite, or NaN if all are.

    Args:
        t: spike times ``[B, classes]`` in milliseconds.
        labels: int64 ``[B]``.
        temperature: in milliseconds.
        t_max: the end of the observation; if given, it takes part like a neuron of no class that fires then. With
            virtual times alone, a loss is small already where all outputs are silent and the right one only came
            closest; then there is no first spike to decide.

    Source: Mostafa, Supervised learning based on temporal coding in spiking neural networks, IEEE TNNLS 29 (2018),
    with -t for his exp(t).
    """
    _times("first_spike_cross_entropy", t)
    check.tensor("first_spike_cross_entropy", "labels", labels)
    temperature = check.positive("first_spike_cross_entropy", "temperature", temperature)
    if t_max is not None:
        t_max = check.number("first_spike_cross_entropy", "t_max", t_max)
        t = F.pad(t, (0, 1), value=t_max)
    return F.cross_entropy(-t / temperature, labels)


def first_spike(t: Tensor, t_max: float = torch.inf) -> Tensor:
    """The neuron that fires first, int64 ``[B]``; -1 if none fires up to ``t_max``: a silent neuron never wins.

    Args:
        t: spike times ``[B, O]``, ``inf`` (or virtual, after ``t_max``) for silent neurons; the lower index wins a tie.
            With NaN among them none wins.
        t_max: end of the observation.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape or range.
    """
    _times("first_spike", t)
    if t_max != torch.inf:
        t_max = check.number("first_spike", "t_max", t_max)
    time, index = t.min(1)
    return index.masked_fill(~(time <= t_max) | time.isinf(), -1)


def revival(t: Tensor, u_max: Tensor, *, v_threshold: float = 1.0, share: float = 0.9) -> Tensor:
    """A penalty on neurons that are silent for more than ``share`` of a batch, to be added to a loss.

    The penalty is a neuron's mean distance to the threshold, ``1 - u_max / v_threshold``, over the samples for which
    it is silent, summed over neurons. Neurons that are silent now and then are left alone: that is how a code becomes
    sparse.

    Args:
        t: spike times ``[B, O]``, ``inf`` for silent.
        u_max: largest potential of silent neurons, ``[B, O]``.
        v_threshold: threshold.
        share: in [0, 1).

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape or range.
    """
    _times("revival", t)
    check.shape("revival", "u_max", u_max, t.shape)
    v_threshold = check.positive("revival", "v_threshold", v_threshold)
    share = check.number("revival", "share", share)
    if not 0 <= share < 1:
        raise ValueError(f"revival: share must lie in [0, 1), got {share:g}")
    silent = t.isinf()
    dead = silent & (silent.float().mean(0) > share)
    return torch.where(dead, 1 - u_max / v_threshold, 0).sum() / len(t)


def bp_stdp_error(r: Tensor, z: Tensor, label: int | Tensor, epsilon: int = 4) -> Tensor:
    """BP-STDP's errors of the outputs.

    They are 0 except in steps for which a spike of the class's output is desired. There the error is 1 for that output
    if it did not fire in the steps ``t - epsilon`` to ``t``, and -1 for any other output that did.

    Args:
        r: spikes of the outputs, ``[T, classes]`` or ``[T, B, classes]``.
        z: desired spikes, of the same shape; from :func:`snnfast.encoder.label_encoder`.
        label: the class, or the classes, int64 ``[B]``.
        epsilon: how many steps a window reaches back, at least 1.

    Returns:
        float32, shaped like ``r``: -1, 0 or 1.

    Raises:
        ValueError: for shapes that do not fit, labels out of range, or ``epsilon`` below 1.

    Source: Tavanaei and Maida, Neurocomputing 330 (2019), equation 19.
    """
    _tensors("bp_stdp_error", r=r, z=z)
    if r.dim() not in (2, 3) or z.shape != r.shape:
        raise ValueError(
            "bp_stdp_error: r and z must both have shape [T, classes] or [T, B, classes], "
            f"got {list(r.shape)} and {list(z.shape)}"
        )
    epsilon = check.integer("bp_stdp_error", "epsilon", epsilon)
    fired, wanted = (x if x.dim() == 3 else x[:, None] for x in (r != 0, z != 0))
    labels = check.labels("bp_stdp_error", "label", label).to(r.device).view(-1)
    if labels.shape != fired.shape[1:2]:
        raise ValueError(f"bp_stdp_error: label must have shape [{fired.shape[1]}], got {list(labels.shape)}")
    check.in_range("bp_stdp_error", "label", labels, 0, r.shape[-1] - 1)
    # Which neurons fired in the last ``steps`` steps, which double in each pass: quicker than a running count.
    in_window, steps = fired, 1
    while steps <= epsilon:
        back = min(steps, epsilon + 1 - steps)
        in_window = in_window | F.pad(in_window, (0, 0, 0, 0, back, 0))[: len(fired)]
        steps += back
    index = labels.view(1, -1, 1).expand(len(wanted), -1, 1)
    desired = wanted.gather(2, index)[..., 0]
    return output_error(in_window, labels, desired).float().view(r.shape)


def bp_stdp_loss(r: Tensor, z: Tensor, label: int | Tensor, epsilon: int = 4) -> Tensor:
    """Squared error of the outputs per step: ``1/T sum_t sum_i error_i(t)^2``, mean over samples.

    It is 0 if the right output fires in every window that asks for it, and no other output does. n3ml squares the sum
    of the errors, in which a missing spike and a superfluous one cancel.

    Args:
        r: spikes of the outputs, ``[T, classes]`` or ``[T, B, classes]``.
        z: desired spikes, of the same shape.
        label: class, or int64 ``[B]``.
        epsilon: steps that a window reaches back.

    Returns:
        scalar. It has no gradient: the rule has its own.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape or range.
    """
    error = bp_stdp_error(r, z, label, epsilon)
    samples = error.shape[1] if error.dim() == 3 else 1
    return error.square().sum() / max(len(error) * samples, 1)


def ce_rate(spikes: Tensor, labels: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Cross-entropy of the outputs' rates, ``softmax(mean over time of s)``, with the labels; mean over samples.

    Args:
        spikes: of the outputs, ``[T, B, classes]``.
        labels: int64 ``[B]``, from 0 to ``classes - 1``, which PyTorch checks; a sample with -100 does not count, as
            in ``torch.nn.functional.cross_entropy``.
        lengths: steps of each sample, integers ``[B]`` from 1 to ``T``; all if None. Here and in the losses below,
            steps beyond the end do not count and have no gradient.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape or range, also in the losses below.
    """
    _sequence("ce_rate", "spikes", spikes, labels, lengths)
    return F.cross_entropy(Rate()(spikes, lengths), labels)


def ce_count(spikes: Tensor, labels: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Cross-entropy of the outputs' spike counts, ``softmax(sum over time of s)``; as :func:`ce_rate`."""
    _sequence("ce_count", "spikes", spikes, labels, lengths)
    return F.cross_entropy(Count()(spikes, lengths), labels)


def ce_membrane(v_seq: Tensor, labels: Tensor, lengths: Tensor | None = None, *, readout: str = "max") -> Tensor:
    """Cross-entropy of the outputs' membranes, read out over time, with the labels; mean over samples.

    Args:
        v_seq: membranes ``[T, B, classes]``, from :class:`snnfast.nn.LI` for example.
        labels: int64 ``[B]``.
        lengths: as in :func:`ce_rate`.
        readout: ``"max"`` or ``"mean"`` over time, or the ``"last"``.
    """
    _sequence("ce_membrane", "v_seq", v_seq, labels, lengths)
    check.choice("ce_membrane", "readout", readout, ("max", "mean", "last"))
    if readout != "mean" and len(v_seq) == 0:
        raise ValueError(f"ce_membrane: v_seq must have at least one step, got shape {list(v_seq.shape)}")
    read = {"max": Max, "mean": Rate, "last": Last}[readout]()
    return F.cross_entropy(read(v_seq, lengths), labels)


def ce_time(spikes: Tensor, labels: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Cross-entropy of the steps before each output's first spike, ``softmax(-t)``; as :func:`ce_rate`.

    The times are those of :class:`snnfast.nn.FirstSpike`.
    """
    _sequence("ce_time", "spikes", spikes, labels, lengths)
    return F.cross_entropy(-FirstSpike()(spikes, lengths), labels)


def ce_steps(x: Tensor, labels: Tensor, lengths: Tensor | None = None, *, weight: Tensor | None = None) -> Tensor:
    """Cross-entropy of the outputs with a label at every step; mean over the steps that have one.

    Args:
        x: outputs ``[T, B, classes]``: membranes, rates or any other scores.
        labels: int64 ``[T, B]``; -100 at steps that do not count. Or ``[B]``: the same label at every step.
        lengths: as in :func:`ce_rate`.
        weight: of each class, floating point ``[classes]``; the mean is then weighted, as in
            ``torch.nn.functional.cross_entropy``.
    """
    scores, wanted = _steps("ce_steps", x, labels, lengths)
    if weight is not None:
        check.shape("ce_steps", "weight", weight, scores.shape[1:])
        check.same_dtype_and_device("ce_steps", "weight", weight, "x", x)
    return F.cross_entropy(scores, wanted, weight)


def tet(
    x: Tensor, labels: Tensor, lengths: Tensor | None = None, *, share: float = 0.05, target: float = 1.0
) -> Tensor:
    """Temporal efficient training: the loss at every step instead of that of the mean output.

    ::

        (1 - share) mean over t of CE(x[t], labels) + share mean over t of (x[t] - target)^2

    The first term asks every step for the label; the second one keeps outputs near ``target``, the threshold of the
    neurons in the paper, so that few of them become very large.

    Args:
        x: outputs ``[T, B, classes]``, before softmax.
        labels: as in :func:`ce_steps`.
        lengths: as in :func:`ce_rate`.
        share: of the second term, in [0, 1].
        target: of the second term.

    Source: Deng, Li, Zhang, Gu, Temporal efficient training of spiking neural network via gradient re-weighting,
    ICLR 2022.
    """
    share = check.number("tet", "share", share)
    if not 0 <= share <= 1:
        raise ValueError(f"tet: share must lie in [0, 1], got {share:g}")
    target = check.number("tet", "target", target)
    scores, wanted = _steps("tet", x, labels, lengths)
    apart = (scores[wanted != -100] - target).square().mean()
    return (1 - share) * F.cross_entropy(scores, wanted) + share * apart


def _steps(function: str, x: Tensor, labels: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """Outputs ``[T B, classes]`` and their labels, -100 beyond the end of a sample."""
    check.tensor(function, "labels", labels)
    if labels.dim() == 1:
        _sequence(function, "x", x, labels, lengths)
        labels = labels.expand(x.shape[:2])
    else:
        _tensors(function, x=x)
        if x.dim() != 3 or labels.shape != x.shape[:2]:
            raise ValueError(
                f"{function}: x must have shape [T, B, classes] and labels [T, B] or [B], got {list(x.shape)} and "
                f"{list(labels.shape)}"
            )
        _sequence(function, "x", x, labels[0], lengths)
    if lengths is not None:
        labels = torch.where(steps_within(function, x, lengths), labels, -100)
    return x.flatten(0, 1), labels.flatten()


def mse_count(
    spikes: Tensor, labels: Tensor, lengths: Tensor | None = None, *, correct: float = 1.0, incorrect: float = 0.0
) -> Tensor:
    """Squared error of the outputs' spike counts, as shares of the steps.

    The mean over samples and classes of ``(count / T - target)^2``, where ``target`` is ``correct`` for the class of
    the sample and ``incorrect`` for the others.

    Args:
        spikes: of the outputs, ``[T, B, classes]``.
        labels: int64 ``[B]``.
        lengths: as in :func:`ce_rate`; they replace ``T``.
        correct: share of the steps at which the output of the class should fire.
        incorrect: the same for the other outputs.
    """
    _sequence("mse_count", "spikes", spikes, labels, lengths)
    correct = check.number("mse_count", "correct", correct)
    incorrect = check.number("mse_count", "incorrect", incorrect)
    rates = Rate()(spikes, lengths)
    check.in_range("mse_count", "labels", labels, 0, rates.shape[1] - 1)
    one_hot = F.one_hot(labels, rates.shape[1]).to(rates)
    return F.mse_loss(rates, incorrect + (correct - incorrect) * one_hot)


def rate_l1(spikes: Tensor, lengths: Tensor | None = None) -> Tensor:
    """A penalty on spikes, to be added to a loss: the mean rate of all neurons and samples.

    Args:
        spikes: of a layer, ``[T, B, ...]``.
        lengths: as in :func:`ce_rate`.
    """
    _spikes("rate_l1", spikes, lengths)
    rates: Tensor = Rate()(spikes, lengths)
    return rates.mean()


def rate_bounds(spikes: Tensor, lengths: Tensor | None = None, *, low: float = 0.01, high: float = 0.5) -> Tensor:
    """A penalty on neurons that fire too little or too much, to be added to a loss.

    The squared distance of each neuron's rate, its mean over time and batch, to ``[low, high]``, mean over neurons:
    a neuron that is silent for some samples and not for others is left alone (Bittar and Garner 2022).

    Args:
        spikes: of a layer, ``[T, B, ...]``.
        lengths: as in :func:`ce_rate`.
        low: spikes a step; a neuron with fewer fires too little.
        high: spikes a step, at least ``low``; a neuron with more fires too much.
    """
    _spikes("rate_bounds", spikes, lengths)
    low, high = check.number("rate_bounds", "low", low), check.number("rate_bounds", "high", high)
    if low > high:
        raise ValueError(f"rate_bounds: low must be at most high = {high:g}, got {low:g}")
    rates: Tensor = Rate()(spikes, lengths).mean(0)
    return (rates - rates.clamp(low, high)).square().mean()


def _spikes(function: str, spikes: Tensor, lengths: Tensor | None) -> None:
    check.tensor(function, "spikes", spikes)
    check.dtype(function, "spikes", spikes.dtype, check.FLOATING)
    if spikes.dim() < 2:
        raise ValueError(f"{function}: spikes must have shape [T, B, ...], got {list(spikes.shape)}")
    _lengths(function, spikes, lengths)


def _sequence(function: str, name: str, x: Tensor, labels: Tensor, lengths: Tensor | None) -> None:
    _tensors(function, **{name: x, "labels": labels})
    check.dtype(function, name, x.dtype, check.FLOATING)
    if x.dim() != 3 or labels.shape != x.shape[1:2]:
        batch_first = x.dim() == 3 and labels.shape == x.shape[:1]
        hint = f"; of a batch-first sequence give {name}.transpose(0, 1)" if batch_first else ""
        raise ValueError(
            f"{function}: {name} must have shape [T, B, classes] and labels [B], got {list(x.shape)} and "
            f"{list(labels.shape)}{hint}"
        )
    if labels.dtype != torch.int64:
        raise TypeError(f"{function}: labels must be int64, got {labels.dtype}")
    _lengths(function, x, lengths)


def _lengths(function: str, x: Tensor, lengths: Tensor | None) -> None:
    """Check ``lengths`` as the readout does, with the name of the loss in errors."""
    if lengths is not None:
        steps_within(function, x, lengths)


def _times(function: str, t: Tensor) -> None:
    check.shape(function, "t", t, ("B", "O"))


def _tensors(function: str, **arguments: object) -> None:
    for name, value in arguments.items():
        check.tensor(function, name, value)


def __dir__() -> list[str]:
    return __all__
