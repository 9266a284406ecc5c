"""Where an export may lie: told before anything is read or written."""

from pathlib import Path

import pytest

from cesrec_core.errors import ConfigError
from cesrec_core.stages.export_recommendations import export_recommendations


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
