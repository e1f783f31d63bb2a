"""What one stack reads of another: its outputs, as they lie in the backend."""

from __future__ import annotations

from dpp.engine.backend import Backend
from dpp.engine.passphrase import Passphrase
from dpp.engine.state import State, decode
from dpp.engine.values import Properties, has_secrets
from dpp.model.errors import FatalError


def salt_of(deployment: Properties) -> str:
    """Return the salt that a deployment's secrets were made with; empty if it has none.

    Raises
    ------
    FatalError
        If they were made with something else than a passphrase.
    """
    provider = deployment.get("secrets_providers") or {}
    if provider.get("type", "passphrase") != "passphrase":
        raise FatalError("secrets provider", str(provider.get("type")), "passphrase", "others need the pulumi command")
    return str((provider.get("state") or {}).get("salt", ""))


def open_state(
    backend: Backend, stack: str, found: Properties, passphrase: str, preferred: Passphrase | None = None
) -> State:
    """Return the state in a checkpoint file.

    Parameters
    ----------
    found
        What `Backend.read` returned.
    preferred
        What the state is to be written with; by default what it was read with.

    Raises
    ------
    FatalError
        If the passphrase does not open its secrets.
    """
    checkpoint = found["checkpoint"]
    deployment = checkpoint.get("latest") or {}
    origin = str(backend.checkpoint(stack))
    salt = salt_of(deployment)
    secrets = Passphrase(passphrase, salt, origin) if salt else preferred or Passphrase.create(passphrase, origin)
    secrets.verify()
    state = State(stack, backend.project, preferred or secrets)
    state.envelope = {key: value for key, value in checkpoint.items() if key not in {"stack", "latest"}}
    return decode(deployment, secrets, state)


def read_outputs(backend: Backend, name: str, passphrase: str) -> Properties:
    """Return the properties of a stack reference: name, outputs, and which of them are secret.

    Parameters
    ----------
    name
        ``organization/PROJECT/STACK``, ``PROJECT/STACK`` or ``STACK``.

    Raises
    ------
    FatalError
        If there is no such stack.
    """
    *_, project, stack = [backend.project, *name.split("/")]
    home = Backend(backend.folder, project)
    found = home.read(stack)
    if found is None:
        raise FatalError(
            name, f"no such stack in {backend.folder}", "a stack that was applied", f"run `dpp stack up {stack}` first"
        )
    state = open_state(home, stack, found, passphrase)
    secret_names = sorted(key for key, value in state.outputs.items() if has_secrets(value))
    return {"name": name, "outputs": state.outputs, "secretOutputNames": secret_names}
