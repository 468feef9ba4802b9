// SPDX-License-Identifier: Apache-2.0
/* Checkpoints and forks in the SQLite store; see store_checkpoint.h. */
#include "store_checkpoint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../hypervisor/base/mem.h"
#include "store_priv.h"

#define BATCH 64

/* ---- checkpoints --------------------------------------------------------------------- */

void store_checkpoint_free(struct store_checkpoint *c)
{
    free(c->tags);
    c->tags = NULL;
}

static int add_row(struct store *s, const struct store_checkpoint *c, struct err *e)
{
    sqlite3_stmt *st;
    int r = store_stmt(&s->w, SQL_cp_add, &st, e);
    if (r < 0)
        return r;
    store_bind_text(st, 1, c->id);
    store_bind_text(st, 2, c->vm);
    store_bind_text(st, 3, c->name);
    store_bind_text(st, 4, c->tags);
    sqlite3_bind_double(st, 5, c->created_at);
    sqlite3_bind_int64(st, 6, (sqlite3_int64)c->memory_bytes);
    sqlite3_bind_int64(st, 7, (sqlite3_int64)c->disk_bytes);
    sqlite3_bind_int64(st, 8, (sqlite3_int64)c->generation);
    return store_exec(&s->w, SQL_cp_add, st, NULL, e);
}

int store_checkpoint_add(struct store *s, const struct store_checkpoint *c,
                         const struct store_disk *d, struct err *e)
{
    int r = store_begin(s, e);
    if (r < 0)
        return r;
    r = add_row(s, c, e);
    if (r == 0)
        r = store_disk_set(s, c->id, d, e);
    if (r == 0)
        return store_commit(s, e);
    store_rollback(s);
    return r;
}

static int read_checkpoint(sqlite3_stmt *st, struct store_checkpoint *c, struct err *e)
{
    memset(c, 0, sizeof *c);
    c->row = (uint64_t)sqlite3_column_int64(st, 0);
    store_text(st, 1, c->id, sizeof c->id);
    store_text(st, 2, c->vm, sizeof c->vm);
    store_text(st, 3, c->name, sizeof c->name);
    c->created_at = sqlite3_column_double(st, 5);
    c->memory_bytes = (uint64_t)sqlite3_column_int64(st, 6);
    c->disk_bytes = (uint64_t)sqlite3_column_int64(st, 7);
    c->generation = (uint64_t)sqlite3_column_int64(st, 8);
    return store_text_dup(st, 4, &c->tags, e);
}

int store_checkpoint_find(struct store *s, const char *vm, const char *which,
                          struct store_checkpoint *ret, struct err *e)
{
    struct conn *c = store_reader(s);
    sqlite3_stmt *st;
    int r = store_stmt(c, SQL_cp_find, &st, e);
    if (r == 0) {
        store_bind_text(st, 1, vm);
        store_bind_text(st, 2, which);
        int rc = sqlite3_step(st);
        if (rc == SQLITE_ROW)
            r = read_checkpoint(st, ret, e);
        else if (rc == SQLITE_DONE)
            r = err_set(e, ENOENT, "microVM %s has no checkpoint %s", vm, which);
        else
            r = store_fail(c->db, rc, "read a checkpoint", e);
        store_done(c, SQL_cp_find, st);
    }
    store_unlock(c);
    return r;
}

static int read_batch(struct store *s, const char *vm, uint64_t before,
                      struct store_checkpoint rows[BATCH], size_t *ret_n, struct err *e)
{
    struct conn *c = store_reader(s);
    sqlite3_stmt *st;
    int rc = SQLITE_DONE, r = store_stmt(c, SQL_cp_each, &st, e);
    if (r == 0) {
        store_bind_text(st, 1, vm);
        sqlite3_bind_int64(st, 2, before > INT64_MAX ? INT64_MAX : (sqlite3_int64)before);
        sqlite3_bind_int(st, 3, BATCH);
        while (r == 0 && *ret_n < BATCH && (rc = sqlite3_step(st)) == SQLITE_ROW) {
            r = read_checkpoint(st, &rows[*ret_n], e);
            *ret_n += r == 0;
        }
        if (r == 0 && rc != SQLITE_ROW && rc != SQLITE_DONE)
            r = store_fail(c->db, rc, "list checkpoints", e);
        store_done(c, SQL_cp_each, st);
    }
    store_unlock(c);
    return r;
}

int store_checkpoint_each(struct store *s, const char *vm, uint64_t before_row,
                          bool (*fn)(void *ctx, const struct store_checkpoint *c), void *ctx,
                          struct err *e)
{
    AUTO_FREE struct store_checkpoint *rows = calloc(BATCH, sizeof *rows);
    if (!rows)
        return err_set(e, ENOMEM, "list checkpoints: out of memory");
    for (;;) {
        size_t n = 0;
        int r = read_batch(s, vm, before_row, rows, &n, e);
        bool more = r == 0;
        for (size_t i = 0; i < n; i++) {
            more = more && fn(ctx, &rows[i]);
            before_row = rows[i].row;
            store_checkpoint_free(&rows[i]);
        }
        if (!more || n < BATCH)
            return r;
    }
}

int store_checkpoint_delete(struct store *s, const char *id, struct err *e)
{
    const char *args[] = {id};
    int changes = 0, r = store_run(s, SQL_cp_delete, &changes, e, 1, args);
    return r == 0 && changes == 0 ? err_set(e, ENOENT, "no checkpoint %s", id) : r;
}

int store_checkpoint_sum(struct store *s, const char *vm, uint64_t *ret_count,
                         uint64_t *ret_bytes, struct err *e)
{
    return store_sum(s, SQL_cp_sum, vm, "count checkpoints", ret_count, ret_bytes, e);
}

int store_checkpoint_drop(struct store *s, const char *vm,
                          void (*fn)(void *ctx, const char *id), void *ctx, struct err *e)
{
    enum store_sql which = vm ? SQL_cp_drop : SQL_cp_orphans;
    sqlite3_stmt *st;
    int rc, r = store_begin(s, e);
    if (r < 0)
        return r;
    if ((r = store_stmt(&s->w, which, &st, e)) == 0) {
        if (vm)
            store_bind_text(st, 1, vm);
        while ((rc = sqlite3_step(st)) == SQLITE_ROW)
            fn(ctx, (const char *)sqlite3_column_text(st, 0));
        if (rc != SQLITE_DONE)
            r = store_fail(s->w.db, rc, "forget checkpoints", e);
        store_done(&s->w, which, st);
    }
    if (r == 0)
        r = vm ? store_disk_drop(s, vm, e) : store_run(s, SQL_disk_orphans, NULL, e, 0, NULL);
    if (r == 0)
        return store_commit(s, e);
    store_rollback(s);
    return r;
}

int store_checkpoint_ids(struct store *s, bool layers, void (*fn)(void *ctx, const char *id),
                         void *ctx, struct err *e)
{
    enum store_sql which = layers ? SQL_layer_each : SQL_cp_ids;
    char last[ID_CAP] = "";
    for (;;) {
        struct conn *c = store_reader(s);
        sqlite3_stmt *st;
        int n = 0, rc = SQLITE_DONE, r = store_stmt(c, which, &st, e);
        if (r == 0) {
            char after[ID_CAP];
            memcpy(after, last, sizeof after);
            store_bind_text(st, 1, after);
            sqlite3_bind_int(st, 2, BATCH);
            while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
                store_text(st, 0, last, sizeof last);
                fn(ctx, last);
                n++;
            }
            if (rc != SQLITE_DONE)
                r = store_fail(c->db, rc, "list checkpoints and layers", e);
            store_done(c, which, st);
        }
        store_unlock(c);
        if (r < 0 || n < BATCH)
            return r;
    }
}

/* ---- lineage ------------------------------------------------------------------------- */

int store_lineage_add(struct store *s, const struct store_lineage *l, struct err *e)
{
    pthread_mutex_lock(&s->w.lock);
    sqlite3_stmt *st;
    int r = store_stmt(&s->w, SQL_lineage_add, &st, e);
    if (r == 0) {
        store_bind_text(st, 1, l->vm);
        store_bind_text(st, 2, l->parent);
        store_bind_text(st, 3, l->checkpoint);
        store_bind_text(st, 4, l->fork);
        sqlite3_bind_int64(st, 5, l->number);
        r = store_exec(&s->w, SQL_lineage_add, st, NULL, e);
    }
    store_unlock(&s->w);
    return r;
}

static void read_lineage(sqlite3_stmt *st, struct store_lineage *l)
{
    memset(l, 0, sizeof *l);
    store_text(st, 0, l->vm, sizeof l->vm);
    store_text(st, 1, l->parent, sizeof l->parent);
    store_text(st, 2, l->checkpoint, sizeof l->checkpoint);
    store_text(st, 3, l->fork, sizeof l->fork);
    l->number = (uint32_t)sqlite3_column_int64(st, 4);
}

int store_lineage_get(struct store *s, const char *vm, struct store_lineage *ret, struct err *e)
{
    struct conn *c = store_reader(s);
    sqlite3_stmt *st;
    int r = store_stmt(c, SQL_lineage_get, &st, e);
    if (r == 0) {
        store_bind_text(st, 1, vm);
        int rc = sqlite3_step(st);
        if (rc == SQLITE_ROW)
            read_lineage(st, ret);
        else if (rc == SQLITE_DONE)
            r = err_set(e, ENOENT, "microVM %s is not a fork", vm);
        else
            r = store_fail(c->db, rc, "read where a microVM comes from", e);
        store_done(c, SQL_lineage_get, st);
    }
    store_unlock(c);
    return r;
}

int store_lineage_each(struct store *s, const char *fork,
                       bool (*fn)(void *ctx, const struct store_lineage *l), void *ctx,
                       struct err *e)
{
    struct conn *c = store_reader(s);
    sqlite3_stmt *st;
    int rc = SQLITE_DONE, r = store_stmt(c, SQL_lineage_each, &st, e);
    bool more = true;
    if (r == 0) {
        store_bind_text(st, 1, fork);
        while (more && (rc = sqlite3_step(st)) == SQLITE_ROW) {
            struct store_lineage l;
            read_lineage(st, &l);
            more = fn(ctx, &l);
        }
        if (more && rc != SQLITE_DONE)
            r = store_fail(c->db, rc, "list the microVMs of a fork", e);
        store_done(c, SQL_lineage_each, st);
    }
    store_unlock(c);
    return r;
}
