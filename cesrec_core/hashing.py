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
    files = (
        [path]
        if path.is_file()
        else sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    )
    for file in files:
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            while block := stream.read(BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()[:16]
