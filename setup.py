"""Package metadata: ranges here, exact versions of a tested environment in constraints.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "cesrec_core" / "__init__.py").read_text()).group(1)

CORE = [
    "numpy>=1.26",
    "pyarrow>=17",
    "pydantic>=2.7,<3",
    "PyYAML>=6",
    "Jinja2>=3.1",
    "MarkupSafe>=2.1",
    "safetensors>=0.4.3",
    "scipy>=1.17",
    "tqdm>=4.66",
    "tenacity>=8.2",
    "matplotlib>=3.8",
    "torch>=2.6",
    "transformers>=5.10",
    "huggingface_hub>=1.0",
    "peft>=0.19",
    "ray>=2.50",
    "psutil>=5.9",
    "requests>=2.31",
]
EXTRAS = {
    # A Databricks runtime brings its own Spark and Delta.
    # pandas: Spark asks for it before it hands rows to Python as Arrow.
    "spark": ["pyspark>=4.0.1,<=4.2.0", "delta-spark==4.4.0", "pandas>=2.2"],
    "training": ["deepspeed>=0.18"],
    # The demo's language model is a GGUF file; see cesrec_core/local_setup.py. `embed_items.model_path` may name one, too.
    "demo": ["gguf>=0.10"],
    # `ray.address: spark`: the head of a Ray cluster on Spark nodes serves Ray's client protocol, too.
    "ray_on_spark": ["ray[client]>=2.50"],
    # `embed_items.engine: vllm`, on machines with GPUs.
    "vllm": ["vllm>=0.18"],
    # `mlflow.is_enabled`. A store in a database file (sqlite://) needs the whole of mlflow.
    "mlflow": ["mlflow-skinny>=3.1"],
    "dev": [
        "mlflow-skinny>=3.1",
        # `make standalone` has Ray on Spark's nodes.
        "ray[client]>=2.50",
        # With 9.2 pytest-xdist 3.8 deals out single tests instead of groups, without a word (pytest-xdist issue 1386).
        "pytest>=8,<9.2",
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.6",
        "hypothesis>=6.100",
        "import-linter>=2.1",
        # Databricks' own model of what resources/*.yml may hold; no dependencies.
        "databricks-bundles>=1.0",
        # `make bundle-schema`.
        "jsonschema>=4.18",
        "pytrec-eval-terrier>=0.5.7",
        "mypy>=1.11",
        "ruff>=0.6",
        "types-PyYAML",
    ],
}

setup(
    name="cesrec",
    version=VERSION,
    description="A nightly batch job that rewrites histories by what people say and recommends from the rewritten histories",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    packages=[*find_packages(include=["cesrec_core*", "training"]), "cesrec_core.conf", "cesrec_core.conf.deepspeed"],
    # In a wheel the configurations lie inside of the library; cesrec_core/shipped.py finds them here and there.
    package_dir={"cesrec_core.conf": "conf"},
    package_data={"": ["*.yaml", "*.json"], "cesrec_core.report": ["*.j2", "*.css"]},
    install_requires=CORE,
    extras_require=EXTRAS,
)
