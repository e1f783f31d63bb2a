"""A database server for those who have the password, over TLS only, repaired when somebody changed it."""

import re

from dpp.adapters.secrets import Secrets
from dpp.model.folders import Folders

QUERY = """
import psycopg2, re, sys
def connect(password, mode):
    return psycopg2.connect(host="svc01.ncsa", dbname="butler", user="workloads", password=password, sslmode=mode,
                            sslrootcert="/etc/dpp/tls/ca.crt", connect_timeout=5)
connection = connect(sys.argv[1], "verify-full")
cursor = connection.cursor()
cursor.execute("create table if not exists probe (t int4range, exclude using gist (t with &&))")
cursor.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
print("tls", cursor.fetchone()[0])
for password, mode in (("wrong", "verify-full"), (sys.argv[1], "disable")):
    try:
        connect(password, mode)
    except psycopg2.OperationalError as error:
        print("refused", re.sub(r"\\s+", " ", str(error)))
"""


def test_service_runs_and_survives_a_restart(host):
    service = host.service("postgresql@15-main")
    assert service.is_running
    assert service.is_enabled


def test_the_owner_logs_in_by_tls_and_nobody_else(host):
    password = Secrets(Folders.current().secrets).password("postgresql-workloads")
    said = host.check_output("python3 -c %s %s", QUERY, password)
    assert "tls True" in said
    assert re.search(r"refused .*password authentication failed", said)
    assert re.search(r"refused .*no pg_hba.conf entry", said)


def test_databases_are_as_declared(host):
    names = host.check_output(
        "psql -qAtU postgres -c 'select datname from pg_database where not datistemplate order by 1'"
    )
    assert names.split() == ["apdb", "butler", "postgres"]


def test_drift_was_repaired(host):
    assert host.check_output("psql -qAtU postgres -c 'show ssl'") == "on"
    assert (
        host.check_output("psql -qAtU postgres -c \"select rolsuper from pg_roles where rolname='workloads'\"") == "f"
    )
