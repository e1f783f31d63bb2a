"""The offline engine: deploys Pulumi programs with provider executables where the vendor's command is not to be had.

It keeps the vendor's states and speaks the vendor's protocol; it does what the programs here ask for and refuses the
rest in one sentence.
"""

from dpp.engine.events import Event, Result
from dpp.engine.workspace import Workspace

__all__ = ["Event", "Result", "Workspace"]
