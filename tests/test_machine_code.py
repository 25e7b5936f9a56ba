"""Reading machine code, and what :mod:`benchmarks.budget` makes of it."""

import sys
from pathlib import Path

import pytest
from samples import FILL, STEPS

from snnfast.ops.neuron import CHECKPOINT_EVERY

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks import budget, machine_code, neurons, resources
from benchmarks.budget import Code

LISTING = """
	.section	.text._Z1kv,"ax",@progbits
.L_x_0:
        /*0000*/                   LDG.E.128 R4, desc[UR4][R2.64] ;  /* 0x0000000402047981 */
                                                                     /* 0x000ea2000c1e1d00 */
        /*0010*/                   LDG.E.128 R8, desc[UR4][R2.64] ;  /* 0x0000000402047981 */
                                                                     /* 0x000ee2000c1e1d00 */
        /*0020*/                   FADD R4, R4, R8 ;                 /* 0x0000000402047981 */
                                                                     /* 0x00cfe20000000000 */
        /*0030*/                   STG.E.EF.128 desc[UR4][R2.64], R4 ;  /* 0x0000000402047981 */
                                                                     /* 0x000fe2000c1e1d00 */
        /*0040*/                   BRA `(.L_x_0) ;                   /* 0x0000000402047981 */
                                                                     /* 0x000fea000383ffff */
"""


def test_machine_code_is_read():
    (lines,) = machine_code.functions(LISTING).values()
    parsed = machine_code.instructions(lines)
    (loop,) = machine_code.loops(*parsed)
    assert [each.text.split()[0] for each in loop.body] == [
        *["LDG.E.128"] * 2,
        *["FADD", "STG.E.EF.128", "BRA"],
    ]
    assert machine_code.in_flight(loop.body) == 2
    assert [machine_code.word(each) for each in loop.loads] == [16, 16]
    assert machine_code.way(*parsed, loop.begin, loop.end, max) == 5
    # The stalls of a warp alone are in the last column: 0xe2, 0xe2, 0xe2, 0xe2 and 0xea of bits 105 on.
    assert [each.stall for each in loop.body] == [1, 1, 1, 1, 5]
    assert machine_code.way(*parsed, loop.begin, loop.end, max, machine_code.stall_of) == 9


def backward_listing():
    """A loop that keeps two steps in shared memory, and one of two steps that divides and may leave something out."""
    recompute = [".L_x_0:", *["LDG.E.128 R4, [R2.64]"] * 2, "FADD R4, R4, R8"]
    recompute += [*["STS.128 [R2], R4"] * 2, "@P0 BRA `(.L_x_0)"]
    gradients = [".L_x_1:", *["@P0 LDG.E.64 R4, [R2.64]"] * 2, *["@P1 LDG.E.128 R4, [R2.64]"] * 2]
    division = ["@!P0 BRA `(.L_x_2)", "CALL.REL.NOINC `(slow)", ".L_x_2:", "MUFU.RCP R4, R4"]
    more = ["@P1 BRA `(.L_x_3)", *["FADD R4, R4, R8"] * 9, ".L_x_3:"]
    stores = [*["STG.E.EF.64 [R2.64], R4"] * 2, "@P0 BRA `(.L_x_1)", "EXIT"]
    found = ["MOV R1, R1", *recompute, *gradients, *division, *more, *stores]
    return as_listed(found)


def as_listed(lines):
    return [line if line.endswith(":") else f"/*0000*/ {line} ; /* 0x{0:016x} */" for line in lines]


def narrow_listing():
    """A loop over tiles, which waits for one, keeps 16 steps, goes back through them, and copies the next two."""
    keep = [".L_x_1:", *["STS [R2], R4"] * 16, "@P0 BRA `(.L_x_1)"]
    left = ["@P1 BRA `(.L_x_3)", ".L_x_2:", "LDS R4, [R2]", *["MOV R1, R1"] * 30]
    left += ["@P0 BRA `(.L_x_2)", ".L_x_3:"]
    gradients = [".L_x_4:", *["STG.E.EF.U16 [R2.64], R4"] * 16, "FADD R4, R4, R8"]
    gradients += ["@P0 BRA `(.L_x_4)"]
    copies = [".L_x_5:", *["@P2 LDGSTS.E.BYPASS.128 [R47], [R38.64]"] * 4, "@P0 BRA `(.L_x_5)"]
    others = ["@P1 BRA `(.L_x_7)", ".L_x_6:", *["LDGSTS.E [R47], [R38.64]"] * 4]
    others += ["@P0 BRA `(.L_x_6)", ".L_x_7:", "LDGDEPBAR"]
    tiles = [".L_x_0:", "DEPBAR.LE SB0, 0x2", *keep, *left, *gradients, *copies, *others]
    return as_listed(["MOV R1, R1", *tiles, "@P0 BRA `(.L_x_0)", "EXIT"])


def test_of_few_neurons_a_whole_tile_is_counted():
    used = resources.Kernel("lif", "", 96, 0, 0, 0)
    parsed = machine_code.instructions(narrow_listing())
    name = "neuron_backward_kernel<Lif, float, BFloat16, 0, 1, true, true, 0>"
    code = machine_code.code(name, parsed, used)
    # The wait, loops over steps and over copies, 2 branches past others, the commit and the way back.
    assert code.executed_an_element == round((1 + 17 + 18 + 5 + 2 + 2) / 16, 1)
    assert code.instructions_an_element == code.executed_an_element
    assert (code.waits, code.loads_in_flight, code.executed_once) == (0.5, 2 * 2 * 16, 2)
    assert (code.load_bytes, code.store_bytes, code.bytes_an_element) == (16, 2, 2 * 3)
    assert code.shared_bytes == (2 * 3 * 2 + 4) * 16 * 64  # three tiles of x and of gradients
    pairs = machine_code.code(name.replace(" 1, true", " 2, true"), parsed, used)
    assert pairs.executed_an_element == round((1 + 17 + 18 + 5 + 2 + 2) / 32, 1)
    assert pairs.shared_bytes == (2 * 3 * 4 + 4) * 16 * 64


def test_both_loops_of_a_backward_pass_are_counted():
    used = resources.Kernel("lif", "", 96, 0, 0, 0)
    parsed = machine_code.instructions(backward_listing())
    name = "neuron_backward_kernel<Lif, float, BFloat16, 0, 4, true, false, 0>"
    code = machine_code.code(name, parsed, used)
    assert code.instructions_an_element == round((6 + 20) / 8, 1)
    assert code.executed_an_element == round((6 + 19) / 8, 1)  # no call, and the longer way
    assert code.executed_once == 2  # and the first of the loop
    assert code.waits == 2
    assert code.bytes_an_element == 2 * 3  # x, the gradients of spikes and of x
    assert (code.load_bytes, code.store_bytes) == (8, 8)  # not those of an optional tensor
    assert code.shared_bytes == 16 * 16 * 128


def code_of_lif(**changed):
    name = "forward_kernel<Lif, float, float, 0, 4, true, false>"
    return Code(name, 72, 0, 0, 4, 1.0, 16, 16, 8, 16.0, 16.0, 100, 64.0)._replace(**changed)


def test_machine_code_that_gets_worse_is_named():
    code = code_of_lif()
    assert (budget.blocks(code), budget.blocks(code._replace(registers=73))) == (7, 6)
    assert budget.blocks(code._replace(shared_bytes=48 << 10)) == 4
    kept = {"kernels": [code._asdict()]}
    better = code._replace(registers=60, loads_in_flight=8, instructions_an_element=12.0)
    assert budget.worse(kept, [code]) == budget.worse(kept, [better]) == []
    bad = code._replace(registers=80, store_bytes=4, executed_an_element=17.0)
    assert budget.worse(kept, [bad]) == [
        f"{code.kernel}: registers was 72, is 80",
        f"{code.kernel}: store bytes was 16, is 4",
        f"{code.kernel}: executed an element was 16.0, is 17.0",
    ]
    assert budget.worse(kept, []) == [f"{code.kernel} is no more"]


def test_the_least_time_is_that_of_memory_of_instructions_or_of_waiting():
    card, code, count = budget.CARDS["H100"], code_of_lif(executed_once=0), 1 << 22
    elements = 16 * count
    assert budget.seconds(code, 16, count, card) == elements * 8 / card.bytes_a_second
    slow = code._replace(executed_an_element=200.0)
    lanes = card.multiprocessors * 128
    assert budget.seconds(slow, 16, count, card) == pytest.approx(
        elements * 200 / lanes / card.hertz, rel=0.01
    )
    # One block: 125 groups of four steps, each of which waits.
    alone = budget.seconds(code, 500, 512, card)
    assert alone == pytest.approx(125 * (budget.LATENCY + 256 / card.hertz))
    # Of few neurons only the first tile is waited for, if two come while the instructions of one are issued.
    name = "forward_kernel<Lif, float, float, 0, 1, true, true>"
    few = code._replace(kernel=name, waits=0.5, executed_an_element=40.0, cycles_a_step=40.0)
    assert budget.seconds(few, 496, 64, card) == pytest.approx(
        budget.LATENCY + 31 * 640 / card.hertz
    )
    # A warp alone waits for its own results; two of a scheduler wait at the same time.
    slow = few._replace(cycles_a_step=64.0)
    for neurons_ in (64, 132 * 64):
        assert budget.seconds(slow, 496, neurons_, card) == pytest.approx(
            budget.LATENCY + 31 * 1024 / card.hertz
        )
    far = few._replace(waits=1.0)
    assert budget.seconds(far, 496, 64, card) == pytest.approx(32 * budget.LATENCY)


def test_predictions_are_for_what_is_launched_and_measured(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "scripts")
    from stages.timings import SHAPES

    assert SHAPES == budget.SHAPES
    assert FILL["cuda"] == budget.FILL
    assert STEPS == budget.STEPS
    assert CHECKPOINT_EVERY["cuda"] == budget.SEGMENT


def test_a_launch_takes_the_kernel_of_most_neurons_a_thread_that_fills_the_gpu():
    for dtype, way, sizes in (
        ("float32", "forward", {(1 << 17) - 1: 1, 1 << 17: 4}),
        ("bfloat16", "forward", {(1 << 15) - 1: 1, 1 << 15: 2, (1 << 18) - 1: 2, 1 << 18: 8}),
        ("bfloat16", "backward", {(1 << 15) - 1: 1, 1 << 15: 2, (1 << 18) - 1: 2, 1 << 18: 4}),
    ):
        for neurons_, lanes in sizes.items():
            code = budget.taken(budget.kept(), "lif", way, dtype, neurons_)
            assert (code.lanes, code.narrow) == (lanes, lanes < 4)
    assert budget.taken(budget.kept(), "lif", "forward", "float16", 1 << 18) is None


def test_all_neurons_can_reach_their_share_of_the_bandwidth():
    """The goals of benchmarks/notes/machine_code.md, by arithmetic: bounds, which none may miss."""
    _, *missed = budget.misses(budget.kept())
    assert missed == []


def test_kept_machine_code_is_of_neurons_and_stores_wide():
    codes = budget.kept()
    assert {code.neuron for code in codes} == {*neurons.stems(), "lif, tensors"}
    for code in codes:
        assert code.spill_bytes == 0
        item = budget.ITEM[code.dtype]
        assert code.store_bytes == code.lanes * item
        assert code.load_bytes == (16 if code.narrow else code.lanes * item)
        # x and spikes; x and two gradients, and x again where the steps are taken again from the states before them.
        again = code.neuron in ("lif, tensors", "normlif") and not code.narrow
        moved = 2 if code.direction == "forward" else 4 if again else 3
        assert code.bytes_an_element == moved * item
