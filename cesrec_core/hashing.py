"""Names made from content."""

import hashlib
import json
from pathlib import Path
from typing import Any

BLOCK_BYTES = 1 << 20


def short_hash(value: Any) -> str:
    """16 hexadecimal digits that depend on the value's JSON form alone."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def content_hash(path: Path) -> str:
    """16 hexadecimal digits of a file's bytes, or of all visible files below a folder."""
    digest = hashlib.sha256()
    if path.is_file():
        files = {path.name: path}
    else:
        below = {str(file.relative_to(path)): file for file in path.rglob("*") if file.is_file()}
        files = {name: below[name] for name in sorted(below) if not below[name].name.startswith(".")}
    for name, file in files.items():
        # The whole way below the folder: a partition's folder carries a column's value. Sizes keep neighbours apart.
        digest.update(f"{name} {file.stat().st_size}\n".encode())
        with file.open("rb") as stream:
            while block := stream.read(BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()[:16]


def sha256_of(file: Path) -> str:
    """64 hexadecimal digits of a file's bytes, as `sha256sum` prints them."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
