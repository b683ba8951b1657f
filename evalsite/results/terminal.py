"""Calm tables in a terminal."""

from rich.console import Console
from rich.padding import Padding
from rich.table import Table


def plain_table(*columns: str) -> Table:
    """Columns in plain words; a leading > puts numbers to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 4, 0, 0), header_style="dim")
    for name in columns:
        table.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left")
    return table


def print_table(console: Console, table: Table) -> None:
    """Indented, between two empty lines."""
    console.print()
    console.print(Padding(table, (0, 0, 0, 2), expand=False))
    console.print()
