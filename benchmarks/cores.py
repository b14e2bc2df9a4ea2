"""What an image costs a CPU core: decoding it, scoring its map at 1,000 thresholds.

python -m benchmarks.cores                                          # prints both, in processor time
python -m benchmarks.cores --json tedloc/results/cores.json         # keeps them: README and At scale are made from it
"""

import argparse
import json
from pathlib import Path

from tedloc import paths
from tedloc.cost import measured
from tedloc.errors import command
from tedloc.runs import provenance


@command
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cores", description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, help="write the result here")
    file = parser.parse_args().json
    paths.writable_file(file, "--json")
    found = measured.of_a_core(repeat=200)
    print(f"decoding {1e3 * found['decode']:.2f} ms, scoring {1e3 * found['score']:.2f} ms of a core")
    if file:
        found = {name: round(seconds, 6) for name, seconds in found.items()} | {"provenance": provenance()}
        with paths.replacing(file) as scratch:
            scratch.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
