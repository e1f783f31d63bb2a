"""What a router's resource refuses before anything is sent to the router."""

from __future__ import annotations

import pytest

from dpp.model.errors import FatalError
from dpp.provider import kinds
from dpp.provider.resources.device_configuration import DeviceConfiguration

TEXT = "hostname rt01.base\n!\nrouter bgp {number}\n neighbor 10.0.0.1 remote-as 65081\n"


def _refuse(recorded: str, wanted: str) -> None:
    state = {"environment": "lab", "host": "rt01.base", "configuration": recorded, "machine": "m"}
    DeviceConfiguration().refuse(state, kinds.DeviceConfiguration(**state | {"configuration": wanted}))


def test_another_as_number_is_refused_with_the_way() -> None:
    with pytest.raises(FatalError, match=r"AS number 65090 in place of 65082.*refresh, apply again"):
        _refuse(TEXT.format(number=65082), TEXT.format(number=65090))


@pytest.mark.parametrize(
    ("recorded", "number"),
    [
        (TEXT.format(number=65082), 65082),
        (TEXT.format(number=65082) + "! stray: router bgp 65090\n", 65090),
        ("hostname rt01.base\n", 65090),
    ],
    ids=["as it is", "changed by a person and read since", "never had one"],
)
def test_the_number_that_the_router_has_is_applied(recorded: str, number: int) -> None:
    _refuse(recorded, TEXT.format(number=number))


def test_a_neighbour_may_have_another_number() -> None:
    text = TEXT.format(number=65082)
    _refuse(text, text.replace("65081", "65091"))
