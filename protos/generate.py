"""Generates batchmesh/v1 from protos/, or with --check says whether what is committed is current."""

import filecmp
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROTOS = Path(__file__).resolve().parent
TARGET = PROTOS.parent / "batchmesh" / "v1"


def generate(into: Path) -> None:
    """Writes messages, services and their typed stubs under `into`."""
    bin_folder = Path(sys.executable).parent
    outputs = [f"--{kind}_out={into}" for kind in ("python", "grpc_python")]
    outputs += [f"--{kind}_out=quiet:{into}" for kind in ("mypy", "mypy_grpc")]
    plugins = [f"--plugin=protoc-gen-{name}={bin_folder}/protoc-gen-{name}" for name in ("mypy", "mypy_grpc")]
    files = sorted(str(path) for path in PROTOS.rglob("*.proto"))
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", *plugins, *outputs, *files], check=True)


def differing(fresh: Path) -> list[str]:
    names = {path.name for path in fresh.iterdir()} | {path.name for path in TARGET.glob("*_pb2*")}
    _, mismatch, errors = filecmp.cmpfiles(fresh, TARGET, sorted(names), shallow=False)
    return mismatch + errors


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = Path(folder) / "batchmesh" / "v1"
        if "--check" in sys.argv:
            stale = differing(fresh)
            if stale:
                print(f"batchmesh/v1 is not what protos/ gives: {', '.join(stale)}; run `make protos`.")
            return 1 if stale else 0
        for path in fresh.iterdir():
            shutil.copy(path, TARGET / path.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
