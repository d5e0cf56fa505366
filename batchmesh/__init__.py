"""batchmesh: batch inference and any per-mini-batch work over large inputs, on one laptop or on many hosts."""
