"""Print as JSON the proofs of this tree that are owed and depend on one of the files read from standard input, a JSON list."""

from __future__ import annotations

import json
import sys

from proofs.catalogue import Catalogue, Tree  # type: ignore[import-not-found,import-untyped,unused-ignore]  # of the tests
from proofs.records import Records  # type: ignore[import-not-found,import-untyped,unused-ignore]

if __name__ == "__main__":
    paths = json.load(sys.stdin)
    owed = Records().owed(Catalogue.load(), Tree())
    rows = [
        {"id": one.proof.id, "owner": one.proof.owner, "seconds": one.seconds, "why": one.why}
        for one in owed
        if any(one.proof.covers(path) for path in paths)
    ]
    json.dump(rows, sys.stdout)
