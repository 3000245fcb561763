"""How long a test waits."""

import os


def patience(seconds: float) -> float:
    """A limit that holds on a free machine, stretched by what others ask of this one."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
