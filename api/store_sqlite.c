// SPDX-License-Identifier: Apache-2.0
/*
 * The store on SQLite: opening, transactions and prepared statements; the
 * records are in store_image.c, store_vm.c and store_misc.c. Every acknowledged
 * write is on disk (WAL, synchronous=FULL). Texts bound here may come from
 * strangers; none ever becomes part of a statement.
 */
#include "store_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "../hypervisor/base/mem.h"
#include "uuid.h"

static const char *const sql_text[SQL_COUNT] = {
#define SQL(id, text) [SQL_##id] = text,
#include "store_sql.def"
#undef SQL
};

int store_fail(sqlite3 *db, int rc, const char *what, struct err *e)
{
    int ext = db ? sqlite3_extended_errcode(db) : rc;
    int sys = db ? sqlite3_system_errno(db) : 0;
    const char *text = db ? sqlite3_errmsg(db) : sqlite3_errstr(rc);
    switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        err_set(e, EBUSY, "%s: the state database is locked", what);
        err_hint(e, "end the other program that has it open, then try again");
        return -EBUSY;
    case SQLITE_FULL:
    case SQLITE_IOERR:
        if ((rc & 0xff) == SQLITE_FULL || sys == ENOSPC || sys == EDQUOT) {
            err_set(e, ENOSPC, "%s: no space left for the state database", what);
            err_hint(e, "free space on the disk that holds the state directory");
            return -ENOSPC;
        }
        return err_set(e, EIO, "%s: %s (code %d, errno %d)", what, text, ext, sys);
    case SQLITE_NOMEM:
        return err_set(e, ENOMEM, "%s: out of memory", what);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        err_set(e, EUCLEAN, "%s: %s", what, text);
        err_hint(e, "the state database is damaged: restore it from a backup");
        return -EUCLEAN;
    case SQLITE_READONLY:
        return err_set(e, EROFS, "%s: the state database is not writable", what);
    case SQLITE_CANTOPEN:
        return err_set(e, sys ? sys : ENOENT, "%s: %s", what, text);
    case SQLITE_CONSTRAINT:
        if (ext == SQLITE_CONSTRAINT_FOREIGNKEY)
            return err_set(e, ENOENT, "%s: what it belongs to does not exist", what);
        return err_set(e, EEXIST, "%s: already there", what);
    default:
        return err_set(e, EIO, "%s: %s (code %d)", what, text, ext);
    }
}

/* ---- statements ---------------------------------------------------------- */

/* A cached statement that is in use (an outer call of the same thread) is not disturbed: the
 * inner call gets a fresh one, which store_done() throws away. */
int store_stmt(struct conn *c, enum store_sql id, sqlite3_stmt **ret, struct err *e)
{
    *ret = c->stmts[id];
    if (*ret && !sqlite3_stmt_busy(*ret))
        return 0;
    int rc = sqlite3_prepare_v3(c->db, sql_text[id], -1, SQLITE_PREPARE_PERSISTENT, ret, NULL);
    if (rc != SQLITE_OK)
        return store_fail(c->db, rc, "prepare", e);
    if (!c->stmts[id])
        c->stmts[id] = *ret;
    return 0;
}

void store_done(struct conn *c, enum store_sql id, sqlite3_stmt *st)
{
    if (c->stmts[id] != st) {
        sqlite3_finalize(st);
        return;
    }
    sqlite3_reset(st);
    sqlite3_clear_bindings(st); /* do not keep payloads and secrets alive */
}

int store_exec(struct conn *c, enum store_sql id, sqlite3_stmt *st, int *ret_changes,
               struct err *e)
{
    int rc = sqlite3_step(st), r = 0;
    while (rc == SQLITE_ROW)
        rc = sqlite3_step(st);
    if (rc != SQLITE_DONE)
        r = store_fail(c->db, rc, "write the state", e);
    else if (ret_changes)
        *ret_changes = sqlite3_changes(c->db);
    store_done(c, id, st);
    return r;
}

static int exec_plain(struct conn *c, enum store_sql id, struct err *e)
{
    sqlite3_stmt *st;
    int r = store_stmt(c, id, &st, e);
    return r < 0 ? r : store_exec(c, id, st, NULL, e);
}

int store_run(struct store *s, enum store_sql id, int *ret_changes, struct err *e, int n,
              const char *const *args)
{
    pthread_mutex_lock(&s->w.lock);
    sqlite3_stmt *st;
    int r = store_stmt(&s->w, id, &st, e);
    if (r == 0) {
        for (int i = 0; i < n; i++)
            store_bind_text(st, i + 1, args[i]);
        r = store_exec(&s->w, id, st, ret_changes, e);
    }
    store_unlock(&s->w);
    return r;
}

/* One row of numbers; the columns that are asked for. */
static int one_row(struct store *s, enum store_sql id, const char *arg, const uint32_t *num,
                   const char *what, uint64_t *ret, int columns, struct err *e)
{
    struct conn *c = store_reader(s);
    sqlite3_stmt *st;
    int r = store_stmt(c, id, &st, e);
    if (r == 0) {
        store_bind_text(st, 1, arg);
        if (num && sqlite3_bind_parameter_count(st) > 1)
            sqlite3_bind_int64(st, 2, *num);
        int rc = sqlite3_step(st);
        for (int i = 0; i < columns && rc == SQLITE_ROW; i++)
            ret[i] = (uint64_t)sqlite3_column_int64(st, i);
        if (rc != SQLITE_ROW)
            r = store_fail(c->db, rc, what, e);
        store_done(c, id, st);
    }
    store_unlock(c);
    return r;
}

int store_count(struct store *s, enum store_sql id, const char *arg, uint32_t num,
                uint64_t *ret, struct err *e)
{
    return one_row(s, id, arg, &num, "count", ret, 1, e);
}

int store_sum(struct store *s, enum store_sql id, const char *arg, const char *what,
              uint64_t *ret_count, uint64_t *ret_bytes, struct err *e)
{
    uint64_t sums[2];
    int r = one_row(s, id, arg, NULL, what, sums, 2, e);
    if (r == 0) {
        *ret_count = sums[0];
        *ret_bytes = sums[1];
    }
    return r;
}

void store_bind_text(sqlite3_stmt *st, int i, const char *s)
{
    if (s)
        sqlite3_bind_text(st, i, s, -1, SQLITE_TRANSIENT);
    else
        sqlite3_bind_null(st, i);
}

void store_text(sqlite3_stmt *st, int col, char *ret, size_t cap)
{
    const char *s = (const char *)sqlite3_column_text(st, col);
    size_t n = s ? MIN((size_t)sqlite3_column_bytes(st, col), cap - 1) : 0;
    if (n > 0)
        memcpy(ret, s, n);
    ret[n] = '\0';
}

int store_text_dup(sqlite3_stmt *st, int col, char **ret, struct err *e)
{
    *ret = NULL;
    if (sqlite3_column_type(st, col) == SQLITE_NULL)
        return 0;
    const char *s = (const char *)sqlite3_column_text(st, col);
    *ret = s ? strdup(s) : NULL;
    return *ret ? 0 : err_set(e, ENOMEM, "read the state: out of memory");
}

/* ---- transactions -------------------------------------------------------- */

static bool in_transaction(const struct store *s)
{
    return __atomic_load_n(&s->owner, __ATOMIC_RELAXED) == (uintptr_t)pthread_self();
}

struct conn *store_reader(struct store *s)
{
    struct conn *c = in_transaction(s) ? &s->w : &s->r;
    pthread_mutex_lock(&c->lock);
    return c;
}

void store_unlock(struct conn *c)
{
    pthread_mutex_unlock(&c->lock);
}

int store_begin(struct store *s, struct err *e)
{
    pthread_mutex_lock(&s->w.lock);
    if (s->depth == 0) {
        int r = exec_plain(&s->w, SQL_begin, e);
        if (r < 0) {
            store_unlock(&s->w);
            return r;
        }
        s->broken = false;
        __atomic_store_n(&s->owner, (uintptr_t)pthread_self(), __ATOMIC_RELAXED);
    }
    s->depth++;
    return 0;
}

static void outermost_over(struct store *s)
{
    if (!sqlite3_get_autocommit(s->w.db))
        exec_plain(&s->w, SQL_rollback, NULL);
    __atomic_store_n(&s->owner, 0, __ATOMIC_RELAXED);
}

int store_commit(struct store *s, struct err *e)
{
    int r = 0;
    if (--s->depth == 0) {
        r = s->broken ? err_set(e, ECANCELED, "a part of the transaction was rolled back")
                      : exec_plain(&s->w, SQL_commit, e);
        outermost_over(s);
    }
    store_unlock(&s->w);
    return r;
}

void store_rollback(struct store *s)
{
    s->broken = true;
    if (--s->depth == 0)
        outermost_over(s);
    store_unlock(&s->w);
}

void store_secret(const struct store *s, uint8_t ret[16])
{
    memcpy(ret, s->secret, sizeof s->secret);
}

/* ---- opening ------------------------------------------------------------- */

static int exec_setup(sqlite3 *db, const char *sql, struct err *e)
{
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : store_fail(db, rc, sql, e);
}

static int conn_open(struct conn *c, const char *path, struct err *e)
{
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&c->lock, &attr);
    pthread_mutexattr_destroy(&attr);
    /* NOMUTEX: our lock covers every use of the connection. */
    int rc = sqlite3_open_v2(path, &c->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc != SQLITE_OK)
        return store_fail(c->db, rc, path, e);
    sqlite3_extended_result_codes(c->db, 1);
    sqlite3_busy_timeout(c->db, 5000);
    /* temp_store: the api role sees no /tmp. The caches keep the daemon small. */
    return exec_setup(c->db,
                      "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                      "PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY;"
                      "PRAGMA cache_size = -4096; PRAGMA journal_size_limit = 16777216;"
                      "PRAGMA trusted_schema = OFF;",
                      e);
}

static void conn_close(struct conn *c)
{
    for (size_t i = 0; i < SQL_COUNT; i++)
        sqlite3_finalize(c->stmts[i]);
    if (c->db) {
        sqlite3_close(c->db);
        pthread_mutex_destroy(&c->lock);
    }
}

/* The text result of a PRAGMA has to be `want`. */
static int expect(sqlite3 *db, const char *sql, const char *want, struct err *e)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL), r = 0;
    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    const char *got = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(st, 0) : NULL;
    if (!got)
        r = store_fail(db, rc, sql, e);
    else if (strcmp(got, want) != 0)
        r = err_set(e, EUCLEAN, "%s: %s", sql, got);
    sqlite3_finalize(st);
    return r;
}

static int load_secret(struct store *s, struct err *e)
{
    uint8_t fresh[SIPHASH_KEY];
    random_fill(fresh, sizeof fresh);
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(s->w.db,
                                "INSERT INTO meta (key, value) VALUES ('secret', ?1) "
                                "ON CONFLICT (key) DO UPDATE SET value = value "
                                "RETURNING value",
                                -1, &st, NULL);
    if (rc == SQLITE_OK)
        sqlite3_bind_blob(st, 1, fresh, sizeof fresh, SQLITE_STATIC);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    int r = 0;
    if (rc != SQLITE_ROW)
        r = store_fail(s->w.db, rc, "read the store's secret", e);
    else if (sqlite3_column_bytes(st, 0) != (int)sizeof s->secret)
        r = err_set(e, EUCLEAN, "the store's secret has a wrong length");
    else
        memcpy(s->secret, sqlite3_column_blob(st, 0), sizeof s->secret);
    if (r == 0 && (rc = sqlite3_step(st)) != SQLITE_DONE)
        r = store_fail(s->w.db, rc, "keep the store's secret", e);
    sqlite3_finalize(st);
    return r;
}

int store_open_steps(struct store **ret, const char *path, const struct store_step *steps,
                     int nsteps, struct err *e)
{
    /* It holds secret keys: never readable by others, not even for a moment. */
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_sys(e, errno, "open the state database %s", path);
    close(fd); /* before SQLite takes its locks: a later close would drop them */
    struct store *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, ENOMEM, "open the state database: out of memory");
    int r = conn_open(&s->w, path, e);
    if (r == 0)
        r = expect(s->w.db, "PRAGMA journal_mode", "wal", e);
    if (r == 0 && (r = expect(s->w.db, "PRAGMA quick_check(1)", "ok", e)) < 0)
        err_hint(e, "the state database is damaged: restore it from a backup");
    if (r == 0)
        r = store_schema_apply(s->w.db, path, steps, nsteps, e);
    if (r == 0)
        r = load_secret(s, e);
    if (r == 0)
        r = conn_open(&s->r, path, e);
    if (r < 0) {
        store_close(s);
        return r;
    }
    *ret = s;
    return 0;
}

int store_open(struct store **ret, const char *path, struct err *e)
{
    return store_open_steps(ret, path, store_steps, store_nsteps, e);
}

void store_close(struct store *s)
{
    if (!s)
        return;
    conn_close(&s->r);
    conn_close(&s->w);
    explicit_bzero(s->secret, sizeof s->secret);
    free(s);
}
