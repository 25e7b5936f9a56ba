"""Settings of the network of Diehl and Cook: the presets, and changes to them by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import torch

from snnfast import check, ops
from snnfast.reference import plasticity
from snnfast.reference.plasticity import Rule

NAME = "DiehlAndCook2015"


@dataclass(frozen=True)
class CurrentBased:
    """Neurons driven by currents, as in n3ml: keyword arguments of :func:`snnfast.ops.diehl_cook_`."""

    dt: float = 1.0
    tau: float = 100.0
    v_threshold: float = 13.0
    v_reset: float = 5.0
    refractory: float = 5.0
    inhibition: float = 120.0
    inhibition_delay: int = 2
    one_winner: bool = False
    theta_plus: float = 0.05
    tau_theta: float | None = None

    synapses = "current"
    v_rest = -65.0  # mV, n3ml's
    v_zero = -65.0  # potential that is 0 in the op: rest
    theta_dtype = None  # the dtype of the weights


@dataclass(frozen=True)
class ConductanceBased:
    """Neurons driven by conductances, as in the paper: keyword arguments of :func:`snnfast.ops.diehl_cook_`."""

    dt: float = 0.5
    rest: float = 150.0
    tau: float = 100.0
    v_rest: float = -65.0
    v_reset: float = -65.0
    v_threshold: float = -72.0
    refractory: float = 5.0
    tau_inh: float = 10.0
    v_rest_inh: float = -60.0
    v_reset_inh: float = -45.0
    v_threshold_inh: float = -40.0
    refractory_inh: float = 2.0
    tau_g_exc: float = 1.0
    tau_g_inh: float = 2.0
    e_exc: float = 0.0
    e_inh: float = -100.0
    w_exc_inh: float = 10.4
    w_inh_exc: float = 17.0
    theta_plus: float = 0.05
    tau_theta: float | None = 1e7

    synapses = "conductance"
    v_zero = 0.0
    theta_dtype = torch.float64  # the decay of one step is below the resolution of float32


@dataclass(frozen=True)
class NetworkSettings:
    """Settings of the network: dynamics and learning.

    Attributes:
        rule: the learning rule of the weights.
        neurons: dynamics of the neurons, with their synapses.
        norm: sum to which the weights of a neuron are normalised, per input; between ``w_min`` and ``w_max`` of the
            rule, because it cannot be reached otherwise.
        w_init: weights are drawn from U(0, w_init).
        theta_init: adaptive part of the thresholds at the beginning, mV.
        max_delay: delays from inputs to neurons are drawn from U(0, max_delay), ms; conductance-based neurons only.
        duration: length of a presentation, ms.
        intensity: rate of a white pixel, Hz. The model itself takes rates: multiply pixels by it.
        min_spikes: an image given as rates that evokes fewer spikes is presented again with higher rates, until it
            evokes this many or a rate has reached one spike per step.
        boost: increase of the rates per repetition, as a fraction of the first rates; used only with ``min_spikes``.
        lr_final: learning rates at the end of training, as a fraction of those at the beginning; in between they fall
            exponentially.
    """

    rule: Rule
    neurons: CurrentBased | ConductanceBased = field(default_factory=CurrentBased)
    norm: float = 0.1
    w_init: float = 0.3
    theta_init: float = 0.0
    max_delay: float = 0.0
    duration: float = 250.0
    intensity: float = 128.0
    min_spikes: int = 0
    boost: float = 0.5
    lr_final: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.rule, Rule):
            raise TypeError(f"settings: rule must be a Rule, got {type(self.rule).__name__}")
        for name in ("norm", "w_init", "duration", "intensity", "boost"):
            check.positive("settings", name, getattr(self, name))
        check.positive("settings", "dt", self.neurons.dt)
        if self.intensity > 1000 / self.neurons.dt:
            raise ValueError(
                f"settings: intensity must be at most a spike a step, {1000 / self.neurons.dt:g} Hz, "
                f"got {self.intensity:g}"
            )
        check.number("settings", "theta_init", self.theta_init)
        check.integer("settings", "min_spikes", self.min_spikes, 0)
        if not 0 <= self.max_delay <= (255 * self.neurons.dt if self.delayed else 0):
            raise ValueError(
                "settings: max_delay must be 0 for current-based neurons and at most 255 steps for the others, "
                f"got {self.max_delay} ms"
            )
        if not 0 < self.lr_final <= 1:
            raise ValueError(f"settings: lr_final must lie in (0, 1], got {self.lr_final}")
        if self.w_init > self.rule.w_max:
            raise ValueError(f"settings: w_init must be at most w_max, {self.rule.w_max:g}, got {self.w_init:g}")
        if not self.rule.w_min <= self.norm <= self.rule.w_max:
            raise ValueError(
                "settings: norm, the mean weight of an input, must lie between w_min and w_max, "
                f"{self.rule.w_min:g} and {self.rule.w_max:g}, got {self.norm:g}"
            )
        # The op checks the remaining arguments; called here, it raises before any training.
        w = torch.zeros(1, 1, dtype=torch.float32)
        stimulus = ops.Rates(w, self.num_steps, torch.zeros(1, dtype=torch.int64))
        theta = torch.zeros(1, dtype=self.neurons.theta_dtype or w.dtype)
        ops.diehl_cook_.check(stimulus, w, theta, rule=self.rule, validate=False, **self.keywords())

    @property
    def num_steps(self) -> int:
        """Steps of a presentation."""
        return round(self.duration / self.neurons.dt)

    @property
    def delayed(self) -> bool:
        """Whether connections from inputs may have delays."""
        return isinstance(self.neurons, ConductanceBased)

    def keywords(self) -> dict[str, Any]:
        """Return the keyword arguments of the op."""
        return {"synapses": self.neurons.synapses, **asdict(self.neurons)}


# Neurons compete within the step. With n3ml's delay of two steps, several neurons learn the same image.
_COMPETING = CurrentBased(inhibition_delay=0, one_winner=True)

# Growth of the threshold of a neuron over the training if every image makes one neuron spike once, mV. The best
# settings at 100, 400, 1600 and 6400 neurons have this value in common.
GROWTH = 15.0

# Neurons: learning rate, final rate as a fraction of it, inhibition in mV. The nearest size, by ratio, is used.
_TUNED = {100: (0.03, 0.1, 160.0), 400: (0.03, 1.0, 120.0), 1600: (0.06, 0.5, 160.0), 6400: (0.1, 0.4, 120.0)}


def _growing(settings: NetworkSettings, neurons: int, presentations: int) -> NetworkSettings:
    theta_plus = GROWTH * neurons / max(presentations, 1)
    return replace(settings, neurons=replace(settings.neurons, theta_plus=theta_plus))


def _manual(neurons: int, presentations: int) -> NetworkSettings:
    rule = plasticity.power_law(0.01, x_tar=0.1, mu=0.2)
    return _growing(NetworkSettings(rule, _COMPETING), neurons, presentations)


def _n3ml(neurons: int, presentations: int) -> NetworkSettings:
    return NetworkSettings(plasticity.pair(1e-10, 1e-3))


# Number of neurons of the authors' program, for which its growth of the thresholds is tuned. Fewer neurons share the
# spikes, so that their thresholds grow faster. With 100 they would rise until images must be presented again.
_AUTHORS_NEURONS = 400


def _paper(neurons: int, presentations: int) -> NetworkSettings:
    dynamics = ConductanceBased()
    theta_plus = dynamics.theta_plus * neurons / _AUTHORS_NEURONS
    return NetworkSettings(
        plasticity.triplet(1e-4, 1e-2),
        replace(dynamics, theta_plus=theta_plus),
        norm=78 / 784,
        theta_init=20.0,
        max_delay=10.0,
        duration=350.0,
        intensity=63.75,
        min_spikes=5,
    )


def _tuned(neurons: int, presentations: int) -> NetworkSettings:
    size = min(_TUNED, key=lambda n: max(n / neurons, neurons / n))
    lr, lr_final, inhibition = _TUNED[size]
    competing = replace(_COMPETING, inhibition=inhibition)
    settings = NetworkSettings(plasticity.triplet(1e-4, lr), competing, lr_final=lr_final)
    return _growing(settings, neurons, presentations)


PRESETS: dict[str, Callable[[int, int], NetworkSettings]] = {
    "manual": _manual,
    "n3ml": _n3ml,
    "paper": _paper,
    "tuned": _tuned,
}
RULES: dict[str, Callable[..., Rule]] = {
    rule.__name__: rule
    for rule in (
        plasticity.pair,
        plasticity.soft_bounds,
        plasticity.power_law,
        plasticity.exponential,
        plasticity.pre_post,
        plasticity.triplet,
    )
}


def preset(
    name: str = "manual", neurons: int = 100, *, presentations: int = 120_000, **changes: Any
) -> NetworkSettings:
    """Return the settings called ``name``, with ``changes``.

    - ``"manual"``: the rule of the n3ml manual, a power law, with competition within the step.
    - ``"n3ml"``: the computation of n3ml: the pair rule at its rates, its neurons and its delays.
    - ``"paper"``: conductances, delays and constants of the authors' program, and its triplet rule. Thresholds grow by
      its 0.05 mV a spike at its 400 neurons, in proportion at other sizes.
    - ``"tuned"``: the triplet rule with the settings that were best at each size.

    Args:
        name: "manual", "n3ml", "paper" or "tuned".
        neurons: excitatory neurons, on which the settings of all but "n3ml" depend.
        presentations: images that training will present, on which the growth of the thresholds in "manual" and
            "tuned" depends; two epochs of MNIST by default.
        **changes: see :func:`change`.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    return change(PRESETS[name](neurons, presentations), **changes)


@dataclass(frozen=True)
class DatasetSettings:
    """Settings of a data set: image shape, images presented in training, changes to all presets and to "tuned"."""

    shape: tuple[int, int, int]
    presentations: int
    changes: dict[str, float] = field(default_factory=dict)
    tuned: dict[str, float] = field(default_factory=dict)


DATASETS = {
    "digits": DatasetSettings((1, 8, 8), 2_876, {"norm": 0.3, "intensity": 300.0}, {"inhibition": 120.0}),
    "mnist": DatasetSettings((1, 28, 28), 120_000),
}


def for_dataset(
    dataset: str, name: str = "tuned", neurons: int = 100, *, presentations: int | None = None, **changes: Any
) -> NetworkSettings:
    """Return the settings called ``name``, adapted to a data set; other arguments as in ``preset``.

    Args:
        dataset: "digits" or "mnist".
        name: see ``preset``.
        neurons: excitatory neurons.
        presentations: images that training will present; two epochs of the data set if None.
        **changes: see :func:`change`.

    Raises:
        ValueError: for an unknown name.
    """
    if dataset not in DATASETS:
        raise ValueError(f"dataset must be one of {', '.join(DATASETS)}, got {dataset!r}")
    defaults = DATASETS[dataset]
    return preset(
        name,
        neurons,
        presentations=defaults.presentations if presentations is None else presentations,
        **{**defaults.changes, **(defaults.tuned if name == "tuned" else {}), **changes},
    )


def change(settings: NetworkSettings, **changes: Any) -> NetworkSettings:
    """Return ``settings`` with other values, named as in :class:`NetworkSettings`, its ``neurons``, or its ``rule``.

    ``rule`` may be the name of a function of :mod:`snnfast.plasticity`, called with its defaults; ``lr`` is the
    potentiation rate of the rule, whatever its name there.

    Raises:
        TypeError, ValueError: for an unknown name, one that the current rule does not have, or a value of wrong type
            or out of range.
    """
    changes = dict(changes)
    rule = changes.pop("rule", settings.rule)
    if isinstance(rule, str):
        if rule not in RULES:
            raise ValueError(f"rule must be one of {', '.join(RULES)}, got {rule!r}")
        rule = RULES[rule]()
    if "lr" in changes:
        changes["lr_post_triplet" if rule.kind == "triplet" else "lr_post"] = changes.pop("lr")
    parts: dict[str, dict[str, Any]] = {"settings": {}, "neurons": {}, "rule": {}}
    homes = {
        **{f.name: "rule" for f in fields(Rule) if f.name != "kind"},
        **{f.name: "neurons" for f in fields(settings.neurons)},
        **{f.name: "settings" for f in fields(NetworkSettings) if f.name not in ("rule", "neurons")},
    }
    for name, value in changes.items():
        if name not in homes:
            known = ", ".join(sorted({*homes, "lr", "rule"}))
            raise ValueError(f"there is no setting {name!r}; known: {known}")
        if homes[name] == "rule" and not rule.has(name):
            raise ValueError(f"the rule in force, {rule.kind}, has no {name}, got {value!r}")
        parts[homes[name]][name] = value
    changed = replace(
        settings,
        rule=replace(rule, **parts["rule"]),
        neurons=replace(settings.neurons, **parts["neurons"]),
        **parts["settings"],
    )
    if "boost" in changes and not changed.min_spikes:
        raise ValueError(f"boost needs min_spikes, got boost={changed.boost:g} and min_spikes=0")
    return changed


# Settings in which networks of one model may differ: all numbers except numbers of steps.
DIFFERS = {"norm", "w_init", "theta_init", "lr_final"} | (
    {f.name for kind in (Rule, CurrentBased, ConductanceBased) for f in fields(kind)}
    - {"kind", "trace", "tau_eligibility", "dt", "rest", "refractory", "refractory_inh"}
    - {"inhibition_delay", "one_winner"}
)


def shared(settings: NetworkSettings) -> dict[str, Any]:
    """Return the settings that all networks of one model share, by name."""
    rule, neurons = settings.rule, settings.neurons
    values = {"neurons": type(neurons).__name__}
    for part in (settings, neurons, rule):
        values |= {f.name: getattr(part, f.name) for f in fields(part) if f.name not in values}
    return {n: v for n, v in values.items() if n not in DIFFERS and n != "rule"}


def of_networks(
    chosen: str | NetworkSettings | Sequence[NetworkSettings],
    neurons: int,
    changes: dict[str, Any],
    networks: int | None,
) -> list[NetworkSettings]:
    """Return the settings of all networks of a model, one for all, or one per network if some are lists.

    Raises:
        TypeError, ValueError: for values out of range, and for networks that differ in settings they must share.
    """
    arguments = {"preset": chosen, **changes}
    several = [n for n, v in arguments.items() if isinstance(v, (list, tuple))]
    if not several:
        return [_settings(chosen, neurons, changes)]  # type: ignore[arg-type]
    for name in several:
        if networks is None or len(arguments[name]) != networks:
            wanted = "one" if networks is None else f"one for all or {networks}, one a network"
            raise ValueError(f"{NAME}: {name} must be {wanted}, got {len(arguments[name])}")
    every = []
    for k in range(networks or 0):
        options = {n: v[k] if n in several else v for n, v in arguments.items()}
        every.append(_settings(options.pop("preset"), neurons, options))
    for name in shared(every[0]):
        values = {shared(settings).get(name) for settings in every}
        if len(values) > 1:
            found = " and ".join(map(str, sorted(values, key=str)))
            raise ValueError(f"{NAME}: {name} must be the same for all networks, got {found}")
    return every


def _settings(chosen: str | NetworkSettings, neurons: int, changes: dict[str, Any]) -> NetworkSettings:
    if isinstance(chosen, NetworkSettings):
        return change(chosen, **changes)
    if not isinstance(chosen, str):
        raise TypeError(f"{NAME}: preset must be a name or NetworkSettings, got {type(chosen).__name__}")
    try:
        return preset(chosen, neurons, **changes)
    except ValueError as error:
        raise ValueError(f"{NAME}: {error}") from None


def slower(rule: Rule, factor: float) -> Rule:
    """Return ``rule`` with its rates multiplied by ``factor``."""
    rates = {f.name: factor * getattr(rule, f.name) for f in fields(rule) if f.name[:3] == "lr_"}
    return replace(rule, **rates)
