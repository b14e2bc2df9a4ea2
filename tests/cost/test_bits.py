"""What fewer bits cost is told from stored results, and nothing else."""

import json

from tedloc.book import report
from tedloc.cost import bits


def test_every_stored_result_is_in_the_tables_with_the_command_that_made_it():
    stored = bits.kept()
    caches, teachers = bits.caches(), bits.teachers()
    for name, result in stored.items():
        for kind, found in result["found"]["cache"].items():
            assert caches.loc[f"{name}, {kind}", "MaxBoxAcc@0.5"] == found["MaxBoxAcc@0.5"]
        assert caches.loc[f"{name}, int8", "cache (MB)"] * 2 == caches.loc[f"{name}, float16", "cache (MB)"]
        assert (name in teachers.index) == ("CLIP-ES" in result["found"])
        assert f"--profile {name}" in bits.commands() and name in bits.provenance()["profile"]
    report.plain_table(caches, "shown", provenance=bits.provenance())


def test_a_file_that_is_not_there_was_not_measured(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text(json.dumps({"found": {}}))
    monkeypatch.setattr(bits, "FILES", {"a": tmp_path / "a.json", "b": tmp_path / "b.json"})
    assert list(bits.kept()) == ["a"]
