"""Re-exports :mod:`snnfast.nn.loss`."""

from .nn.loss import *  # noqa: F403
from .nn.loss import __all__ as __all__
from .nn.loss import __dir__ as __dir__
