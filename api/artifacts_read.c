// SPDX-License-Identifier: Apache-2.0
/* The artifact store: buckets, reading, listing, removing; see artifacts.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../hypervisor/base/mem.h"
#include "artifacts_priv.h"
#include "durable.h"

int artifacts_get(struct artifacts *a, const char *bucket, const char *key, int *ret_fd,
                  struct artifact_info *ret, struct err *e)
{
    char name[FILE_NAME_CAP];
    AUTO_CLOSE int dir = -1;
    int r = bucket_open(a, bucket, &dir, e);
    if (r < 0)
        return r;
    if (!key_valid(key))
        return err_set(e, ENOENT, "the key does not exist");
    key_encode(key, name);
    /* The data file may be replaced between the two opens: then the record is new as well. */
    for (unsigned tries = 0;; tries++) {
        AUTO(meta_free) struct meta m;
        r = meta_read(dir, name, &m, e);
        if (r < 0)
            return r;
        if (strcmp(m.key, key) != 0)
            return err_set(e, ENOENT, "the key does not exist");
        if (ret_fd) {
            *ret_fd = openat(a->data, m.data, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
            if (*ret_fd < 0 && errno == ENOENT && tries < 8)
                continue;
            if (*ret_fd < 0)
                return err_sys(e, errno, "open the object '%s'", key);
        }
        if (ret) {
            *ret = m.info;
            m.info.headers = NULL;
        }
        return 0;
    }
}

int artifacts_open_object(struct artifacts *a, const char *bucket, const char *key, int *ret_fd,
                          uint64_t *ret_size, struct err *e)
{
    AUTO(artifact_info_free) struct artifact_info info = {0};
    int r = artifacts_get(a, bucket, key, ret_fd, &info, e);
    if (r == 0)
        *ret_size = info.size;
    return r;
}

int artifacts_delete(struct artifacts *a, const char *bucket, const char *key, struct err *e)
{
    char name[FILE_NAME_CAP];
    AUTO(meta_free) struct meta m = {.data = ""};
    AUTO_CLOSE int dir = -1;
    int r = bucket_open(a, bucket, &dir, e);
    if (r < 0)
        return r;
    if (!key_valid(key))
        return err_set(e, ENOENT, "the key does not exist");
    key_encode(key, name);
    pthread_mutex_lock(&a->lock);
    r = meta_read(dir, name, &m, e);
    if (r == -EIO)
        r = 0; /* a damaged record can still be removed */
    if (r == 0 && (unlinkat(dir, name, 0) < 0 || fsync(dir) < 0))
        r = err_sys(e, errno, "delete the object '%s'", key);
    pthread_mutex_unlock(&a->lock);
    if (r == 0 && m.data[0])
        remove_counted(a, a->data, m.data);
    return r;
}

int artifacts_bucket_create(struct artifacts *a, const char *bucket, struct err *e)
{
    if (!bucket_valid(bucket))
        return err_set(e, EINVAL, "'%.64s' is not a valid bucket name", bucket);
    if (mkdirat(a->buckets, bucket, 0700) < 0) {
        if (errno == EEXIST)
            return err_set(e, EEXIST, "bucket '%s' exists already", bucket);
        return err_sys(e, errno, "create bucket '%s'", bucket);
    }
    if (fsync(a->buckets) < 0)
        return err_sys(e, errno, "create bucket '%s'", bucket);
    return 0;
}

int artifacts_bucket_check(struct artifacts *a, const char *bucket, struct err *e)
{
    AUTO_CLOSE int dir = -1;
    return bucket_open(a, bucket, &dir, e);
}

int artifacts_bucket_delete(struct artifacts *a, const char *bucket, struct err *e)
{
    AUTO_CLOSE int dir = -1;
    int r = bucket_open(a, bucket, &dir, e);
    if (r < 0)
        return r;
    /* Under the lock, so that no object is published into it meanwhile. */
    pthread_mutex_lock(&a->lock);
    if (unlinkat(a->buckets, bucket, AT_REMOVEDIR) < 0)
        r = errno == ENOTEMPTY || errno == EEXIST
                ? err_set(e, ENOTEMPTY, "bucket '%s' still holds objects", bucket)
                : err_sys(e, errno, "delete bucket '%s'", bucket);
    else if (fsync(a->buckets) < 0)
        r = err_sys(e, errno, "delete bucket '%s'", bucket);
    pthread_mutex_unlock(&a->lock);
    return r;
}

/* ---- listing ------------------------------------------------------------------- */

struct names {
    char **list;
    size_t n, cap;
    const char *prefix, *after;
    bool failed;
};

static void names_free(struct names *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->list[i]);
    free(s->list);
}

static bool names_add(struct names *s, const char *text)
{
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 64;
        char **list = realloc(s->list, cap * sizeof *list);
        if (!list)
            return false;
        s->list = list;
        s->cap = cap;
    }
    s->list[s->n] = strdup(text);
    return s->list[s->n++] != NULL;
}

static int compare_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int hex_value(char c)
{
    return c <= '9' ? c - '0' : c - 'A' + 10;
}

/* The key of a file name, or false when the name is a hash. */
static bool key_decode(const char *name, char ret[FILE_NAME_CAP])
{
    size_t n = 0;
    for (; *name && n < FILE_NAME_CAP - 1; n++) {
        if (*name == '~')
            return false;
        if (*name == '%' && name[1] && name[2]) {
            ret[n] = (char)(hex_value(name[1]) << 4 | hex_value(name[2]));
            name += 3;
        } else {
            ret[n] = *name++;
        }
    }
    ret[n] = '\0';
    return true;
}

static bool collect_key(void *ctx, int dir, const char *name)
{
    struct names *s = ctx;
    char key[FILE_NAME_CAP];
    AUTO(meta_free) struct meta m = {.key = NULL};
    const char *text = key;
    if (!key_decode(name, key)) {
        if (meta_read(dir, name, &m, NULL) < 0)
            return true;
        text = m.key;
    }
    if (strncmp(text, s->prefix, strlen(s->prefix)) != 0 || strcmp(text, s->after) <= 0)
        return true;
    s->failed = !names_add(s, text);
    return !s->failed;
}

int artifacts_list(struct artifacts *a, const char *bucket, const char *prefix,
                   const char *after,
                   bool (*fn)(void *ctx, const char *key, const struct artifact_info *i),
                   void *ctx, struct err *e)
{
    AUTO(names_free) struct names s = {.prefix = prefix, .after = after};
    AUTO_CLOSE int dir = -1;
    int r = bucket_open(a, bucket, &dir, e);
    if (r == 0)
        r = each_entry(dir, collect_key, &s, e);
    if (r == 0 && s.failed)
        r = err_sys(e, ENOMEM, "list bucket '%s'", bucket);
    if (r < 0)
        return r;
    if (s.n > 1)
        qsort(s.list, s.n, sizeof *s.list, compare_text);
    for (size_t i = 0; i < s.n; i++) {
        char name[FILE_NAME_CAP];
        AUTO(meta_free) struct meta m = {.key = NULL};
        key_encode(s.list[i], name);
        if (meta_read(dir, name, &m, NULL) < 0)
            continue; /* deleted meanwhile, or damaged */
        if (!fn(ctx, s.list[i], &m.info))
            break;
    }
    return 0;
}

int artifacts_bucket_each(struct artifacts *a,
                          bool (*fn)(void *ctx, const char *bucket, double created), void *ctx,
                          struct err *e)
{
    AUTO(names_free) struct names s = {.prefix = "", .after = ""};
    int r = each_entry(a->buckets, collect_key, &s, e);
    if (r == 0 && s.failed)
        r = err_sys(e, ENOMEM, "list the buckets");
    if (r < 0)
        return r;
    if (s.n > 1)
        qsort(s.list, s.n, sizeof *s.list, compare_text);
    for (size_t i = 0; i < s.n; i++) {
        struct statx st;
        if (statx(a->buckets, s.list[i], AT_SYMLINK_NOFOLLOW, STATX_BTIME | STATX_MTIME, &st) <
            0)
            continue;
        bool born = (st.stx_mask & STATX_BTIME) != 0;
        if (!fn(ctx, s.list[i], (double)(born ? st.stx_btime.tv_sec : st.stx_mtime.tv_sec)))
            break;
    }
    return 0;
}
