"""Papers, their training runs, data sets, figures and the command ``snnfast``, on the kernels of :mod:`snnfast`.

The public paths are those of :mod:`snnfast`: ``snnfast.data``, ``snnfast.papers``, ``snnfast.visual`` and the others
re-export what is here.
"""
