"""The runner of the notebooks and the builder of the book, on notebooks and contents of their own."""

import importlib.util
import json
import re
import shlex
from pathlib import Path

import nbformat
import pytest

from tedloc import paths
from tedloc.book import __main__ as book
from tedloc.book import chapters
from tedloc.errors import UserError
from tedloc.profiles import PROFILES

ROOT = Path(__file__).resolve().parents[2]

HEAD = """# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A title
#
# Words.

# %% tags=["parameters"]
profile = "smoke"
times = 1

# %%
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A function that lays out a checkout of notebooks (name -> last cell) with these contents."""
    monkeypatch.setattr(paths, "root", lambda: tmp_path)
    monkeypatch.setattr(paths, "checkout", lambda: tmp_path)
    monkeypatch.delenv("TEDLOC_DATA", raising=False)

    def lay_out(chapters: list[str] | None = None, **sources: str) -> Path:
        (tmp_path / "notebooks").mkdir(exist_ok=True)
        (tmp_path / "book").mkdir(exist_ok=True)
        for name, cell in sources.items():
            (tmp_path / "notebooks" / f"{name}.py").write_text(HEAD + cell + "\n")
        listed = "".join(f"  - file: {chapter}\n" for chapter in chapters or [f"executed/{name}" for name in sources])
        (tmp_path / "book" / "_toc.yml").write_text(f"format: jb-book\nroot: intro\nchapters:\n{listed}")
        return tmp_path

    return lay_out


def left_over(root: Path) -> list[str]:
    return sorted(str(file.relative_to(root / "book" / "executed")) for file in (root / "book").rglob("executed/**/*"))


def test_a_notebook_runs_with_its_parameters_and_tells_its_story(checkout):
    checkout(hello="print(profile * times)")
    book.run("aviary", parameters={"times": 2})
    done = nbformat.read(chapters.contents()[0].executed, as_version=4)
    assert done.cells[-1].outputs[0].text == "aviaryaviary\n"
    assert done.metadata.tedloc.profile == "aviary" and done.metadata.tedloc.parameters.times == 2
    assert done.cells[0].source.startswith("# A title\n\n:::{div} provenance\nProfile `aviary`")
    assert "`times = 2`" in done.cells[0].source and done.cells[0].source.endswith("Words.")


def test_what_is_current_is_not_run_again_and_what_has_changed_is(checkout, capsys):
    root = checkout(hello="print(1)")
    (chapter,) = chapters.contents()
    book.run("aviary")
    made = chapter.executed.stat().st_mtime_ns
    capsys.readouterr()
    book.run("aviary")
    assert "up to date" in capsys.readouterr().out and chapter.executed.stat().st_mtime_ns == made
    assert chapters.is_current(chapter, {"profile": "aviary"})
    assert not chapters.is_current(chapter, {"profile": "smoke"})
    assert not chapters.is_current(chapter, {"profile": "aviary", "times": 3})
    book.run("aviary", force=True)
    assert chapter.executed.stat().st_mtime_ns > made
    (root / "notebooks" / "hello.py").write_text(HEAD + "print(2)\n")
    assert not chapters.is_current(chapter, {"profile": "aviary"})


def test_the_fingerprint_knows_the_place_of_the_data_and_the_pins(checkout, monkeypatch):
    root = checkout(hello="print(1)")
    chapter = chapters.contents()[0]
    prints = [chapters.fingerprint(chapter, {}, ())]
    monkeypatch.setenv("TEDLOC_DATA", str(root / "elsewhere"))
    prints.append(chapters.fingerprint(chapter, {}, ()))
    (root / "requirements.lock").write_text("torch==0\n")
    prints.append(chapters.fingerprint(chapter, {}, ()))
    assert len(set(prints)) == 3
    assert prints[-1] == chapters.fingerprint(chapter, {}, ())


def test_another_model_of_photos_makes_the_page_that_shows_it_stale_and_no_other(checkout, monkeypatch):
    root = checkout(hello="print(1)")
    monkeypatch.setattr(paths, "WEIGHTS", root / "weights")
    monkeypatch.setattr(paths, "PHOTO_MODEL", root / "weights" / "photos")
    prints = []
    for content in ("one", "another"):
        (root / "weights" / "photos").mkdir(parents=True, exist_ok=True)
        (root / "weights" / "photos" / "model.json").write_text(content)
        prints.append(
            [chapters.fingerprint(chapters.contents()[0], {}, modules) for modules in ((), ("tedloc.book.try_it",))]
        )
    assert prints[0][0] == prints[1][0] and prints[0][1] != prints[1][1]


def test_an_unknown_parameter_is_refused_before_anything_runs(checkout):
    root = checkout(hello="print(1)")
    with pytest.raises(UserError, match=r"parameter of the book's notebooks 'tines'; choose one of: profile, times"):
        book.run("aviary", parameters={"tines": 2})
    assert left_over(root) == []


@pytest.mark.parametrize(
    "cell, message",
    [
        ("1 / 0", r"(?s)hello.py, cell 3 failed:.*ZeroDivisionError.*cell 3: ZeroDivisionError: division by zero"),
        ("from tedloc.errors import UserError\nraise UserError('set it')", r"^notebook \S+hello.py, cell 3: set it$"),
        ("import os\nos._exit(1)", r"hello.py did not finish: DeadKernelError"),
    ],
)
def test_a_failing_notebook_is_named_and_leaves_the_earlier_result(checkout, cell, message):
    root = checkout(hello="print(1)")
    book.run("aviary")
    executed = chapters.contents()[0].executed
    before = executed.read_bytes()
    checkout(hello=cell)
    with pytest.raises(UserError, match=message):
        book.run("aviary")
    assert executed.read_bytes() == before
    assert left_over(root) == ["hello.ipynb"]


def until_there(file: str) -> str:
    """A cell that waits for a file below the checkout; notebooks are executed in its notebooks/."""
    return f"import pathlib, time\nwhile not pathlib.Path('../{file}').exists():\n    time.sleep(0.05)\n"


def test_chapters_are_executed_side_by_side_unless_one_shows_time(checkout, capsys):
    meet = "pathlib.Path('../{}').touch()\n"
    root = checkout(
        first="import pathlib\n" + meet.format("a") + until_there("b"),
        second=until_there("a") + meet.format("b"),
        timed='# %% tags=["shows-time"]\nimport pathlib\nprint(pathlib.Path("../a").exists())',
    )
    assert [[chapter.name for chapter in group] for group in chapters.in_order(chapters.contents())] == [
        ["timed"],
        ["first", "second"],
    ]
    book.run("aviary")
    assert left_over(root) == ["first.ipynb", "second.ipynb", "timed.ipynb"]
    timed = next(chapter for chapter in chapters.contents() if chapter.name == "timed")
    assert nbformat.read(timed.executed, as_version=4).cells[-1].outputs[0].text == "False\n"
    assert re.search(r"second \[aviary\]: \d+ s", capsys.readouterr().out)


def test_a_chapter_whose_own_photos_are_elsewhere_measures_no_time(checkout, monkeypatch):
    checkout(["executed/imagenette-small/timed", "executed/plain"], timed='# %% tags=["shows-time"]\n1', plain="1")
    for there, groups in {True: [["timed"], ["plain"]], False: [["timed", "plain"]]}.items():
        monkeypatch.setattr(chapters, "at_hand", lambda data, there=there: there)
        found = chapters.in_order(chapters.contents())
        assert [[chapter.notebook for chapter in group] for group in found] == groups


def test_of_chapters_side_by_side_the_longest_begin_first_by_the_times_that_are_kept(checkout, monkeypatch, tmp_path):
    checkout(short="1", unknown="1", long="1")
    monkeypatch.setattr(chapters, "RESULTS", tmp_path)
    kept = {"chapters": {"short": {"seconds": 1.0}, "long": {"seconds": 9.0}}}
    (tmp_path / "aviary.json").write_text(json.dumps(kept))
    begun = []
    monkeypatch.setattr(book, "_execute", lambda waiting, left: begun.extend(chapter.name for chapter, _ in waiting))
    book.run("aviary")
    assert begun == ["long", "unknown", "short"]
    begun.clear()
    book.run("smoke")  # of which nothing is kept
    assert begun == ["short", "unknown", "long"]


def test_a_whole_book_gives_each_chapter_the_parameters_that_it_has(checkout, capsys):
    root = checkout(plain="print(times)", other="print(profile)")
    other = root / "notebooks" / "other.py"
    other.write_text(other.read_text().replace("times = 1\n", "settings = {}\n").replace("(profile)", "(settings)"))
    book.main(["run", "--profile", "aviary", "-p", "settings", '{"loss.kd": 0.5}', "-p", "times", "7"])
    printed = {
        chapter.name: nbformat.read(chapter.executed, as_version=4).cells[-1].outputs[0].text
        for chapter in chapters.contents()
    }
    assert printed == {"plain": "7\n", "other": "{'loss.kd': 0.5}\n"}
    assert re.search(r": \d+ s; 1 of 2 chapters, about \d+ s left\n", capsys.readouterr().out)
    with pytest.raises(UserError, match="unknown parameter of the book's notebooks 'time'; choose one of: .*times"):
        book.run("aviary", parameters={"time": 3})
    with pytest.raises(UserError, match="unknown parameter of plain.py 'settings'"):
        book.run("aviary", only="plain", parameters={"settings": {}})


def test_a_failing_notebook_stops_those_beside_it(checkout):
    root = checkout(
        slow="import pathlib\npathlib.Path('../a').touch()\n" + until_there("never"), failing=until_there("a") + "1 / 0"
    )
    with pytest.raises(UserError, match="failing.py, cell 3: ZeroDivisionError"):
        book.run("aviary")
    assert left_over(root) == []


def test_a_chapter_whose_process_was_killed_is_named(checkout):
    checkout(hello="import os, signal\nos.kill(os.getppid(), signal.SIGKILL)")
    with pytest.raises(UserError, match="the process that executed chapter hello ended before it was done"):
        book.run("aviary")


def test_an_interrupted_run_says_how_to_go_on_and_keeps_what_is_finished(checkout, capsys):
    root = checkout(first="print(1)", second=until_there("book/executed/first.ipynb") + "raise KeyboardInterrupt")
    with pytest.raises(SystemExit) as stop:
        book.main(["run", "--profile", "aviary"])
    assert stop.value.code == 130
    assert "go on from here" in capsys.readouterr().err
    assert left_over(root) == ["first.ipynb"]


def test_contents_without_their_notebook_are_refused(checkout):
    checkout(["executed/hello", "executed/absent"], hello="print(1)")
    with pytest.raises(UserError, match=r"_toc.yml lists executed/absent, but there is no \S+absent.py"):
        book.build()


def test_the_book_is_not_built_without_every_chapter(checkout):
    checkout(hello="print(1)")
    with pytest.raises(UserError, match="chapter hello has not been executed; run: python -m tedloc.book run --only"):
        book.build()


def test_the_book_is_not_built_around_an_error(checkout):
    checkout(hello="print(1)")
    page = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(
                "1 / 0",
                outputs=[
                    nbformat.v4.new_output("error", ename="ZeroDivisionError", evalue="division by zero", traceback=[])
                ],
            )
        ]
    )
    executed = chapters.contents()[0].executed
    executed.parent.mkdir(parents=True)
    nbformat.write(page, executed)
    error = r"chapter hello holds an error \(cell 0: ZeroDivisionError: division by zero\)"
    with pytest.raises(UserError, match=error):
        book.build()


def test_a_page_with_a_warning_fails_every_build_until_it_is_mended(checkout, capfd):
    root = checkout(["more"])
    (root / "book" / "_config.yml").write_text("execute: {execute_notebooks: 'off'}\n")
    (root / "book" / "more.md").write_text("# More\n")
    (root / "book" / "intro.md").write_text("# Intro\n\n[lost](absent.md)\n")
    for _ in range(2):
        with pytest.raises(UserError, match="the book was not built"):
            book.build()
        assert "absent.md" in capfd.readouterr().err
    (root / "book" / "intro.md").write_text("# Intro\n\n[found](more.md)\n")
    gone = root / "book" / "_build" / "html" / "gone.html"
    gone.parent.mkdir(parents=True, exist_ok=True)
    gone.write_text("a page of an earlier build, whose source was removed")
    assert "found" in (book.build().parent / "intro.html").read_text()
    assert not gone.exists()


def test_an_error_that_only_papermill_noticed_is_found(tmp_path):
    page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x")])
    nbformat.write(page, tmp_path / "fine.ipynb")
    assert chapters.error_in(tmp_path / "fine.ipynb") is None
    page.cells[0].metadata["papermill"] = {"exception": True}
    nbformat.write(page, tmp_path / "cell.ipynb")
    assert chapters.error_in(tmp_path / "cell.ipynb") == "cell 0 raised an error"


def test_a_chapter_of_its_own_profile_says_on_its_page_that_the_smoke_book_lacks_it(checkout, capsys):
    checkout(["executed/imagenette-small/hello"], hello="print(1)")
    book.run("smoke")
    (chapter,) = chapters.contents()
    assert chapter.name == "imagenette-small/hello" and chapter.profile == "imagenette-small"
    (cell,) = nbformat.read(chapter.executed, as_version=4).cells
    assert "This is the `smoke` book" in cell.source and "Not computed" in cell.source
    assert "left out" in capsys.readouterr().out


def test_a_chapter_of_its_own_profile_is_executed_in_it(checkout):
    checkout(["executed/imagenette-small/hello"], hello="print(profile)")
    book.run("aviary")
    (chapter,) = chapters.contents()
    assert nbformat.read(chapter.executed, as_version=4).cells[-1].outputs[0].text == "imagenette-small\n"


@pytest.mark.parametrize(
    "profile, expected", [("aviary", {"main": "aviary"}), ("imagenette-small", {"other": "imagenette-small"})]
)
def test_evidence_of_a_profile_comes_from_its_own_chapters_or_else_from_the_books(
    checkout, monkeypatch, profile, expected
):
    checkout(["executed/main", "executed/imagenette-small/other"], main="1", other="1")
    ran = {}
    monkeypatch.setattr(
        book, "_execute", lambda waiting, left: ran.update({c.notebook: v["profile"] for c, v in waiting})
    )
    monkeypatch.setenv("TEDLOC_EVIDENCE", "make")
    book.run(profile, force=True)
    assert ran == expected


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["run", "--only", "helo"], "error: unknown notebook 'helo'; choose one of: hello"),
        (["run", "--profile", "avairy"], "error: unknown profile 'avairy'; choose one of: aviary"),
        (["run", "-p", "profile", "aviary"], "error: give the profile by --profile"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_code_two(checkout, capsys, arguments, message):
    checkout(hello="print(1)")
    with pytest.raises(SystemExit) as stop:
        book.main(arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(message) and error.count("\n") == 1


def test_parameter_values_are_read_as_python_writes_them():
    assert [book._value(text) for text in ("3", "1e-3", "True", "None", "[0, 1]", "aviary", "a-b")] == [
        3,
        1e-3,
        True,
        None,
        [0, 1],
        "aviary",
        "a-b",
    ]


def load_extension(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "book" / "_ext" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_docstrings_keep_their_meaning_on_the_page():
    to_rst = load_extension("package_api").to_rst
    assert to_rst("One *line* with ``code`` and t_k | x_.") == r"One \*line\* with ``code`` and t\_k \| x\_."
    assert to_rst("L. Welch, 1974.") == r"L\. Welch, 1974."
    columns = "z:     (B, d, H, W)\nanchors: (K, d); one a\n    class\nRaises ``UserError``."
    assert to_rst(columns) == "z\n   (B, d, H, W)\n\nanchors\n   (K, d); one a class\n\nRaises ``UserError``."
    assert to_rst("Uses:\n\n    python -m x --y") == "Uses:\n\n.. code-block:: none\n\n   python -m x --y"
    assert to_rst("1. First\n   of all.\n2. Then.") == "1. First of all.\n\n2. Then."


def commands(page: str) -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    return [[word for word in shlex.split(line, comments=True) if not re.match(r"[A-Z_]+=", word)] for line in lines]


@pytest.mark.parametrize("page", ["README.md", "book/reproduce.md"])
def test_commands_that_we_print_exist(page):
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)[1].split()
    checked = set()
    for program, *arguments in commands(page):
        checked.add(program)
        match program:
            case "make":
                assert arguments[0] in targets
            case "python" if arguments[0].startswith("data_scripts/"):
                assert f"def {arguments[1]}(" in (ROOT / arguments[0]).read_text()
            case "python" if arguments[0].startswith("tests/"):
                assert (ROOT / arguments[0]).exists()
            case "tedloc-evaluate" | "tedloc-train" | "tedloc-predict" | "tedloc-tune":
                assert f'{program} = "{program.replace("-", ".")}:main"' in (ROOT / "pyproject.toml").read_text()
            case "python" | "torchrun":
                assert importlib.util.find_spec(arguments[arguments.index("-m") + 1])
            case "papermill":
                assert (ROOT / arguments[0]).exists() and arguments[2:4] == ["-p", "profile"]
                assert arguments[4] in PROFILES
            case "conda" if arguments[:2] == ["env", "create"]:
                assert (ROOT / arguments[-1]).exists()
            case _:
                assert program in ("pytest", "pip", "conda", "export"), f"{page}: {program} is not checked by this test"
    assert {"make", "papermill"} <= checked
