"""Mistakes in what reads data: name, path, what becomes what."""

TESTS = ("tests/data/test_events.py",)
MISTAKES = (
    (
        "events: one exactly at the end of the last step counts",
        "snnfast/data/events.py",
        "inside = steps < num_steps",
        "inside = steps <= num_steps",
    ),
    (
        "events: a sample of the cache is not checked",
        "snnfast/data/events.py",
        "if _checksum(sample, label, length) != expected:",
        "if False:",
    ),
    (
        "events: the checksum leaves out the label",
        "snnfast/data/events.py",
        'f"{label} {length}".encode()',
        'f"{length}".encode()',
    ),
)
