"""A database server for those who have the password, over TLS only, repaired when somebody changed it."""

import json

from dpp.adapters.secrets import Secrets
from dpp.model.folders import Folders

QUERY = """
import json, psycopg2, sys
passwords = json.loads(sys.argv[1])
def connect(user, database, mode="verify-full", password=None):
    return psycopg2.connect(host="svc01.ncsa", dbname=database, user=user, password=password or passwords[user],
                            sslmode=mode, sslrootcert="/etc/dpp/tls/ca.crt", connect_timeout=5)
def ask(user, database, statement, **how):
    try:
        connection = connect(user, database, **how)
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return str(cursor.fetchone()[0]) if cursor.description else "done"
    except psycopg2.Error as error:
        return " ".join(str(error).split())
print(json.dumps({
    "tls": connect("data-backbone", "butler").info.ssl_in_use,
    "made": ask("data-backbone", "butler", "create table if not exists probe (t int4range, exclude using gist (t with &&))"),
    "of another writer": ask("calibration", "butler", "alter table probe add column if not exists n int"),
    "read": ask("prompt-processing", "butler", "select count(*) from probe"),
    "written by a reader": ask("prompt-processing", "butler", "insert into probe (n) values (1)"),
    "elsewhere": ask("data-backbone", "apdb", "select 1"),
    "wrong password": ask("data-backbone", "butler", "select 1", password="wrong"),
    "no TLS": ask("data-backbone", "butler", "select 1", mode="disable"),
}))
"""


def test_service_runs_and_survives_a_restart(host):
    service = host.service("postgresql@15-main")
    assert service.is_running
    assert service.is_enabled


def test_everybody_may_do_what_is_declared_and_nothing_else(host):
    secrets = Secrets(Folders.current().secrets)
    users = ("calibration", "data-backbone", "prompt-processing")
    passwords = json.dumps({user: secrets.password(f"postgresql-{user}") for user in users})
    said = json.loads(host.check_output("python3 -c %s %s", QUERY, passwords))
    assert said["tls"] is True
    assert said["made"] == said["of another writer"] == "done"
    assert said["read"] == "0"
    assert "permission denied for table probe" in said["written by a reader"]
    assert 'permission denied for database "apdb"' in said["elsewhere"]
    assert "password authentication failed" in said["wrong password"]
    assert "no pg_hba.conf entry" in said["no TLS"]


def test_databases_are_as_declared(host):
    names = host.check_output(
        "psql -qAtU postgres -c 'select datname from pg_database where not datistemplate order by 1'"
    )
    assert names.split() == ["apdb", "butler", "ledger", "postgres"]


def test_drift_was_repaired(host):
    def ask(query, database="postgres"):
        return host.check_output("psql -qAtU postgres -d %s -c %s", database, query)

    assert ask("show ssl") == "on"
    assert ask("select rolsuper from pg_roles where rolname = 'data-backbone'") == "f"
    assert ask("select pg_has_role('prompt-processing', 'butler-writers', 'member')") == "f"
    assert ask("select count(*) from pg_roles where rolname = 'stranger'") == "0"
    assert ask("select tableowner from pg_tables where tablename = 'left_by_a_stranger'", "butler") == "postgres"
