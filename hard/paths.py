"""Why a path cannot be read: said in words, whatever the operating system answers."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def unreadable(path: Path) -> str | None:
    """What is wrong with a path that ought to be a file that we may read; None: nothing."""
    try:
        str(path).encode()
        mode = os.stat(path).st_mode
    except UnicodeEncodeError:  # OpenCV ends the process at such a name
        return "its name is not UTF-8"
    except FileNotFoundError:
        return "no such file"
    except PermissionError:
        return "permission denied for this user"
    except (OSError, ValueError) as e:
        return (getattr(e, "strerror", None) or str(e)).lower()
    if stat.S_ISDIR(mode):
        return "a folder"
    if not stat.S_ISREG(mode):
        return "no regular file"
    return None if os.access(path, os.R_OK) else "permission denied for this user"
