"""Each example, run as a user would, gives the very bytes that a plain loop over the same script gives."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EXAMPLES = Path(__file__).parents[2] / "examples"
BATCHMESH = Path(sys.executable).with_name("batchmesh")


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run_by_mesh(tmp_path: Path) -> Callable[..., bytes]:
    """`batchmesh run` in a home of the test's own: the bytes of the output file."""

    def run(script: Path, source: Path, file_name: str, *options: str) -> bytes:
        output = tmp_path / "output"
        places: list[str | Path] = ["--home", tmp_path / "home", "--input", source, "--output", output]
        command = [BATCHMESH, "run", script, *places, "--append-row-file-name", file_name, *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        return (output / file_name).read_bytes()

    return run


@pytest.fixture
def run_by_hand(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """The results of init() and then run() for each mini-batch, in this very process."""

    def run(script: Path, mini_batches: Sequence[Any], *arguments: str) -> list[Any]:
        monkeypatch.setattr(sys, "argv", [str(script), *arguments])
        module = load(script)
        module.init()
        return [module.run(mini_batch) for mini_batch in mini_batches]

    return run


def as_csv(table: pd.DataFrame) -> bytes:
    """A header, quoted strings, and numbers without a needless '.0'."""
    rows = [
        [f'"{value}"' if isinstance(value, str) else f"{value:g}" for value in row]
        for row in table.itertuples(index=False)
    ]
    return "".join(",".join(row) + "\n" for row in [list(table.columns), *rows]).encode()


def test_the_digits_example_names_each_image_as_a_plain_loop_does(
    tmp_path: Path, run_by_mesh: Callable[..., bytes], run_by_hand: Callable[..., list[Any]]
) -> None:
    demo, script = load(EXAMPLES / "digits" / "demo.py"), EXAMPLES / "digits" / "digit_identification.py"
    labels = demo.make_images(tmp_path)
    model = tmp_path / "model.joblib"
    demo.train(tmp_path / "training", model)
    images = sorted(map(str, (tmp_path / "images").iterdir()))

    options = ("--mini-batch-size", "5", "--process-count-per-node", "2", "--", "--model", str(model))
    output = run_by_mesh(script, tmp_path / "images", "parallel_run_step.txt", *options)

    [lines] = run_by_hand(script, [images], "--model", str(model))
    assert len(images) == len(labels) == 898
    assert output.decode() == "".join(f"{line}\n" for line in lines)
    assert demo.accuracy(tmp_path / "output" / "parallel_run_step.txt", labels) > 0.9


def test_the_iris_example_adds_the_column_that_a_plain_loop_adds(
    run_by_mesh: Callable[..., bytes], run_by_hand: Callable[..., list[Any]]
) -> None:
    script, table = EXAMPLES / "iris" / "iris_prediction.py", EXAMPLES / "iris" / "iris.csv"

    output = run_by_mesh(script, table, "iris.csv", "--mini-batch-size", "20 rows")

    [rows] = run_by_hand(script, [pd.read_csv(table)])
    assert len(rows) == 150
    assert output == as_csv(rows)


def test_the_word_counts_example_gives_one_object_per_file_as_a_plain_loop_does(
    run_by_mesh: Callable[..., bytes], run_by_hand: Callable[..., list[Any]]
) -> None:
    script, texts = EXAMPLES / "word_counts" / "word_counts.py", EXAMPLES / "word_counts" / "texts"
    paths = sorted(map(str, texts.iterdir()))

    output = run_by_mesh(script, texts, "word_counts.jsonl", "--mini-batch-size", "2", "--", "--shortest", "3")

    results = run_by_hand(script, [paths[:2], paths[2:4], paths[4:]], "--shortest", "3")
    rows = [row for result in results for row in result]
    assert len(rows) == 5
    assert output.decode() == "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
