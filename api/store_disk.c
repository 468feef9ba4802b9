// SPDX-License-Identifier: Apache-2.0
/* Disks and their frozen layers in the SQLite store; see store_checkpoint.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../hypervisor/base/mem.h"
#include "chain.h"
#include "store_checkpoint.h"
#include "store_priv.h"

#define BATCH 64

static int read_layers(struct conn *c, const char *holder, struct store_disk *ret,
                       struct err *e)
{
    sqlite3_stmt *st;
    int r = store_stmt(c, SQL_disk_layers, &st, e), rc = SQLITE_DONE;
    if (r < 0)
        return r;
    store_bind_text(st, 1, holder);
    while (r == 0 && (rc = sqlite3_step(st)) == SQLITE_ROW) {
        if (ret->n == DISK_FROZEN_MAX)
            r = err_set(e, EUCLEAN, "the disk of %s has more than %u layers", holder,
                        DISK_FROZEN_MAX);
        else
            store_text(st, 0, ret->layers[ret->n++], LAYER_CAP);
    }
    if (r == 0 && rc != SQLITE_DONE)
        r = store_fail(c->db, rc, "read the layers of a disk", e);
    store_done(c, SQL_disk_layers, st);
    return r;
}

int store_disk_get(struct store *s, const char *holder, struct store_disk *ret, struct err *e)
{
    struct conn *c = store_reader(s);
    sqlite3_stmt *st;
    memset(ret, 0, sizeof *ret);
    int r = store_stmt(c, SQL_disk_get, &st, e), rc = SQLITE_DONE;
    if (r == 0) {
        store_bind_text(st, 1, holder);
        rc = sqlite3_step(st);
        if (rc == SQLITE_ROW)
            ret->serial = (uint64_t)sqlite3_column_int64(st, 0);
        else if (rc != SQLITE_DONE)
            r = store_fail(c->db, rc, "read a disk", e);
        store_done(c, SQL_disk_get, st);
    }
    if (rc == SQLITE_ROW)
        r = read_layers(c, holder, ret, e);
    store_unlock(c);
    return r;
}

static int put_layer(struct store *s, const char *holder, uint32_t pos, const char *layer,
                     struct err *e)
{
    sqlite3_stmt *st;
    int r = store_stmt(&s->w, SQL_disk_layer_put, &st, e);
    if (r < 0)
        return r;
    store_bind_text(st, 1, holder);
    sqlite3_bind_int64(st, 2, pos);
    store_bind_text(st, 3, layer);
    return store_exec(&s->w, SQL_disk_layer_put, st, NULL, e);
}

static int put_disk(struct store *s, const char *holder, const struct store_disk *d,
                    struct err *e)
{
    const char *args[] = {holder};
    sqlite3_stmt *st;
    int r = store_run(s, SQL_disk_drop, NULL, e, 1, args);
    if (r == 0)
        r = store_stmt(&s->w, SQL_disk_put, &st, e);
    if (r < 0)
        return r;
    store_bind_text(st, 1, holder);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)d->serial);
    r = store_exec(&s->w, SQL_disk_put, st, NULL, e);
    for (uint32_t i = 0; i < d->n && r == 0; i++)
        r = put_layer(s, holder, i, d->layers[i], e);
    return r;
}

int store_disk_set(struct store *s, const char *holder, const struct store_disk *d,
                   struct err *e)
{
    int r = store_begin(s, e);
    if (r < 0)
        return r;
    if ((r = put_disk(s, holder, d, e)) == 0)
        return store_commit(s, e);
    store_rollback(s);
    return r;
}

int store_disk_drop(struct store *s, const char *holder, struct err *e)
{
    const char *args[] = {holder};
    return store_run(s, SQL_disk_drop, NULL, e, 1, args);
}

int store_disk_count(struct store *s, uint64_t *ret, struct err *e)
{
    return store_count(s, SQL_disk_count, "", 0, ret, e);
}

int store_layer_add(struct store *s, const char *id, uint64_t bytes, struct err *e)
{
    pthread_mutex_lock(&s->w.lock);
    sqlite3_stmt *st;
    int r = store_stmt(&s->w, SQL_layer_add, &st, e);
    if (r == 0) {
        store_bind_text(st, 1, id);
        sqlite3_bind_int64(st, 2, (sqlite3_int64)bytes);
        r = store_exec(&s->w, SQL_layer_add, st, NULL, e);
    }
    store_unlock(&s->w);
    return r;
}

int store_layers_unused(struct store *s, char (*ret)[LAYER_CAP], size_t max, size_t *ret_n,
                        struct err *e)
{
    pthread_mutex_lock(&s->w.lock);
    sqlite3_stmt *st;
    int rc = SQLITE_DONE, r = store_stmt(&s->w, SQL_layer_unused, &st, e);
    *ret_n = 0;
    if (r == 0) {
        sqlite3_bind_int64(st, 1, (sqlite3_int64)max);
        while (*ret_n < max && (rc = sqlite3_step(st)) == SQLITE_ROW)
            store_text(st, 0, ret[(*ret_n)++], LAYER_CAP);
        if (rc == SQLITE_ROW) /* all are out, and the statement's work is done with them */
            rc = sqlite3_step(st);
        if (rc != SQLITE_DONE)
            r = store_fail(s->w.db, rc, "forget unused layers", e);
        store_done(&s->w, SQL_layer_unused, st);
    }
    store_unlock(&s->w);
    return r;
}

int store_layer_sum(struct store *s, uint64_t *ret_count, uint64_t *ret_bytes, struct err *e)
{
    return store_sum(s, SQL_layer_sum, "", "count disk layers", ret_count, ret_bytes, e);
}

/* ---- chains that become shorter --------------------------------------------------------- */

void store_ids_free(struct store_ids *l)
{
    free(l->v);
    *l = (struct store_ids){.n = 0};
}

static int add_id(struct store_ids *l, sqlite3_stmt *st, struct err *e)
{
    if (l->n % BATCH == 0) {
        char(*v)[ID_CAP] = reallocarray(l->v, l->n + BATCH, sizeof *v);
        if (!v)
            return err_sys(e, ENOMEM, "list disks");
        l->v = v;
    }
    store_text(st, 0, l->v[l->n++], ID_CAP);
    return 0;
}

static int read_ids(struct conn *c, enum store_sql which, const char *layer, const char *vm,
                    struct store_ids *ret, struct err *e)
{
    sqlite3_stmt *st;
    int rc = SQLITE_DONE, r = store_stmt(c, which, &st, e);
    if (r < 0)
        return r;
    store_bind_text(st, 1, layer);
    if (sqlite3_bind_parameter_count(st) > 1)
        store_bind_text(st, 2, vm);
    while (r == 0 && (rc = sqlite3_step(st)) == SQLITE_ROW)
        r = add_id(ret, st, e);
    if (r == 0 && rc != SQLITE_DONE)
        r = store_fail(c->db, rc, "list the disks that have a layer", e);
    store_done(c, which, st);
    return r;
}

int store_layer_vms(struct store *s, const char *layer, struct store_ids *ret, struct err *e)
{
    struct conn *c = store_reader(s);
    int r = read_ids(c, SQL_layer_vms, layer, NULL, ret, e);
    store_unlock(c);
    return r;
}

static int join_one(struct store *s, const char *holder, const struct chain_part *from,
                    const char *to, uint32_t *ret_n, struct err *e)
{
    struct store_disk d;
    int r = store_disk_get(s, holder, &d, e);
    if (r < 0 || !chain_join(&d, from, to))
        return r;
    ++*ret_n;
    return put_disk(s, holder, &d, e);
}

int store_disk_join(struct store *s, const char *vm, const struct chain_part *from,
                    const char *to, uint32_t *ret_n, struct err *e)
{
    AUTO(store_ids_free) struct store_ids l = {.n = 0};
    *ret_n = 0;
    int r = store_begin(s, e);
    if (r < 0)
        return r;
    r = read_ids(&s->w, vm ? SQL_disk_holders : SQL_disk_ended, from->layers[0], vm, &l, e);
    for (size_t i = 0; i < l.n && r == 0; i++)
        r = join_one(s, l.v[i], from, to, ret_n, e);
    if (r == 0)
        return store_commit(s, e);
    store_rollback(s);
    return r;
}
