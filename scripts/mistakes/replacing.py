"""Mistakes in what replaces neurons of other libraries: name, path, what becomes what, and tests if they are others."""

TESTS = ("tests/nn/test_replace_traces.py", "tests/nn/test_replace.py", "tests/nn/test_presets.py")
LOOPS = ("tests/nn/test_replace_loops.py",)
ACCELERATE = ("tests/nn/test_accelerate.py",)
MISTAKES = (
    (
        "loops: the steps of the input in any order",
        "snnfast/nn/replacing/loops.py",
        "if items == [step(t) for t in range(self.steps)]:",
        "if dim == (isinstance(items[0], tuple)):",
        LOOPS,
    ),
    (
        "loops: a call goes on from the last one",
        "snnfast/nn/replacing/snntorch_functions.py",
        "        self.from_rest = True\n",
        "",
        LOOPS,
    ),
    (
        "loops: any membrane goes into the next step",
        "snnfast/nn/replacing/loops.py",
        "return state.target is operator.getitem and state.args == (before, k)",
        "return True",
        LOOPS,
    ),
    (
        "loops: the number of steps is that of the trace",
        "snnfast/nn/replacing/loops.py",
        "if self.given is None or not self.by_input:",
        "if True:",
        LOOPS,
    ),
    (
        "accelerate: spikes that something else sees, too, are pooled",
        "snnfast/nn/order.py",
        "isinstance(source, fx.Node) and len(source.users) == 1 and source in last",
        "isinstance(source, fx.Node) and source in last",
        ACCELERATE,
    ),
    (
        "accelerate: what is accelerated already is pooled once more",
        "snnfast/nn/accelerate.py",
        "if isinstance(module, Pooled) or (isinstance",
        "if (isinstance",
        ACCELERATE,
    ),
    (
        "accelerate: what a hook around the neurons sees is pooled",
        "snnfast/nn/order.py",
        "first = None if _seen_leaving(net, name, str(node.target)) else layer",
        "first = layer",
        ("tests/nn/test_fuse.py",),
    ),
    (
        "accelerate: a layer in two places becomes two",
        "snnfast/nn/replacing/wrapped.py",
        "if child is not None and child not in made:",
        "if child is not None:",
        ACCELERATE,
    ),
    (
        "replace: a membrane that is a number begins at rest",
        "snnfast/nn/replacing/spikingjelly.py",
        "begin[name] = float(found)",
        "pass",
    ),
    (
        "accelerate: the keys are those of the layers around",
        "snnfast/nn/keys.py",
        "state_dict[prefix + key[len(start) :]] = state_dict.pop(key)",
        "pass",
        ACCELERATE,
    ),
    (
        "replace: a delayed reset takes off the threshold before the decay",
        "snnfast/nn/replacing/snntorch.py",
        "taken = threshold / beta\n",
        "taken = threshold\n",
    ),
    (
        "replace: a membrane handed on forgets that it was to be reset",
        "snnfast/nn/replacing/snntorch.py",
        "v = mem + rest - taken * (mem > threshold).to(mem)",
        "v = mem + rest",
    ),
    (
        "replace: the membrane after a reset is returned",
        "snnfast/nn/replacing/snntorch.py",
        "membrane = v_seq - rest + taken * spikes[-len(v_seq) :].detach()",
        "membrane = v_seq - rest",
    ),
    (
        "replace: Norse's current is kept before its decay",
        "snnfast/nn/replacing/norse.py",
        "return spikes, CurrentState(v, decay_syn * i)",
        "return spikes, CurrentState(v, i)",
    ),
    (
        "replace: neurons fire at the threshold, too",
        "snnfast/nn/replacing/port.py",
        "strict = isinstance(surrogate, Surrogate)",
        "strict = False",
    ),
    (
        "replace: a reset to a value has a gradient",
        "snnfast/nn/replacing/sinabs_functions.py",
        'return {"v_reset": 0.0, "detach_reset": True} if',
        'return {"v_reset": 0.0, "detach_reset": False} if',
    ),
    (
        "replace: what two layers share is copied twice",
        "snnfast/nn/replacing/spikingjelly.py",
        "self.w = copy.deepcopy(node.w, memo)",
        "self.w = copy.deepcopy(node.w)",
    ),
    (
        "replace: verify looks at the first call alone",
        "snnfast/nn/replacing/compare.py",
        "for a, b in zip(theirs[name], ours[name]):",
        "for a, b in zip(theirs[name][:1], ours[name]):",
    ),
    (
        "like: snnTorch's membrane is that of the step before",
        "snnfast/nn/presets.py",
        "return spikes, decay * (before - rest) + x",
        "return spikes, before",
    ),
    (
        "replace: KLIF's membrane passes no ReLU",
        "snnfast/nn/replacing/spikingjelly.py",
        "torch.relu(self.k * h)",
        "(self.k * h)",
    ),
    (
        "replace: snnTorch's neurons without a delayed reset are reset twice",
        "snnfast/nn/replacing/snntorch_functions.py",
        "again = spikes - reset",
        "again = spikes",
    ),
)
