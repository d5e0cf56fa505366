"""A world around the scheduler's Machine in virtual time, drawn from one seed: nodes, wires, a database and a storage
that fail at random, and a book of each job that holds the Machine to its invariants after each event.

    clock ─▶ faults ─▶ agents ◀─wires─▶ shell ─event─▶ Machine        workload, expected, verdict: what must come out
                          └▶ storage      └▶ database   └─▶ audit, book: what must hold after each event

    python -m tests.simulation --events 1000000 --seed 7
"""
