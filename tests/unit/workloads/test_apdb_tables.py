"""The alert database's tables on a real PostgreSQL: divided natively, whatever was cut short, and used by the stock code."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
import sqlalchemy
from sqlalchemy import text

from bench import servers
from unit.workloads.test_association import Night
from workloads.common.errors import RetriableError
from workloads.common.names import ExposureName, dia_source_id
from workloads.prompt_processing import apdb_tables
from workloads.prompt_processing.apdb import AlertDatabase


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    if lacks := servers.missing("postgresql"):
        pytest.skip(f"this machine lacks {lacks}")
    with servers.scratch() as folder, servers.postgresql(folder) as found:
        yield found


@pytest.fixture
def database(url: str) -> Iterator[AlertDatabase]:
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    yield AlertDatabase.of(engine, url)
    engine.dispose()


def parts(database: AlertDatabase, table: str) -> dict[str, int]:
    query = text(f'SELECT tableoid::regclass::text, count(*) FROM "{table}" GROUP BY 1')  # noqa: S608 - a constant
    with database._engine.connect() as connection:
        return {name.strip('"').removeprefix(f"{table}_"): count for name, count in connection.execute(query)}


def test_rows_lie_in_the_part_of_their_time_and_place(database: AlertDatabase) -> None:
    night = Night(database)
    for number, (day, ra) in enumerate(((20260105, 10.0), (20260801, 200.0), (20260801, 10.0))):
        night.visit = dia_source_id(ExposureName(day, number).exposure_id, 90, 0) // 1000
        rows = night.take([(ra, -30.0)], mjd=61045.0 + number)
    assert len(rows.history) == 1, "the object of the first visit was found again"
    assert parts(database, "DiaSource") == {"2026_01": 1, "2026_07": 2}
    assert parts(database, "DiaObject") == {"2026_01": 2, "2026_07": 1}
    last = parts(database, "DiaObjectLast")
    assert sum(last.values()) == len(last) == 2
    assert all(name.isdigit() for name in last)


def test_every_stock_index_is_there_and_the_last_objects_are_found_by_their_ids(database: AlertDatabase) -> None:
    query = text("SELECT indexdef FROM pg_indexes WHERE tablename = :table")
    with database._engine.connect() as connection:
        found = {
            table: [row[0].partition(" USING ")[2] for row in connection.execute(query, {"table": table})]
            for table in ("DiaSource", "DiaObject", "DiaObjectLast")
        }
    assert 'btree ("diaObjectId")' in found["DiaObjectLast"]
    assert 'btree ("pixelId", "diaObjectId")' in found["DiaObjectLast"]
    assert 'btree ("diaObjectId", "validityStartMjdTai")' in found["DiaObject"]
    assert {'btree ("diaSourceId")', 'btree ("diaObjectId")', "btree (visit, detector)"} <= set(found["DiaSource"])


def test_the_next_worker_finds_them_and_what_was_cut_short_is_gone_on_with(database: AlertDatabase, url: str) -> None:
    Night(database).take([(10.0, -30.0)])
    with database._engine.begin() as connection:  # as the stock tool leaves it
        connection.execute(text('CREATE TABLE whole (LIKE "DiaSource" INCLUDING ALL)'))
        connection.execute(text('DROP TABLE "DiaSource"'))
        connection.execute(text('ALTER TABLE whole RENAME TO "DiaSource"'))
    again = AlertDatabase.of(database._engine, url)
    assert parts(again, "DiaObject") == {"else": 1}
    night = Night(again)
    night.visit = 7
    night.take([(20.0, -30.0)])
    assert parts(again, "DiaSource") == {"else": 1}


def test_whole_tables_with_rows_are_left_as_they_are(
    database: AlertDatabase, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with database._engine.begin() as connection:
        connection.execute(text('CREATE TABLE whole (LIKE "DiaSource" INCLUDING ALL)'))
        connection.execute(text('DROP TABLE "DiaSource"'))
        connection.execute(text('ALTER TABLE whole RENAME TO "DiaSource"'))
    Night(database).take([(10.0, -30.0)])
    again = AlertDatabase.of(database._engine, url)
    assert "DiaSource has rows and is not divided" in caplog.text
    assert parts(again, "DiaSource") == {"DiaSource": 1}


# -- lanes that meet


def waits(database: AlertDatabase) -> bool:
    """Tell whether somebody waits for another's rows."""
    query = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    with database._engine.connect() as connection:
        return bool(connection.execute(query).scalar())


@pytest.mark.parametrize("places", [[(10.0, -30.0)], [(10.0, -30.0), (10.01, -30.0)], [(359.99999, 0.0)]])
def test_a_lane_that_another_came_before_at_its_objects_is_retried_and_loses_nothing(
    database: AlertDatabase, places: list[tuple[float, float]]
) -> None:
    night = Night(database)
    night.take(places)
    rows = night.associate(places)
    with ThreadPoolExecutor(1) as other:
        with database._engine.begin() as connection:  # another lane stores the same objects, and is not done yet
            connection.execute(text('CREATE TEMPORARY TABLE kept ON COMMIT DROP AS SELECT * FROM "DiaObjectLast"'))
            connection.execute(text('DELETE FROM "DiaObjectLast"'))
            connection.execute(text('INSERT INTO "DiaObjectLast" SELECT * FROM kept'))
            stored = other.submit(database.store, rows)
            until = time.monotonic() + 30.0
            while not (waits(database) or stored.done() or time.monotonic() > until):
                time.sleep(0.01)  # PostgreSQL tells nobody that somebody waits: it is asked
        with pytest.raises(RetriableError, match="to be associated anew: duplicate key"):
            stored.result(60.0)
    assert not database.has(night.visit, 90), "all or none"
    night.visit -= 1
    night.take(places)
    rows = night.take(places)
    assert rows.objects["nDiaSources"].tolist() == [3] * len(places)


@pytest.mark.parametrize("twice", [1, 3])
def test_rows_that_are_stored_are_not_stored_again(database: AlertDatabase, twice: int) -> None:
    night, place = Night(database), [(10.0, -30.0)]
    rows = night.associate(place)
    database.store(rows)
    for _ in range(twice):
        with pytest.raises(RetriableError, match="to be associated anew: duplicate key"):
            database.store(rows)
    assert night.take(place).objects["nDiaSources"].tolist() == [2]


def test_parts_follow_each_other_without_a_gap() -> None:
    for bounds in (list(apdb_tables._by_time()), list(apdb_tables._by_place())):
        assert all(one[2] == other[1] for one, other in pairwise(bounds))
