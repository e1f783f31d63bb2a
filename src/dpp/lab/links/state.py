"""What a circuit of the lab should be and what it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from dpp.lab import wires
from dpp.model.environment import Environment
from dpp.model.folders import Folders
from dpp.model.types import Circuit, CircuitEnd

Direction = Literal["a-to-b", "b-to-a"]
DIRECTIONS: tuple[Direction, Direction] = ("a-to-b", "b-to-a")
END_NAMES: tuple[Literal["a", "b"], Literal["a", "b"]] = ("a", "b")


class Condition(BaseModel):
    """How well a circuit carries."""

    model_config = ConfigDict(frozen=True)

    rate_mbps: float = Field(gt=0, description="Each way, in Mbit/s.")
    delay_ms: float = Field(ge=0, description="One way, in milliseconds.")
    loss_percent: float = Field(ge=0, le=100, description="Of packets, each way.")

    @classmethod
    def declared(cls, circuit: Circuit, environment: Environment) -> Condition:
        """Return what the inventory says that the lab's circuit carries."""
        rate = circuit.rate_mbps * environment.circuit_scale
        return cls(rate_mbps=rate, delay_ms=circuit.delay_ms, loss_percent=circuit.loss_percent)


class LinkState(BaseModel):
    """A circuit as it is found."""

    circuit: str
    path: Literal["primary", "secondary"]
    urn: str = Field(description="Who owns it; empty where it was made by hand.")
    ends: tuple[str, str] = Field(description="Router and interface at either end.")
    declared: Condition
    actual: Condition | None = Field(description="As the kernel and the delay line say; null where parts are missing.")
    cut: tuple[Direction, ...] = Field(description="Directions in which everything is dropped.")
    means: Literal["netem", "delay line"] = Field(description="What makes delay and loss.")
    faults: tuple[str, ...] = Field(description="Parts that are missing or not running.")

    @property
    def sound(self) -> bool:
        """Whether the circuit carries as declared."""
        return not self.faults and not self.cut and self.actual == self.declared


@dataclass(frozen=True)
class Wire:
    """Where the parts of a circuit lie.

    Parameters
    ----------
    circuit
        The declaration.
    folders
        The instance's folders.
    """

    circuit: Circuit
    folders: Folders

    @property
    def ends(self) -> tuple[CircuitEnd, CircuitEnd]:
        """Ends a and b."""
        return self.circuit.a, self.circuit.b

    @property
    def namespace(self) -> str:
        """The wires' namespace."""
        return wires.wires(self.folders.instance)

    @property
    def ports(self) -> tuple[str, str]:
        """Interfaces of the wires' namespace that lead to the routers at a and b."""
        a, b = (wires.interface(f"{self.circuit.name}.{end}") for end in END_NAMES)
        return a, b

    @property
    def bridge(self) -> str:
        """The bridge that joins the ports where netem makes the delay."""
        return wires.interface(f"{self.circuit.name}.br")

    def router(self, end: CircuitEnd) -> str:
        """Return the namespace of the router at `end`."""
        return wires.namespace(self.folders.instance, end.host)

    def file(self, suffix: str) -> Path:
        """Return a file of the run folder that belongs to this circuit."""
        return self.folders.run / "links" / f"{self.circuit.name}.{suffix}"
