"""What a change comes to, as types: the dossier is made of these, and its JSON is theirs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dpp.model.types import Model

Verb = Literal["added", "changed", "removed"]


class Noun(Model):
    """Something declared that is another than before."""

    kind: str = Field(
        description="host, circuit, role, contract, topic, unit, manifest, image, objective, runbook, test ..."
    )
    name: str
    verb: Verb
    file: str = Field(description="Where it is declared.")
    environments: tuple[str, ...] = Field(default=(), description="Empty where it is declared for all alike.")


class Step(Model):
    """What is done to one resource of a stack."""

    verb: str = Field(description="create, update, replace or delete, as the engine says.")
    kind: str = Field(description="Type of the resource, as dpp:machines:Machine.")
    name: str
    changes: tuple[str, ...] = Field(default=(), description="Paths of the inputs that differ.")


class Preview(Model):
    """What would be done to one stack."""

    stack: str
    steps: tuple[Step, ...] = ()
    errors: tuple[str, ...] = ()
    source: str = Field(description="Who says so, and compared with what.")


class TextDifference(Model):
    """The same difference of something that is deployed, in one place or many."""

    kind: Literal["router", "manifest", "host file", "host unit", "host task"]
    name: str
    places: tuple[str, ...]
    diff: str = Field(description="Unified; secrets by name.")


class Drift(Model):
    """What stands otherwise than the base declares: somebody changed it by hand, or something else did."""

    stack: str
    steps: tuple[Step, ...] = Field(default=(), description="What the base's programs would do to bring it back.")
    found: str = Field(default="", description="Why the stack cannot be asked: it was never applied, or was cut short.")


class Live(Model):
    """What an environment says itself: it is shown beside a plan, and no digest depends on it."""

    asked: str = Field(description="When, in UTC.")
    drift: tuple[Drift, ...] = ()
    drifted: tuple[TextDifference, ...] = Field(default=(), description="What of routers and on hosts is otherwise than the base declares: - as it stands, + as declared.")  # fmt: skip
    previews: tuple[Preview, ...] = Field(default=(), description="What the change does to the real stacks.")
    hosts: tuple[str, ...] = Field(
        default=(), description="Those on which the change's playbook was run in check mode."
    )
    checked: tuple[TextDifference, ...] = Field(
        default=(), description="What it would do there, without what is drift."
    )
    unasked: dict[str, str] = Field(default={}, description="Stacks and hosts that were not asked, each with why.")

    @property
    def drifts(self) -> bool:
        """Whether anything stands otherwise than the base declares."""
        return bool(self.drift or self.drifted)


class Right(Model):
    """A right that somebody would have, or would have no more."""

    principal: str
    verb: str
    resource: str


class Effect(Model):
    """What a running thing goes through."""

    verb: Literal["restarts", "reloads", "starts", "stops", "rolls", "runs again", "converges", "is made", "is made anew", "goes", "is reconfigured"]  # fmt: skip
    name: str
    places: tuple[str, ...] = Field(description="Hosts or clusters.")
    seconds: int | None = Field(default=None, description="How long each is away, as declared; none where nobody did.")
    because: str


class Affected(Model):
    """A service that feels the change."""

    name: str
    title: str
    tier: str
    owner: str
    direct: bool
    because: str = Field(description="What touches it, or the services by which it depends on what is touched.")


class Judgement(Model):
    """What the rules say of a plan."""

    risk: str
    rules: tuple[str, ...] = Field(description="Those that apply, each with why.")
    approvals: dict[str, int] = Field(description="How many of each role must agree.")
    window: str
    window_text: str
    way_back: tuple[str, ...]


class Plan(Model):
    """What a change would do in one environment."""

    environment: str
    applied: bool = Field(description="Whether the environment may be applied, or is for previews only.")
    live: Live | None = Field(default=None, description="What it says itself, where it was asked.")
    previews: tuple[Preview, ...] = ()
    differences: tuple[TextDifference, ...] = ()
    gained: tuple[Right, ...] = ()
    lost: tuple[Right, ...] = ()
    effects: tuple[Effect, ...] = ()
    services: tuple[Affected, ...] = ()
    unseen: dict[str, str] = Field(default={}, description="What only the hosts can tell: what, and why.")
    errors: tuple[str, ...] = ()
    parts: dict[str, str] = Field(default={}, description="Digest of each part of the plan.")
    digest: str = ""
    judgement: Judgement | None = None

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps, of all stacks."""
        return tuple(step for preview in self.previews for step in preview.steps)

    @property
    def deploys(self) -> bool:
        """Whether anything would be done, or may be: what cannot be told counts."""
        return bool(self.steps or self.differences or self.errors or self.gained or self.lost) or any(one.errors for one in self.previews)  # fmt: skip


class Proof(Model):
    """A proof that a change owes."""

    id: str
    owner: str
    seconds: int
    why: str


class Dossier(Model):
    """All that a reviewer needs of a change."""

    base: str
    head: str = Field(description="Commit, or `working tree`.")
    compared_with: str
    judged_by: str = Field(description="Whose rules.")
    files: int
    nouns: tuple[Noun, ...]
    plans: tuple[Plan, ...] = Field(description="One for each environment that the change can touch.")
    proofs: tuple[Proof, ...]
    authors: tuple[str, ...]
    digest: str = Field(description="Over all plans.")

    @property
    def deploys(self) -> bool:
        """Whether anything would be done anywhere."""
        return any(plan.deploys for plan in self.plans)
