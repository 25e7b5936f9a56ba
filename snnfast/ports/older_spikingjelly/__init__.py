"""Modules of SpikingJelly's ``clock_driven``, made of this package's layers: :mod:`snnfast.ports.clock_driven`."""
