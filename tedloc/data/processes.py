"""How many processes read photos ahead of a network (``tedloc.data.loading``)."""

import multiprocessing
import os

from tedloc.data import ImageSet

MOST = 16  # by default: so many keep pace with any GPU, where a machine has the cores

_sharing = 1


def sharing(count: int) -> None:
    """Say that so many processes of this machine, this one among them, use photos side by side."""
    global _sharing
    _sharing = count


def readers(images: ImageSet, asked: int | None = None, device: str = "cpu") -> int:
    """As many as asked for. By default none for images that no file is decoded for; otherwise one for each core that
    is this process's share, less one on a CPU, where the network has need of it."""
    if multiprocessing.current_process().daemon:  # which may start none
        return 0
    if asked is not None:
        return asked
    if not images.decoded:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = cores // (_sharing * int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    return max(0, min(share, MOST) - (device == "cpu"))
