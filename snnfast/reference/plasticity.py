"""Rules of spike-timing-dependent plasticity: weight changes by spikes and synaptic traces.

A rule is the equation of a synapse with weight ``w``, from a presynaptic neuron with trace ``x_pre`` to a postsynaptic
one with trace ``x_post``. In a step of ``dt`` every trace decays, ``x <- x exp(-dt / tau)``, and is then set to 1
(``trace="nearest"``: only the nearest spike counts) or incremented by 1 (``trace="all"``) where its neuron spikes.
After that, with ``s_pre`` and ``s_post`` the spikes of the same step and ``w`` the weight before it::

    w <- clamp(w + s_post potentiation(w) - s_pre depression(w), w_min, w_max)

So two spikes in the same step are a pair in both directions. A second trace enters with its value after the decay and
before the spike of the step. ``csrc/core/plasticity.h`` holds the same formulas.

An :class:`OwnRule` is any other equation, traced and compiled on first use.

:func:`reward_modulated` turns any of these rules into a three-factor rule: the change above goes into an eligibility
trace of the synapse, and a reward turns the trace into a change of weight.
"""

from __future__ import annotations

import inspect
import math
import textwrap
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from snnfast import check

__all__ = [
    "Constants",
    "Online",
    "OwnRule",
    "Rule",
    "Synapses",
    "exponential",
    "pair",
    "power_law",
    "pre_post",
    "reward_modulated",
    "soft_bounds",
    "triplet",
]

Trace = Literal["nearest", "all"]
AnyRule = TypeVar("AnyRule", "Rule", "OwnRule")

# In the order of csrc/core/plasticity.h; the position is the kernel's number for it.
KINDS = ("additive", "linear", "power", "exponential", "triplet")


class Constants(NamedTuple):
    """Constants of a rule per step, as equations and kernels use them; see :meth:`Rule.constants`.

    Attributes:
        kind: number of the formula in ``KINDS``.
        all: a spike increments a trace instead of setting it to 1.
        decay_pre, decay_post, decay_pre2, decay_post2: decays of the traces per step.
        lr_pre, lr_post, lr_pre_triplet, lr_post_triplet, x_tar, mu, beta, w_min, w_max: as in :class:`Rule`.
    """

    kind: int
    all: bool
    decay_pre: float
    decay_post: float
    decay_pre2: float
    decay_post2: float
    lr_pre: float
    lr_post: float
    lr_pre_triplet: float
    lr_post_triplet: float
    x_tar: float
    mu: float
    beta: float
    w_min: float
    w_max: float

    def trace(self, decayed: Tensor, spikes: Tensor) -> Tensor:
        """Return a trace after the spikes of a step, from its decayed value."""
        return torch.where(spikes, decayed + 1 if self.all else 1.0, decayed)

    @property
    def depresses(self) -> bool:
        """True if presynaptic spikes change weights."""
        return self.lr_pre != 0 or self.lr_pre_triplet != 0

    def potentiation(self, w: Tensor, x_pre: Tensor, x_post2: Tensor) -> Tensor:
        """Return the increase of ``w`` at a postsynaptic spike, elementwise; the tensors broadcast."""
        kind = KINDS[self.kind]
        gap = x_pre - self.x_tar
        if kind == "additive":
            return self.lr_post * gap * torch.ones_like(w)
        if kind == "linear":
            return self.lr_post * gap * (self.w_max - w)
        if kind == "power":
            return self.lr_post * gap * _pow(self.w_max - w, self.mu)
        if kind == "exponential":
            grow, shrink = (_exp(-self.beta * (w - self.w_min)), _exp(-self.beta * (self.w_max - w)))
            return self.lr_post * (x_pre * grow - self.x_tar * shrink)
        return x_pre * (self.lr_post + self.lr_post_triplet * x_post2) * torch.ones_like(w)

    def depression(self, w: Tensor, x_post: Tensor, x_pre2: Tensor) -> Tensor:
        """Return the decrease of ``w`` at a presynaptic spike, elementwise; the tensors broadcast."""
        kind = KINDS[self.kind]
        if kind == "linear":
            return self.lr_pre * x_post * (w - self.w_min)
        if kind == "power":
            return self.lr_pre * x_post * _pow(w - self.w_min, self.mu)
        if kind == "triplet":
            return x_post * (self.lr_pre + self.lr_pre_triplet * x_pre2) * torch.ones_like(w)
        return self.lr_pre * x_post * torch.ones_like(w)


def _constant(
    default: object,
    text: str,
    require: Callable[[str, str, Any], object] = check.number,
    *,
    typical: object = None,
    kinds: tuple[str, ...] = KINDS,
) -> Any:
    """Return a field of :class:`Rule`: a constant of rules, with its documentation, its check and its values.

    Args:
        default: value of rules that do not have the constant.
        text: its documentation.
        require: its check, from ``snnfast.check``.
        typical: default of the functions that create rules, where it differs from ``default``.
        kinds: the formulas that use it.
    """
    typical = default if typical is None else typical
    return field(default=default, metadata={"text": text, "require": require, "typical": typical, "kinds": kinds})


def _trace(op: str, name: str, value: object) -> None:
    check.choice(op, name, value, ("nearest", "all"))


def _positive_or_none(op: str, name: str, value: object) -> None:
    if value is not None:
        check.positive(op, name, value)


@dataclass(frozen=True)
class Rule:
    """A rule with its constants, created by the functions of this module."""

    kind: str
    lr_pre: float = _constant(
        0.0, "rate of the depression at a presynaptic spike; a negative rate makes a rule anti-Hebbian", typical=1e-4
    )
    lr_post: float = _constant(
        0.0, "rate of the potentiation at a postsynaptic spike; a negative rate makes a rule anti-Hebbian", typical=1e-2
    )
    lr_pre_triplet: float = _constant(
        0.0, "rate of the depression by the second presynaptic trace, A3-", kinds=("triplet",)
    )
    lr_post_triplet: float = _constant(
        0.0, "rate of the potentiation by the second postsynaptic trace, A3+", typical=1e-2, kinds=("triplet",)
    )
    x_tar: float = _constant(
        0.0, "presynaptic trace at which a postsynaptic spike does not change the weight", typical=0.4, kinds=KINDS[:4]
    )
    mu: float = _constant(
        0.0, "exponent of the dependence on the weight", check.at_least_zero, typical=0.2, kinds=("power",)
    )
    beta: float = _constant(
        0.0,
        "steepness of the exponential dependence on the weight",
        check.at_least_zero,
        typical=1.0,
        kinds=("exponential",),
    )
    tau_pre: float = _constant(20.0, "time constant of the presynaptic trace, ms", check.positive)
    tau_post: float = _constant(20.0, "time constant of the postsynaptic trace, ms", check.positive)
    tau_pre2: float = _constant(
        40.0, "time constant of the second presynaptic trace, ms", check.positive, kinds=("triplet",)
    )
    tau_post2: float = _constant(
        40.0, "time constant of the second postsynaptic trace, ms", check.positive, kinds=("triplet",)
    )
    trace: Trace = _constant("nearest", "``nearest``: a spike sets a trace to 1; ``all``: it adds 1", _trace)  # noqa: RUF009
    w_min: float = _constant(0.0, "lower bound of the weights")
    w_max: float = _constant(1.0, "upper bound of the weights")
    tau_eligibility: float | None = _constant(
        None, "time constant of the eligibility trace, ms; None for a rule that needs no reward", _positive_or_none
    )

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"plasticity: kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        for name, constant in _CONSTANTS.items():
            constant.metadata["require"]("plasticity", name, getattr(self, name))
        if not self.w_min < self.w_max:
            raise ValueError(f"plasticity: w_min must be below w_max, got {self.w_min:g} and {self.w_max:g}")

    def has(self, name: str) -> bool:
        """Return whether the formula uses the attribute ``name``."""
        return name not in _CONSTANTS or self.kind in _CONSTANTS[name].metadata["kinds"]

    def constants(self, dt: float) -> Constants:
        """Return the constants for steps of ``dt`` ms."""
        decays = [math.exp(-dt / getattr(self, name)) for name in _TAUS]
        numbers = [getattr(self, name) for name in _NUMBERS]
        return Constants(KINDS.index(self.kind), self.trace == "all", *decays, *numbers)


_CONSTANTS: dict[str, Field[Any]] = {constant.name: constant for constant in fields(Rule)[1:]}
_TAUS = tuple(name.replace("decay", "tau") for name in Constants._fields if name.startswith("decay"))
_NUMBERS = tuple(name for name in Constants._fields if name in _CONSTANTS)  # the last fields


def _documented(names: dict[str, str]) -> str:
    """Return a line of documentation for each of the ``names``; the values are names of constants."""
    texts = (f"    {name}: {_CONSTANTS[constant].metadata['text']}." for name, constant in names.items())
    return "\n".join(textwrap.fill(text, 116, subsequent_indent=" " * 8) for text in texts)


Rule.__doc__ = f"""{Rule.__doc__}

Attributes:
    kind: the formula: ``additive`` (exponent ``mu`` 0), ``linear`` (1), ``power``, ``exponential`` or ``triplet``.
{_documented({name: name for name in _CONSTANTS})}
"""


def _pow(base: Tensor, exponent: float) -> Tensor:
    """Return a power, in float64 on the CPU by the C library as in the kernels: PyTorch differs in the last bit."""
    if base.dtype == torch.float64 and base.is_cpu:
        return base.clone().apply_(lambda value: math.pow(value, exponent))
    return base.pow(exponent)


def _exp(exponent: Tensor) -> Tensor:
    if exponent.dtype == torch.float64 and exponent.is_cpu:
        return exponent.clone().apply_(math.exp)
    return exponent.exp()


def _creator(
    name: str, arguments: str, text: str, renamed: dict[str, str] | None = None, kind: str | None = None, **fixed: float
) -> Callable[..., Rule]:
    """Return the public function ``name``, which creates rules.

    Args:
        name: the name.
        arguments: names of its constants; those after ``*`` are passed by keyword, as are ``trace`` and the bounds.
        text: its documentation, with the equation.
        renamed: constants by the name of their argument, where it is another.
        kind: the formula; None: that of the exponent ``mu``.
        **fixed: constants that are no arguments, and defaults of arguments where they are not ``typical``.
    """
    renamed = renamed or {}
    positional, keyword = (part.split() for part in f"{arguments} trace w_min w_max".split("*"))
    constants = {argument: renamed.get(argument, argument) for argument in (*positional, *keyword)}
    parameters = []
    for argument, constant in constants.items():
        passed = inspect.Parameter.POSITIONAL_OR_KEYWORD if argument in positional else inspect.Parameter.KEYWORD_ONLY
        default = fixed.pop(argument, _CONSTANTS[constant].metadata["typical"])
        parameters.append(inspect.Parameter(argument, passed, default=default, annotation=_CONSTANTS[constant].type))
    signature = inspect.Signature(parameters, return_annotation="Rule")

    def create(*args: Any, **kwargs: Any) -> Rule:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}: {error}; its arguments are {', '.join(constants)}") from None
        bound.apply_defaults()
        values = {**fixed, **{constants[argument]: value for argument, value in bound.arguments.items()}}
        return Rule(kind or {0.0: "additive", 1.0: "linear"}.get(values["mu"], "power"), **values)

    create.__name__ = create.__qualname__ = name
    create.__doc__ = f"{inspect.cleandoc(text)}\n\nArgs:\n{_documented(constants)}\n"
    create.__dict__["__signature__"] = signature
    return create


pair = _creator(
    "pair",
    "lr_pre lr_post * tau_pre tau_post",
    """The pair rule, additive in the weight.

    Song, Miller and Abbott, Nature Neuroscience 3, 2000; with traces: Morrison, Diesmann and Gerstner, Biological
    Cybernetics 98, 2008::

        potentiation = lr_post x_pre        depression = lr_pre x_post
    """,
    mu=0.0,
)

soft_bounds = _creator(
    "soft_bounds",
    "lr_pre lr_post * tau_pre tau_post",
    """The multiplicative rule: steps shrink towards the bounds.

    van Rossum, Bi and Turrigiano, J. Neurosci. 20, 2000; Rubin, Lee and Sompolinsky, Phys. Rev. Lett. 86, 2001::

        potentiation = lr_post x_pre (w_max - w)        depression = lr_pre x_post (w - w_min)
    """,
    mu=1.0,
)

power_law = _creator(
    "power_law",
    "lr * x_tar mu tau_pre",
    """Power-law dependence on the weight; the formula of the n3ml manual.

    Diehl and Cook, Front. Comput. Neurosci. 9:99, 2015, section 2.3::

        potentiation = lr (x_pre - x_tar) (w_max - w)^mu        depression = 0

    ``x_tar`` is the presynaptic trace at which a postsynaptic spike changes nothing: synapses whose presynaptic neuron
    has not fired for longer are weakened.
    """,
    renamed={"lr": "lr_post"},
)

exponential = _creator(
    "exponential",
    "lr * x_tar beta tau_pre",
    """Exponential dependence on the weight.

    Diehl and Cook 2015, section 2.3, weights counted from ``w_min``::

        potentiation = lr (x_pre e^(-beta (w - w_min)) - x_tar e^(-beta (w_max - w)))        depression = 0
    """,
    renamed={"lr": "lr_post"},
    kind="exponential",
)

pre_post = _creator(
    "pre_post",
    "lr_pre lr_post * x_tar mu tau_pre tau_post",
    """The pre-and-post rule.

    Diehl and Cook 2015, section 2.3, weights counted from ``w_min``::

        potentiation = lr_post (x_pre - x_tar) (w_max - w)^mu        depression = lr_pre x_post (w - w_min)^mu
    """,
)

triplet = _creator(
    "triplet",
    "lr_pre lr_post * lr_pre_triplet lr_post_pair tau_pre tau_post tau_pre2 tau_post2",
    """The triplet rule; with the defaults that of Diehl and Cook 2015.

    Pfister and Gerstner, J. Neurosci. 26, 2006::

        potentiation = x_pre (lr_post_pair + lr_post x_post2)
        depression = x_post (lr_pre + lr_pre_triplet x_pre2)

    ``lr_post_pair``, ``lr_post``, ``lr_pre`` and ``lr_pre_triplet`` are A2+, A3+, A2- and A3- of Pfister and Gerstner;
    ``tau_pre``, ``tau_pre2``, ``tau_post`` and ``tau_post2`` their tau+, tau_x, tau- and tau_y. With the defaults a
    neuron's first spike strengthens nothing: potentiation waits for a second one.
    """,
    renamed={"lr_post": "lr_post_triplet", "lr_post_pair": "lr_post"},
    kind="triplet",
    lr_post_pair=0.0,
)


def reward_modulated(rule: AnyRule, tau_eligibility: float = 100.0) -> AnyRule:
    """Reward-modulated STDP (R-STDP): ``rule`` with an eligibility trace, for learning from a delayed reward.

    Florian, Neural Computation 19, 2007; Izhikevich, Cerebral Cortex 17, 2007; Fremaux and Gerstner, Front. Neural
    Circuits 9:85, 2016. In every step::

        e <- e exp(-dt / tau_eligibility) + s_post potentiation(w) - s_pre depression(w)
        w <- clamp(w + reward e, w_min, w_max)

    The learning rate is that of ``rule``; ``e`` is proportional to it. A reward of 0 changes no weight. A spike enters
    the trace before the reward of the same step acts.
    """
    if not isinstance(rule, (Rule, OwnRule)):
        raise TypeError(f"reward_modulated: rule must be a rule of snnfast.plasticity, got {type(rule).__name__}")
    return replace(rule, tau_eligibility=tau_eligibility)


class Online:
    """Plasticity within a call of :func:`snnfast.ops.sparse_recurrent`: weights change at every step.

    Behind each step the weights change as by :func:`snnfast.ops.sparse_stdp_` for that step: presynaptic spikes are
    those that arrive in it, after the delay, postsynaptic ones those of the step. The next step has the new weights, so
    a call equals as many calls of one step, bit for bit. :meth:`snnfast.learning.STDP.listen` makes one for a layer.

    The call changes its ``weight``, ``[synapses]`` and within the bounds of ``rule``, **in place**. It is for the CPU,
    at most 16 samples, and synapses with one delay; it has no gradient. A reward-modulated rule only builds up
    eligibility, ``[B, synapses]`` in the state, since its reward is 0 within the call.

    Example::

        >>> online = plasticity.Online(plasticity.pair(0.01, 0.02), dt=0.1)
        >>> spikes, v = ops.sparse_recurrent(x, weight, connectivity, plasticity=online)

    Args:
        rule: from this module; no :class:`OwnRule`.
        dt: length of a step, ms.
        reduction: ``"sum"`` or ``"mean"`` of the changes over the batch.
        sources: the presynaptic neurons whose synapses learn; None: all.
        state: the :class:`snnfast.ops.StdpState` to start from; None: no neuron has spiked before.

    Attributes:
        state: the state behind the last step, from which the next call goes on; None before the first call.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range, here or in the call.
    """

    def __init__(
        self,
        rule: Rule,
        *,
        dt: float = 1.0,
        reduction: Literal["sum", "mean"] = "sum",
        sources: range | None = None,
        state: Any = None,
    ) -> None:
        if not isinstance(rule, Rule):
            raise TypeError(
                f"Online: rule must be a rule of snnfast.plasticity and no OwnRule, got {type(rule).__name__}; "
                "sparse_stdp_ and learning.STDP(update='sequence') take an OwnRule, after a call"
            )
        self.rule = rule
        self.dt = check.positive("Online", "dt", dt)
        check.choice("Online", "reduction", reduction, ("sum", "mean"))
        self.reduction = reduction
        if sources is not None and not isinstance(sources, range):
            raise TypeError(f"Online: sources must be a range or None, got {check.kind(sources)}")
        self.sources = sources
        self.state = state

    def reset(self) -> None:
        """Forget all spikes."""
        self.state = None

    def __repr__(self) -> str:
        """Return the rule and the length of a step."""
        return f"Online({self.rule}, dt={self.dt:g})"


class Synapses:
    """Arguments of a rule of your own in a step; the tensors broadcast to ``[B, N_post, N_pre]``.

    Of sparse connections they broadcast to ``[B, 1, synapses]``.

    A signal of the call is an attribute of its name: ``synapses.v_post`` if ``v_post=`` was passed.

    Attributes:
        w: weights before the step ``[N_post, N_pre]``.
        s_pre: presynaptic spikes, 0 or 1, ``[B, 1, N_pre]``.
        s_post: postsynaptic spikes, 0 or 1, ``[B, N_post, 1]``.
        x_pre: presynaptic traces after decay and spike, ``[B, 1, N_pre]``.
        x_post: postsynaptic traces after decay and spike, ``[B, N_post, 1]``.
        x_pre2: second presynaptic traces after decay and before the spike, ``[B, 1, N_pre]``.
        x_post2: second postsynaptic traces after decay and before the spike, ``[B, N_post, 1]``.
        reward: reward of the step ``[B, 1, 1]``; 0 without a reward.
    """

    w: Tensor
    s_pre: Tensor
    s_post: Tensor
    x_pre: Tensor
    x_post: Tensor
    x_pre2: Tensor
    x_post2: Tensor
    reward: Tensor

    def __init__(self, values: dict[str, Any], unread: set[str]) -> None:
        """Take the values of all attributes; reading one removes its name from ``unread``."""
        self._values, self._unread = values, unread

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in self._values:
            raise AttributeError(
                f"OwnRule: change reads {name}, but has {', '.join(self._values)}; pass a signal of neurons by keyword "
                "to stdp_ or STDP.run: v_post= [T, B, N_post], v_pre= [T, B, N_pre], or any name that ends so"
            )
        self._unread.discard(name)
        return self._values[name]  # type: ignore[no-any-return]


SYNAPSE = tuple(Synapses.__annotations__)  # names of the attributes that every rule has


def is_presynaptic(name: str) -> bool:
    """Return whether a signal of this name is one of presynaptic neurons."""
    return name.endswith("_pre")


class OwnConstants(Constants):
    """The constants of an :class:`OwnRule`: those of its traces and bounds.

    Attributes:
        change: the function ``change`` of the rule.
        signals: signals of the call by name, ``[T, B, N]``.
    """

    change: Callable[[Synapses], Tensor]
    signals: dict[str, Tensor]

    def all_read(self, unread: set[str]) -> None:
        """Require that the rule has read all signals."""
        if unread:
            read = [name for name in self.signals if name not in unread]
            raise TypeError(
                f"OwnRule: change does not read {', '.join(sorted(unread))}; of the signals of this call it reads "
                f"{', '.join(read) or 'none'}"
            )

    def changes(self, seen: Synapses) -> Tensor:
        """Return the change of every weight in a step, ``[B, N_post, N_pre]``."""
        found = self.change(seen)
        if not isinstance(found, Tensor):
            raise TypeError(f"OwnRule: change must return a tensor, got {type(found).__name__}")
        shape = (len(seen.s_pre), *seen.w.shape)
        try:
            return found.expand(shape)
        except RuntimeError:
            raise ValueError(
                f"OwnRule: change must return a tensor that broadcasts to {list(shape)}, got {list(found.shape)}"
            ) from None


@dataclass(frozen=True)
class OwnRule:
    """A rule of your own, the equation of a synapse, for :func:`snnfast.ops.stdp_` and ``snnfast.learning.STDP``.

    On the CPU the equation is compiled on first use, like that of a :func:`snnfast.neuron`: see the page "Your own
    neuron" for the functions that it may use. Equations that cannot be compiled run in plain PyTorch, with a warning.

    Example, a rule whose depression grows with the weight, and potentiation with the square of the trace::

        >>> def change(s):
        ...     return 0.01 * s.s_post * s.x_pre**2 - 0.02 * s.s_pre * s.x_post * s.w
        >>> learner = snnfast.learning.STDP(linear, plasticity.OwnRule(change, tau_pre=15.0))

    A rule may read signals of the neurons as well, such as their membrane potentials: ``s.v_post`` is the step of
    ``v_post``, ``[T, B, N_post]``, which the call gets by this keyword.

    Attributes:
        change: from :class:`Synapses` to the change of every weight in a step, which broadcasts to
            ``[B, N_post, N_pre]``; changes of the batch are summed or averaged, and weights clamped to their bounds.
        tau_pre, tau_post: time constants of the traces, ms.
        tau_pre2, tau_post2: time constants of the second traces, ms.
        trace: ``nearest``: a spike sets the trace to 1; ``all``: it adds 1.
        w_min, w_max: bounds of the weights.
        tau_eligibility: time constant of the eligibility trace, ms, for a :func:`reward_modulated` rule.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range.
    """

    change: Callable[[Synapses], Tensor]
    tau_pre: float = 20.0
    tau_post: float = 20.0
    tau_pre2: float = 40.0
    tau_post2: float = 40.0
    trace: Trace = "nearest"
    w_min: float = 0.0
    w_max: float = 1.0
    tau_eligibility: float | None = None

    def __post_init__(self) -> None:
        if not callable(self.change):
            raise TypeError(f"OwnRule: change must be a function, got {type(self.change).__name__}")
        self._same()

    def _same(self) -> Rule:
        """Return a rule with the same traces and bounds, which checks them."""
        return Rule("triplet", **{f.name: getattr(self, f.name) for f in fields(self)[1:]})

    def constants(self, dt: float) -> OwnConstants:
        """Return the constants for steps of ``dt`` ms."""
        constants = OwnConstants(*self._same().constants(dt))
        constants.change, constants.signals = self.change, {}
        return constants


def __dir__() -> list[str]:
    return __all__
