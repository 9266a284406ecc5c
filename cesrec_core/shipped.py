"""What comes with the library without being part of it: conf/ and training/, in a checkout, an installed wheel, or a wheel that
spark-submit has put on the path as it is."""

import atexit
import functools
import shutil
import tempfile
import zipfile
from pathlib import Path

import cesrec_core


def library_root() -> Path:
    """The folder to import this very library from: for other processes on this machine. A wheel is unpacked once."""
    archive = enclosing_archive()
    return _unpacked(archive) if archive is not None else Path(cesrec_core.__file__).parents[1]


def enclosing_archive() -> Path | None:
    """The wheel or zip that this library is imported from; None where it lies in a folder."""
    return next((parent for parent in Path(cesrec_core.__file__).parents if parent.is_file()), None)


def shipped_folder(name: str) -> Path:
    """`conf` or `training`: beside the library in a checkout; a wheel holds `conf` inside of it."""
    root = library_root()
    return next((folder for folder in (root / name, root / "cesrec_core" / name) if folder.is_dir()), root / name)


def find_file(path: Path, folder: Path = Path()) -> Path:
    """The file from `folder`, by default that the job was started in; where there is none, a path below conf/ is what ships."""
    here = folder / path
    if here.exists() or path.parts[:1] != ("conf",):
        return here
    shipped = shipped_folder("conf").joinpath(*path.parts[1:])
    return shipped if shipped.is_file() else here


def scratch_folder() -> Path:
    """An empty folder on this machine, which is gone when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="cesrec-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def _unpacked(archive: Path) -> Path:
    folder = scratch_folder()
    with zipfile.ZipFile(archive) as wheel:
        wheel.extractall(folder)
    return folder
