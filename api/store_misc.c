// SPDX-License-Identifier: Apache-2.0
/* Access keys and client tokens in the SQLite store; see store.h. */
#include <errno.h>
#include <string.h>

#include "../hypervisor/base/mem.h"
#include "store_priv.h"

#define BATCH 16

/* ---- access keys --------------------------------------------------------- */

static void read_key(sqlite3_stmt *st, struct store_key *k)
{
    memset(k, 0, sizeof *k);
    store_text(st, 0, k->id, sizeof k->id);
    store_text(st, 1, k->secret, sizeof k->secret);
    store_text(st, 2, k->name, sizeof k->name);
    store_text(st, 3, k->rights, sizeof k->rights);
    k->created_at = sqlite3_column_double(st, 4);
}

int store_key_add(struct store *s, const struct store_key *k, struct err *e)
{
    pthread_mutex_lock(&s->w.lock);
    sqlite3_stmt *st;
    int r = store_stmt(&s->w, SQL_key_add, &st, e);
    if (r == 0) {
        store_bind_text(st, 1, k->id);
        store_bind_text(st, 2, k->secret);
        store_bind_text(st, 3, k->name);
        store_bind_text(st, 4, k->rights);
        sqlite3_bind_double(st, 5, k->created_at);
        r = store_exec(&s->w, SQL_key_add, st, NULL, e);
    }
    store_unlock(&s->w);
    return r;
}

int store_key_get(struct store *s, const char *id, struct store_key *ret, struct err *e)
{
    struct conn *c = store_reader(s);
    sqlite3_stmt *st;
    int r = store_stmt(c, SQL_key_get, &st, e);
    if (r == 0) {
        store_bind_text(st, 1, id);
        int rc = sqlite3_step(st);
        if (rc == SQLITE_ROW)
            read_key(st, ret);
        else if (rc == SQLITE_DONE)
            r = err_set(e, ENOENT, "no access key of this id");
        else
            r = store_fail(c->db, rc, "read an access key", e);
        store_done(c, SQL_key_get, st);
    }
    store_unlock(c);
    return r;
}

int store_key_delete(struct store *s, const char *id, struct err *e)
{
    int changes = 0;
    int r = store_run(s, SQL_key_delete, &changes, e, 1, (const char *[]){id});
    return r == 0 && changes == 0 ? err_set(e, ENOENT, "no access key of this id") : r;
}

int store_key_each(struct store *s, bool (*fn)(void *ctx, const struct store_key *k), void *ctx,
                   struct err *e)
{
    struct store_key rows[BATCH];
    char after[sizeof rows[0].id] = "";
    for (;;) {
        struct conn *c = store_reader(s);
        sqlite3_stmt *st;
        size_t n = 0;
        int r = store_stmt(c, SQL_key_each, &st, e);
        if (r == 0) {
            store_bind_text(st, 1, after);
            sqlite3_bind_int(st, 2, BATCH);
            int rc;
            while ((rc = sqlite3_step(st)) == SQLITE_ROW && n < BATCH)
                read_key(st, &rows[n++]);
            if (rc != SQLITE_ROW && rc != SQLITE_DONE)
                r = store_fail(c->db, rc, "list access keys", e);
            store_done(c, SQL_key_each, st);
        }
        store_unlock(c);
        bool more = r == 0;
        for (size_t i = 0; i < n && more; i++)
            more = fn(ctx, &rows[i]);
        if (n > 0)
            memcpy(after, rows[n - 1].id, sizeof after);
        explicit_bzero(rows, sizeof rows);
        if (!more || n < BATCH)
            return r;
    }
}

/* ---- client tokens ------------------------------------------------------- */

int store_client_token_get(struct store *s, const char *token, const char *operation,
                           struct store_client_token *ret, struct err *e)
{
    struct conn *c = store_reader(s);
    sqlite3_stmt *st;
    int r = store_stmt(c, SQL_token_get, &st, e);
    if (r == 0) {
        store_bind_text(st, 1, token);
        store_bind_text(st, 2, operation);
        int rc = sqlite3_step(st);
        if (rc == SQLITE_ROW) {
            memset(ret, 0, sizeof *ret);
            store_text(st, 0, ret->token, sizeof ret->token);
            store_text(st, 1, ret->operation, sizeof ret->operation);
            store_text(st, 2, ret->resource, sizeof ret->resource);
            store_text(st, 3, ret->request_hash, sizeof ret->request_hash);
            ret->major = (uint32_t)sqlite3_column_int64(st, 4);
            ret->created_at = sqlite3_column_double(st, 5);
        } else if (rc == SQLITE_DONE) {
            r = err_set(e, ENOENT, "no such client token");
        } else {
            r = store_fail(c->db, rc, "read a client token", e);
        }
        store_done(c, SQL_token_get, st);
    }
    store_unlock(c);
    return r;
}

int store_client_token_add(struct store *s, const struct store_client_token *t,
                           struct store_client_token *ret_existing, struct err *e)
{
    int r = store_begin(s, e);
    if (r < 0)
        return r;
    r = store_client_token_get(s, t->token, t->operation, ret_existing, NULL);
    if (r == 0)
        r = err_set(e, EEXIST, "the client token is known");
    else if (r == -ENOENT)
        r = 0;
    sqlite3_stmt *st;
    if (r == 0)
        r = store_stmt(&s->w, SQL_token_add, &st, e);
    if (r == 0) {
        store_bind_text(st, 1, t->token);
        store_bind_text(st, 2, t->operation);
        store_bind_text(st, 3, t->resource);
        store_bind_text(st, 4, t->request_hash);
        sqlite3_bind_int64(st, 5, t->major);
        sqlite3_bind_double(st, 6, t->created_at);
        r = store_exec(&s->w, SQL_token_add, st, NULL, e);
    }
    if (r == 0)
        return store_commit(s, e);
    store_rollback(s);
    return r;
}

int store_client_token_drop(struct store *s, const char *resource, double older_than,
                            struct err *e)
{
    if (resource)
        return store_run(s, SQL_token_drop, NULL, e, 1, (const char *[]){resource});
    pthread_mutex_lock(&s->w.lock);
    sqlite3_stmt *st;
    int r = store_stmt(&s->w, SQL_token_expire, &st, e);
    if (r == 0) {
        sqlite3_bind_double(st, 1, older_than);
        r = store_exec(&s->w, SQL_token_expire, st, NULL, e);
    }
    store_unlock(&s->w);
    return r;
}
