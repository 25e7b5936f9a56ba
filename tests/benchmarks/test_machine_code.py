"""Counting instructions, and the judgement of ``python -m benchmarks machine_code --check``."""

import re

from benchmarks import machine_code, neurons

LISTING = """
	.section	.text._Z1kv,"ax",@progbits
.L_x_0:
        /*0000*/                   LDG.E.128 R4, desc[UR4][R2.64] ;  /* 0x0000000402047981 */
                                                                     /* 0x000ea2000c1e1d00 */
        /*0010*/                   FADD R4, R4, R8 ;                 /* 0x0000000402047981 */
                                                                     /* 0x00cfe20000000000 */
        /*0020*/                   BRA `(.L_x_0) ;                   /* 0x0000000402047981 */
                                                                     /* 0x000fea000383ffff */
	.section	.text._Z1jv,"ax",@progbits
        /*0000*/                   EXIT ;                            /* 0x0000000402047981 */
                                                                     /* 0x000ea2000c1e1d00 */
"""


def test_instructions_are_counted():
    assert sorted(machine_code.instructions(LISTING).values()) == [1, 3]


def test_machine_code_that_gets_worse_is_named():
    code = machine_code.Code("k<Lif>", 72, 0, 1000)
    better = code._replace(registers=60, instructions=900)
    assert machine_code.worse([code], [code]) == machine_code.worse([code], [better]) == []
    bad = code._replace(registers=80, spill_bytes=4, instructions=1001)
    assert machine_code.worse([code], [bad]) == [
        "k<Lif>: registers was 72, is 80",
        "k<Lif>: spill bytes was 0, is 4",
        "k<Lif>: instructions was 1000, is 1001",
    ]
    assert machine_code.worse([code], []) == ["k<Lif> is no more"]


def test_kept_machine_code_is_of_every_neuron_and_spills_nothing():
    stored = machine_code.stored().kernels
    found = {re.search(r"<(\w+)", code.kernel)[1].lower() for code in stored}
    assert found == set(neurons.stems())
    assert not any(code.spill_bytes for code in stored)
    assert all(code.instructions > 100 for code in stored)
