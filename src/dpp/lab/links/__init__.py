"""Circuits between border routers, as the lab has them: shaped, delayed, lossy, and cut or degraded on demand.

A circuit is two veth pairs, router to wires and wires to router. In the wires' namespace HTB limits the rate of what
leaves towards each router; delay and loss come from netem where the kernel has it, else from a process per circuit
(`dpp.build.tools`, delayline) that carries frames from one end to the other.
"""

from dpp.lab.links.links import Links
from dpp.lab.links.measure import Measurement
from dpp.lab.links.state import Condition, Direction, LinkState

__all__ = ["Condition", "Direction", "LinkState", "Links", "Measurement"]
