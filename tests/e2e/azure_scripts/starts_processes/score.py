"""Has the work done by programs that it starts, through a shell and without, and leaves one behind."""

import subprocess
import sys


def run(mini_batch):
    subprocess.Popen(["sleep", "1"])
    results = []
    for path in mini_batch:
        number = subprocess.check_output(f"cat '{path}'", shell=True, text=True).strip()
        code = "import sys; print(int(sys.stdin.read()) + 100)"
        done = subprocess.run([sys.executable, "-c", code], input=number, capture_output=True, text=True, check=True)
        results.append(done.stdout.strip())
    return results
