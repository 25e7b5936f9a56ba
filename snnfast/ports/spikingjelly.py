"""SpikingJelly's neurons as layers of this package that keep SpikingJelly's step modes and states."""

from __future__ import annotations

from .port import Library
from .spikingjelly_equations import (
    ComplementaryLIFNode,
    GatedLIFNode,
    ILIFNode,
    KLIFNode,
    NonSpikingIFNode,
    NonSpikingLIFNode,
    RAFNode,
    TernaryIFNode,
    TernaryLIFNode,
)
from .spikingjelly_neurons import (
    CUBALIFNode,
    EIFNode,
    HalfThresholdIFNode,
    IFNode,
    IzhikevichNode,
    LIFNode,
    ParametricLIFNode,
    QIFNode,
    SimpleIFNode,
    SimpleLIFNode,
)

__all__ = ["SPIKINGJELLY"]

REFUSED = {
    **dict.fromkeys(
        ("PSN", "MaskedPSN", "SlidingPSN"),
        "a step of it sees other steps by a matrix: snnfast.nn.PSN and SlidingPSN take its weight, and minus its bias",
    ),
    **dict.fromkeys(
        ("OTTTLIFNode", "SLTTLIFNode", "DSRIFNode", "DSRLIFNode"),
        "it has a gradient of its own, which is not that of its steps",
    ),
    **dict.fromkeys(("MPBNBaseNode", "MPBNLIFNode"), "batch normalisation changes its membrane"),
    **dict.fromkeys(
        ("NoisyCUBALIFNode", "NoisyILCCUBALIFNode", "NoisyNonSpikingIFNode"), "it draws noise for its membrane"
    ),
    **dict.fromkeys(
        ("ILCIFNode", "ILCLIFNode", "ILCCUBALIFNode"), "its neurons drive each other by weights of its own"
    ),
    "STBIFNode": "it bounds the sum of all that it has fired, for inference alone",
    **dict.fromkeys(("FewSpikeNode", "HGNode", "OutlierAwareThresholdNode"), "it reads a table of codes"),
    "LIAFNode": "it gives what a function of yours makes of the membrane",
    "FlexSN": "its equation is a function of yours: make a neuron of it by snnfast.neuron",
}

SPIKINGJELLY = Library(
    name="spikingjelly",
    neurons={
        **{
            kind.__name__: kind
            for kind in (
                *(IFNode, LIFNode, ParametricLIFNode, CUBALIFNode, QIFNode, EIFNode, IzhikevichNode),
                *(KLIFNode, ComplementaryLIFNode, ILIFNode, RAFNode, GatedLIFNode),
                *(TernaryIFNode, TernaryLIFNode, SimpleIFNode, SimpleLIFNode, HalfThresholdIFNode),
                *(NonSpikingIFNode, NonSpikingLIFNode),
            )
        },
        # of clock_driven
        **{f"MultiStep{kind.__name__}": kind for kind in (IFNode, LIFNode, ParametricLIFNode, EIFNode)},
    },
    refused=REFUSED,
    bases=frozenset(),
    package="neuron",
)
