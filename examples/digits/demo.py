"""What `make demo` runs: makes images of digits, trains a classifier, and runs the digits example over them.

    load_digits ──▶ demo/training/*.png ──▶ demo/model.joblib ─┐
                └─▶ demo/images/*.png ──▶ batchmesh run ───────┴─▶ demo/output/parallel_run_step.txt

Everything lies under demo/ in the clone, the mesh's home too.
"""

import shlex
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path

import joblib
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.svm import SVC

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("digit_identification.py")


def make_images(folder: Path) -> dict[str, int]:
    """Writes all 1,797 digits as PNG files, the first half below training/, the others below images/.

    Returns the digit that each file of images/ shows.
    """
    digits = load_digits()
    half = (len(digits.images) + 1) // 2
    labels = {}
    for name in ("training", "images"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
    for number, (image, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        name = f"digit-{number:04}.png"
        into = "training" if number < half else "images"
        Image.fromarray((image * 15).astype(np.uint8)).save(folder / into / name)
        if into == "images":
            labels[name] = int(digit)
    return labels


def train(images: Path, model: Path) -> None:
    """Fits a small classifier to the images of training/ and writes it to `model`."""
    digits = load_digits()
    paths = sorted(images.iterdir())
    pixels = [np.asarray(Image.open(path), dtype=float).ravel() for path in paths]
    joblib.dump(SVC(gamma=0.001 / 15**2).fit(pixels, digits.target[: len(paths)]), model)


def identify(folder: Path) -> int:
    """Runs the entry script through a mesh of its own; returns the exit status of `batchmesh run`."""
    home, images, output = (str((folder / name).relative_to(ROOT)) for name in ("home", "images", "output"))
    command = ["run", str(SCRIPT.relative_to(ROOT)), "--home", home, "--input", images, "--output", output]
    command += ["--mini-batch-size", "5", "--process-count-per-node", "2", "--overwrite"]
    command += ["--", "--model", str(folder / "model.joblib")]
    print("$ batchmesh", shlex.join(command), flush=True)
    return subprocess.run([Path(sys.executable).with_name("batchmesh"), *command], cwd=ROOT, check=False).returncode


def accuracy(output: Path, labels: dict[str, int]) -> float:
    """The part of the labels that the output names rightly; an image that is missing is wrong."""
    named = dict(line.split(": ") for line in output.read_text().splitlines())
    return sum(named.get(name) == str(digit) for name, digit in labels.items()) / len(labels)


def main() -> int:
    """Returns the exit status."""
    folder = ROOT / "demo"
    print("Making 1,797 images of handwritten digits and training a classifier on half of them …", flush=True)
    labels = make_images(folder)
    train(folder / "training", folder / "model.joblib")
    status = identify(folder)
    if status:
        return status
    output = folder / "output" / "parallel_run_step.txt"
    print(f"\nThe first lines of {output.name}:")
    with output.open() as lines:
        print(*(f"  {line}" for line in islice(lines, 5)), sep="", end="")
    print(f"Accuracy: {accuracy(output, labels):.1%} of {len(labels)} images")
    print(f"The output: {output}\nThe report: {output.parent / 'job_report'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
