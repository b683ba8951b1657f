"""What this machine has room for: disk for weights, memory for a model. No torch."""

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ASK_SECONDS = 10


@dataclass(frozen=True)
class Memory:
    """A device's whole memory, in bytes, and what to call the device."""

    device: str
    total: int


def disk_free(folder: Path) -> int:
    """Bytes free where a folder is, or would be made."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def device_memory(device: str) -> Memory | None:
    """The memory of a device by torch's name for it; empty: CUDA where there is one.

    None when it cannot be known without torch: a device that the driver does not list.
    """
    kind, _, number = device.partition(":")
    if kind in ("", "cuda"):
        cards = _cuda_cards()
        if int(number or 0) < len(cards):
            return cards[int(number or 0)]
        if kind == "cuda":
            return None
    return Memory("this machine's own memory", _own_memory())


def _own_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cuda_cards() -> list[Memory]:
    query = ["--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(
            ["nvidia-smi", *query], capture_output=True, text=True, timeout=ASK_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.rpartition(",") for line in answer.stdout.splitlines() if "," in line]
    return [
        Memory(name.strip(), int(mebibytes) << 20)
        for name, _, mebibytes in rows
        if mebibytes.strip().isdigit()
    ]


def device_problem(device: str) -> str:
    """What is wrong with the name of a device to paint on; nothing where it is one."""
    kind, colon, number = device.partition(":")
    numbered = kind == "cuda" and number.isascii() and number.isdigit()
    if kind in ("", "cpu", "cuda", "mps") and (numbered or not colon):
        return ""
    return f"PAINTING_DEVICE is {device}; expected cuda, cuda:1, mps or cpu"


def missing_device(device: str) -> str:
    """Why nothing can be painted on a device of that name; nothing where something can.

    torch is asked, in a process of its own, which takes seconds: only for a device that was named.
    """
    if (problem := device_problem(device)) or device in ("", "cpu"):
        return problem
    kind, _, number = device.partition(":")
    there = (
        f"torch.cuda.device_count() > {int(number or 0)}"
        if kind == "cuda"
        else "torch.backends.mps.is_available()"
    )
    code = f"import sys, torch; sys.exit(0 if {there} else 'torch finds no such device here')"
    asked = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    why = (asked.stderr.strip().splitlines() or ["torch ended without a word"])[-1]
    return f"PAINTING_DEVICE is {device}: {why}" if asked.returncode else ""


def cpu_threads() -> int:
    """How many threads a worker paints with on a CPU; more than cores is ten times slower, so
    more than one must be asked for."""
    return int(os.environ.get("OMP_NUM_THREADS") or 1)


def device_name(device: str) -> str:
    """A painter's device with this machine's processor in place of `cpu`: which card it was, a
    painter's facts say, and which processor they do not."""
    if device == "cpu":
        threads = cpu_threads()
        return f"{_processor()}, {threads} thread{'' if threads == 1 else 's'}"
    return f"{_processor()} ({device})" if device == "mps" else device


def _processor() -> str:
    """Its name as the system gives it, or at least its kind."""
    try:
        if platform.system() == "Darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            told = subprocess.run(
                command, capture_output=True, text=True, timeout=ASK_SECONDS, check=True
            )
            return told.stdout.strip() or platform.machine()
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, subprocess.SubprocessError):
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names and names[0] else platform.machine()
