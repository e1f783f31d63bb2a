"""A program whose second form updates, replaces in both ways, deletes and creates."""

import pulumi


class Thing(pulumi.CustomResource):
    place: pulumi.Output[str]
    size: pulumi.Output[int]

    def __init__(self, kind, name, place, size=1, opts=None, **more):
        super().__init__(f"ledger:index:{kind}", name, {"place": place, "size": size, **more}, opts)


class Group(pulumi.ComponentResource):
    def __init__(self, name, opts=None):
        super().__init__("ledger:index:Group", name, None, opts)


def options(**more):
    return pulumi.ResourceOptions(**more)


config = pulumi.Config()
mode = config.get("mode") or "first"
second = mode == "second"
group = Group("group")
base = Thing("Only", "base", "here", 2 if second else 1, options(parent=group), token=config.require_secret("token"))
moved = Thing(
    "Only", "moved", "there" if second else "here", opts=options(delete_before_replace=True, depends_on=[base])
)
after = Thing("Only", "after", moved.place, opts=options(delete_before_replace=True))
twin = Thing("Beside", "twin", "there" if second else "here", opts=options(parent=group))
user = Thing("Only", "user", "here", twin.place.apply(len), options(parent=group))
if second:
    fresh = [Thing("Only", f"fresh{number}", "here", opts=options(depends_on=[user])) for number in range(2)]
else:
    old = Thing("Only", "old", "here", opts=options(depends_on=[base]))
    older = Thing("Only", "older", "here", opts=options(depends_on=[old]))
if mode == "protected":
    Thing("Only", "kept", "here", opts=options(protect=True))
if mode == "half":
    Thing("Only", "broken", "half")
if mode == "hook":
    pulumi.CustomResource("ledger:index:Only", "aliased", {"place": "here"}, options(aliases=[pulumi.Alias(name="x")]))
if mode == "refused":
    Thing("Only", "refused", "here", opts=options(import_="some"))
if mode == "invalid":
    pulumi.CustomResource("ledger:index:Only", "invalid", {"size": 1})
pulumi.export("places", [moved.place, twin.place])
pulumi.export("token", base.token if False else config.require_secret("token"))
