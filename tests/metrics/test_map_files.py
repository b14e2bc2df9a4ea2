"""Every kind of score map's file gives the same map; what a file leaves open is asked for."""

import cv2
import numpy as np
import pytest

from tedloc.errors import UserError
from tedloc.metrics import boxes, map_files, score_files

GRID = 8
BYTES = np.random.default_rng(0).permutation(np.linspace(0, 255, 30).astype(np.uint8)).reshape(5, 6)
ON_GRID = np.random.default_rng(1).integers(20, 230, (GRID, GRID)).astype(np.uint8)


def torch_save(file, array):
    torch = pytest.importorskip("torch", reason="pip install 'tedloc[train]'")
    torch.save(torch.tensor(array), file)


def half_tensor(file, array):
    torch = pytest.importorskip("torch", reason="pip install 'tedloc[train]'")
    torch.save(torch.tensor(array / 255).bfloat16().requires_grad_(), file)


WRITERS = {
    "float16": (".npy", lambda file, a: np.save(file, (a / 255).astype(np.float16))),
    "float32": (".npy", lambda file, a: np.save(file, (a / 255).astype(np.float32))),
    "float64": (".npy", lambda file, a: np.save(file, a / 255)),
    "uint8": (".npy", np.save),
    "Fortran order": (".npy", lambda file, a: np.save(file, np.asfortranarray(a / 255))),
    "one channel before": (".npy", lambda file, a: np.save(file, a[None] / 255)),
    "one channel behind": (".npy", lambda file, a: np.save(file, a[..., None] / 255)),
    "archive": (".npz", lambda file, a: np.savez_compressed(file, anything=a / 255)),
    "tensor": (".pt", torch_save),
    "half tensor with a gradient": (".pt", half_tensor),
    "grey picture": (".png", lambda file, a: cv2.imwrite(str(file), a)),
    "grey picture of 16 bits": (".png", lambda file, a: cv2.imwrite(str(file), a.astype(np.uint16) * 257)),
}


@pytest.mark.parametrize("array", [BYTES, ON_GRID], ids=["any size", "on the grid"])
@pytest.mark.parametrize("kind", WRITERS)
def test_a_map_is_the_same_whatever_it_was_written_as(tmp_path, kind, array):
    suffix, write = WRITERS[kind]
    write(tmp_path / f"map{suffix}", array)
    found = score_files.read_map(tmp_path / f"map{suffix}", GRID)
    expected = array / 255 if array is ON_GRID else boxes.to_grid(array / 255, GRID)
    rough = "16" in kind and "bits" not in kind or "half" in kind
    np.testing.assert_allclose(found, expected, atol=4e-3 if rough else 1e-6)


@pytest.mark.parametrize("kind", ["archive", "tensor", "grey picture"])
def test_maps_of_other_kinds_are_found_by_their_images(tmp_path, kind):
    suffix, write = WRITERS[kind]
    for name in ("a/1", "b/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / f"{name}{suffix}", BYTES)
    found = score_files.find_maps(tmp_path, ["a/1.jpg", "b/2.png"])
    assert list(found.values()) == [tmp_path / f"a/1{suffix}", tmp_path / f"b/2.png{suffix}"]


def test_pictures_beside_maps_are_asked_about(tmp_path):
    np.save(tmp_path / "1.npy", BYTES)
    cv2.imwrite(str(tmp_path / "1.png"), BYTES)
    cv2.imwrite(str(tmp_path / "legend.png"), BYTES)
    with pytest.raises(UserError, match=r"holds \.npy and \.png files named after the images; .* --suffix"):
        score_files.find_maps(tmp_path, ["1.jpg"])
    assert score_files.find_maps(tmp_path, ["1.jpg"], suffix=".npy") == {"1.jpg": tmp_path / "1.npy"}


def test_a_legend_that_is_named_after_no_image_is_no_map(tmp_path):
    np.save(tmp_path / "1.npy", BYTES)
    cv2.imwrite(str(tmp_path / "legend.png"), BYTES)
    assert list(score_files.find_maps(tmp_path, ["1.jpg"])) == ["1.jpg"]


OPEN = {
    "a mask or a dark map": (np.eye(GRID, dtype=np.uint8), "--scale 1 or --scale 255"),
    "8 bits in 16": (ON_GRID.astype(np.uint16), "--scale 255 or --scale 65535"),
    "a mask in 16": (np.eye(GRID, dtype=np.uint16), "--scale 1 or --scale 255 or --scale 65535"),
}


@pytest.mark.parametrize("case", OPEN)
def test_what_stands_for_one_is_asked_for_where_the_file_leaves_it_open(tmp_path, case):
    array, asked = OPEN[case]
    np.save(tmp_path / "map.npy", array)
    with pytest.raises(UserError, match=f"map.npy holds nothing above .*{asked}$"):
        score_files.read_map(tmp_path / "map.npy", GRID)
    for scale in (255, 65535):
        found = score_files.read_map(tmp_path / "map.npy", GRID, scale=scale)
        np.testing.assert_array_equal(found, array / scale)
    score_files.read_map(tmp_path / "map.npy", GRID + 1)  # is resized and stretched: the scale does not matter


def test_a_scale_that_does_not_fit_is_refused(tmp_path):
    np.save(tmp_path / "map.npy", BYTES)
    with pytest.raises(UserError, match="from 0 to 255, which do not fit --scale 1"):
        score_files.read_map(tmp_path / "map.npy", GRID, scale=1)
    np.save(tmp_path / "map.npy", BYTES - 5.0)
    with pytest.raises(UserError, match="from -5 to 250, which do not fit --scale 255"):
        score_files.read_map(tmp_path / "map.npy", GRID, scale=255)


def objects(file):
    torch = pytest.importorskip("torch", reason="pip install 'tedloc[train]'")
    torch.save({"map": torch.zeros(2, 2)}, file)


def sparse(file):
    torch = pytest.importorskip("torch", reason="pip install 'tedloc[train]'")
    torch.save(torch.eye(3).to_sparse(), file)


def code(file):
    torch = pytest.importorskip("torch", reason="pip install 'tedloc[train]'")
    torch.save(print, file)


def renamed(file, suffix, write):
    write(file.with_suffix(suffix), BYTES)
    file.with_suffix(suffix).rename(file)


BAD = {
    "archive of two": (".npz", lambda file: np.savez(file, a=BYTES, b=BYTES), r"holds 2 arrays \(a, b\)"),
    "empty archive": (".npz", lambda file: np.savez(file), "holds 0 arrays"),
    "archive of objects": (".npz", lambda file: np.savez(file, a=np.array([{}])), "holds Python objects"),
    "an array called archive": (".npz", lambda file: renamed(file, ".npy", np.save), "call it .npy"),
    "an archive called array": (".npy", lambda file: renamed(file, ".npz", np.savez), "call it .npz"),
    "no archive": (".npz", lambda file: file.write_bytes(b"PK\3\4nothing"), "cannot be read as a NumPy array"),
    "no tensor": (".pt", lambda file: file.write_bytes(b"nothing"), "cannot be read as a tensor|Python objects"),
    "a dict of tensors": (".pt", objects, "holds a dict"),
    "a sparse tensor": (".pt", sparse, "sparse or quantised"),
    "code": (".pt", code, "holds Python objects; write a tensor"),
    "no picture": (".png", lambda file: file.write_bytes(b"nothing"), "cannot be read as a picture"),
    "colours": (".png", lambda file: cv2.imwrite(str(file), np.dstack([BYTES] * 3)), "has 3 channels"),
    "one line, either way": (
        ".npy",
        lambda file: np.save(file, np.arange(4.0)[None, :, None]),
        r"\(1, 4, 1\), which may",
    ),
    "two channels": (".npy", lambda file: np.save(file, np.dstack([BYTES] * 2)), "two dimensions"),
}


@pytest.mark.filterwarnings("ignore:Validating sparse tensor:UserWarning")
@pytest.mark.parametrize("case", BAD)
def test_a_file_that_is_no_map_is_named(tmp_path, case):
    suffix, write, said = BAD[case]
    write(tmp_path / f"map{suffix}")
    with pytest.raises(UserError, match=f"map{suffix}.*({said})") as raised:
        score_files.read_map(tmp_path / f"map{suffix}", GRID)
    assert "\n" not in str(raised.value)


def test_a_tensor_without_torch_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "map.pt").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(UserError, match=r"pip install 'tedloc\[train\]'"):
        map_files.load(tmp_path / "map.pt")
