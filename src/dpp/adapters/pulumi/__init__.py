"""The vendor's deployment engine: its command on stacks in a folder, and the host that runs our programs for it."""

from dpp.adapters.pulumi.backend import Backend, environment_of
from dpp.adapters.pulumi.events import Event, Listener, Result, ignore, mask
from dpp.adapters.pulumi.locks import Holder
from dpp.adapters.pulumi.stacks import Stacks

__all__ = ["Backend", "Event", "Holder", "Listener", "Result", "Stacks", "environment_of", "ignore", "mask"]
