"""What a plain loop over the mini-batches gives: an entry script loaded and called by a few lines, without a mesh.

`python plain_loop.py JSON` runs in a copy of the script's folder. JSON: script, argv, kind, size, inputs, result.
A mini-batch whose run() raises or exits is left out.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any


def main(wish: dict[str, Any]) -> None:
    sys.argv[:] = [wish["script"], *wish["argv"]]
    path = Path(wish["script"]).resolve()
    sys.path[:1] = [str(Path.cwd()), str(path.parent)]
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    if hasattr(module, "init"):
        module.init()
    lines: list[str] = []
    for number, batch in enumerate(_mini_batches(wish)):
        try:
            result = module.run(batch, _Context(number)) if wish["context"] else module.run(batch)
        except BaseException as error:  # noqa: BLE001 a script may leave by any way
            print(f"left out: {error!r}", file=sys.stderr)  # noqa: T201 for who looks at a failed test
            continue
        lines += _lines(result)
    if hasattr(module, "shutdown"):
        module.shutdown()
    Path(wish["result"]).write_text(json.dumps(lines))


class _Context:
    def __init__(self, number: int) -> None:
        self.minibatch_index = number
        self.partition_key_value: dict[str, Any] = {}


def _mini_batches(wish: dict[str, Any]) -> list[Any]:
    inputs = wish["inputs"]
    if wish["kind"] == "files":
        return [inputs[at : at + wish["size"]] for at in range(0, len(inputs), wish["size"])]
    import pandas as pd

    return [pd.read_csv(each) for each in inputs]


def _lines(result: Any) -> list[str]:
    """As append_row writes them."""
    if hasattr(result, "to_csv") and hasattr(result, "columns"):
        text: str = result.to_csv(sep=" ", header=False, index=False)
        return text.splitlines()
    return [str(each) for each in result]


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
