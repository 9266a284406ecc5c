"""Where an export may lie: told before anything is read or written."""

import json
from pathlib import Path

import pytest

from cesrec_core.errors import ConfigError
from cesrec_core.stages.export_recommendations import CONTENTS, MANIFEST, _is_this, _read_manifest, export_recommendations


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("o" * 256, r"too long for a disk, .* with \.unfinished behind it, .* Name a folder with a shorter name"),
        # The folder could be made, and the one that it is renamed from could not.
        ("o" * 250, "Name a folder with a shorter name"),
        ("\N{SNOWMAN}" * 100, "Name a folder with a shorter name"),
        ("o" * 256 + "/below", "Name a folder with a shorter name"),
        ("lists\\new", r"Spark would read \\ as a pattern\. Name another folder"),
        ("lists*", r"Spark would read \* as a pattern\. Name another folder"),
    ],
    ids=["too long", "too long until it is whole", "too long in UTF-8", "below one too long", "backslash", "asterisk"],
)
def test_a_name_that_no_export_can_have_is_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"--out .*{message}"):
        export_recommendations(None, None, ["parquet"], tmp_path / name)  # type: ignore[arg-type]


def test_a_folder_that_this_user_may_not_look_into_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may look anywhere, so the refusal is the operating system's in name only."""

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "lstat", refuse)
    with pytest.raises(ConfigError, match=rf"--out {tmp_path}/out cannot be made: {tmp_path}/out \(Permission denied\)"):
        export_recommendations(None, None, ["parquet"], tmp_path / "out")  # type: ignore[arg-type]


def test_a_link_that_leads_in_a_circle_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "out")
    with pytest.raises(ConfigError, match=r"--out .*out: a link in it leads round in a circle"):
        export_recommendations(None, None, ["parquet"], tmp_path / "out")  # type: ignore[arg-type]


def test_an_export_of_another_version_is_known_and_is_not_todays(tmp_path: Path) -> None:
    """It was refused as no export at all, every night until somebody removed it."""
    told = {"run_id": "r1", "since_run_id": None, "formats": ["jsonl"], "counts": {"users": 1}, "contents": CONTENTS}
    (tmp_path / "recommendations.jsonl").mkdir()
    (tmp_path / "recommendations.jsonl" / "part-00000.jsonl").touch()
    (tmp_path / MANIFEST).write_text(json.dumps({**told, "files": {"recommendations.jsonl/part-00000.jsonl": 0}}))
    manifest = _read_manifest(tmp_path)
    assert manifest is not None and (manifest.run_id, manifest.formats) == ("r1", ("jsonl",))
    assert not _is_this(manifest, "r1", None, ("jsonl",), "", tmp_path)


@pytest.mark.parametrize("kind", ["a folder", "a link to nothing"])
def test_what_is_no_file_of_an_export_is_somebody_elses(tmp_path: Path, kind: str) -> None:
    told = {"run_id": "r1", "since_run_id": None, "formats": ["parquet"], "counts": {}, "contents": CONTENTS}
    (tmp_path / MANIFEST).write_text(json.dumps(told))
    part = tmp_path / "changes.parquet" / "part-00000.parquet"
    part.parent.mkdir()
    _ = part.mkdir() if kind == "a folder" else part.symlink_to(tmp_path / "nothing")
    with pytest.raises(ConfigError, match=r"holds changes\.parquet/part-00000\.parquet beside an export"):
        _read_manifest(tmp_path)


@pytest.mark.parametrize("text", ["[]", "null", '"x"', "1", "{}", "{"])
def test_a_manifest_that_says_nothing_is_none_of_an_export(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ConfigError, match="holds something that is no export of recommendations"):
        _read_manifest(tmp_path)
