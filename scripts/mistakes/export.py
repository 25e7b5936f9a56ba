"""Mistakes in what takes networks elsewhere: C, single steps, NIR, several processes."""

TESTS = ("tests/export/test_export_c.py", "tests/export/test_step.py")
MISTAKES = (
    (
        "export_c: a reset forgets to set membranes to their rest",
        "snnfast/export/neurons.py",
        'source.kept(f"{id}_v", size, text["v_rest"])',
        'source.kept(f"{id}_v", size)',
    ),
    (
        "export_c: the weights of an image are laid out by columns",
        "snnfast/export/products.py",
        "stored.permute(3, 4, 0, 2, 1)",
        "stored.permute(4, 3, 0, 2, 1)",
    ),
    (
        "export_c: spikes that come back do so a step too late",
        "snnfast/export/recurrent.py",
        'arrived = row % "1"',
        'arrived = row % "2"',
    ),
    (
        "export_c: a batch normalisation loses its mean",
        "snnfast/nn/fuse.py",
        "fuse_conv_bn_weights(weight, bias, mean, var",
        "fuse_conv_bn_weights(weight, bias, 0 * mean, var",
    ),
    (
        "export_c: weights of 8 bits are scaled by 128",
        "snnfast/export/exact.py",
        "most / 127",
        "most / 128",
    ),
    (
        "Step: spikes under way are forgotten between steps",
        "snnfast/export/step.py",
        "for (layer, name), value in zip(self._states(), states):",
        'for (layer, name), value in zip([s for s in self._states() if s[1] != "past"], states):',
    ),
    (
        "nir: the delay of a cycle has the step that all take in it",
        "snnfast/nir/cycles.py",
        "/ steps.dt\n    if each.size",
        "/ steps.dt - 1\n    if each.size",
        ("tests/nir/test_nir.py",),
    ),
    (
        "processes: every share of a batch counts the same, whatever its size",
        "snnfast/train.py",
        "(value * (count * processes.size / len(labels))).backward()",
        "value.backward()",
        ("tests/procedure/test_processes.py",),
    ),
    (
        "processes: batch normalisation forgets that its variance depends on every value",
        "snnfast/batch_norm.py",
        "(grad - total - z * total_z)",
        "(grad - total)",
        ("tests/nn/test_training.py",),
    ),
    (
        "processes: dropout in Time takes the steps for images",
        "snnfast/whole_batch.py",
        "parts = whole.unflatten(0, (-1, B) if folded else (B, -1))",
        "parts = whole.unflatten(0, (B, -1)).transpose(0, int(folded))",
        ("tests/test_whole_batch.py",),
    ),
    (
        "processes: a share of one image is drawn in another memory format",
        "snnfast/whole_batch.py",
        "strides[0] = x.numel()",
        "strides[0] = 0",
        ("tests/test_whole_batch.py",),
    ),
    (
        "processes: an activation checkpoint draws anew",
        "snnfast/whole_batch.py",
        "self.before.setdefault(place, self.common)",
        "self.common",
        ("tests/test_whole_batch.py",),
    ),
    (
        "processes: every process encodes by a seed of its own",
        "snnfast/calls/poisson.py",
        "with whole_batch.drawing():",
        "with torch.enable_grad():",
        ("tests/test_whole_batch.py",),
    ),
    (
        "monitor: a converted network's constant input counts once, not at every step",
        "snnfast/conversion/stream.py",
        "(x != 0) * float(self.steps)",
        "(x != 0) * 1.0",
        ("tests/monitoring/test_monitor.py",),
    ),
)
