"""A plain script with a pool, whole: `pool_script.py FILES OUTPUT MINI_BATCH_SIZE WORKERS`."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import no_op

if __name__ == "__main__":
    files, output, size, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    paths = sorted(map(str, files.iterdir()))
    mini_batches = [paths[at : at + size] for at in range(0, len(paths), size)]
    with ProcessPoolExecutor(workers) as pool:
        names = [name for names in pool.map(no_op.run, mini_batches) for name in names]
    output.write_text("".join(f"{name}\n" for name in names))
