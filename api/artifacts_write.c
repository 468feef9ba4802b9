// SPDX-License-Identifier: Apache-2.0
/* The artifact store: publishing objects and multipart uploads; see artifacts.h. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "artifacts_priv.h"
#include "durable.h"

int artifacts_put_begin(struct artifacts *a, struct artifact_put **ret, struct err *e)
{
    struct artifact_put *p = calloc(1, sizeof *p);
    if (!p)
        return err_sys(e, ENOMEM, "begin an object");
    p->a = a;
    uuid_make(p->name);
    p->fd = openat(a->tmp, p->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (p->fd < 0) {
        int r = err_sys(e, errno, "begin an object");
        free(p);
        return r;
    }
    *ret = p;
    return 0;
}

static int put_grow(struct artifact_put *p, uint64_t len, struct err *e)
{
    if (!range_ok(p->size, len, p->a->object_max))
        return err_set(e, EFBIG, "an object may have at most %" PRIu64 " MiB",
                       p->a->object_max >> 20);
    int r = quota_take(p->a, len, e);
    if (r == 0)
        p->size += len;
    return r;
}

int artifacts_put_write(struct artifact_put *p, const void *data, size_t len, struct err *e)
{
    int r = put_grow(p, len, e);
    if (r < 0)
        return r;
    r = fd_write_full(p->fd, data, len);
    return r < 0 ? err_sys(e, -r, "write an object") : 0;
}

int artifacts_put_copy(struct artifact_put *p, int fd, uint64_t size, struct err *e)
{
    off_t from = 0;
    int r = put_grow(p, size, e);
    if (r < 0)
        return r;
    while (size > 0) {
        ssize_t n = copy_file_range(fd, &from, p->fd, NULL, (size_t)MIN(size, 1u << 30), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(e, errno, "copy an object");
        if (n == 0)
            return err_set(e, EIO, "an object's file is shorter than recorded");
        size -= (uint64_t)n;
    }
    return 0;
}

void artifacts_put_abort(struct artifact_put *p)
{
    if (!p)
        return;
    unlinkat(p->a->tmp, p->name, 0);
    quota_give(p->a, p->size);
    close(p->fd);
    free(p);
}

/* The bytes are durable under data/ and counted; nothing names them yet. */
static int put_settle(struct artifact_put *p, struct err *e)
{
    if (fsync(p->fd) < 0)
        return err_sys(e, errno, "make an object durable");
    if (renameat(p->a->tmp, p->name, p->a->data, p->name) < 0)
        return err_sys(e, errno, "publish an object");
    if (fsync(p->a->data) < 0) {
        int r = err_sys(e, errno, "publish an object");
        unlinkat(p->a->data, p->name, 0);
        return r;
    }
    return 0;
}

static int put_publish(struct artifact_put *p, const char *bucket, const char *key,
                       struct artifact_info *info, char ret_old[UUID_CAP], struct err *e)
{
    struct artifacts *a = p->a;
    char name[FILE_NAME_CAP];
    AUTO(buf_free) struct buf text = BUF_INIT;
    AUTO(meta_free) struct meta old = {.data = ""};
    AUTO_CLOSE int dir = -1;
    key_encode(key, name);
    info->size = p->size;
    info->modified = now_seconds();
    meta_text(&text, p->name, key, info);
    if (text.bad)
        return err_sys(e, ENOMEM, "publish an object");
    pthread_mutex_lock(&a->lock);
    int r = bucket_open(a, bucket, &dir, e);
    if (r == 0) {
        if (meta_read(dir, name, &old, NULL) == 0)
            memcpy(ret_old, old.data, UUID_CAP);
        r = durable_write(dir, name, text.data, text.len, 0600, e);
    }
    pthread_mutex_unlock(&a->lock);
    return r;
}

int artifacts_put_commit(struct artifact_put *p, const char *bucket, const char *key,
                         struct artifact_info *info, struct err *e)
{
    struct artifacts *a = p->a;
    char old[UUID_CAP] = "";
    int r = 0;
    if (!key_valid(key))
        r = err_set(e, EINVAL, "not a valid key");
    else if (info->headers && strlen(info->headers) > ARTIFACT_META_MAX)
        r = err_set(e, E2BIG, "the object's headers are too large");
    if (r == 0)
        r = put_settle(p, e);
    if (r < 0) {
        artifacts_put_abort(p);
        return r;
    }
    r = put_publish(p, bucket, key, info, old, e);
    if (r < 0)
        remove_counted(a, a->data, p->name);
    else if (old[0])
        remove_counted(a, a->data, old);
    close(p->fd);
    free(p);
    return r;
}

/* ---- multipart ------------------------------------------------------------------- */

static int upload_open(struct artifacts *a, const char *id, int *ret_fd, struct err *e)
{
    if (uuid_is(id, strlen(id))) {
        *ret_fd = openat(a->uploads, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (*ret_fd >= 0)
            return 0;
    }
    return err_set(e, ESRCH, "the upload does not exist, was aborted, or has been completed");
}

int artifacts_upload_begin(struct artifacts *a, const char *bucket, const char *key,
                           const char *headers, char ret_id[UPLOAD_ID_CAP], struct err *e)
{
    AUTO(buf_free) struct buf text = BUF_INIT;
    AUTO_CLOSE int dir = -1;
    int r = artifacts_bucket_check(a, bucket, e);
    if (r < 0)
        return r;
    if (!key_valid(key) || strlen(headers) > ARTIFACT_META_MAX)
        return err_set(e, EINVAL, "not a valid key, or too many headers");
    uuid_make(ret_id);
    if (mkdirat(a->uploads, ret_id, 0700) < 0)
        return err_sys(e, errno, "begin an upload");
    r = upload_open(a, ret_id, &dir, e);
    buf_printf(&text, "%s/%s\n%s", bucket, key, headers);
    if (r == 0 && text.bad)
        r = err_sys(e, ENOMEM, "begin an upload");
    if (r == 0)
        r = durable_write(dir, "info", text.data, text.len, 0600, e);
    if (r == 0 && fsync(a->uploads) < 0)
        r = err_sys(e, errno, "begin an upload");
    if (r < 0)
        unlinkat(a->uploads, ret_id, AT_REMOVEDIR);
    return r;
}

int artifacts_upload_check(struct artifacts *a, const char *bucket, const char *key,
                           const char *id, char **ret_headers, struct err *e)
{
    AUTO_CLOSE int dir = -1;
    AUTO_FREE char *text = NULL;
    int r = upload_open(a, id, &dir, e);
    if (r == 0)
        r = fd_read_file(dir, "info", ARTIFACT_META_MAX + 4096, &text, NULL, e);
    if (r < 0)
        return r;
    size_t bucket_len = strlen(bucket), key_len = strlen(key);
    if (strncmp(text, bucket, bucket_len) != 0 || text[bucket_len] != '/' ||
        strncmp(text + bucket_len + 1, key, key_len) != 0 ||
        text[bucket_len + 1 + key_len] != '\n')
        return err_set(e, ESRCH, "the upload is for another object");
    if (ret_headers) {
        *ret_headers = strdup(text + bucket_len + key_len + 2);
        if (!*ret_headers)
            return err_sys(e, ENOMEM, "read an upload");
    }
    return 0;
}

/* Parts are files "<number>.<md5>"; a re-upload of the same number removes the older one. */
struct part_find {
    struct artifacts *a;
    uint32_t number;
    const char *except; /* remove all others of this number, or NULL: find */
    char name[64];
    struct timespec when;
};

static bool find_part(void *ctx, int dir, const char *name)
{
    struct part_find *f = ctx;
    char prefix[16];
    struct stat st;
    snprintf(prefix, sizeof prefix, "%u.", f->number);
    if (strncmp(name, prefix, strlen(prefix)) != 0 || strlen(name) >= sizeof f->name)
        return true;
    if (f->except) {
        if (strcmp(name, f->except) != 0)
            remove_counted(f->a, dir, name);
    } else if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
               (!f->name[0] || st.st_ctim.tv_sec > f->when.tv_sec ||
                (st.st_ctim.tv_sec == f->when.tv_sec &&
                 st.st_ctim.tv_nsec >= f->when.tv_nsec))) {
        /* Two of them after a crash: the later one counts. */
        memcpy(f->name, name, strlen(name) + 1);
        f->when = st.st_ctim;
    }
    return true;
}

int artifacts_put_commit_part(struct artifact_put *p, const char *id, uint32_t number,
                              const char *md5, struct err *e)
{
    struct artifacts *a = p->a;
    char name[64];
    AUTO_CLOSE int dir = -1;
    int r = upload_open(a, id, &dir, e);
    if (r == 0 && (number < 1 || number > 10000 || strlen(md5) != 32))
        r = err_set(e, EINVAL, "part numbers go from 1 to 10000");
    if (r == 0 && fsync(p->fd) < 0)
        r = err_sys(e, errno, "make a part durable");
    if (r < 0) {
        artifacts_put_abort(p);
        return r;
    }
    struct part_find others = {.a = a, .number = number, .except = name};
    snprintf(name, sizeof name, "%u.%s", number, md5);
    pthread_mutex_lock(&a->lock);
    struct stat st;
    uint64_t replaced = fstatat(dir, name, &st, 0) == 0 ? (uint64_t)st.st_size : 0;
    if (renameat(a->tmp, p->name, dir, name) < 0)
        r = err_sys(e, errno, "publish a part");
    pthread_mutex_unlock(&a->lock);
    if (r < 0) {
        artifacts_put_abort(p);
        return r;
    }
    quota_give(a, replaced);
    each_entry(dir, find_part, &others, NULL);
    if (fsync(dir) < 0)
        r = err_sys(e, errno, "publish a part");
    close(p->fd);
    free(p);
    return r;
}

int artifacts_part_open(struct artifacts *a, const char *id, uint32_t number, int *ret_fd,
                        uint64_t *ret_size, char ret_md5[33], struct err *e)
{
    AUTO_CLOSE int dir = -1, fd = -1;
    struct part_find f = {.a = a, .number = number};
    struct stat st;
    int r = upload_open(a, id, &dir, e);
    if (r == 0)
        r = each_entry(dir, find_part, &f, e);
    if (r < 0)
        return r;
    const char *dot = strchr(f.name, '.');
    if (!dot || strlen(dot + 1) != 32)
        return err_set(e, ENOENT, "part %u was not uploaded", number);
    fd = openat(dir, f.name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(e, errno, "open part %u", number);
    memcpy(ret_md5, dot + 1, 33);
    *ret_size = (uint64_t)st.st_size;
    if (ret_fd)
        *ret_fd = take_fd(&fd);
    return 0;
}

static bool drop_part(void *ctx, int dir, const char *name)
{
    remove_counted(ctx, dir, name);
    return true;
}

int artifacts_upload_drop(struct artifacts *a, const char *id, struct err *e)
{
    AUTO_CLOSE int dir = -1;
    int r = upload_open(a, id, &dir, e);
    if (r < 0)
        return r;
    /* "info" first: without it the upload is over, whatever of it is left after a crash. */
    unlinkat(dir, "info", 0);
    r = each_entry(dir, drop_part, a, e);
    if (r == 0 && unlinkat(a->uploads, id, AT_REMOVEDIR) < 0)
        r = err_sys(e, errno, "remove an upload");
    return r;
}
