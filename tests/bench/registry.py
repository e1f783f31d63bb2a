"""A Butler's registry with millions of raws: a few visits by the product's own code, and copies of their rows by the server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

_RAWS = ("dataset", "dataset_location", "file_datastore_records")
_COLUMNS = "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = %s ORDER BY ordinal_position"


def multiply(url: str, times: int, step: int) -> int:
    """Copy the rows of all exposures that there are so many times, each copy `step` exposures later; return the raws.

    Parameters
    ----------
    url
        A PostgreSQL database.
    times
        How many copies.
    step
        How many exposures there are: copies follow each other by their numbers, a thousand to a day.
    """
    with psycopg.connect(url.replace("+psycopg2", "")) as connection, _bare(connection):
        _helpers(connection, times, step)
        tags = _one(connection, "SELECT tag_association_table FROM dataset_type WHERE name = 'raw'")
        _copy_dimensions(connection)
        _copy_datasets(connection, tags)
        connection.commit()
    with psycopg.connect(url.replace("+psycopg2", ""), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        return int(_one(connection, f'SELECT count(*) FROM "{tags}"'))  # noqa: S608 - a name of the registry


def _helpers(connection: Any, times: int, step: int) -> None:
    """Make what tells copies apart: the shift of an exposure's number by copy, over days of a thousand."""
    connection.execute("CREATE TEMP TABLE copies AS SELECT generate_series(1, %s) AS copy", [times])
    connection.execute(
        f"""CREATE FUNCTION pg_temp.later(number bigint, copy bigint) RETURNS bigint IMMUTABLE LANGUAGE SQL AS $$
        SELECT (20200101 + ((copy * {step}) / 1000)) * 100000 + (copy * {step}) % 1000 + number % 100000 $$"""
    )


def _copy_dimensions(connection: Any) -> None:
    later = "pg_temp.later({}, copy)"
    _insert(connection, "day_obs", {"id": f"{later.format('exposure.id')} / 100000"}, "day_obs JOIN exposure ON exposure.day_obs = day_obs.id", "day_obs", "instrument, id")  # fmt: skip
    _insert(connection, "group", {"name": "name || '-' || copy"}, '"group"', '"group"')
    exposure = {"id": later.format("id"), "day_obs": f"{later.format('id')} / 100000", "group": "\"group\" || '-' || copy", "obs_id": "obs_id || '-' || copy", "seq_num": f"{later.format('id')} % 100000"}  # fmt: skip
    _insert(connection, "exposure", exposure, "exposure", "exposure")
    visit = {"id": later.format("id"), "day_obs": f"{later.format('id')} / 100000", "name": "name || '-' || copy", "seq_num": f"{later.format('id')} % 100000"}  # fmt: skip
    _insert(connection, "visit", visit, "visit", "visit")
    _insert(connection, "visit_definition", {"exposure": later.format("exposure"), "visit": later.format("visit")}, "visit_definition", "visit_definition")  # fmt: skip
    for table in ("visit_system_membership", "visit_detector_region", "visit_detector_region_skypix_overlap"):
        _insert(connection, table, {"visit": later.format("visit")}, table, table)


def _copy_datasets(connection: Any, tags: str) -> None:
    connection.execute(
        f"""CREATE TEMP TABLE made AS SELECT gen_random_uuid() AS made_id, dataset_id AS from_id, copy FROM "{tags}", copies"""  # noqa: S608
    )
    connection.execute("CREATE INDEX ON made (from_id)")
    for table in (*_RAWS, tags):
        key = "id" if table == "dataset" else "dataset_id"
        changed = {key: "made_id"} | ({"exposure": "pg_temp.later(exposure, copy)"} if table == tags else {})
        if table == "file_datastore_records":
            changed["path"] = "path || '-' || copy"
        _insert(
            connection, table, changed, f'made JOIN "{table}" AS given ON given.{key} = from_id', "given", copies=False
        )


def _insert(
    connection: Any,
    table: str,
    changed: dict[str, str],
    source: str,
    name: str,
    distinct: str = "",
    *,
    copies: bool = True,
) -> None:
    """Insert copies of a table's rows with some columns changed."""
    names = [row[0] for row in connection.execute(_COLUMNS, [table]).fetchall()]
    values = ", ".join(changed.get(column, f'{name}."{column}"') for column in names)
    columns = ", ".join(f'"{column}"' for column in names)
    every = f"{source}, copies" if copies else source
    once = f" ON CONFLICT ({distinct}) DO NOTHING" if distinct else ""
    connection.execute(f'INSERT INTO "{table}" ({columns}) SELECT {values} FROM {every}{once}')  # noqa: S608 - names of the registry


@contextmanager
def _bare(connection: Any) -> Iterator[None]:
    """Take constraints and indexes of the large tables away and make them again: that is sooner than to keep them up."""
    tags = _one(connection, "SELECT tag_association_table FROM dataset_type WHERE name = 'raw'")
    tables = [*_RAWS, tags, "visit_detector_region", "visit_detector_region_skypix_overlap"]
    query = """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), contype FROM pg_constraint
        WHERE contype IN ('f', 'p', 'u') AND (conrelid = ANY(%(tables)s::regclass[]) OR confrelid = ANY(%(tables)s::regclass[]))"""
    named = {"tables": [f'"{table}"' for table in tables]}
    constraints = sorted(connection.execute(query, named).fetchall(), key=lambda row: row[3] != "f")
    for table, name, _, _ in constraints:
        connection.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{name}"')
    plain = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename = ANY(%s)"
    indexes = connection.execute(plain, [tables]).fetchall()
    for name, _ in indexes:
        connection.execute(f'DROP INDEX "{name}"')
    yield
    for _, definition in indexes:
        connection.execute(definition)
    for table, name, definition, _ in reversed(constraints):
        valid = " NOT VALID" if re.match("FOREIGN KEY", definition) else ""
        connection.execute(f'ALTER TABLE {table} ADD CONSTRAINT "{name}" {definition}{valid}')
    connection.commit()


def _one(connection: Any, query: str) -> Any:
    return connection.execute(query).fetchone()[0]
