"""Ansible module that brings databases, roles and rights of a PostgreSQL server to what they are to be."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Iterator
from typing import Any

from ansible.module_utils.basic import AnsibleModule

try:
    import psycopg2
    from psycopg2 import sql
except ImportError:
    psycopg2 = None

DOCUMENTATION = """
module: dpp_databases
short_description: Databases, roles and rights of a PostgreSQL server
description:
  - Makes databases and extensions that are missing, and drops none but those that are named as retired.
  - Who writes to a database does so as its owner, a role of its own without login, so that the tables of one writer are
    those of all; who reads may read every table, those to come included. Nobody else may even connect.
  - Users are members of the role C(principals). One that is no longer named is taken away with its sessions; what it
    may no longer do, it may no longer do at once.
  - Connects by the local socket as the administrator. Waits for a server that is still starting. Supports check mode
    and diff.
options:
  port: {description: Port of the server., type: int, default: 5432}
  socket: {description: Folder of its socket, or its host., type: str, default: /var/run/postgresql}
  users: {description: Passwords by user., type: dict, default: {}}
  databases:
    description: Databases by name, each with C(extensions), C(writers) and C(readers).
    type: dict
    default: {}
  retired: {description: Databases that are dropped with their tables., type: list, elements: str, default: []}
  patience: {description: Seconds to wait for the server., type: int, default: 60}
requirements: [psycopg2]
"""

EXAMPLES = """
- ansible.legacy.dpp_databases:
    users: {data-backbone: "{{ password }}"}
    databases: {butler: {extensions: [btree_gist], writers: [data-backbone], readers: []}}
"""

RETURN = """
changes:
  description: What was or would be changed, one sentence each.
  returned: always
  type: list
"""

OPTIONS = {
    "port": {"type": "int", "default": 5432},
    "socket": {"type": "str", "default": "/var/run/postgresql"},
    "users": {"type": "dict", "default": {}, "no_log": True},
    "databases": {"type": "dict", "default": {}},
    "retired": {"type": "list", "elements": "str", "default": []},
    "patience": {"type": "int", "default": 60},
}
PRINCIPALS = "principals"
"""The role that everybody who logs in is a member of: pg_hba.conf names it."""
_ITERATIONS = 4096
_ROLES = """
    SELECT rolname, rolpassword, rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls, rolinherit
    FROM pg_authid
"""
_WORDS = ("LOGIN", "SUPERUSER", "CREATEDB", "CREATEROLE", "REPLICATION", "BYPASSRLS", "INHERIT")
_USER, _GROUP = (True, *(False,) * 5, True), (*(False,) * 6, True)
_READERS_LACK = """
    SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p', 'v', 'm', 'S') AND NOT has_table_privilege(%s::name, c.oid, 'SELECT')
"""
_DEFAULTS = """
    SELECT a.privilege_type FROM pg_default_acl d, aclexplode(d.defaclacl) a
    WHERE d.defaclrole = %s::regrole AND d.defaclnamespace = 'public'::regnamespace AND a.grantee = %s::regrole
      AND d.defaclobjtype = %s
"""


class Server:
    """The server as one task sees it: `changes` collects what differs, and it is applied unless the task only checks."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module, self.wanted = module, module.params
        self.changes: list[str] = []
        self._connections: dict[str, Any] = {}
        self._connect_patiently()

    def _connect_patiently(self) -> None:
        end = time.monotonic() + (0 if self.module.check_mode else self.wanted["patience"])
        while True:
            try:
                self._connection("postgres")
            except psycopg2.OperationalError:
                if time.monotonic() >= end:
                    raise
                time.sleep(0.5)
            else:
                return

    def _connection(self, database: str) -> Any:
        if database not in self._connections:
            found = psycopg2.connect(
                host=self.wanted["socket"], port=self.wanted["port"], user="postgres", dbname=database
            )
            found.autocommit = True
            self._connections[database] = found
        return self._connections[database]

    def ask(self, query: str, *values: Any, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self._connection(database).cursor() as cursor:
            cursor.execute(query, values)
            return list(cursor.fetchall())

    def change(self, sentence: str, statement: str, *names: str, database: str = "postgres", value: Any = None) -> None:
        """Note a change and, unless the task only checks, make it; `{}` in the statement stand for the names."""
        if sentence:
            self.changes.append(sentence)
        if not self.module.check_mode:
            composed = sql.SQL(statement).format(*(sql.Identifier(name) for name in names))
            with self._connection(database).cursor() as cursor:
                cursor.execute(composed, None if value is None else (value,))

    # -- roles ---------------------------------------------------------------------------------------------------------

    def roles(self) -> None:
        """Make groups and users, and give users their passwords."""
        present = {name: (tuple(flags), password) for name, password, *flags in self.ask(_ROLES)}
        groups = [PRINCIPALS, *(group(name) for name in self.databases for group in (writers, readers))]
        for name in [*groups, *sorted(self.wanted["users"])]:
            flags = _USER if name in self.wanted["users"] else _GROUP
            words = " ".join(word if flag else f"NO{word}" for word, flag in zip(_WORDS, flags, strict=True))
            if name not in present:
                self.change(f"role {name}: made", f"CREATE ROLE {{}} {words}", name)
            elif present[name][0] != flags:
                self.change(f"role {name}: {words}", f"ALTER ROLE {{}} {words}", name)
        for name, password in sorted(self.wanted["users"].items()):
            if not _is_of(password, present.get(name, ((), None))[1]):
                self.change(f"role {name}: password set", "ALTER ROLE {} PASSWORD %s", name, value=_verifier(password))

    def memberships(self) -> None:
        """Make users members of what they are to be, and of nothing else."""
        rows = self.ask("SELECT member::regrole::text, roleid::regrole::text FROM pg_auth_members")
        present = {(_plain(member), _plain(group)) for member, group in rows}
        wanted = {(user, PRINCIPALS) for user in self.wanted["users"]}
        for name, one in self.databases.items():
            wanted |= {(user, writers(name)) for user in one["writers"]}
            wanted |= {(user, readers(name)) for user in one["readers"]}
        ours = {member for member, group in present if group == PRINCIPALS} | set(self.wanted["users"])
        for user, group in sorted(wanted - present):
            self.change(f"role {user}: member of {group}", "GRANT {} TO {}", group, user)
        stay = {(user, group) for user, group in present if group == PRINCIPALS}  # `strangers` takes such users away
        for user, group in sorted(present - wanted - stay):
            if user in ours:
                self.change(f"role {user}: no member of {group} any more", "REVOKE {} FROM {}", group, user)
                self.end_sessions(user)

    def masks(self) -> None:
        """Let who writes to a database do so as its owner, and nobody else."""
        rows = self.ask(
            "SELECT r.rolname, d.datname, s.setconfig FROM pg_db_role_setting s "
            "JOIN pg_roles r ON r.oid = s.setrole JOIN pg_database d ON d.oid = s.setdatabase"
        )
        present = {(user, name) for user, name, settings in rows if f"role={writers(name)}" in settings}
        wanted = {(user, name) for name, one in self.databases.items() for user in one["writers"]}
        for user, name in sorted(wanted - present):
            self.change(f"role {user}: writes to {name} as its owner", "ALTER ROLE {} IN DATABASE {} SET role = {}", user, name, writers(name))  # fmt: skip
        for user, name in sorted(present - wanted):
            self.change(f"role {user}: not the owner of {name} any more", "ALTER ROLE {} IN DATABASE {} RESET role", user, name)  # fmt: skip

    def strangers(self) -> None:
        """Take users away that are not named; what they made goes to the administrator."""
        rows = self.ask(
            "SELECT r.rolname FROM pg_roles r JOIN pg_auth_members m ON m.member = r.oid WHERE m.roleid = to_regrole(%s)",
            PRINCIPALS,
        )
        gone = sorted({name for (name,) in rows} - set(self.wanted["users"]))
        for user in gone:
            self.change(f"role {user}: taken away", "ALTER ROLE {} NOLOGIN", user)
            self.end_sessions(user)
            for database in self.present():
                self.change("", "REASSIGN OWNED BY {} TO postgres", user, database=database)
                self.change("", "DROP OWNED BY {}", user, database=database)  # by now its rights only
            self.change("", "DROP ROLE {}", user)

    def end_sessions(self, user: str) -> None:
        """End the sessions of a user: rights that were taken away go on in those that stand."""
        if not self.module.check_mode:
            self.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", user)

    # -- databases -----------------------------------------------------------------------------------------------------

    @property
    def databases(self) -> dict[str, Any]:
        """The databases that there are to be."""
        found: dict[str, Any] = self.wanted["databases"]
        return found

    def present(self) -> list[str]:
        """Return the databases that there are."""
        return [name for (name,) in self.ask("SELECT datname FROM pg_database WHERE datallowconn")]

    def make(self) -> None:
        """Make databases, give them to their owners, and make extensions."""
        owners = dict(self.ask("SELECT datname, datdba::regrole::text FROM pg_database"))
        for name, one in sorted(self.databases.items()):
            if name not in owners:
                statement = "CREATE DATABASE {} OWNER {} ENCODING 'UTF8' TEMPLATE template0"
                self.change(f"database {name}: made", statement, name, writers(name))
            elif _plain(owners[name]) != writers(name):
                self.change(f"database {name}: has its owner", "ALTER DATABASE {} OWNER TO {}", name, writers(name))
            there = name in owners or not self.module.check_mode
            made = {row[0] for row in self.ask("SELECT extname FROM pg_extension", database=name)} if there else set()
            for extension in sorted(set(one["extensions"]) - made):
                self.change(f"database {name}: extension {extension}", "CREATE EXTENSION {}", extension, database=name)

    def retire(self) -> None:
        """Drop databases that are named for it, with the roles that used them."""
        for name in sorted(set(self.wanted["retired"]) & set(self.present())):
            self.change(f"database {name}: dropped", "DROP DATABASE {} WITH (FORCE)", name)
            for role in (writers(name), readers(name)):
                self.change("", "DROP ROLE IF EXISTS {}", role)

    def rights(self) -> None:
        """Let users of a database connect to it, and readers read it; all others keep out."""
        for name in sorted({*self.present(), *self.databases}):
            wanted = {(group(name), right) for group in (writers, readers) for right in ("CONNECT", "TEMPORARY")}
            self._database_rights(name, wanted if name in self.databases else set())
            if name in self.databases and not (self.module.check_mode and name not in self.present()):
                self._readers_rights(name)

    def _database_rights(self, name: str, wanted: set[tuple[str, str]]) -> None:
        rows = self.ask(
            "SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END, privilege_type "
            "FROM pg_database, aclexplode(COALESCE(datacl, acldefault('d', datdba))) WHERE datname = %s",
            name,
        )
        present = {(_plain(who), right) for who, right in rows}
        for who, right in sorted(wanted - present):
            self.change(f"database {name}: {right} granted to {who}", f"GRANT {right} ON DATABASE {{}} TO {{}}", name, who)  # fmt: skip
        for who, right in sorted(present - wanted):
            if who == "PUBLIC":
                self.change(f"database {name}: {right} taken from all", f"REVOKE {right} ON DATABASE {{}} FROM PUBLIC", name)  # fmt: skip
            elif who not in ("postgres", writers(name)):
                self.change(f"database {name}: {right} taken from {who}", f"REVOKE {right} ON DATABASE {{}} FROM {{}}", name, who)  # fmt: skip

    def _readers_rights(self, name: str) -> None:
        known = self.ask("SELECT to_regrole(quote_ident(%s)) IS NOT NULL", readers(name))[0][0]
        if not known:
            return  # in check mode only: what they may read follows from their being made
        lacks = self.ask(_READERS_LACK, readers(name), database=name)[0][0]
        for noun, kind in (("TABLES", "r"), ("SEQUENCES", "S")):
            if lacks:
                statement = f"GRANT SELECT ON ALL {noun} IN SCHEMA public TO {{}}"
                self.change(f"database {name}: readers read all {noun.lower()}", statement, readers(name), database=name)  # fmt: skip
            who = [f'"{writers(name)}"', f'"{readers(name)}"', kind]
            if ("SELECT",) not in self.ask(_DEFAULTS, *who, database=name):
                statement = f"ALTER DEFAULT PRIVILEGES FOR ROLE {{}} IN SCHEMA public GRANT SELECT ON {noun} TO {{}}"
                self.change(f"database {name}: readers read {noun.lower()} to come", statement, writers(name), readers(name), database=name)  # fmt: skip


def writers(database: str) -> str:
    """Return the role that owns a database, whose members write to it."""
    return f"{database}-writers"


def readers(database: str) -> str:
    """Return the role whose members read a database."""
    return f"{database}-readers"


def _plain(name: str) -> str:
    """Return a role's name as it is, without the quotes that PostgreSQL shows it with."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _verifier(password: str, salt: bytes = b"", iterations: int = _ITERATIONS) -> str:
    """Return what the server keeps of a password (RFC 5803), so that the password itself is in no log of statements."""
    salt = salt or secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client, server = (hmac.new(salted, word, hashlib.sha256).digest() for word in (b"Client Key", b"Server Key"))
    encoded = [base64.b64encode(one).decode() for one in (salt, hashlib.sha256(client).digest(), server)]
    return f"SCRAM-SHA-256${iterations}:{encoded[0]}${encoded[1]}:{encoded[2]}"


def _is_of(password: str, kept: str | None) -> bool:
    """Say whether what the server keeps is of this password."""
    if not kept or not kept.startswith("SCRAM-SHA-256$"):
        return False
    iterations, salt = kept.split("$")[1].split(":")
    return hmac.compare_digest(_verifier(password, base64.b64decode(salt), int(iterations)), kept)


def _steps(server: Server) -> Iterator[Any]:
    """Yield what is to be done, in order: rights are granted before others are taken away."""
    yield from (
        server.roles,
        server.retire,
        server.make,
        server.rights,
        server.memberships,
        server.masks,
        server.strangers,
    )


def main() -> None:
    """Bring databases, roles and rights to their wanted state."""
    module = AnsibleModule(argument_spec=OPTIONS, supports_check_mode=True)
    if psycopg2 is None:
        module.fail_json(msg="python3-psycopg2 is not installed on this host")
    changes: list[str] = []
    try:
        server = Server(module)
        changes = server.changes
        for step in _steps(server):
            step()
    except psycopg2.OperationalError as error:
        if not module.check_mode:
            module.fail_json(msg=f"PostgreSQL: {error}", changes=changes)
        changes.append("all: the server does not answer yet")
    except psycopg2.Error as error:
        module.fail_json(msg=f"PostgreSQL: {error}", changes=changes)
    text = "".join(f"{change}\n" for change in changes)
    module.exit_json(changed=bool(changes), changes=changes, diff={"before": "", "after": text})


if __name__ == "__main__":
    main()
