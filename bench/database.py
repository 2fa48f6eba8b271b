"""The benchmark's own Postgres. It is durable, and listens on a socket in a temporary directory. The benchmark
stops the server and deletes its directory before it exits."""

import json
import os
import pwd
import re
import signal
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from processes import Broken, find_program

KEYS_PER_ACCOUNT = 5
# The maximum number of rows that one statement inserts. Postgres keeps the checks of foreign keys in memory
# until the statement ends.
ROWS_AT_ONCE = 1_000_000

# Key number i consists of "ta_" and i, padded to 43 digits. Five consecutive keys belong to one account.
SEED_KEYS = """
    INSERT INTO api_keys (account_id, key_id, tenant_id, key_hash, hint, name, scopes, metadata, enabled, created_at)
    SELECT account_id, md5('key ' || number)::uuid, tenant_id,
           sha256(convert_to('ta_' || lpad(number::text, 43, '0'), 'UTF8')),
           'ta_0000…' || right('000' || number, 4), 'benchmark', default_scopes, '{{}}', true, now()
    FROM accounts
    JOIN tenants USING (tenant_id)
    CROSS JOIN generate_series(0, {per_account} - 1) AS place
    CROSS JOIN LATERAL (SELECT right(external_id, -1)::bigint * {per_account} + place AS number) AS numbered
    WHERE number BETWEEN {first} AND {last}
"""
# Counts the scans of the index on the hash.
COUNT_LOOKUPS = """
    SELECT sum(used.idx_scan)
    FROM pg_stat_user_indexes used
    JOIN pg_index USING (indexrelid)
    JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
    WHERE used.relname = 'api_keys' AND attname = 'key_hash'
"""
# Counts the limits whose first window has begun.
COUNT_WINDOWS = "SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'rate_limit_windows'"
SESSIONS_SECONDS = 10


def key_text(number):
    return f"ta_{number:043d}"


def account_name(number):
    """Returns the external id of this key's account. It has the length of a TRON address."""
    return f"T{number // KEYS_PER_ACCOUNT:033d}"


class Postgres:
    """A running Postgres server. Its methods create and fill databases."""

    def __init__(self, workplace, program, bindir, directory):
        self._workplace = workplace
        self._program = program
        self._bindir = bindir
        self._psql = client_program(bindir, "psql")
        self._pgbench = client_program(bindir, "pgbench")
        self._directory = directory
        self._made = set()

    @staticmethod
    @contextmanager
    def start(workplace):
        bindir = Path(os.environ["PG_BINDIR"])
        directory = workplace.directory / "postgres"
        directory.mkdir(0o700)
        user = None
        if os.geteuid() == 0:
            # Postgres refuses to run as root.
            user = unprivileged_user()
            os.chown(directory, user.pw_uid, user.pw_gid)
        data = directory / "data"
        # Tollgate's private Postgres also uses these options. All other settings have Postgres's defaults.
        make = [bindir / "initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]
        workplace.run("initdb", [*make, "--data-checksums", "-D", data], user=user)
        serve = [bindir / "postgres", "-D", data, "-k", directory, "-c", "listen_addresses="]
        serve += ["-c", "unix_socket_permissions=0700", "-c", "log_checkpoints=off"]
        # SIGINT ends the sessions and shuts the server down cleanly.
        with workplace.start("postgres", serve, user=user, stop=signal.SIGINT) as program:
            postgres = Postgres(workplace, program, bindir, directory)
            program.wait_until(postgres._is_ready, "ready")
            yield postgres

    def url(self, database):
        return f"postgres://postgres@{quote(str(self._directory), safe='')}/{database}"

    def database_with_keys(self, build, keys):
        """Returns the name of a build's database with the keys 0 to `keys` - 1."""
        name, content = build.database(f"keys_{keys}"), build.label(f"{keys:,} keys")
        return self.made_once(name, content, lambda name: self.make_keys(build, name, keys))

    def made_once(self, name, content, make):
        """Returns the name of a database. The first call creates the database with `make`."""
        if name not in self._made:
            print(f"creating a database with {content}", flush=True)
            make(name)
            # Otherwise autovacuum or a checkpoint could run during a measurement.
            self.sql(name, "VACUUM ANALYZE")
            self.sql(name, "CHECKPOINT")
            self._made.add(name)
        return name

    def make_keys(self, build, name, keys):
        """Creates a database that contains the keys 0 to `keys` - 1."""
        self._new_database(build, name)
        self._make_accounts(name, keys)
        seed_keys = build.statement("database.py", "SEED_KEYS", SEED_KEYS)
        for first in range(0, keys, ROWS_AT_ONCE):
            last = min(first + ROWS_AT_ONCE, keys) - 1
            self.sql(name, seed_keys.format(first=first, last=last, per_account=KEYS_PER_ACCOUNT))
        there = self.sql(name, "SELECT count(DISTINCT key_hash) FROM api_keys").strip()
        if there != str(keys):
            raise Broken(f"the database has {there} keys instead of {keys}")

    def database_with_limits(self, build, name, keys, *limits):
        """Returns the name of a build's database with the keys 0 to `keys` - 1, which have rate limits. `limits`
        are options of `tollgate tenant limits`."""

        def make(name):
            self.make_keys(build, name, keys)
            command = [build.program("tollgate"), "tenant", "limits", "tronagg", *limits]
            self._workplace.run("limits", command, environment=self._of_command(name))

        return self.made_once(build.database(name), build.label(f"{keys:,} keys with rate limits"), make)

    def database_with_admin_key(self, build, name):
        """Creates a database with a tenant and no account. Returns the tenant's admin key."""
        return self._new_database(build, name)["admin_key"]

    def sql(self, database, statement):
        command = [self._psql, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", self._directory]
        command += ["-U", "postgres", "-d", database, "-c", statement]
        return self._workplace.run("psql", command, seconds=3600).output

    def lookups(self, database):
        """Waits until all other sessions have ended. Returns how many keys they have looked up by hash."""
        self._wait_for_sessions(database)
        return int(self.sql(database, COUNT_LOOKUPS))

    def _wait_for_sessions(self, database):
        # A session adds its own count to the total when it ends, or earlier.
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        deadline = time.monotonic() + SESSIONS_SECONDS
        while self.sql(database, others).strip() != "0":
            if time.monotonic() > deadline:
                raise Broken(f"the sessions in the database {database} do not end")
            time.sleep(0.05)

    def windows(self, database):
        """Waits until all other sessions have ended. Returns how many rate limits have had a window."""
        self._wait_for_sessions(database)
        return int(self.sql(database, COUNT_WINDOWS))

    def cpu_seconds(self):
        """Returns the CPU time of all processes of the server so far, in seconds."""
        return self._program.cpu_seconds_with_children()

    def pgbench(self, database, arguments, seconds, seed, clients=2):
        """Runs pgbench with prepared statements in one or two threads. Returns the transactions per second."""
        command = [self._pgbench, "-h", self._directory, "-U", "postgres", "-n", "-M", "prepared"]
        command += ["-c", clients, "-j", min(clients, 2), "-T", seconds, f"--random-seed={seed}"]
        command += [*arguments, database]
        ended = self._workplace.run("pgbench", command)
        found = re.search(r"^tps = ([\d.]+) \(without initial connection time\)", ended.output, re.MULTILINE)
        failed = re.search(r"^number of failed transactions: 0 ", ended.output, re.MULTILINE)
        if not found or not failed:
            raise Broken(f"unexpected output of pgbench:\n{ended.output}")
        return float(found[1])

    def database_of_pgbench(self):
        """Returns the name of a database with 100,000 rows for pgbench's own scripts."""

        def make(name):
            self.sql("postgres", f"CREATE DATABASE {name}")
            command = [self._pgbench, "-h", self._directory, "-U", "postgres", "-i", "-s", "1", "-q", name]
            self._workplace.run("pgbench", command)

        return self.made_once("pgbench", "100,000 rows for pgbench", make)

    def version(self):
        return self._workplace.run("postgres-version", [self._bindir / "postgres", "--version"]).output.strip()

    def _new_database(self, build, name):
        # An earlier pair may have failed while it filled the database.
        self.sql("postgres", f"DROP DATABASE IF EXISTS {name}")
        self.sql("postgres", f"CREATE DATABASE {name}")
        create = [build.program("tollgate"), "tenant", "create", "tronagg", "--prefix", "ta_", "--currency", "TRX"]
        create += ["--decimals", "6", "--default-scopes", "write", "--json"]
        output = self._workplace.run("tenant", create, environment=self._of_command(name)).output
        try:
            return json.loads(output)
        except ValueError:
            raise Broken(f"unexpected output of tollgate tenant create:\n{output}") from None

    def _of_command(self, database):
        """Returns the environment of a command of tollgate."""
        return {"DATABASE_URL": self.url(database), "TOLLGATE_LOG": "warn"}

    def _make_accounts(self, database, keys):
        # The service derives an account's id from the tenant's id and the account's name with SHA-1, which
        # Postgres does not provide.
        tenant = uuid.UUID(self.sql(database, "SELECT tenant_id FROM tenants").strip())
        rows = self._workplace.directory / "accounts.tsv"
        with open(rows, "w") as file:
            for number in range(0, keys, KEYS_PER_ACCOUNT):
                name = account_name(number)
                file.write(f"{uuid.uuid5(tenant, name)}\t{tenant}\t{name}\tactive\t0\t0\tnow\n")
        columns = "account_id, tenant_id, external_id, status, balance, last_seq, created_at"
        self.sql(database, f"\\copy accounts ({columns}) FROM '{rows}'")
        rows.unlink()

    def _is_ready(self):
        try:
            self.sql("postgres", "SELECT 1")
        except Broken:
            return False
        return True


def client_program(bindir, name):
    # Some systems install the client programs with another package and in another directory.
    beside = bindir / name
    return beside if beside.exists() else find_program(name)


def unprivileged_user():
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")
