"""How often is the rule of verdicts wrong where the truth is known, and what does it miss? (tedloc.metrics.verdicts)

    python benchmarks/verdict_rule.py                              # some minutes: error rates and power
    python benchmarks/verdict_rule.py --repetitions 20000 --worlds 5 8

The chapter *How we judge* computes the same with fewer repetitions.
"""

import argparse

from tedloc.book import simulated

TRUTHS, CLAIMS = (1.0, 2.0, 5.0, 10.0), 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5000)
    parser.add_argument("--worlds", type=int, nargs="+", default=[simulated.WORLDS])
    asked = parser.parse_args()
    print("Wrong verdicts (%) where nothing differs\n")
    print(simulated.table((0.0,), asked.repetitions).round(1).to_string())
    for worlds in asked.worlds:
        print(f"\nDifferences found (%) from {worlds} worlds, alone and as the clearest of {CLAIMS} claims\n")
        print(simulated.power(TRUTHS, asked.repetitions, CLAIMS, worlds).round(1).to_string())


if __name__ == "__main__":
    main()
