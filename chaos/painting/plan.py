"""What a run's processes share: a folder with the plan of what to suffer, a clock and a diary.

The driver writes the plan and puts the clock forward; the workers read both and keep the diary.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path


@dataclass(frozen=True)
class Plan:
    """What a worker is to suffer from now on. Nothing, unless a field says so."""

    hold: str = ""  # painting this prompt waits until the plan says otherwise
    kill: str = ""  # painting this prompt kills the process
    too_large: str = ""  # this prompt alone fills the device's memory
    largest: int = 0  # so many images fit in the device's memory; 0: any number
    disk_full: bool = False
    die_at: str = ""  # the process dies before this step of the next message, once


@dataclass(frozen=True)
class Line:
    """One line of the diary: which process did what, for which message."""

    pid: int
    task_id: str
    step: str


@dataclass(frozen=True)
class Folder:
    """A run's own folder, and what lies in it."""

    path: Path
    _offset: Path = field(init=False, repr=False)
    _plan: Path = field(init=False, repr=False)
    _diary: Path = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("offset", "plan", "diary"):
            object.__setattr__(self, f"_{name}", self.path / name)

    # The clock: real time, and what the driver has put it forward by.

    def now(self) -> datetime:
        return datetime.now(UTC) + self._put_forward_by()

    def put_forward(self, until: datetime) -> None:
        """Leases end and pauses pass without anybody waiting for them."""
        ahead = until - datetime.now(UTC)
        if ahead > self._put_forward_by():
            _write(self._offset, str(ahead.total_seconds()))

    def _put_forward_by(self) -> timedelta:
        try:
            return timedelta(seconds=float(self._offset.read_text()))
        except FileNotFoundError:
            return timedelta(0)

    # The plan.

    def plan(self) -> Plan:
        try:
            return Plan(**json.loads(self._plan.read_text()))
        except FileNotFoundError:
            return Plan()

    def set_plan(self, plan: Plan) -> None:
        _write(self._plan, json.dumps(asdict(plan)))

    # The diary.

    def note(self, task_id: str, step: str) -> None:
        with self._diary.open("a") as diary:
            diary.write(f"{os.getpid()}\t{task_id}\t{step}\n")

    def diary(self) -> list[Line]:
        try:
            lines = self._diary.read_text().splitlines()
        except FileNotFoundError:
            return []
        cells = [line.split("\t") for line in lines]
        return [Line(int(pid), task_id, step) for pid, task_id, step in cells]


def _write(path: Path, text: str) -> None:
    """Whole or not at all: others read it at any moment."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(text)
    new.replace(path)
