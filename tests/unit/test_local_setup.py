"""What the set-up tells Spark, and the archive of its classes."""

import os
import stat
from pathlib import Path

import pytest
from tiny_gguf import write_tiny_gguf
from tiny_llama import write_tiny_llama

from cesrec_core import local_setup
from cesrec_core.local_setup import PYSPARK, class_archive, convert_language_model, fits, write_spark_conf


@pytest.fixture
def pyspark(tmp_path: Path) -> Path:
    """A folder like pyspark's, below one with a blank in its name."""
    jars = tmp_path / "my projects" / "pyspark" / "jars"
    jars.mkdir(parents=True)
    for name in ("spark-core.jar", "delta-spark.jar"):
        (jars / name).write_text(name)
    return jars.parent


def test_another_java_or_other_jars_have_another_archive(pyspark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jars = pyspark / "jars"
    first = class_archive(jars)
    assert class_archive(jars) == first and first.parent == pyspark / "archives"
    (jars / "delta-spark.jar").write_text("a newer one")
    second = class_archive(jars)
    (jars / "mine.jar").write_text("")
    third = class_archive(jars)
    monkeypatch.setattr(local_setup, "java_banner", lambda: 'openjdk version "21"')
    assert len({first, second, third, class_archive(jars)}) == 4


def test_spark_reads_the_archive_and_names_its_jars_before_any_folder(pyspark: Path) -> None:
    write_spark_conf(pyspark / "conf")
    lines = (pyspark / "conf" / "spark-defaults.conf").read_text(encoding="utf-8").splitlines()
    settings = dict(line.split(" ", 1) for line in lines)
    assert settings["spark.driver.extraClassPath"] == f"{pyspark}/jars/*"
    # In quotes: Spark cuts its Java's options at blanks.
    assert f' -XX:SharedArchiveFile="{class_archive(pyspark / "jars")}" ' in settings["spark.driver.extraJavaOptions"]


@pytest.mark.skipif(
    not class_archive(PYSPARK / "jars").exists(), reason="`make setup` has made none for this Java and these JARs"
)
def test_java_uses_the_archive_of_this_environment(tmp_path: Path) -> None:
    """It leaves one aside without a word that does not fit, and jobs start later."""
    archive = class_archive(PYSPARK / "jars")
    assert fits(archive, PYSPARK / "jars")
    assert not fits(archive, tmp_path)
    with archive.open("rb") as whole:
        cut_off = tmp_path / "cut.jsa"
        cut_off.write_bytes(whole.read(1 << 20))
    assert not fits(cut_off, PYSPARK / "jars")


def test_the_language_model_can_be_read_by_others_than_who_set_it_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    llama = write_tiny_llama(tmp_path / "llama", words=["QQ"])
    monkeypatch.setattr(local_setup, "_unpack", lambda *given: write_tiny_gguf(given[-1] / "tiny.gguf", llama, ("Q", "Q")))
    before = os.umask(0o027)
    try:
        convert_language_model(tmp_path / "converted")
    finally:
        os.umask(before)
    modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in (tmp_path / "converted").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(modes)
    assert modes == dict.fromkeys(modes, "0o640")
