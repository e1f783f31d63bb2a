"""The circuits of a lab: made, found, cut, restored, degraded, measured, removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpp.lab import wires
from dpp.lab.links import shaping
from dpp.lab.links.delayline import DelayLine, stop_all
from dpp.lab.links.measure import Measurement, measure
from dpp.lab.links.state import DIRECTIONS, END_NAMES, Condition, Direction, LinkState, Wire
from dpp.model.environment import Environment
from dpp.model.errors import FatalError, UsageError
from dpp.model.folders import Folders

Interfaces = Mapping[str, Mapping[str, Any]]

_MTU = 1500
_MAX_SEGMENTS = 65535


@dataclass(frozen=True)
class Links:
    """The circuits of one lab.

    Parameters
    ----------
    folders
        The instance's folders.
    environment
        The model that declares the circuits.
    """

    folders: Folders
    environment: Environment

    def ensure(self, name: str, urn: str = "") -> LinkState:
        """Make the circuit, or mend what is missing of it; one that was cut or degraded becomes as declared.

        Parameters
        ----------
        name
            A circuit of the model.
        urn
            Who owns it from now on; empty leaves the owner as it is.

        Raises
        ------
        FatalError
            If another owns it, or a router's namespace does not exist.
        """
        wire, declared = self._wire(name), self._declared(name)
        with wires.lock(self.folders.instance):
            wires.ensure_wires(self.folders.instance)
            present = wires.links(wire.namespace)
            owner = _owner(wire, present)
            if urn and owner and owner != urn:
                raise FatalError(f"circuit {name}", f"owned by {owner}", urn, "destroy it there first")
            if not self._plugged(wire, present):
                self._plug(wire, present, urn or owner)
            else:
                wires.batch(wire.namespace, _own(wire, urn))
            self._carry(wire, declared, ())
        return self._state(wire)

    def remove(self, name: str) -> None:
        """Take the circuit away, with its process and files; nothing happens where there is none."""
        wire = self._wire(name)
        with wires.lock(self.folders.instance):
            DelayLine(wire).stop()
            if wires.exists(wire.namespace):
                present = wires.links(wire.namespace)
                parts = [part for part in (*wire.ports, wire.bridge) if part in present]
                wires.batch(wire.namespace, [f"link delete {part}" for part in parts])

    @staticmethod
    def remove_all(folders: Folders) -> None:
        """End every delay line of an instance, whatever its model says now; its interfaces go with the namespaces."""
        stop_all(folders.run / "links")

    def read(self, name: str) -> LinkState | None:
        """Return the circuit as it is found, None where nothing of it exists."""
        wire = self._wire(name)
        if not wires.exists(wire.namespace) or not set(wire.ports) & set(wires.links(wire.namespace)):
            return None
        return self._state(wire)

    def status(self) -> list[LinkState]:
        """Return all circuits that exist, in the order of the model."""
        return [state for name in self.environment.circuits if (state := self.read(name))]

    def cut(self, name: str, direction: Direction | None = None) -> LinkState:
        """Drop everything in silence, carrier up: in one direction, or in both where none is named."""
        if direction not in (None, *DIRECTIONS):
            raise UsageError(f"circuit {name}", f"direction {direction!r}", " or ".join(DIRECTIONS), "name one of them")
        before = self._existing(name)
        return self._change(name, self._actual(before), (*before.cut, *([direction] if direction else DIRECTIONS)))

    def restore(self, name: str) -> LinkState:
        """Undo cuts and degradation: the circuit carries as declared."""
        self._existing(name)
        return self._change(name, self._declared(name), ())

    def degrade(
        self,
        name: str,
        rate_mbps: float | None = None,
        delay_ms: float | None = None,
        loss_percent: float | None = None,
    ) -> LinkState:
        """Change what the circuit carries: rate in Mbit/s, one-way delay in milliseconds, loss of packets in percent."""
        before = self._existing(name)
        change = {"rate_mbps": rate_mbps, "delay_ms": delay_ms, "loss_percent": loss_percent}
        now = self._actual(before).model_dump() | {key: value for key, value in change.items() if value is not None}
        return self._change(name, Condition.model_validate(now), before.cut)

    def measure(self, name: str) -> Measurement:
        """Measure rate and round trip of the circuit as it is; takes one to three seconds."""
        self._existing(name)
        return measure(self._wire(name), self._declared(name))

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _wire(self, name: str) -> Wire:
        return Wire(self.environment.circuit(name), self.folders)

    def _declared(self, name: str) -> Condition:
        return Condition.declared(self.environment.circuit(name), self.environment)

    def _existing(self, name: str) -> LinkState:
        state = self.read(name)
        if state is None:
            raise FatalError(f"circuit {name}", "not there", "a standing lab", "run dpp lab up")
        return state

    def _actual(self, state: LinkState) -> Condition:
        if state.actual is None:
            raise FatalError(
                f"circuit {state.circuit}", ", ".join(state.faults), "a whole circuit", "run dpp lab restore"
            )
        return state.actual

    def _change(self, name: str, condition: Condition, cut: tuple[Direction, ...]) -> LinkState:
        wire = self._wire(name)
        with wires.lock(self.folders.instance):
            if not self._plugged(wire, wires.links(wire.namespace)):
                raise FatalError(f"circuit {name}", "an end is not plugged in", "a whole circuit", "run dpp lab up")
            self._carry(wire, condition, cut)
        return self._state(wire)

    def _carry(self, wire: Wire, condition: Condition, cut: tuple[Direction, ...]) -> None:
        netem = shaping.has_netem()
        for port, way in zip(wire.ports, reversed(DIRECTIONS), strict=True):  # towards a leaves by port a
            shaping.apply(wire.namespace, port, condition, cut=way in cut, netem=netem)
        for end in wire.ends:
            self._offload(wire.router(end), end.interface, enabled=condition.loss_percent == 0)
        if netem:
            self._join(wire)
        else:
            DelayLine(wire).ensure(condition)

    def _state(self, wire: Wire) -> LinkState:
        declared, netem = self._declared(wire.circuit.name), shaping.has_netem()
        present = wires.links(wire.namespace)
        shapes = [shaping.read(wire.namespace, port) if port in present else None for port in wire.ports]
        told = DelayLine(wire).read()
        faults = [*self._missing(wire, present, shapes), *self._unjoined(wire, present, told, netem=netem)]
        conditions = {_condition(shape, told, declared) for shape in shapes if shape is not None}
        if len(conditions) > 1:
            faults.append("its directions differ: " + " and ".join(sorted(map(str, conditions))))
        a, b = wire.ends
        ways = zip(shapes, reversed(DIRECTIONS), strict=True)
        cut = {way for shape, way in ways if shape is not None and shape.cut}
        return LinkState(
            circuit=wire.circuit.name,
            path=wire.circuit.path,
            urn=_owner(wire, present),
            ends=(f"{a.host}:{a.interface}", f"{b.host}:{b.interface}"),
            declared=declared,
            actual=None if faults else conditions.pop(),
            cut=tuple(way for way in DIRECTIONS if way in cut),
            means="netem" if netem else "delay line",
            faults=tuple(faults),
        )

    @staticmethod
    def _missing(wire: Wire, present: Interfaces, shapes: Sequence[shaping.Shape | None]) -> Iterator[str]:
        for port, end, shape in zip(wire.ports, wire.ends, shapes, strict=True):
            if port not in present:
                yield f"no port towards {end.host}"
            elif not wires.exists(wire.router(end)) or end.interface not in wires.links(wire.router(end)):
                yield f"{end.host} has no {end.interface}"
            elif shape is None:
                yield f"the port towards {end.host} is not shaped"

    @staticmethod
    def _unjoined(wire: Wire, present: Interfaces, told: tuple[float, float] | None, *, netem: bool) -> Iterator[str]:
        if not netem and told is None:
            yield "its delay line does not run"
        if netem and any(port in present and present[port].get("master") != wire.bridge for port in wire.ports):
            yield "its ports are not joined"

    @staticmethod
    def _plugged(wire: Wire, present: Interfaces) -> bool:
        """Say whether both routers' interfaces lead to the ports."""
        return all(
            port in present and wires.exists(wire.router(end)) and end.interface in wires.links(wire.router(end))
            for port, end in zip(wire.ports, wire.ends, strict=True)
        )

    @staticmethod
    def _plug(wire: Wire, present: Interfaces, urn: str) -> None:
        DelayLine(wire).stop()  # it holds the interfaces that are about to go
        for end in wire.ends:
            if not wires.exists(wire.router(end)):
                raise FatalError(
                    f"circuit {wire.circuit.name}", f"{end.host} is not there", wire.router(end), "run dpp lab up"
                )
            if end.interface in wires.links(wire.router(end)):
                wires.ip("-n", wire.router(end), "link", "delete", end.interface)
        lines = []
        for port, end, letter in zip(wire.ports, wire.ends, END_NAMES, strict=True):
            router = wire.router(end)
            address = wires.hardware_address(f"{router}.{end.interface}")
            lines += [f"link delete {port}"] if port in present and _still(wire, port) else []
            lines += [
                f"link add {port} mtu {_MTU} type veth peer name {end.interface} address {address} mtu {_MTU} netns {router}",
                f"link property add dev {port} altname {wire.circuit.name}.{letter}",
                f"link set {port} arp off up",
            ]
        wires.batch(wire.namespace, [*lines, *_own(wire, urn)])
        for end in wire.ends:
            wires.ip("-n", wire.router(end), "link", "set", end.interface, "up")

    @staticmethod
    def _join(wire: Wire) -> None:
        present = wires.links(wire.namespace)
        lines = [] if wire.bridge in present else [f"link add {wire.bridge} type bridge stp_state 0 forward_delay 0"]
        lines += [f"link set {port} master {wire.bridge}" for port in wire.ports]
        wires.batch(wire.namespace, [*lines, f"link set {wire.bridge} up"])

    @staticmethod
    def _offload(namespace: str, interface: str, *, enabled: bool) -> None:
        """Let segments of 64 KiB travel whole, or not: where packets are lost, each must stand for itself."""
        wires.ip("-n", namespace, "link", "set", interface, "gso_max_segs", str(_MAX_SEGMENTS if enabled else 1))


def _still(wire: Wire, port: str) -> bool:
    """Say whether the port is there: deleting a router's end takes it along."""
    return port in wires.links(wire.namespace)


def _owner(wire: Wire, present: Interfaces) -> str:
    return next((str(present[port]["ifalias"]) for port in wire.ports if present.get(port, {}).get("ifalias")), "")


def _own(wire: Wire, urn: str) -> list[str]:
    return [f"link set {port} alias {urn}" for port in wire.ports if urn]


def _condition(shape: shaping.Shape, told: tuple[float, float] | None, declared: Condition) -> Condition:
    """Return what one direction carries; where it is cut, netem's delay and loss are gone and count as declared."""
    delay, loss = told or (shape.delay_ms, shape.loss_percent)
    return Condition(
        rate_mbps=shape.rate_mbps,
        delay_ms=declared.delay_ms if delay is None else delay,
        loss_percent=declared.loss_percent if loss is None else loss,
    )
