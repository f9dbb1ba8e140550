"""What a reader must know of the machine to judge a measurement."""

import os
import platform
from pathlib import Path

from .. import native


def describe():
    """CPU, caches and instruction sets, as a dict."""
    return {
        "cpu": _cpu(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "l2_bytes": l2_bytes(),
        "l3_bytes": l3_bytes(),
        "isas": native.isas(),
        "isa": native.isa(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def l2_bytes():
    """The size of one CPU's level 2 cache in bytes, or None where the system does not say (Linux does)."""
    return _cache_bytes("2")


def l3_bytes():
    """The size of the level 3 cache that the CPU shares with others, or None."""
    return _cache_bytes("3")


def _cache_bytes(level):
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        if (index / "level").read_text().strip() == level:
            return int((index / "size").read_text().strip().removesuffix("K")) * 1024
    return None


def _cpu():
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
