"""Network of Diehl and Cook 2015, which learns digits without labels by spike-timing-dependent plasticity."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from snnfast import check
from snnfast.ops import DiehlCookResult, DiehlCookState, Events, Rates, diehl_cook_
from snnfast.reference.plasticity import Rule
from snnfast.reference.presentations import presentations

from ..networks import Draws, seeds_of, shared_or_list
from .parts import Excitatory, ExcitatorySynapses, Input, LastStep, normalize_each
from .settings import DATASETS, NetworkSettings, for_dataset, of_networks, slower


class DiehlAndCook2015(nn.Module):
    """Excitatory neurons with adaptive thresholds that inhibit one another; learns without labels.

    Every input is connected to every excitatory neuron by plastic weights ``xe.w`` ``[neurons, inputs]``. A neuron that
    spikes inhibits all others, raises its threshold ``exc.theta`` and learns the image, so that neurons come to
    represent different images. For the equations see :func:`snnfast.ops.diehl_cook_`, for the presets
    :func:`snnfast_zoo.papers.diehl_cook2015.settings.preset`.

    Two ways lead to the same weights, bit for bit. Whole presentations in one call, which is the fast way::

        model.present(images)        # rates in Hz [P, ...], or spikes
        model.fit(loader)            # batches of (images in Hz, labels)

    and step by step::

        model.reset()                                # at rest; weights and thresholds stay
        for t in range(num_steps):
            model.step(spikes[t])                    # one step of the neurons
            model.learn()                            # plasticity of that step
        model.normalize()

    The manual's names of these methods run, too: ``init_param()``, ``run({"inp": spikes[t]})``, ``update()`` and
    ``normalize()``.

    In training mode weights and thresholds change; after ``model.eval()`` no call changes them. Weights have no
    gradient.

    Weights are drawn from U(0, w_init) and normalised at once. They are normalised again after each presentation in
    which their neuron was plastic, so that between presentations the weights of every neuron have the sum ``norm``.

    ``networks=K`` makes K independent networks, for example to train several seeds at once. Each equals, bit for bit,
    a model that is made alone after ``torch.manual_seed`` of its seed, if the loader does not use PyTorch's
    generator (a ``DataLoader`` does, unless it has a ``generator=``). All tensors and results have a first dimension K.
    A stimulus with this dimension holds one stimulus per network; one without is presented to all. Networks may differ
    in settings: K numbers for one of ``changes``, or K settings for ``preset``. They must share delays, refractory
    periods and other numbers of steps, the kind and traces of the rule, and how images are presented.

    Args:
        neurons: excitatory neurons.
        input_shape: the shape of an image, or the number of its pixels.
        preset: "manual", "n3ml", "paper", "tuned", or settings; or a sequence of settings, one per network.
        dtype: dtype of the weights: float32 or float64.
        networks: number of networks; None: one, without a dimension for it.
        seeds: one seed per network, from which its weights and Poisson spikes are drawn; None: the last seed of
            ``torch.manual_seed`` and its successors.
        **changes: other values for single settings, or lists of one value per network; see
            :func:`snnfast_zoo.papers.diehl_cook2015.settings.change`.

    Attributes:
        xe.w: weights ``[neurons, inputs]``, or ``[K, neurons, inputs]``, contiguous when transposed.
        exc.theta: growth of the thresholds ``[neurons]``, mV.
        exc.v, exc.s, exc.x: membrane potentials in mV, spikes and traces after the last ``step``.
        inp.s, inp.x: spikes and traces of the inputs.
        rule: the current rule, or a list of one per network where they differ; learning rates that fall during
            training are set here.
        settings: the settings of the preset, with changes; of the first network where they differ.

    Example:
        >>> model = snnfast.papers.DiehlAndCook2015(neurons=100)
        >>> model.present(torch.rand(8, 1, 28, 28) * 128).counts.shape
        torch.Size([8, 100])

    Raises:
        TypeError, ValueError: for arguments of wrong type or range; a call that raises changes nothing.

    Source: Diehl and Cook, Unsupervised learning of digit recognition using spike-timing-dependent plasticity,
    Frontiers in Computational Neuroscience 9:99 (2015).
    """

    rule: Rule | list[Rule]

    def __init__(
        self,
        neurons: int = 100,
        input_shape: int | Sequence[int] = 784,
        preset: str | NetworkSettings | Sequence[NetworkSettings] = "manual",
        *,
        dtype: torch.dtype = torch.float32,
        networks: int | None = None,
        seeds: Sequence[int] | None = None,
        **changes: Any,
    ) -> None:
        super().__init__()
        self.neurons = check.integer("DiehlAndCook2015", "neurons", neurons)
        shape = (input_shape,) if isinstance(input_shape, int) else input_shape
        self.input_shape = check.sizes("DiehlAndCook2015", "input_shape", shape)
        self._draws = Draws(seeds_of("DiehlAndCook2015", networks, seeds))
        self._every = of_networks(preset, self.neurons, changes, networks)
        self.settings = self._every[0]
        self.rule = shared_or_list([settings.rule for settings in self._every])
        self.networks = networks
        if networks is not None and self.settings.min_spikes:
            raise ValueError(
                "DiehlAndCook2015: networks must be None with min_spikes, which presents other images again to each, "
                f"got networks={networks} and min_spikes={self.settings.min_spikes}"
            )
        last_step = LastStep()
        self._last_step = last_step
        self._plastic: Tensor | None = None
        self._before: tuple[Tensor, DiehlCookState | None, Tensor] | None = None
        self._validated: tuple[object, ...] | None = None
        n_inputs = math.prod(self.input_shape)
        leading = () if networks is None else (networks,)
        self.inp = Input(leading, n_inputs, last_step)
        self.exc = Excitatory(leading, self.neurons, self._every, dtype, last_step)
        self.xe = ExcitatorySynapses(leading, n_inputs, self.neurons, self._every, dtype, self._draws)

    @classmethod
    def preset(cls, dataset: str, neurons: int = 100, preset: str = "tuned", **changes: Any) -> DiehlAndCook2015:
        """Return the network of docs/results.md for "digits" or "mnist".

        Args:
            dataset: the name of the data set; present its images at ``settings.intensity`` Hz for a white pixel.
            neurons: excitatory neurons.
            preset: as in the class.
            **changes: ``presentations``, the number of images that training will present, and settings by name; see
                :func:`snnfast_zoo.papers.diehl_cook2015.settings.for_dataset`.
        """
        try:
            settings = for_dataset(dataset, preset, neurons, **changes)
        except (TypeError, ValueError) as error:
            raise type(error)(f"DiehlAndCook2015: {error}") from None
        return cls(neurons, DATASETS[dataset].shape, settings)

    @property
    def norm(self) -> float | list[float]:
        """Sum to which the weights of a neuron are normalised; a list where networks differ."""
        return shared_or_list([settings.norm * math.prod(self.input_shape) for settings in self._every])

    def set_progress(self, progress: float) -> None:
        """Set the learning rates for the fraction ``progress`` of the training, in [0, 1]."""
        if not 0 <= progress <= 1:
            raise ValueError(f"DiehlAndCook2015: progress must lie in [0, 1], got {progress}")
        rules = [slower(settings.rule, settings.lr_final**progress) for settings in self._every]
        self.rule = shared_or_list(rules)

    # Step by step.

    def reset(self) -> None:
        """Reset all neurons and traces to rest; weights and thresholds stay."""
        self._last_step.state = self._last_step.pre = self._last_step.post = None
        self._before = None

    def step(self, spikes: Tensor) -> None:
        """Advance the neurons by one time step.

        Args:
            spikes: spikes of the inputs, in the shape of an image or flat; anything but 0 is a spike. With several
                networks, one tensor for all, or one per network.
        """
        if not isinstance(spikes, Tensor):
            raise TypeError(f"DiehlAndCook2015: spikes must be a tensor, got {type(spikes).__name__}")
        n_inputs, K = math.prod(self.input_shape), self.networks
        per_network = K is not None and spikes.dim() > 1 and spikes.numel() == K * n_inputs
        if spikes.numel() != n_inputs and not (per_network and spikes.shape[0] == K):
            shapes = dict.fromkeys((str(list(self.input_shape)), f"[{n_inputs}]"))
            raise ValueError(
                f"DiehlAndCook2015: spikes must have shape {' or '.join(shapes)}"
                f"{'' if K is None else f', or {K} before it'}, got {list(spikes.shape)}"
            )
        x = (spikes.detach() != 0).to(self.xe.w.device)
        x = x.reshape(*((K,) if per_network else ()), 1, 1, n_inputs)
        state, theta = self._last_step.state, self.exc.theta.clone()
        result = self._op(x, state, None, theta=self.exc.theta, validate=state is None)
        self._before = (x, state, theta) if self.training else None
        self._last_step.state = result.state
        self._last_step.pre = x.flatten(-3).expand(*self.exc.theta.shape[:-1], n_inputs)
        self._last_step.post = cast(Tensor, result.spikes).flatten(-3)

    def learn(self) -> None:
        """Apply the plasticity of the last ``step``; a no-op in evaluation mode.

        Traces advance here, too, and not in ``step``: call it after every ``step`` of a presentation, or after none.
        """
        if not self.training:
            return
        if self._before is None:
            raise RuntimeError("DiehlAndCook2015: learn needs a step before it: call step before each learn")
        # Repeat the step with plasticity: equal to a single call of the op, bit for bit.
        x, state, theta = self._before
        result = self._op(x, state, self.rule, theta=theta, validate=state is None)
        self._last_step.state = result.state
        self._before = None
        plastic = cast(Tensor, self._last_step.post).clone()
        if state is not None:
            plastic |= state.trace_post != 0
        self._plastic = plastic if self._plastic is None else self._plastic | plastic

    def normalize(self) -> None:
        """Scale the weights of every neuron that was plastic since the last call to the sum ``norm``.

        With the preset "paper", scale those of all neurons, before a presentation rather than after it.
        """
        if not self.training:
            return
        plastic = self._plastic
        if self.settings.delayed:
            plastic = torch.ones_like(self.exc.s)
        if plastic is not None:
            norms = self.norm if isinstance(self.norm, list) else [self.norm]
            rules = self.rule if isinstance(self.rule, list) else [self.rule]
            normalize_each(self.xe.w.detach(), plastic, norms, rules)
        self._plastic = None

    def _op(
        self,
        x: Tensor | Events | Rates,
        state: DiehlCookState | None,
        rule: Rule | list[Rule] | None,
        *,
        theta: Tensor,
        validate: bool,
        norm: float | list[float] | None = None,
        stepwise: bool = True,
        return_spikes: bool = True,
    ) -> DiehlCookResult:
        by_network = [settings.keywords() for settings in self._every]
        keywords: dict[str, Any] = {
            name: shared_or_list([values[name] for values in by_network]) for name in by_network[0]
        }
        if not self.training:
            keywords |= {"theta_plus": 0.0, "tau_theta": None}
        if self.settings.delayed:
            keywords |= {"delays": self.xe.delays, "longest_delay": self.xe.longest_delay}
            if stepwise:
                keywords["rest"] = 0.0
        return diehl_cook_(
            x,
            self.xe.w,
            theta,
            rule=rule,
            norm=norm,
            state=state,
            return_spikes=return_spikes,
            return_state=stepwise,
            validate=validate,
            **keywords,
        )

    # Whole presentations.

    def present(
        self,
        x: Tensor | Events | Rates,
        *,
        seeds: Tensor | None = None,
        return_spikes: bool = False,
        validate: bool = True,
    ) -> DiehlCookResult:
        """Present P images one after the other, each to a network at rest, and learn unless in evaluation mode.

        Args:
            x: the stimuli. Floating point: rates in Hz, of one image or P, from which Poisson spikes are drawn for
                ``settings.duration``. bool or uint8, or floating point of only 0 and 1 with at least one 1, as
                returned by encoders: spikes ``[T, ...]`` or ``[P, T, ...]``. Images have the shape ``input_shape``, or
                any other with as many pixels. :class:`snnfast.ops.Events` and :class:`snnfast.ops.Rates` are passed to
                the op. With K networks ``[P, ...]`` is presented to all, and ``[K, P, ...]`` holds stimuli per network.
            seeds: int64 ``[P]``, or ``[K, P]``, for the Poisson spikes; None: drawn from PyTorch's CPU generator, or
                from the generator of each network.
            return_spikes: return the raster.
            validate: check the values of ``x`` and the weights; on CUDA this waits for the device. Without it
                floating point always means rates. Weights are checked again only after something other than a
                presentation has changed them; changes through ``.data`` go unnoticed.

        Returns:
            ``counts``, spikes of every neuron for every image, int32 ``[P, neurons]``; ``spikes`` bool
            ``[P, T, neurons]`` or None. For an image presented several times (``settings.min_spikes``) both are of the
            last presentation.
        """
        stimuli = _stimuli(self, x, seeds, validate)
        self.reset()

        def present(stimuli: Tensor | Events | Rates) -> DiehlCookResult:
            unchanged = self._validated is not None and self._validated == self._versions()
            if validate and unchanged:  # check the stimuli only
                w, dt = self.xe.w, self.settings.neurons.dt
                presentations(diehl_cook_.__name__, stimuli, w.shape[-1], w.device, dt, True, self.networks)
            result = self._op(
                stimuli,
                None,
                self.rule if self.training else None,
                theta=self.exc.theta,
                validate=validate and not unchanged,
                norm=self.norm if self.training else None,
                stepwise=False,
                return_spikes=return_spikes,
            )
            self._validated = self._versions() if validate else None
            return result

        if self.settings.min_spikes and isinstance(stimuli, Rates):
            return self._until_enough(stimuli, present)
        return present(stimuli)

    def _versions(self) -> tuple[object, ...] | None:
        """Return the versions of weights and thresholds, to detect changes; None for inference tensors.

        Presentations keep the weights within bounds, so that the versions after one belong to valid weights, too.
        """
        w, theta = self.xe.w, self.exc.theta
        if w.is_inference() or theta.is_inference():
            return None
        rules = self.rule if isinstance(self.rule, list) else [self.rule]
        bounds = [(rule.w_min, rule.w_max) for rule in rules] if self.training else None
        return w.data_ptr(), w._version, theta.data_ptr(), theta._version, bounds

    def _until_enough(self, rates: Rates, present: Callable[[Rates], DiehlCookResult]) -> DiehlCookResult:
        """Present images with increasing rates until each has ``settings.min_spikes`` spikes."""
        settings, P = self.settings, len(rates.hz)
        everything = torch.arange(P, device=rates.hz.device)
        total = None
        # With learning, images are presented one by one, because each changes the weights; without it, all at once.
        for todo in everything.split(1) if self.training else (everything,):
            times = 0
            while len(todo):
                hz = rates.hz[todo] * (1 + times * settings.boost)
                result = present(Rates(hz, rates.num_steps, rates.seeds[todo] + times))
                if total is None:
                    counts, spikes = result.counts, result.spikes
                    total = result._replace(
                        counts=counts.new_empty((P, *counts.shape[1:])),
                        spikes=None if spikes is None else spikes.new_empty((P, *spikes.shape[1:])),
                    )
                total.counts[todo] = result.counts
                if total.spikes is not None:
                    total.spikes[todo] = cast(Tensor, result.spikes)
                times += 1
                peak = rates.hz[todo].amax(1) * (1 + times * settings.boost)
                weak = result.counts.sum(1) < settings.min_spikes
                todo = todo[weak & (peak > 0) & (peak <= 1000 / settings.neurons.dt)]
        return present(rates) if total is None else total

    def fit(self, loader: Iterable[Tensor | tuple[Any, ...]], epochs: int = 1) -> DiehlAndCook2015:
        """Present all images of ``loader``, ``epochs`` times, and learn.

        Learning rates fall during the call according to ``settings.lr_final``. Batches of some hundred images are
        fastest; the weights depend only on the order of the images.

        Args:
            loader: batches of images in Hz ``[P, ...]``, alone or first in a tuple; labels are ignored. Must have a
                length if learning rates fall.
            epochs: passes over ``loader``.
        """
        check.integer("DiehlAndCook2015", "epochs", epochs, 0)
        falls = any(settings.lr_final != 1 for settings in self._every)
        try:
            batches = epochs * len(loader) if falls else 0  # type: ignore[arg-type]
        except TypeError:
            raise TypeError(
                "DiehlAndCook2015: loader must have a length, since learning rates fall (lr_final), "
                f"got {type(loader).__name__}"
            ) from None
        self.train()
        done = 0
        for _ in range(epochs):
            for batch in loader:
                if falls:
                    self.set_progress(done / batches)
                self.present(batch if isinstance(batch, Tensor) else batch[0])
                done += 1
        return self

    def respond(self, loader: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Return spike counts of all neurons for all images of ``loader`` ``[P, neurons]``, and labels ``[P]``.

        Nothing is learned. These are the arguments of :func:`snnfast.learning.assign_labels`; with several networks
        call it for each. The mode of the network stays.

        Raises:
            ValueError: for a batch without labels, or no batch.
        """
        counts, labels = [], []
        training = self.training
        self.eval()
        try:
            for batch in loader:
                if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                    raise ValueError(
                        "DiehlAndCook2015: respond needs batches (images, labels), got a " + type(batch).__name__
                    )
                images, of_images = batch
                counts.append(self.present(images).counts)
                labels.append(of_images)
        finally:
            self.train(training)
        if not counts:
            raise ValueError("DiehlAndCook2015: respond needs at least one batch")
        return torch.cat(counts, -2), torch.cat(labels).to(counts[0].device)

    def extra_repr(self) -> str:
        """Return the settings that the parts do not show."""
        return f"rule={self.rule}" + ("" if self.networks is None else f", networks={self.networks}")

    def _apply(self, *arguments: Any, **keywords: Any) -> Any:
        result = super()._apply(*arguments, **keywords)  # type: ignore[no-untyped-call]
        self._validated = None
        # The state still has the old device or dtype.
        self.reset()
        device = self._last_step.device = self.xe.w.device
        self._plastic = None if self._plastic is None else self._plastic.to(device)
        return result


def _stimuli(
    model: DiehlAndCook2015, x: Tensor | Events | Rates, seeds: Tensor | None, validate: bool
) -> Tensor | Events | Rates:
    """Convert ``x`` and ``seeds`` of :meth:`DiehlAndCook2015.present` to the stimuli of the op."""
    device, n_inputs = model.xe.w.device, math.prod(model.input_shape)
    validate = check.reads_values(validate, device)
    name, K = type(model).__name__, model.networks
    if isinstance(x, (Events, Rates)):
        if seeds is not None:
            raise ValueError(f"{name}: seeds are for images in Hz, got {type(x).__name__}")
        return x
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: x must be a tensor, Events or Rates, got {type(x).__name__}")
    check.dense(name, "x", x)
    if seeds is not None:
        check.tensor(name, "seeds", seeds)
    x = x.detach().to(device)
    spikes = x.dtype in (torch.bool, torch.uint8)
    if not (spikes or x.is_floating_point()):
        raise TypeError(f"{name}: x must be rates in Hz (floating point) or spikes (bool, uint8), got {x.dtype}")
    batches = _before_images(model, x)
    if not spikes and validate and any(batches):
        spikes = _are_spikes(x)
    leading = 2 if spikes else 1
    batch = next(
        (b for b in batches if leading - 1 <= len(b) <= leading or (len(b) == leading + 1 and b[0] == K)), None
    )
    if batch is None:
        image = ", ".join(map(str, model.input_shape))
        wanted = [f"[T, {image}]", f"[P, T, {image}]"] if spikes else [f"[{image}]", f"[P, {image}]"]
        if K is not None:
            wanted.append(f"[{K}, {wanted[-1][1:]}")
        raise ValueError(f"{name}: x of {x.dtype} must have shape {' or '.join(wanted)}, got {list(x.shape)}")
    x = x.reshape(*((1,) * (leading - len(batch))), *batch, n_inputs)
    if spikes:
        if seeds is not None:
            raise ValueError(f"{name}: seeds are for images in Hz, got spikes")
        if validate and x.dtype == torch.uint8 and x.numel() and int(x.max()) > 1:
            raise ValueError(
                f"{name}: x of uint8 must be spikes, 0 or 1, got {int(x.max())}; give rates in Hz as floating point"
            )
        return x.bool() if x.is_floating_point() else x
    if validate and _are_spikes(x):
        raise ValueError(
            f"{name}: x of {x.dtype} must be rates in Hz, but is 0 or 1 everywhere; give spikes as "
            "[T, ...] or [P, T, ...]"
        )
    if seeds is None:
        count = x.shape[-2]
        seeds = model._draws(lambda _: torch.randint(2**63 - 1, (count,)))
    return Rates(x.float(), model.settings.num_steps, seeds.to(device))


def _are_spikes(x: Tensor) -> bool:
    """Return whether all values are 0 or 1, and at least one is 1."""
    return bool(x.numel()) and float(x.max()) == 1 and bool(((x == 0) | (x == 1)).all())


def _before_images(model: DiehlAndCook2015, x: Tensor) -> list[tuple[int, ...]]:
    """Return candidates for the leading sizes before the image, ``input_shape`` and flat images first."""
    pixels = math.prod(model.input_shape)
    first = [len(s) for s in (model.input_shape, (pixels,)) if tuple(x.shape[-len(s) :]) == s]
    ends = [*(x.dim() - n for n in first), *range(x.dim())]
    return [tuple(x.shape[:k]) for k in ends if math.prod(x.shape[k:]) == pixels]
