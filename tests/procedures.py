"""Settings with which procedures take at most a second, by name."""

SMALL = {
    "stbp": {"num_steps": 2, "batch_size": 200, "width": 0.2},
    "spikeprop": {"hidden": (4,), "terminals": 3},
    "diehl2015": {"batch_size": 500},
    "vgg16": {"batch_size": 500},
    "stdp": {"neurons": 4, "duration": 20.0},
    "spiking-vgg": {"num_steps": 2, "batch_size": 200, "width": 0.05},
    "sequence": {"num_steps": 12, "samples": 64, "hidden": (12,)},
    "bp-stdp": {"hidden": (30,), "num_steps": 20},
}
