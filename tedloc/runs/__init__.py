"""Runs: one method, trained and evaluated under one profile and seed, computed once.

from tedloc import profiles, runs
found = runs.collect(runs.grid(profiles.get("aviary"), method="cam"))      # one finished run a seed
found[0]["MaxBoxAcc@0.5"], found[0].per_image()
"""

from tedloc.runs.run import Request, Run, provenance, status
from tedloc.runs.schedule import collect, collect_named, ensure, grid, ready

__all__ = ["Request", "Run", "collect", "collect_named", "ensure", "grid", "provenance", "ready", "status"]
