"""Devices and places are looked at before anything is computed, and named in one sentence where they will not do."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tedloc import errors, evaluate, export, paths, predict, train, tune
from tedloc.errors import UserError
from tedloc.methods import pseudo_labels
from tedloc.training import devices, features


def refusal(capsys, main, *arguments) -> str:
    """The one line of a command that ends with exit code 2."""
    with pytest.raises(SystemExit) as ending:
        main([str(argument) for argument in arguments])
    shown = capsys.readouterr().err
    assert ending.value.code == 2 and shown.startswith("error: ") and shown.count("\n") == 1, shown
    return shown


class TestDevices:
    @pytest.mark.parametrize("gpus, names", [(0, ["cpu"]), (1, ["cpu", "cuda", "cuda:0"]), (3, ["cuda:2"])])
    def test_what_is_there_is_taken(self, monkeypatch, gpus, names):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        assert [devices.checked(name) for name in names] == names

    @pytest.mark.parametrize(
        "gpus, name, words",
        [
            (0, "cuda", "device 'cuda': PyTorch finds no GPU here: .*, or give --device cpu"),
            (0, "cuda:1", "PyTorch finds no GPU here"),
            (1, "cuda:7", "device 'cuda:7': this machine has cuda:0 only"),
            (2, "cuda:2", "this machine has cuda:0 to cuda:1 only"),
            (1, "0", r"'0' is not a device name \(is 'cuda:0' meant\?\); give cpu, cuda or cuda:1"),
            (1, "1", "is 'cuda:1' meant"),
            (1, "gpu", "is 'cuda' meant"),
            (1, "CUDA", "is 'cuda' meant"),
            (1, "cpu:0", "is 'cpu' meant"),
            (1, "cuda:-1", "'cuda:-1' is not a device name; give"),
            (1, "cuda:", "'cuda:' is not a device name"),
            (1, "cuda:01", "'cuda:01' is not a device name"),
            (1, "mps", "'mps' is not a device name; give cpu"),
            (1, "", "'' is not a device name"),
            (1, "cuda:٣", "is not a device name; give"),
        ],
    )
    def test_what_is_not_is_refused(self, monkeypatch, gpus, name, words):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        with pytest.raises(UserError, match=words):
            devices.checked(name)

    @pytest.mark.parametrize(
        "built_for, hidden, answer, words",
        [
            (None, None, None, "was built without CUDA; install a build with it, or give --device cpu"),
            ("13.0", "", None, "CUDA_VISIBLE_DEVICES is ''; unset it, or give"),
            (
                "13.0",
                None,
                "Found no NVIDIA driver on your system. Please",
                "no NVIDIA driver is installed; install one",
            ),
            (
                "13.0",
                None,
                "The NVIDIA driver on your system is too old (found version 12040). Please update",
                r"the driver is too old \(it knows CUDA 12.4\) for PyTorch's CUDA 13.0; update the driver, or install "
                "a PyTorch built for an older CUDA, or give --device cpu",
            ),
            ("13.0", None, "No CUDA GPUs are available", "No CUDA GPUs are available; see to the driver"),
        ],
    )
    def test_why_there_is_no_gpu_is_said_with_the_remedy(self, monkeypatch, built_for, hidden, answer, words):
        def init():
            raise RuntimeError(answer)

        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.version, "cuda", built_for)
        monkeypatch.setattr(torch.cuda, "init", init)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if hidden is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        with pytest.raises(UserError, match=f"device 'cuda:1': PyTorch finds no GPU here: .*{words}"):
            devices.checked("cuda:1")

    def test_a_gpu_that_is_full_before_training_ends_a_command_in_one_sentence(self, capsys):
        def full(arguments):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

        assert "the GPU ran out of memory before training" in refusal(capsys, errors.command(full))

    def test_the_variable_is_held_to_the_same(self, monkeypatch):
        monkeypatch.setenv("TEDLOC_DEVICE", "gpu")
        with pytest.raises(UserError, match="'gpu' is not a device name .*TEDLOC_DEVICE"):
            devices.default()

    @pytest.mark.parametrize("command", [train, tune, features, pseudo_labels, predict])
    def test_every_command_looks_before_it_computes(self, capsys, tmp_path, command):
        arguments = ["--device", "0"]
        if command is predict:
            arguments += ["--checkpoint", tmp_path, tmp_path / "a.jpg", "--out", tmp_path / "out"]
        else:
            arguments += ["--profile", "smoke", *(["--method", "cam"] if command is tune else [])]
        assert "'0' is not a device name" in refusal(capsys, command.main, *arguments)
        assert not paths.runs().exists() and not paths.cache().exists()


class TestOutputs:
    def test_a_place_that_can_be_written_is_well_and_stays_as_it_is(self, tmp_path):
        paths.writable_file(tmp_path / "new" / "a.json", "--json")
        paths.writable_folder(tmp_path / "new" / "out", "--out")
        paths.writable_file(None, "--json")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("place", ["afile/below", "afile/much/below", "loop", "dangling/below"])
    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path, place):
        (tmp_path / "afile").touch()
        (tmp_path / "loop").symlink_to("loop")
        (tmp_path / "dangling").symlink_to("nowhere")
        for check, option in ((paths.writable_folder, "--out"), (paths.writable_file, "--json")):
            if place == "loop" and option == "--json":
                continue  # the link would be replaced
            with pytest.raises(UserError, match=f"{option} .* cannot be written: .* is no folder; name another place"):
                check(tmp_path / place, option)

    def test_a_system_that_says_no_is_quoted(self, monkeypatch, tmp_path):
        def full(dir):
            raise PermissionError(13, "Permission denied", str(dir))

        monkeypatch.setattr(paths.tempfile, "TemporaryFile", full)
        with pytest.raises(UserError, match="--out .*: Permission denied; name another place"):
            paths.writable_folder(tmp_path, "--out")

    def test_a_file_is_a_file(self, tmp_path):
        with pytest.raises(UserError, match="--json .* is a folder; name the file to write"):
            paths.writable_file(tmp_path, "--json")
        with pytest.raises(UserError, match="--json /dev/null is no plain file"):
            paths.writable_file(Path("/dev/null"), "--json")

    def test_commands_look_before_they_compute(self, capsys, tmp_path, small_run):
        Image.new("RGB", (80, 60)).save(tmp_path / "a.png")
        (tmp_path / "afile").touch()
        said = refusal(capsys, predict.main, "--checkpoint", small_run, tmp_path / "a.png", "--out", tmp_path / "afile")
        assert "--out" in said and "afile is no folder" in said
        assert "is a folder" in refusal(capsys, train.main, "--profile", "smoke", "--device", "cpu", "--json", tmp_path)
        (tmp_path / "x.onnx").mkdir()
        assert "is a folder" in refusal(capsys, export.main, "--checkpoint", small_run, tmp_path / "x.onnx")
        assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "afile", "x.onnx"]

    def test_an_evaluation_replaces_neither_its_input_nor_its_other_output(self, capsys, tmp_path):
        known = ["--scoremap-root", tmp_path, "--metadata-root", tmp_path, "--dataset", "MINE"]
        same = tmp_path / "a.csv"
        said = refusal(capsys, evaluate.main, *known, "--json", same, "--per-image", tmp_path / "." / "a.csv")
        assert "--per-image" in said and "is the file of --json as well; name another" in said
        assert "is the file of --scores" in refusal(capsys, evaluate.main, *known, "--scores", same, "--json", same)

    def test_a_cache_that_is_a_file_ends_in_a_sentence(self, capsys, tmp_path, monkeypatch):
        (tmp_path / "afile").touch()
        monkeypatch.setenv("TEDLOC_RUNS", str(tmp_path / "afile" / "runs"))
        said = refusal(
            capsys, train.main, "--profile", "smoke", "--device", "cpu", "--pseudo-labels.teacher", "centre-prior"
        )
        assert "Not a directory; see to its place, rights and disk" in said

    def test_mistakes_of_the_program_keep_their_traceback(self):
        @errors.command
        def main():
            open("/nowhere/at/all")

        with pytest.raises(FileNotFoundError):
            main()


class TestRelativeFolders:
    def ask(self, folder: Path, **environment) -> list[str]:
        code = "from tedloc import paths; import os; print(paths.data()); print(os.environ.get('TEDLOC_DATA'))"
        environment = {**os.environ, "PYTHONPATH": str(paths.PACKAGE.parent), **environment}
        done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
        return done.stdout.splitlines()

    def test_one_that_is_here_is_meant_and_inherited_from_then_on(self, tmp_path):
        (tmp_path / "photos").mkdir()
        assert self.ask(tmp_path, TEDLOC_DATA="photos") == [str(tmp_path / "photos")] * 2

    def test_one_that_is_not_here_counts_from_the_checkout_as_for_a_notebook(self):
        expected = str(paths.root() / "no-such-photos")
        for folder in (paths.root(), paths.notebooks()):
            assert self.ask(folder, TEDLOC_DATA="no-such-photos") == [expected] * 2

    def test_the_home_folder_may_be_written_as_a_tilde(self, tmp_path):
        assert self.ask(tmp_path, TEDLOC_DATA="~/photos", HOME=str(tmp_path))[0] == str(tmp_path / "photos")


# Compiled code is kept beside the source; here that cannot be written, nor any folder in ``closed``.
COMPILING = """
import sys
import numba.core.caching as caching
for locator in caching.CacheImpl._locator_classes:
    if locator.__name__.startswith(("InTree", *sys.argv[1:])):
        locator.from_function = classmethod(lambda cls, function, file: None)
from tedloc.metrics import boxes
from tedloc.metrics.compiled import compiled
print(compiled(lambda x: x + 1)(2))
"""


@pytest.mark.parametrize("home, closed", [("/nowhere", ["User"]), ("relative", [])])
def test_code_compiles_without_a_place_to_keep_it_and_never_leaves_it_beside_the_maps(tmp_path, home, closed):
    np.save(tmp_path / "a.npy", np.eye(3))
    environment = {**os.environ, "HOME": home, "PYTHONPATH": str(paths.PACKAGE.parent)}
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        environment.pop(name, None)
    command = [sys.executable, "-c", COMPILING, *closed]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == "3\n", done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["a.npy"]
