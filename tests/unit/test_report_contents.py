"""What the page of a run does without where a file beside the tables is damaged."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_features import tiny_features

from cesrec_core.catalogue import FEATURES_FILE, ITEMS_FILE
from cesrec_core.report.contents import Artifact
from cesrec_core.stages.report_contents import RunReader


@pytest.mark.parametrize("name", [FEATURES_FILE, ITEMS_FILE])
def test_damaged_vectors_leave_out_their_histogram(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "catalogue" / "a1"
    tiny_features().save(folder)
    reader = SimpleNamespace(run=SimpleNamespace(run_id="r1"), _work_of=lambda run_id: tmp_path)

    def histogram() -> object:
        return RunReader._of_alignment(reader, [Artifact("adapter", "a1")])  # type: ignore[arg-type]

    assert histogram() is not None and not caplog.messages
    (folder / name).write_bytes((folder / name).read_bytes()[:-20])
    assert histogram() is None
    (message,) = caplog.messages
    assert "The page of run r1 has no histogram of alignment: " in message and str(folder / name) in message
