"""Log of executed operators, for the tests of ``nn.Time``."""

from torch.utils._python_dispatch import TorchDispatchMode


class Log(TorchDispatchMode):
    """Logs the names of the operators that run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))

    @property
    def copies(self):
        return [n for n in self.names if any(w in n for w in ("clone", "copy", "contiguous"))]
