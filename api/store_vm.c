// SPDX-License-Identifier: Apache-2.0
/* microVMs in the SQLite store; see store.h. Payloads are secrets: never in an error. */
#include <errno.h>
#include <string.h>

#include "../hypervisor/base/mem.h"
#include "store_priv.h"

#define BATCH 51 /* a page of the usual size, and whether there is more */

void store_vm_free(struct store_vm *vm)
{
    if (vm->payload)
        explicit_bzero(vm->payload, strlen(vm->payload));
    if (vm->env)
        explicit_bzero(vm->env, strlen(vm->env));
    free(vm->tags);
    free(vm->env);
    free(vm->ingress);
    free(vm->egress);
    free(vm->payload);
    free(vm->logging);
    vm->ingress = vm->egress = vm->payload = vm->logging = vm->tags = vm->env = NULL;
}

static int read_vm(sqlite3_stmt *st, struct store_vm *vm, struct err *e)
{
    memset(vm, 0, sizeof *vm);
    vm->row = (uint64_t)sqlite3_column_int64(st, 0);
    store_text(st, 1, vm->id, sizeof vm->id);
    store_text(st, 2, vm->label, sizeof vm->label);
    store_text(st, 3, vm->image, sizeof vm->image);
    vm->major = (uint32_t)sqlite3_column_int64(st, 4);
    store_text(st, 5, vm->state, sizeof vm->state);
    store_text(st, 6, vm->reason, sizeof vm->reason);
    store_text(st, 7, vm->role_arn, sizeof vm->role_arn);
    vm->has_idle = sqlite3_column_int(st, 8) != 0;
    vm->auto_resume = sqlite3_column_int(st, 9) != 0;
    vm->idle_seconds = (uint32_t)sqlite3_column_int64(st, 10);
    vm->suspended_seconds = (uint32_t)sqlite3_column_int64(st, 11);
    vm->max_seconds = (uint32_t)sqlite3_column_int64(st, 12);
    vm->started_at = sqlite3_column_double(st, 13);
    vm->terminated_at = sqlite3_column_double(st, 14);
    vm->suspended_at = sqlite3_column_double(st, 15);
    vm->ip = (uint32_t)sqlite3_column_int64(st, 16);
    vm->generation = (uint64_t)sqlite3_column_int64(st, 17);
    int r = store_text_dup(st, 18, &vm->ingress, e);
    if (r == 0)
        r = store_text_dup(st, 19, &vm->egress, e);
    if (r == 0)
        r = store_text_dup(st, 20, &vm->payload, e);
    if (r == 0)
        r = store_text_dup(st, 21, &vm->logging, e);
    store_text(st, 22, vm->name, sizeof vm->name);
    if (r == 0)
        r = store_text_dup(st, 23, &vm->tags, e);
    if (r == 0)
        r = store_text_dup(st, 24, &vm->env, e);
    if (r < 0)
        store_vm_free(vm);
    return r;
}

int store_vm_add(struct store *s, struct store_vm *vm, struct err *e)
{
    pthread_mutex_lock(&s->w.lock);
    sqlite3_stmt *st;
    int r = store_stmt(&s->w, SQL_vm_add, &st, e);
    if (r == 0) {
        store_bind_text(st, 1, vm->id);
        store_bind_text(st, 2, vm->label);
        store_bind_text(st, 3, vm->image);
        sqlite3_bind_int64(st, 4, vm->major);
        store_bind_text(st, 5, vm->state);
        store_bind_text(st, 6, vm->reason);
        store_bind_text(st, 7, vm->role_arn);
        sqlite3_bind_int(st, 8, vm->has_idle);
        sqlite3_bind_int(st, 9, vm->auto_resume);
        sqlite3_bind_int64(st, 10, vm->idle_seconds);
        sqlite3_bind_int64(st, 11, vm->suspended_seconds);
        sqlite3_bind_int64(st, 12, vm->max_seconds);
        sqlite3_bind_double(st, 13, vm->started_at);
        sqlite3_bind_double(st, 14, vm->terminated_at);
        sqlite3_bind_double(st, 15, vm->suspended_at);
        sqlite3_bind_int64(st, 16, vm->ip);
        sqlite3_bind_int64(st, 17, (sqlite3_int64)vm->generation);
        store_bind_text(st, 18, vm->ingress);
        store_bind_text(st, 19, vm->egress);
        store_bind_text(st, 20, vm->payload);
        store_bind_text(st, 21, vm->logging);
        store_bind_text(st, 22, vm->name);
        store_bind_text(st, 23, vm->tags);
        store_bind_text(st, 24, vm->env);
        r = store_exec(&s->w, SQL_vm_add, st, NULL, e);
        if (r == 0)
            vm->row = (uint64_t)sqlite3_last_insert_rowid(s->w.db);
    }
    store_unlock(&s->w);
    return r;
}

static int get_by(struct store *s, enum store_sql id, const char *key, struct store_vm *ret,
                  struct err *e)
{
    struct conn *c = store_reader(s);
    sqlite3_stmt *st;
    int r = store_stmt(c, id, &st, e);
    if (r == 0) {
        store_bind_text(st, 1, key);
        int rc = sqlite3_step(st);
        if (rc == SQLITE_ROW)
            r = read_vm(st, ret, e);
        else if (rc == SQLITE_DONE)
            r = err_set(e, ENOENT, "no microVM %s", key);
        else
            r = store_fail(c->db, rc, "read a microVM", e);
        store_done(c, id, st);
    }
    store_unlock(c);
    return r;
}

int store_vm_get(struct store *s, const char *id, struct store_vm *ret, struct err *e)
{
    return get_by(s, SQL_vm_get, id, ret, e);
}

int store_vm_by_label(struct store *s, const char *label, struct store_vm *ret, struct err *e)
{
    return get_by(s, SQL_vm_by_label, label, ret, e);
}

/* Why an update changed nothing: the row is not there, or its state is another. */
static int explain_no_change(struct store *s, const char *id, struct err *e)
{
    struct store_vm now;
    int r = store_vm_get(s, id, &now, e);
    if (r < 0)
        return r;
    r = err_set(e, ESTALE, "microVM %s is in state %s", id, now.state);
    store_vm_free(&now);
    return r;
}

int store_vm_set(struct store *s, const struct store_vm *vm, const char *from, struct err *e)
{
    pthread_mutex_lock(&s->w.lock);
    sqlite3_stmt *st;
    int changes = 0, r = store_stmt(&s->w, SQL_vm_set, &st, e);
    if (r == 0) {
        store_bind_text(st, 1, vm->id);
        store_bind_text(st, 2, vm->state);
        store_bind_text(st, 3, vm->reason);
        sqlite3_bind_double(st, 4, vm->started_at);
        sqlite3_bind_double(st, 5, vm->terminated_at);
        sqlite3_bind_double(st, 6, vm->suspended_at);
        sqlite3_bind_int64(st, 7, vm->ip);
        sqlite3_bind_int64(st, 8, (sqlite3_int64)vm->generation);
        store_bind_text(st, 9, from);
        r = store_exec(&s->w, SQL_vm_set, st, &changes, e);
    }
    if (r == 0 && changes == 0)
        r = explain_no_change(s, vm->id, e);
    store_unlock(&s->w);
    return r;
}

int store_vm_update(struct store *s, const struct store_vm *vm, struct err *e)
{
    pthread_mutex_lock(&s->w.lock);
    sqlite3_stmt *st;
    int changes = 0, r = store_stmt(&s->w, SQL_vm_update, &st, e);
    if (r == 0) {
        store_bind_text(st, 1, vm->id);
        sqlite3_bind_int(st, 2, vm->has_idle);
        sqlite3_bind_int(st, 3, vm->auto_resume);
        sqlite3_bind_int64(st, 4, vm->idle_seconds);
        sqlite3_bind_int64(st, 5, vm->suspended_seconds);
        sqlite3_bind_int64(st, 6, vm->max_seconds);
        store_bind_text(st, 7, vm->name);
        store_bind_text(st, 8, vm->tags);
        r = store_exec(&s->w, SQL_vm_update, st, &changes, e);
    }
    if (r == 0 && changes == 0)
        r = explain_no_change(s, vm->id, e);
    store_unlock(&s->w);
    return r;
}

int store_vm_delete(struct store *s, const char *id, struct err *e)
{
    const char *args[] = {id};
    int changes = 0, r = store_begin(s, e);
    if (r < 0)
        return r;
    r = store_run(s, SQL_vm_delete, &changes, e, 1, args);
    if (r == 0 && changes == 0)
        r = err_set(e, ENOENT, "no microVM %s", id);
    if (r == 0)
        r = store_run(s, SQL_token_drop, NULL, e, 1, args);
    if (r == 0)
        return store_commit(s, e);
    store_rollback(s);
    return r;
}

int store_vm_count_live(struct store *s, const char *image, uint32_t major, uint64_t *ret,
                        struct err *e)
{
    return store_count(s, SQL_vm_live, image, major, ret, e);
}

int store_vm_ended(struct store *s, double before, char (*ret)[ID_CAP], size_t cap,
                   size_t *ret_n, struct err *e)
{
    struct conn *c = store_reader(s);
    sqlite3_stmt *st;
    int rc, r = store_stmt(c, SQL_vm_ended, &st, e);
    *ret_n = 0;
    if (r == 0) {
        sqlite3_bind_double(st, 1, before);
        sqlite3_bind_int64(st, 2, (sqlite3_int64)cap);
        while ((rc = sqlite3_step(st)) == SQLITE_ROW && *ret_n < cap)
            store_text(st, 0, ret[(*ret_n)++], sizeof *ret);
        if (rc != SQLITE_ROW && rc != SQLITE_DONE)
            r = store_fail(c->db, rc, "look for old microVMs", e);
        store_done(c, SQL_vm_ended, st);
    }
    store_unlock(c);
    return r;
}

struct vm_query {
    enum store_sql id;
    const char *image;
    uint32_t major;
};

static void read_brief(sqlite3_stmt *st, struct store_vm_brief *vm)
{
    vm->row = (uint64_t)sqlite3_column_int64(st, 0);
    store_text(st, 1, vm->id, sizeof vm->id);
    store_text(st, 2, vm->image, sizeof vm->image);
    vm->major = (uint32_t)sqlite3_column_int64(st, 3);
    store_text(st, 4, vm->state, sizeof vm->state);
    vm->started_at = sqlite3_column_double(st, 5);
}

static int read_vms(struct store *s, const struct vm_query *q, uint64_t before,
                    struct store_vm_brief rows[BATCH], size_t *ret_n, struct err *e)
{
    struct conn *c = store_reader(s);
    sqlite3_stmt *st;
    int r = store_stmt(c, q->id, &st, e);
    if (r == 0) {
        sqlite3_bind_int64(st, 1, before > INT64_MAX ? INT64_MAX : (sqlite3_int64)before);
        sqlite3_bind_int(st, 2, BATCH);
        int args = sqlite3_bind_parameter_count(st);
        if (args >= 3)
            store_bind_text(st, 3, q->image);
        if (args >= 4)
            sqlite3_bind_int64(st, 4, q->major);
        int rc = SQLITE_DONE;
        while (*ret_n < BATCH && (rc = sqlite3_step(st)) == SQLITE_ROW)
            read_brief(st, &rows[(*ret_n)++]);
        if (rc != SQLITE_ROW && rc != SQLITE_DONE)
            r = store_fail(c->db, rc, "list microVMs", e);
        store_done(c, q->id, st);
    }
    store_unlock(c);
    return r;
}

int store_vm_each(struct store *s, uint64_t before_row, const char *image, uint32_t major,
                  bool (*fn)(void *ctx, const struct store_vm_brief *vm), void *ctx,
                  struct err *e)
{
    struct vm_query q = {SQL_vm_each, image, major};
    if (image)
        q.id = major ? SQL_vm_each_version : SQL_vm_each_image;
    else if (major)
        q.id = SQL_vm_each_major;
    AUTO_FREE struct store_vm_brief *rows = malloc(BATCH * sizeof *rows);
    if (!rows)
        return err_set(e, ENOMEM, "list microVMs: out of memory");
    for (;;) {
        size_t n = 0;
        int r = read_vms(s, &q, before_row, rows, &n, e);
        bool more = r == 0;
        for (size_t i = 0; i < n; i++) {
            more = more && fn(ctx, &rows[i]);
            before_row = rows[i].row;
        }
        if (!more || n < BATCH)
            return r;
    }
}
