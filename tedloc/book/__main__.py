"""The book: run its notebooks, then build its pages.

    python -m tedloc.book run [--profile aviary] [--only NAME] [--force] [-p KEY VALUE ...]
    python -m tedloc.book evidence [--profile aviary] [--only NAME]
    python -m tedloc.book build
    python -m tedloc.book record
    python -m tedloc.book readme
    python -m tedloc.book picture

``evidence`` computes every world of every method and variant, hours of work, and keeps it in
``tedloc/results/evidence``; killed, it goes on where it was. ``run`` executes the notebooks of the table of contents in
order (those that read others last) and says what is left; it skips those whose result is current, so that after a kill
it goes on. ``build`` renders ``book/`` with Jupyter Book and prints the path of the first page. ``make book`` does
both. ``record`` keeps what the executed chapters found as ``tedloc/results/PROFILE.json`` and renews the README's
tables from it; ``readme`` does only the latter. ``picture`` draws the README's pictures from finished runs.
"""

import argparse
import ast
import multiprocessing.connection
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tedloc import paths, profiles
from tedloc.book import archive, chapters, findings, progress, readme
from tedloc.data import at_hand
from tedloc.errors import UserError, choose, command
from tedloc.runs import kept
from tedloc.training import devices

GENERATED = ("index", "genindex", "py-modindex", "search")  # pages without a source


def run(
    profile: str = "aviary", only: str | None = None, force: bool = False, parameters: dict[str, Any] | None = None
) -> None:
    """Execute the book's notebooks, on a CPU two at a time where nothing is timed; their runs use all cores. Of those
    that may run side by side the longest begin first, so that none is left to end alone.

    Chapters with a profile of their own (real photos) are left out of the smoke book.
    parameters: of a notebook that is named by ``only``; of a whole book each chapter in its profile gets those it has.
    Stops at the first notebook that fails (``UserError``); those that are finished by then are kept.
    """
    profiles.get(profile)
    parameters = parameters or {}
    listed = chapters.contents()
    if kept.making():  # what is kept of one profile alone: its own chapters, or the book's
        listed = [chapter for chapter in listed if chapter.profile == profile] or [c for c in listed if not c.profile]
    groups = [[chapters.select(only)]] if only else chapters.in_order(listed)
    everything = [chapter for group in groups for chapter in group]
    if not only:
        known = set().union(*(chapter.parameters for chapter in everything))
        for name in parameters:
            choose("parameter of the book's notebooks", name, known)
    wanted = {chapter: _values(chapter, profile, parameters, bool(only)) for chapter in everything}
    left = progress.Left({chapter.name: chapters.earlier_seconds(chapter, profile) for chapter in everything})
    for group in groups:
        waiting = []
        for chapter in sorted(group, key=lambda chapter: left.expected(chapter.name), reverse=True):
            values = wanted[chapter]
            if not force and chapters.is_current(chapter, values):
                print(f"{_label(chapter, values)}: up to date", flush=True)
                left.skip(chapter.name)
                continue
            if not only and chapter.profile and profile == "smoke":
                chapters.leave_out(chapter)
                print(f"{_label(chapter, values)}: left out of the smoke book", flush=True)
                left.skip(chapter.name)
                continue
            waiting.append((chapter, values))
        _execute(waiting, left)


def _values(chapter: chapters.Chapter, profile: str, parameters: dict[str, Any], named: bool) -> dict[str, Any]:
    """The parameters of a chapter; named: it was asked for by its name."""
    own = {key: value for key, value in parameters.items() if key in chapter.parameters and not chapter.profile}
    return {"profile": chapter.profile or profile, **(parameters if named else own)}


def _label(chapter: chapters.Chapter, values: dict[str, Any]) -> str:
    return f"{chapter.name} [{values['profile']}]"


def _execute(waiting: list[tuple[chapters.Chapter, dict[str, Any]]], left: progress.Left) -> None:
    """Execute chapters, each by a process of its own, two at a time on a CPU: while one draws, on one core, the runs of
    the other keep the cores busy. At a failure the other is stopped. Says what is left, and what a long run is at."""
    context = multiprocessing.get_context("fork")
    on_cpu = all((values.get("device") or devices.default()) == "cpu" for _, values in waiting)
    free, running = [0, 1] if on_cpu else [0], {}  # lines of the terminal
    threads, places = max(1, (os.cpu_count() or 1) // min(len(free), len(waiting) or 1)), len(free)
    try:
        while waiting or running:
            while waiting and free:
                chapter, values = waiting.pop(0)
                line, (result, send) = free.pop(0), context.Pipe(duplex=False)
                print(f"{_label(chapter, values)}: running", flush=True)
                process = context.Process(target=_report, args=(send, chapter, values, line, threads))
                process.start()
                send.close()  # so that a child that dies is seen to have ended
                running[result] = process, line, chapter, values
            looked = time.time()
            ready = multiprocessing.connection.wait(list(running), timeout=progress.NEWS)
            if not ready and (told := progress.news(looked)):
                print(f"  {told}", flush=True)
            for result in ready:
                _, line, chapter, values = running.pop(result)
                free.append(line)
                left.done(chapter.name, seconds := _received(result, chapter))
                print(f"{_label(chapter, values)}: {seconds:.0f} s; {left.words(places)}", flush=True)
    finally:
        for process, *_ in running.values():
            process.terminate()  # its kernel ends with it
            process.join()


def _report(send: Connection, chapter: chapters.Chapter, values: dict[str, Any], line: int, threads: int) -> None:
    """In the child: execute a chapter and send the seconds that it took, or why it failed."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # of its kernel; more than the cores hinder each other
    try:
        send.send(chapters.execute(chapter, values, line))
    except (UserError, KeyboardInterrupt) as error:
        send.send(error)


def _received(result: Connection, chapter: chapters.Chapter) -> float:
    try:
        seconds = result.recv()
    except EOFError:
        raise UserError(
            f"the process that executed chapter {chapter.name} ended before it was done; what it printed "
            "stands above; start again to go on from here"
        ) from None
    if isinstance(seconds, BaseException):
        raise seconds
    return seconds


def build() -> Path:
    """Render the book from the executed notebooks; returns the path of its first page.

    Raises ``UserError`` when a chapter was not executed or holds an error, or when Sphinx warns of anything.
    """
    for chapter in chapters.contents():
        again = f"python -m tedloc.book run --only {chapter.name}"
        if not chapter.executed.exists():
            raise UserError(f"chapter {chapter.name} has not been executed; run: {again}")
        error = chapters.error_in(chapter.executed)
        if error:
            raise UserError(f"chapter {chapter.name} holds an error ({error}); mend it and run: {again}")
        story = chapters.record(chapter.executed)
        if "parameters" in story and not chapters.is_current(chapter, story["parameters"]):
            print(f"note: chapter {chapter.name} shows an earlier state of the code; to renew it, run: {again}")
    shutil.copy2(archive.ready(), paths.book() / "_static")  # what the pages offer to download
    pages = paths.book() / "_build"
    pages.mkdir(exist_ok=True)
    log, unfinished = pages / "build.log", pages / "unfinished"
    if unfinished.exists():  # Sphinx warns of a page only when it reads it: after a failure it must read all again
        shutil.rmtree(pages / ".doctrees", ignore_errors=True)
    unfinished.touch()
    jupyter_book = Path(sys.executable).with_name("jupyter-book")
    sphinx = [jupyter_book, "build", paths.book(), "-W", "--keep-going", "-q"]
    with log.open("w") as output:
        failed = subprocess.run(sphinx, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL).returncode
    if failed:
        print(log.read_text(), file=sys.stderr)
        raise UserError(f"the book was not built: mend the warnings above (also in {log})")
    unfinished.unlink()
    _remove_stale(pages / "html")
    return pages / "html" / "index.html"


def _remove_stale(html: Path) -> None:
    """Take away the pages of an earlier build whose source is gone; Sphinx leaves them for a reader to find."""
    for page in html.rglob("*.html"):
        name = page.relative_to(html).with_suffix("")
        sources = [(paths.book() / name).with_suffix(suffix) for suffix in (".md", ".ipynb")]
        kept = name.parts[0].startswith("_") or str(name) in GENERATED or any(source.exists() for source in sources)
        if not kept:
            page.unlink()


def keep(what: str) -> None:
    """Write what lies in the repository though it is computed: ``record``, ``readme``, ``picture``; see above."""
    if what == "picture":
        for profile in readme.PICTURES:
            there = at_hand(profiles.get(profile).data)
            print(
                f"drew {readme.picture(profile)}" if there else f"{profile}: its photos are not here; its picture stays"
            )
        return
    for name in findings.record() if what == "record" else ():
        print(f"stored {chapters.RESULTS / name}.json")
    print(f"renewed {readme.write()}")


def _value(text: str) -> Any:
    """A number, True, False, None or list as Python writes it; anything else is a string."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


@command
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tedloc.book", description="Run the notebooks, build the book.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    runner = verbs.add_parser("run", help="execute the notebooks whose result is not current")
    runner.add_argument("--profile", default="aviary", help="the book's profile (default: %(default)s)")
    runner.add_argument("--only", metavar="NAME", help="one notebook or chapter instead of all")
    runner.add_argument("--force", action="store_true", help="run even what is up to date")
    runner.add_argument(
        "-p",
        dest="parameters",
        nargs=2,
        action="append",
        default=[],
        metavar=("KEY", "VALUE"),
        help="a parameter of the notebooks; may be repeated",
    )
    keeper = verbs.add_parser("evidence", help="compute all worlds of all methods and keep the results (hours)")
    keeper.add_argument("--profile", default="aviary", help="default: %(default)s")
    keeper.add_argument("--only", metavar="NAME", help="what one chapter asks for")
    verbs.add_parser("build", help="render the pages")
    verbs.add_parser("record", help="keep what the executed chapters found as tedloc/results/PROFILE.json")
    verbs.add_parser("readme", help="renew the README's tables from the stored results")
    verbs.add_parser("picture", help="draw the README's pictures from finished runs")
    chosen = parser.parse_args(arguments)
    if chosen.verb == "build":
        print(f"The book is ready; open {build()}")
    elif chosen.verb == "evidence":
        os.environ[kept.MAKING] = "make"  # the notebooks' kernels inherit it
        run(chosen.profile, chosen.only, force=True)
    elif chosen.verb in ("record", "readme", "picture"):
        keep(chosen.verb)
    else:
        parameters = {key: _value(value) for key, value in chosen.parameters}
        if "profile" in parameters:
            raise UserError("give the profile by --profile, not by -p")
        run(chosen.profile, chosen.only, chosen.force, parameters)


if __name__ == "__main__":
    main()
