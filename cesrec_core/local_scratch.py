"""Files that libraries write back and forth, made on this machine's own disk and copied to where they belong.

Volumes of object stores take a file from its first byte to its last: who reserves its length beforehand, as safetensors does,
or turns back, as an archive of numpy's does, is refused there.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cesrec_core.errors import StageError, is_disk_full


@contextmanager
def copied_from_local_disk(file: Path) -> Iterator[Path]:
    """Yield a path of the same name; what the block has written there becomes `file`, whose folder has to exist.

    Where the block raises, `file` stays as it was; a copy that fails leaves none, and a crash may leave a part of it: rename it
    into place where that matters. Its mode is that of any file of this process, while safetensors makes files that nobody but
    their writer can read.

    Raises:
        StageError: this machine's own disk is full.
    """
    with tempfile.TemporaryDirectory(prefix="cesrec-") as folder:
        scratch = Path(folder) / file.name
        try:
            yield scratch
        except Exception as error:
            if not is_disk_full(error):
                raise
            raise StageError(
                f"There is no room in {tempfile.gettempdir()}, where {file.name} is made before it is copied to {file.parent}. "
                "Make room, or set the environment variable TMPDIR to another folder, and start again: what is done is kept."
            ) from error
        # Of a file that was there, somebody may still be reading, and its mode would stay.
        file.unlink(missing_ok=True)
        try:
            shutil.copyfile(scratch, file)
        except BaseException:
            file.unlink(missing_ok=True)
            raise
