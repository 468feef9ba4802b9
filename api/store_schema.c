// SPDX-License-Identifier: Apache-2.0
/*
 * The database's shape and its upgrades. PRAGMA user_version counts the steps
 * taken. Before an existing database is changed, a copy is put beside it as
 * <path>.v<old>.bak, durable before the first change.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../hypervisor/base/mem.h"
#include "store_priv.h"

/* The indexes on vm serve ListMicrovms newest first and the count of live ones. A vm does not
 * reference its image: terminated ones are listed for a while after the image is deleted. */
const struct store_step store_steps[] = {
    {"CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;"
     "CREATE TABLE image (name TEXT PRIMARY KEY, state TEXT NOT NULL,"
     " latest_active TEXT NOT NULL, latest_failed TEXT NOT NULL, last_major INTEGER NOT NULL,"
     " created_at REAL NOT NULL, updated_at REAL NOT NULL, tags TEXT NOT NULL)"
     " STRICT, WITHOUT ROWID;"
     "CREATE TABLE gone (name TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
     "CREATE TABLE version (image TEXT NOT NULL REFERENCES image (name) ON DELETE CASCADE,"
     " major INTEGER NOT NULL, state TEXT NOT NULL, status TEXT NOT NULL,"
     " reason TEXT NOT NULL, build_id TEXT NOT NULL, build_state TEXT NOT NULL,"
     " file_id TEXT NOT NULL, memory_bytes INTEGER NOT NULL, code_bytes INTEGER NOT NULL,"
     " disk_bytes INTEGER NOT NULL, created_at REAL NOT NULL, updated_at REAL NOT NULL,"
     " config TEXT NOT NULL, PRIMARY KEY (image, major)) STRICT;"
     "CREATE TABLE vm (row INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,"
     " label TEXT NOT NULL UNIQUE, image TEXT NOT NULL, major INTEGER NOT NULL,"
     " state TEXT NOT NULL, reason TEXT NOT NULL, role_arn TEXT NOT NULL,"
     " has_idle INTEGER NOT NULL, auto_resume INTEGER NOT NULL, idle_seconds INTEGER NOT NULL,"
     " suspended_seconds INTEGER NOT NULL, max_seconds INTEGER NOT NULL,"
     " started_at REAL NOT NULL, terminated_at REAL NOT NULL, suspended_at REAL NOT NULL,"
     " ip INTEGER NOT NULL, generation INTEGER NOT NULL, ingress TEXT, egress TEXT,"
     " payload TEXT, logging TEXT) STRICT;"
     "CREATE INDEX vm_of_image ON vm (image, row);"
     "CREATE INDEX vm_of_version ON vm (image, major, row);"
     "CREATE INDEX vm_live ON vm (image, major) WHERE state <> 'TERMINATED';"
     "CREATE INDEX vm_ended ON vm (terminated_at) WHERE state = 'TERMINATED';"
     "CREATE TABLE access_key (id TEXT PRIMARY KEY, secret TEXT NOT NULL, name TEXT NOT NULL,"
     " rights TEXT NOT NULL, created_at REAL NOT NULL) STRICT, WITHOUT ROWID;"
     "CREATE TABLE client_token (token TEXT NOT NULL, operation TEXT NOT NULL,"
     " resource TEXT NOT NULL, request_hash TEXT NOT NULL, major INTEGER NOT NULL,"
     " created_at REAL NOT NULL, PRIMARY KEY (token, operation)) STRICT, WITHOUT ROWID;"
     "CREATE INDEX client_token_resource ON client_token (resource);"
     "CREATE INDEX client_token_age ON client_token (created_at);"},
    /* 2: what the extension of RunMicrovm keeps */
    {"ALTER TABLE vm ADD COLUMN name TEXT NOT NULL DEFAULT '';"
     "ALTER TABLE vm ADD COLUMN tags TEXT;"
     "ALTER TABLE vm ADD COLUMN env TEXT;"},
    /* 3: checkpoints and forks. A disk is the frozen layers over its image's, bottom first, and
     * the number of the layer on top of them that its microVM writes to; a checkpoint has none.
     * A layer's file stays for as long as a disk has it. */
    {"CREATE TABLE layer (id TEXT PRIMARY KEY, bytes INTEGER NOT NULL, created_at REAL NOT "
     "NULL)"
     " STRICT, WITHOUT ROWID;"
     "CREATE TABLE disk (holder TEXT PRIMARY KEY, serial INTEGER NOT NULL)"
     " STRICT, WITHOUT ROWID;"
     "CREATE TABLE disk_layer ("
     " holder TEXT NOT NULL REFERENCES disk (holder) ON DELETE CASCADE,"
     " pos INTEGER NOT NULL, layer TEXT NOT NULL REFERENCES layer (id),"
     " PRIMARY KEY (holder, pos)) STRICT, WITHOUT ROWID;"
     "CREATE INDEX disk_of_layer ON disk_layer (layer);"
     "CREATE TABLE checkpoint (row INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,"
     " vm TEXT NOT NULL, name TEXT NOT NULL, tags TEXT, created_at REAL NOT NULL,"
     " memory_bytes INTEGER NOT NULL, disk_bytes INTEGER NOT NULL,"
     " generation INTEGER NOT NULL) STRICT;"
     "CREATE INDEX checkpoint_of_vm ON checkpoint (vm, row);"
     "CREATE UNIQUE INDEX checkpoint_name ON checkpoint (vm, name) WHERE name <> '';"
     "CREATE TABLE lineage (vm TEXT PRIMARY KEY, parent TEXT NOT NULL,"
     " checkpoint TEXT NOT NULL, fork TEXT NOT NULL, number INTEGER NOT NULL)"
     " STRICT, WITHOUT ROWID;"
     "CREATE INDEX lineage_of_fork ON lineage (fork, number);"
     "CREATE TRIGGER vm_gone AFTER DELETE ON vm BEGIN"
     " DELETE FROM disk WHERE holder = OLD.id; DELETE FROM lineage WHERE vm = OLD.id; END;"
     "CREATE TRIGGER checkpoint_gone AFTER DELETE ON checkpoint BEGIN"
     " DELETE FROM disk WHERE holder = OLD.id; END;"},
};
const int store_nsteps = (int)ARRAY_LEN(store_steps);

static int run(sqlite3 *db, const char *sql, const char *what, struct err *e)
{
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : store_fail(db, rc, what, e);
}

static int get_version(sqlite3 *db, int *ret, struct err *e)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &st, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        *ret = sqlite3_column_int(st, 0);
    sqlite3_finalize(st);
    return rc == SQLITE_ROW ? 0 : store_fail(db, rc, "read the schema's version", e);
}

static int sync_path(const char *path, int flags, struct err *e)
{
    AUTO_CLOSE int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return err_sys(e, errno, "sync %s", path);
    return 0;
}

/* A consistent copy under its final name, or none. */
static int backup(sqlite3 *db, const char *path, int version, struct err *e)
{
    char to[4096], tmp[4104], dir[4096], sql[8300];
    if (snprintf(to, sizeof to, "%s.v%d.bak", path, version) >= (int)sizeof to)
        return err_set(e, ENAMETOOLONG, "the database's path is too long");
    snprintf(tmp, sizeof tmp, "%s.tmp", to);
    unlink(tmp);
    sqlite3_snprintf(sizeof sql, sql, "VACUUM INTO %Q", tmp);
    int r = run(db, sql, "copy the database before the upgrade", e);
    if (r < 0) {
        err_hint(e, "the upgrade needs as much free space as the database takes");
        return r;
    }
    if (chmod(tmp, 0600) < 0)
        return err_sys(e, errno, "chmod %s", tmp);
    r = sync_path(tmp, O_RDONLY, e);
    if (r < 0)
        return r;
    if (rename(tmp, to) < 0)
        return err_sys(e, errno, "rename %s to %s", tmp, to);
    snprintf(dir, sizeof dir, "%s", path);
    return sync_path(dirname(dir), O_RDONLY | O_DIRECTORY, e);
}

int store_schema_apply(sqlite3 *db, const char *path, const struct store_step *steps,
                       int nsteps, struct err *e)
{
    int version = 0, r = get_version(db, &version, e);
    if (r < 0)
        return r;
    if (version > nsteps) {
        err_set(e, EPROTO, "%s has schema version %d, this program knows up to %d", path,
                version, nsteps);
        err_hint(e, "run the newer release, or restore the backup it left beside it");
        return -EPROTO;
    }
    if (version == nsteps)
        return 0;
    if (version > 0) {
        r = backup(db, path, version, e);
        if (r < 0)
            return r;
    }
    r = run(db, "BEGIN EXCLUSIVE", "begin the upgrade", e);
    for (; r == 0 && version < nsteps; version++)
        r = run(db, steps[version].sql, "upgrade the schema", e);
    if (r == 0) {
        char sql[64];
        snprintf(sql, sizeof sql, "PRAGMA user_version = %d", nsteps);
        r = run(db, sql, "note the schema's version", e);
    }
    if (r == 0)
        r = run(db, "COMMIT", "finish the upgrade", e);
    if (r < 0 && !sqlite3_get_autocommit(db))
        sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return r;
}
