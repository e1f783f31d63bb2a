"""Write the schemas again, from the types."""

from __future__ import annotations

import json

from dpp.cli.schemas import path_of, schemas

if __name__ == "__main__":
    for name, schema in schemas().items():
        path_of(name).write_text(json.dumps(schema, indent=1) + "\n")
