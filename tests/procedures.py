"""Settings with which procedures take at most a second, by name; runs that are quiet or interrupted."""

import pytest

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


def quiet(procedure, settings, out=None, **how):
    """Train by a procedure without a word."""
    with procedure.place(settings, out, progress=False, echo=None, **how) as place:
        return procedure.train(settings, place)


class PowerCutError(Exception):
    pass


def interrupted(procedure, settings, out, epoch=1):
    """Train into ``out`` until ``epoch`` epochs are saved."""
    with procedure.place(settings, out, progress=False, echo=None) as place:
        save = place.save

        def cut(run):
            save(run)
            if run.epoch == epoch:
                raise PowerCutError

        place.save = cut
        with pytest.raises(PowerCutError):
            procedure.train(settings, place)
