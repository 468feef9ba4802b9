// SPDX-License-Identifier: Apache-2.0
/* Multipart uploads that are under way, and their parts; see artifacts.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "artifacts_priv.h"
#include "uuid.h"

struct uploads {
    const char *bucket;
    bool (*fn)(void *ctx, const char *id, const char *key, double begun);
    void *ctx;
};

/* "bucket/key\n", then headers. One that is just being dropped has no info any more. */
static bool on_upload(void *ctx, int uploads, const char *id)
{
    struct uploads *u = ctx;
    AUTO_FREE char *text = NULL;
    struct stat st;
    size_t len = strlen(u->bucket);
    AUTO_CLOSE int dir =
        uuid_is(id, strlen(id))
            ? openat(uploads, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
            : -1;
    if (dir < 0 || fstatat(dir, "info", &st, AT_SYMLINK_NOFOLLOW) < 0 ||
        fd_read_file(dir, "info", ARTIFACT_META_MAX + 4096, &text, NULL, NULL) < 0)
        return true;
    char *end = strchr(text, '\n');
    if (!end || strncmp(text, u->bucket, len) != 0 || text[len] != '/')
        return true;
    *end = '\0';
    return u->fn(u->ctx, id, text + len + 1, (double)st.st_mtim.tv_sec);
}

int artifacts_upload_each(struct artifacts *a, const char *bucket,
                          bool (*fn)(void *ctx, const char *id, const char *key, double begun),
                          void *ctx, struct err *e)
{
    struct uploads u = {.bucket = bucket, .fn = fn, .ctx = ctx};
    return each_entry(a->uploads, on_upload, &u, e);
}

struct parts {
    bool (*fn)(void *ctx, const struct artifact_part *p);
    void *ctx;
};

/* "<number>.<md5>" */
static bool on_part(void *ctx, int dir, const char *name)
{
    struct parts *p = ctx;
    struct artifact_part part;
    struct stat st;
    uint64_t number;
    const char *dot = strchr(name, '.');
    if (!dot || strlen(dot + 1) != 32 ||
        !parse_u64n(name, (size_t)(dot - name), 1, 10000, &number) ||
        fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return true;
    part.number = (uint32_t)number;
    part.size = (uint64_t)st.st_size;
    part.modified = (double)st.st_mtim.tv_sec;
    memcpy(part.md5, dot + 1, sizeof part.md5);
    return p->fn(p->ctx, &part);
}

int artifacts_part_each(struct artifacts *a, const char *id,
                        bool (*fn)(void *ctx, const struct artifact_part *p), void *ctx,
                        struct err *e)
{
    struct parts p = {.fn = fn, .ctx = ctx};
    AUTO_CLOSE int dir = -1;
    if (uuid_is(id, strlen(id)))
        dir = openat(a->uploads, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    return dir < 0 ? err_set(e, ESRCH, "the upload does not exist")
                   : each_entry(dir, on_part, &p, e);
}
