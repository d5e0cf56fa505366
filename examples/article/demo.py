"""The tutorial of batch inference with ParallelRunStep, run here: first by Azure ML's names, then by batchmesh's.

stage ──images──▶ Azurite, container sampledata ─┐
      └─model───▶ WORK/models ───────────────────┴─▶ tutorial.py ──▶ WORK/azureml/inference_results
                                                 └─▶ tutorial_batchmesh.py ──▶ WORK/batchmesh/inference_results
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import azurite
import stage

HERE = Path(__file__).resolve().parent
#: The two programs: the folder that each runs in, and how it is started.
PROGRAMS = {
    "azureml": ["-m", "batchmesh.azureml", str(HERE / "tutorial.py")],
    "batchmesh": [str(HERE / "tutorial_batchmesh.py")],
}


def parse() -> argparse.Namespace:
    """What differs from the tutorial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=HERE.parents[1] / "demo" / "article", help="default: demo/article")
    parser.add_argument("--local", action="store_true", help="without Azurite and an environment: no download")
    parser.add_argument("--azurite", type=Path, help="folder that Azurite is installed in; default: WORK/azurite")
    parser.add_argument("--count", type=int, default=300, help="images")
    return parser.parse_args()


def run(work: Path, name: str, options: list[str], variables: dict[str, str]) -> Path:
    """One program in a folder and a mesh of its own; returns the file with the results."""
    folder = work / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(HERE / "code", folder / "code")
    shutil.copytree(work / "models", folder / "models")
    print(f"\n$ python {' '.join([*PROGRAMS[name], *options])}", flush=True)
    home = {"BATCHMESH_HOME": str(work / f"home-{name}")}
    done = subprocess.run(
        [sys.executable, *PROGRAMS[name], *options], cwd=folder, env={**os.environ, **variables, **home}, check=False
    )
    if done.returncode:
        raise SystemExit(done.returncode)
    return next((folder / "inference_results").rglob("parallel_run_step.txt"))


def accuracy(results: Path, labels: dict[str, int]) -> float:
    """The part of the labels that the results name rightly; an image that is missing is wrong."""
    named = dict(line.split(": ") for line in results.read_text().splitlines())
    return sum(named.get(name) == str(digit) for name, digit in labels.items()) / len(labels)


def main() -> int:
    """Returns the exit status."""
    given = parse()
    work = given.work.resolve()
    labels = stage.make_images(work / "images", given.count)
    stage.make_model(work / "models")
    options: list[str] = []
    variables: dict[str, str] = {}
    if given.local:
        options = ["--images", str(work / "images"), "--python", sys.executable]
        place = nullcontext("")
    else:
        place = azurite.running(azurite.installed(given.azurite or work / "azurite"), work / "blobs")
    with place as account_url:
        if account_url:
            stage.upload(work / "images", account_url, azurite.KEY)
            variables = {"BATCHMESH_AZURE_BLOB_ENDPOINT": account_url}
        for name in PROGRAMS:
            results = run(work, name, options, variables)
            print(f"{results}: {accuracy(results, labels):.1%} of {len(labels)} images are named rightly", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
