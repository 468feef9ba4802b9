// SPDX-License-Identifier: Apache-2.0
/*
 * Inside of the SQLite store: two connections to one WAL database. All writes
 * go through `w`; reads go through `r`, so that they never wait for a write's
 * fsync, except inside a transaction, which must see its own rows.
 */
#ifndef DORMOUSE_API_STORE_PRIV_H
#define DORMOUSE_API_STORE_PRIV_H

#include <pthread.h>
#include <sqlite3.h>

#include "siphash.h"
#include "store.h"

enum store_sql {
#define SQL(id, text) SQL_##id,
#include "store_sql.def"
#undef SQL
    SQL_COUNT
};

struct conn {
    sqlite3 *db;
    pthread_mutex_t lock; /* recursive */
    sqlite3_stmt *stmts[SQL_COUNT];
};

struct store {
    struct conn w, r;
    uint32_t depth;  /* of begin; under w.lock */
    bool broken;     /* a nested part was rolled back, so commit must not happen */
    uintptr_t owner; /* atomic: the thread inside a transaction, or 0 */
    uint8_t secret[SIPHASH_KEY];
};

/* ---- schema (store_schema.c) ---- */
struct store_step {
    const char *sql; /* brings user_version from its index to index + 1 */
};
extern const struct store_step store_steps[];
extern const int store_nsteps;
/* store_open() with other steps, for the test of upgrades. */
int store_open_steps(struct store **ret, const char *path, const struct store_step *steps,
                     int nsteps, struct err *e);
int store_schema_apply(sqlite3 *db, const char *path, const struct store_step *steps,
                       int nsteps, struct err *e);

/* ---- statements (store_sqlite.c) ---- */
int store_fail(sqlite3 *db, int rc, const char *what, struct err *e);
/* Locks the connection fit for reading and returns it; store_unlock() after. */
struct conn *store_reader(struct store *s);
void store_unlock(struct conn *c);
/* A statement ready for binding; store_done() gives it back. */
int store_stmt(struct conn *c, enum store_sql id, sqlite3_stmt **ret, struct err *e);
void store_done(struct conn *c, enum store_sql id, sqlite3_stmt *st);
/* Runs a statement that returns no rows; *ret_changes may be NULL. Gives it back. */
int store_exec(struct conn *c, enum store_sql id, sqlite3_stmt *st, int *ret_changes,
               struct err *e);
/* Binds text arguments 1..n, runs it on the writer. Not inside any iteration. */
int store_run(struct store *s, enum store_sql id, int *ret_changes, struct err *e, int n,
              const char *const *args);
/* "SELECT count(*)" with a text argument and, when the statement has two, a number. */
int store_count(struct store *s, enum store_sql id, const char *arg, uint32_t num,
                uint64_t *ret, struct err *e);
/* A number and a sum of bytes, both in one row. */
int store_sum(struct store *s, enum store_sql id, const char *arg, const char *what,
              uint64_t *ret_count, uint64_t *ret_bytes, struct err *e);

void store_bind_text(sqlite3_stmt *st, int i, const char *s); /* NULL binds NULL */
/* Copies a column; too long a text is cut (rows come from our own writes only). */
void store_text(sqlite3_stmt *st, int col, char *ret, size_t cap);
int store_text_dup(sqlite3_stmt *st, int col, char **ret, struct err *e);

#endif
