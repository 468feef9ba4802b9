// SPDX-License-Identifier: Apache-2.0
/* Images, their versions and tags in the SQLite store; see store.h. */
#include <errno.h>
#include <string.h>

#include "../hypervisor/base/mem.h"
#include "store_priv.h"

#define BATCH 16

/* ---- images -------------------------------------------------------------- */

static void bind_image(sqlite3_stmt *st, const struct store_image *i)
{
    store_bind_text(st, 1, i->name);
    store_bind_text(st, 2, i->state);
    store_bind_text(st, 3, i->latest_active);
    store_bind_text(st, 4, i->latest_failed);
    sqlite3_bind_int64(st, 5, i->last_major);
    sqlite3_bind_double(st, 6, i->created_at);
    sqlite3_bind_double(st, 7, i->updated_at);
}

static void read_image(sqlite3_stmt *st, struct store_image *i)
{
    memset(i, 0, sizeof *i);
    store_text(st, 0, i->name, sizeof i->name);
    store_text(st, 1, i->state, sizeof i->state);
    store_text(st, 2, i->latest_active, sizeof i->latest_active);
    store_text(st, 3, i->latest_failed, sizeof i->latest_failed);
    i->last_major = (uint32_t)sqlite3_column_int64(st, 4);
    i->created_at = sqlite3_column_double(st, 5);
    i->updated_at = sqlite3_column_double(st, 6);
}

static int add_version(struct store *s, const struct store_version *v, struct err *e);

int store_image_add(struct store *s, const struct store_image *i, const struct store_version *v,
                    const char *tags_json, struct err *e)
{
    int r = store_begin(s, e);
    if (r < 0)
        return r;
    sqlite3_stmt *st;
    r = store_stmt(&s->w, SQL_image_add, &st, e);
    if (r == 0) {
        bind_image(st, i);
        store_bind_text(st, 8, tags_json ? tags_json : "{}");
        r = store_exec(&s->w, SQL_image_add, st, NULL, e);
    }
    if (r == 0)
        r = store_run(s, SQL_gone_delete, NULL, e, 1, (const char *[]){i->name});
    if (r == 0)
        r = add_version(s, v, e);
    if (r == 0)
        return store_commit(s, e);
    store_rollback(s);
    return r;
}

int store_image_get(struct store *s, const char *name, struct store_image *ret, struct err *e)
{
    struct conn *c = store_reader(s);
    sqlite3_stmt *st;
    int r = store_stmt(c, SQL_image_get, &st, e);
    if (r == 0) {
        store_bind_text(st, 1, name);
        int rc = sqlite3_step(st);
        if (rc == SQLITE_ROW)
            read_image(st, ret);
        else if (rc == SQLITE_DONE)
            r = err_set(e, ENOENT, "no image %s", name);
        else
            r = store_fail(c->db, rc, "read an image", e);
        store_done(c, SQL_image_get, st);
    }
    store_unlock(c);
    return r;
}

int store_image_set(struct store *s, const struct store_image *i, struct err *e)
{
    pthread_mutex_lock(&s->w.lock);
    sqlite3_stmt *st;
    int changes = 0, r = store_stmt(&s->w, SQL_image_set, &st, e);
    if (r == 0) {
        bind_image(st, i);
        r = store_exec(&s->w, SQL_image_set, st, &changes, e);
    }
    store_unlock(&s->w);
    return r == 0 && changes == 0 ? err_set(e, ENOENT, "no image %s", i->name) : r;
}

int store_image_delete(struct store *s, const char *name, struct err *e)
{
    const char *args[] = {name};
    int changes = 0, r = store_begin(s, e);
    if (r < 0)
        return r;
    r = store_run(s, SQL_image_delete, &changes, e, 1, args);
    if (r == 0 && changes == 0)
        r = err_set(e, ENOENT, "no image %s", name);
    if (r == 0)
        r = store_run(s, SQL_gone_expire, NULL, e, 0, NULL);
    if (r == 0)
        r = store_run(s, SQL_gone_add, NULL, e, 1, args);
    if (r == 0)
        return store_commit(s, e);
    store_rollback(s);
    return r;
}

int store_image_gone(struct store *s, const char *name, struct err *e)
{
    uint64_t n = 0;
    int r = store_count(s, SQL_gone_get, name, 0, &n, e);
    return r == 0 && n == 0 ? err_set(e, ENOENT, "image %s was not deleted lately", name) : r;
}

int store_image_count(struct store *s, uint64_t *ret, struct err *e)
{
    return store_count(s, SQL_image_count, "", 0, ret, e);
}

int store_image_each(struct store *s, const char *after_name,
                     bool (*fn)(void *ctx, const struct store_image *i), void *ctx,
                     struct err *e)
{
    struct store_image rows[BATCH];
    char after[NAME_CAP] = "";
    if (after_name)
        snprintf(after, sizeof after, "%s", after_name);
    for (;;) {
        struct conn *c = store_reader(s);
        sqlite3_stmt *st;
        size_t n = 0;
        int r = store_stmt(c, SQL_image_each, &st, e);
        if (r == 0) {
            store_bind_text(st, 1, after);
            sqlite3_bind_int(st, 2, BATCH);
            int rc;
            while ((rc = sqlite3_step(st)) == SQLITE_ROW && n < BATCH)
                read_image(st, &rows[n++]);
            if (rc != SQLITE_ROW && rc != SQLITE_DONE)
                r = store_fail(c->db, rc, "list images", e);
            store_done(c, SQL_image_each, st);
        }
        store_unlock(c);
        if (r < 0)
            return r;
        for (size_t i = 0; i < n; i++)
            if (!fn(ctx, &rows[i]))
                return 0;
        if (n < BATCH)
            return 0;
        memcpy(after, rows[n - 1].name, sizeof after);
    }
}

/* ---- versions ------------------------------------------------------------ */

void store_version_free(struct store_version *v)
{
    free(v->config);
    v->config = NULL;
}

static void bind_version(sqlite3_stmt *st, const struct store_version *v)
{
    store_bind_text(st, 1, v->image);
    sqlite3_bind_int64(st, 2, v->major);
    store_bind_text(st, 3, v->state);
    store_bind_text(st, 4, v->status);
    store_bind_text(st, 5, v->reason);
    store_bind_text(st, 6, v->build_id);
    store_bind_text(st, 7, v->build_state);
    store_bind_text(st, 8, v->file_id);
    sqlite3_bind_int64(st, 9, (sqlite3_int64)v->memory_bytes);
    sqlite3_bind_int64(st, 10, (sqlite3_int64)v->code_bytes);
    sqlite3_bind_int64(st, 11, (sqlite3_int64)v->disk_bytes);
    sqlite3_bind_double(st, 12, v->created_at);
    sqlite3_bind_double(st, 13, v->updated_at);
}

static int read_version(sqlite3_stmt *st, struct store_version *v, struct err *e)
{
    memset(v, 0, sizeof *v);
    store_text(st, 0, v->image, sizeof v->image);
    v->major = (uint32_t)sqlite3_column_int64(st, 1);
    store_text(st, 2, v->state, sizeof v->state);
    store_text(st, 3, v->status, sizeof v->status);
    store_text(st, 4, v->reason, sizeof v->reason);
    store_text(st, 5, v->build_id, sizeof v->build_id);
    store_text(st, 6, v->build_state, sizeof v->build_state);
    store_text(st, 7, v->file_id, sizeof v->file_id);
    v->memory_bytes = (uint64_t)sqlite3_column_int64(st, 8);
    v->code_bytes = (uint64_t)sqlite3_column_int64(st, 9);
    v->disk_bytes = (uint64_t)sqlite3_column_int64(st, 10);
    v->created_at = sqlite3_column_double(st, 11);
    v->updated_at = sqlite3_column_double(st, 12);
    return store_text_dup(st, 13, &v->config, e);
}

static int add_version(struct store *s, const struct store_version *v, struct err *e)
{
    sqlite3_stmt *st;
    int r = store_stmt(&s->w, SQL_version_add, &st, e);
    if (r < 0)
        return r;
    bind_version(st, v);
    store_bind_text(st, 14, v->config ? v->config : "{}");
    return store_exec(&s->w, SQL_version_add, st, NULL, e);
}

/* Raises the image's counter; the new number is never used again, even if this version is
 * deleted. */
static int next_major(struct store *s, struct store_version *v, struct err *e)
{
    sqlite3_stmt *st;
    int r = store_stmt(&s->w, SQL_image_next, &st, e);
    if (r < 0)
        return r;
    store_bind_text(st, 1, v->image);
    sqlite3_bind_double(st, 2, v->created_at);
    int rc = sqlite3_step(st);
    if (rc == SQLITE_ROW) {
        v->major = (uint32_t)sqlite3_column_int64(st, 0);
        rc = sqlite3_step(st);
    } else if (rc == SQLITE_DONE) {
        r = err_set(e, ENOENT, "no image %s", v->image);
    }
    if (rc != SQLITE_DONE)
        r = store_fail(s->w.db, rc, "number a version", e);
    store_done(&s->w, SQL_image_next, st);
    return r;
}

int store_version_add(struct store *s, struct store_version *v, struct err *e)
{
    int r = store_begin(s, e);
    if (r < 0)
        return r;
    r = next_major(s, v, e);
    if (r == 0)
        r = add_version(s, v, e);
    if (r == 0)
        return store_commit(s, e);
    store_rollback(s);
    return r;
}

int store_version_get(struct store *s, const char *image, uint32_t major,
                      struct store_version *ret, struct err *e)
{
    struct conn *c = store_reader(s);
    sqlite3_stmt *st;
    int r = store_stmt(c, SQL_version_get, &st, e);
    if (r == 0) {
        store_bind_text(st, 1, image);
        sqlite3_bind_int64(st, 2, major);
        int rc = sqlite3_step(st);
        if (rc == SQLITE_ROW)
            r = read_version(st, ret, e);
        else if (rc == SQLITE_DONE)
            r = err_set(e, ENOENT, "image %s has no version %u.0", image, major);
        else
            r = store_fail(c->db, rc, "read a version", e);
        store_done(c, SQL_version_get, st);
    }
    store_unlock(c);
    return r;
}

int store_version_set(struct store *s, const struct store_version *v,
                      const struct store_image *i, struct err *e)
{
    int changes = 0, r = store_begin(s, e);
    if (r < 0)
        return r;
    sqlite3_stmt *st;
    r = store_stmt(&s->w, SQL_version_set, &st, e);
    if (r == 0) {
        bind_version(st, v);
        r = store_exec(&s->w, SQL_version_set, st, &changes, e);
    }
    if (r == 0 && changes == 0)
        r = err_set(e, ENOENT, "image %s has no version %u.0", v->image, v->major);
    if (r == 0 && i)
        r = store_image_set(s, i, e);
    if (r == 0)
        return store_commit(s, e);
    store_rollback(s);
    return r;
}

static int run_on_version(struct store *s, enum store_sql id, const char *image, uint32_t major,
                          int *ret_changes, struct err *e)
{
    pthread_mutex_lock(&s->w.lock);
    sqlite3_stmt *st;
    int r = store_stmt(&s->w, id, &st, e);
    if (r == 0) {
        store_bind_text(st, 1, image);
        sqlite3_bind_int64(st, 2, major);
        r = store_exec(&s->w, id, st, ret_changes, e);
    }
    store_unlock(&s->w);
    return r;
}

int store_version_delete(struct store *s, const char *image, uint32_t major, struct err *e)
{
    int changes = 0, r = store_begin(s, e);
    if (r < 0)
        return r;
    r = run_on_version(s, SQL_version_delete, image, major, &changes, e);
    if (r == 0 && changes == 0)
        r = err_set(e, ENOENT, "image %s has no version %u.0", image, major);
    if (r == 0) /* the same request again is a new one */
        r = run_on_version(s, SQL_token_drop_version, image, major, NULL, e);
    if (r == 0)
        return store_commit(s, e);
    store_rollback(s);
    return r;
}

int store_version_count(struct store *s, const char *image, uint64_t *ret, struct err *e)
{
    return store_count(s, SQL_version_count, image, 0, ret, e);
}

static int read_versions(struct store *s, const char *image, uint32_t before,
                         struct store_version rows[BATCH], size_t *ret_n, struct err *e)
{
    struct conn *c = store_reader(s);
    sqlite3_stmt *st;
    int r = store_stmt(c, SQL_version_each, &st, e);
    if (r == 0) {
        store_bind_text(st, 1, image);
        sqlite3_bind_int64(st, 2, before);
        sqlite3_bind_int(st, 3, BATCH);
        int rc = SQLITE_DONE;
        while (r == 0 && *ret_n < BATCH && (rc = sqlite3_step(st)) == SQLITE_ROW)
            r = read_version(st, &rows[(*ret_n)++], e);
        if (r == 0 && rc != SQLITE_ROW && rc != SQLITE_DONE)
            r = store_fail(c->db, rc, "list versions", e);
        store_done(c, SQL_version_each, st);
    }
    store_unlock(c);
    return r;
}

int store_version_each(struct store *s, const char *image, uint32_t before_major,
                       bool (*fn)(void *ctx, const struct store_version *v), void *ctx,
                       struct err *e)
{
    for (;;) {
        struct store_version rows[BATCH];
        size_t n = 0;
        int r = read_versions(s, image, before_major, rows, &n, e);
        bool more = r == 0;
        for (size_t i = 0; i < n; i++) {
            more = more && fn(ctx, &rows[i]);
            before_major = rows[i].major;
            store_version_free(&rows[i]);
        }
        if (!more || n < BATCH)
            return r;
    }
}

/* ---- tags ---------------------------------------------------------------- */

int store_tags_get(struct store *s, const char *image, char **ret_json, struct err *e)
{
    struct conn *c = store_reader(s);
    sqlite3_stmt *st;
    int r = store_stmt(c, SQL_tags_get, &st, e);
    if (r == 0) {
        store_bind_text(st, 1, image);
        int rc = sqlite3_step(st);
        if (rc == SQLITE_ROW)
            r = store_text_dup(st, 0, ret_json, e);
        else if (rc == SQLITE_DONE)
            r = err_set(e, ENOENT, "no image %s", image);
        else
            r = store_fail(c->db, rc, "read tags", e);
        store_done(c, SQL_tags_get, st);
    }
    store_unlock(c);
    return r;
}

int store_tags_set(struct store *s, const char *image, const char *json, struct err *e)
{
    int changes = 0;
    int r = store_run(s, SQL_tags_set, &changes, e, 2, (const char *[]){image, json});
    return r == 0 && changes == 0 ? err_set(e, ENOENT, "no image %s", image) : r;
}
