"""Settings of a run of STDP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from snnfast_zoo.train.settings import SOURCES, Settings, option

from . import settings as network

IMAGES_PER_CALL = {"digits": 100, "mnist": 1000}


@dataclass(frozen=True, kw_only=True)
class StdpSettings(Settings):
    """Settings of a run of STDP. Settings of the network that are None come from its preset."""

    name = "stdp"

    dataset: str = option(
        "digits",
        f"digits (in the package), mnist, or your own images: {SOURCES}.",
        choices=tuple(IMAGES_PER_CALL),
        user_data=True,
    )
    neurons: int = option(100, "Excitatory neurons.", least=1)
    preset: str = option("tuned", "tuned, manual, n3ml or paper.", choices=tuple(network.PRESETS))
    epochs: int = option(2, "Passes over the training images.", least=0)
    rule: str | None = option(None, "Another rule of snnfast.plasticity, with its defaults.")
    lr: float | None = option(None, "Rate of potentiation.")
    lr_final: float | None = option(None, "Learning rates at the end, as a share of those at the start.")
    theta_plus: float | None = option(None, "Growth of a threshold per spike, mV.")
    norm: float | None = option(None, "Sum of weights per input.")
    intensity: float | None = option(None, "Rate of a white pixel, Hz.")
    duration: float | None = option(None, "A presentation, ms.")
    changes: dict[str, Any] = option(  # noqa: RUF009, the dictionary is copied
        {}, "NAME=VALUE: any other setting of network or rule; repeatable.", flag="--set"
    )
    images_per_call: int | None = option(
        None, "Set the learning rates anew after this many images; default: as the data set needs.", least=1
    )
    seed: int = option(0, "Seed of weights, order and spikes.", least=0, most=2**32 - 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.images_per_call is None:
            object.__setattr__(self, "images_per_call", IMAGES_PER_CALL.get(self.dataset, 100))
        self.network(1)

    def network(self, images: int) -> network.NetworkSettings:
        """Return settings of the network for ``images`` training images; a user's images get those of MNIST."""
        names = ("rule", "lr", "lr_final", "theta_plus", "norm", "intensity", "duration")
        options = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        for name in ("dataset", "preset", "neurons", "presentations", *options):
            if name in self.changes:
                raise ValueError(
                    f"stdp: changes (--set) must not hold {name}, which has its own option or follows from others, "
                    f"got {self.changes[name]!r}"
                )
        try:
            return network.for_dataset(
                self.dataset if self.dataset in IMAGES_PER_CALL else "mnist",
                self.preset,
                self.neurons,
                presentations=max(self.epochs * images, 1),
                **{**options, **self.changes},
            )
        except (ValueError, TypeError) as error:
            raise type(error)(f"stdp: {error}") from None
