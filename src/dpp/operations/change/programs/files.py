"""Print as JSON what roles bring about on hosts of this tree; ``{"environment": ..., "hosts": {host: [role]}}`` is read."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from dpp.rendering.files import rendered

if __name__ == "__main__":
    asked = json.load(sys.stdin)
    found = rendered(asked["environment"], asked["hosts"])
    plain = {host: {role: asdict(one) for role, one in roles.items()} for host, roles in found.items()}
    json.dump(plain, sys.stdout)
