"""A program whose second form updates, replaces in both ways, deletes and creates."""

import pulumi


class Thing(pulumi.CustomResource):
    place: pulumi.Output[str]
    size: pulumi.Output[int]

    def __init__(self, kind, name, place, size=1, opts=None, **more):
        inputs = {"environment": "lab", "name": name, "place": place, "size": size, "secret": ""}
        super().__init__(f"ledger:index:{kind}", name, inputs | more, opts)


class Group(pulumi.ComponentResource):
    def __init__(self, name, opts=None):
        super().__init__("ledger:index:Group", name, None, opts)


def options(**more):
    return pulumi.ResourceOptions(**more)


config = pulumi.Config()
mode = config.get("mode") or "first"
second = mode == "second"
TOKEN = pulumi.Output.secret("hidden-token")
group = Group("group")
base = Thing("Only", "base", "here", 2 if second else 1, options(parent=group), secret=TOKEN)
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
if mode == "invalid":
    pulumi.CustomResource(
        "ledger:index:Only", "invalid", {"environment": "lab", "name": "invalid", "size": 1, "secret": ""}
    )
if mode == "broken":
    raise KeyError("site")
pulumi.export("places", [moved.place, twin.place])
pulumi.export("token", TOKEN)
