"""What may go wrong with painting, one function each. Each says what it does to a real site."""

from chaos.painting.faults import broker, images, processes
from chaos.painting.faults.registry import KNOWN, Fault

__all__ = ["FAULTS", "Fault"]

FAULTS = {  # in the order in which they are played
    name: fault
    for room in (processes, images, broker)
    for name, fault in KNOWN.items()
    if fault.run.__module__ == room.__name__
}
