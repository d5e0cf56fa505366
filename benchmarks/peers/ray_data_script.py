"""A plain script with Ray Data, whole: `ray_data_script.py FILES OUTPUT MINI_BATCH_SIZE WORKERS`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import no_op
import ray


def run(batch: dict[str, Any]) -> dict[str, Any]:
    """The entry script's run(), over one batch."""
    return {"name": no_op.run(batch["item"].tolist())}


if __name__ == "__main__":
    files, output, size, workers = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    ray.init(num_cpus=workers, include_dashboard=False)
    names = ray.data.from_items(sorted(map(str, files.iterdir()))).map_batches(run, batch_size=size)
    output.write_text("".join(f"{row['name']}\n" for row in names.iter_rows()))
