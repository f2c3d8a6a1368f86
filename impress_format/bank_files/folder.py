"""Where a bank is on disk, and what its folder holds (docs/format.md).

    NAME.impress/
      bank.json                    the manifest: backbone, and the masks the bank has or will have
      masks/00000.safetensors ...  one file a mask; a finished file is its result
      tasks/NAME.safetensors ...   one file a task
      packs/DIGEST.safetensors ... many tasks in one file
      calibration.safetensors      images for norm statistics; only for networks with BatchNorm
      recogniser.safetensors       what signatures of tasks are made with
      projection.safetensors       what heads of tasks stand on; only for pretrained weights

The manifest names every mask before it is trained; a mask that is planned and has no file is still to be
trained. So a killed run is resumed where it stopped, and no file is ever written twice.
"""

from __future__ import annotations

import stat
from pathlib import Path

from impress_format.disk.files import check_folder, is_there, unreadable
from impress_format.errors import BankNotFound
from impress_format.tasks.store import PACKS, TASKS

MANIFEST = "bank.json"
MASKS = "masks"


def find_bank(path: Path | str) -> Path:
    """The folder of the bank at `path`: its manifest is there, and its other folders may be read.

    Raises:
        BankNotFound: no folder, or no bank in it.
        StorageError: the folder may not be read.
    """
    if path == "":  # which pathlib would take for the current folder
        raise BankNotFound("the path of the bank is empty: is a variable not set?")
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BankNotFound(
            f"there is no bank at {path}: create one with `impress bank create {path} REF...`"
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error
    if not stat.S_ISDIR(mode):
        raise BankNotFound(f"{path} is a file: a bank is a folder, by habit NAME.impress")
    if not is_there(path / MANIFEST):
        raise BankNotFound(f"{path} holds no {MANIFEST}: it is not a bank")
    for folder in (MASKS, TASKS, PACKS):
        check_folder(path / folder)
    return path
