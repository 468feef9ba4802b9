// SPDX-License-Identifier: Apache-2.0
/* The artifact store: opening, names, metadata, quota; see artifacts.h. */
#include "artifacts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "artifacts_priv.h"
#include "digest.h"
#include "durable.h"

#define UPLOAD_SECONDS (7.0 * 86400) /* an upload that nobody completes is dropped */

double now_seconds(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (double)ts.tv_sec + (double)(ts.tv_nsec / 1000000) / 1000;
}

int each_entry(int dirfd, bool (*fn)(void *ctx, int dirfd, const char *name), void *ctx,
               struct err *e)
{
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        int r = err_sys(e, errno, "list a directory of the artifact store");
        if (fd >= 0)
            close(fd);
        return r;
    }
    struct dirent *entry;
    while ((entry = readdir(d))) {
        if (entry->d_name[0] != '.' && !fn(ctx, dirfd, entry->d_name))
            break;
    }
    closedir(d);
    return 0;
}

/* ---- names ------------------------------------------------------------------- */

bool bucket_valid(const char *bucket)
{
    size_t len = strlen(bucket);
    if (len < 3 || len >= BUCKET_CAP)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = bucket[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        bool edge = i == 0 || i == len - 1;
        if (!alnum && (edge || (c != '-' && c != '.')))
            return false;
        if (c == '.' && bucket[i + 1] == '.')
            return false;
    }
    return true;
}

bool key_valid(const char *key)
{
    size_t len = strlen(key);
    if (len == 0 || len > ARTIFACT_KEY_MAX)
        return false;
    /* Key and headers are lines of the metadata file. */
    return strpbrk(key, "\r\n") == NULL;
}

void key_encode(const char *key, char ret[FILE_NAME_CAP])
{
    static const char digits[] = "0123456789ABCDEF";
    size_t n = 0;
    for (const char *p = key; *p; p++) {
        unsigned char c = (unsigned char)*p;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                     (c >= '0' && c <= '9') || c == '-' || c == '_' || (c == '.' && n > 0);
        if (n + 3 >= 240) {
            /* '~' begins no encoded name, so a hash never equals one. */
            ret[0] = '~';
            sha256_hex(key, strlen(key), ret + 1);
            return;
        }
        if (plain) {
            ret[n++] = (char)c;
        } else {
            ret[n++] = '%';
            ret[n++] = digits[c >> 4];
            ret[n++] = digits[c & 15];
        }
    }
    ret[n] = '\0';
}

int bucket_open(struct artifacts *a, const char *bucket, int *ret_fd, struct err *e)
{
    if (!bucket_valid(bucket))
        return err_set(e, EINVAL, "'%.64s' is not a valid bucket name", bucket);
    int fd = openat(a->buckets, bucket, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        return err_set(e, ENOTDIR, "bucket '%s' does not exist", bucket);
    if (fd < 0)
        return err_sys(e, errno, "open bucket '%s'", bucket);
    *ret_fd = fd;
    return 0;
}

/* ---- metadata files ------------------------------------------------------------ */

void artifact_info_free(struct artifact_info *i)
{
    free(i->headers);
    i->headers = NULL;
}

void meta_free(struct meta *m)
{
    free(m->key);
    m->key = NULL;
    artifact_info_free(&m->info);
}

void meta_text(struct buf *b, const char *data, const char *key,
               const struct artifact_info *info)
{
    buf_printf(b, "dormouse-object 1\ndata %s\nsize %" PRIu64 "\nmodified %.3f\netag %s\n",
               data, info->size, info->modified, info->etag);
    if (info->checksum[0])
        buf_printf(b, "checksum %s\n", info->checksum);
    buf_printf(b, "key %s\nheaders\n%s", key, info->headers ? info->headers : "");
}

/* Takes "name value\n" off the front; the value is terminated in place. */
static char *take_line(char **p, const char *name)
{
    size_t len = strlen(name);
    char *end = strchr(*p, '\n');
    if (!end || strncmp(*p, name, len) != 0)
        return NULL;
    char *value = *p + len;
    *end = '\0';
    *p = end + 1;
    return value;
}

static bool meta_parse(char *p, struct meta *m)
{
    char *data, *size, *modified, *etag, *checksum, *key,
        *first = take_line(&p, "dormouse-obj");
    if (!first || strcmp(first, "ect 1") != 0 || !(data = take_line(&p, "data ")) ||
        !uuid_is(data, strlen(data)) || !(size = take_line(&p, "size ")) ||
        !parse_u64(size, 0, INT64_MAX, &m->info.size) ||
        !(modified = take_line(&p, "modified ")) || !(etag = take_line(&p, "etag ")) ||
        strlen(etag) >= sizeof m->info.etag)
        return false;
    memcpy(m->data, data, sizeof m->data);
    memcpy(m->info.etag, etag, strlen(etag) + 1);
    m->info.modified = strtod(modified, NULL);
    checksum = take_line(&p, "checksum ");
    if (checksum && strlen(checksum) < sizeof m->info.checksum)
        memcpy(m->info.checksum, checksum, strlen(checksum) + 1);
    key = take_line(&p, "key ");
    if (!key || !key_valid(key) || !take_line(&p, "headers"))
        return false;
    m->key = strdup(key);
    m->info.headers = strdup(p);
    return m->key && m->info.headers;
}

int meta_read(int bucket_fd, const char *name, struct meta *ret, struct err *e)
{
    AUTO_FREE char *text = NULL;
    memset(ret, 0, sizeof *ret);
    int r = fd_read_file(bucket_fd, name, ARTIFACT_META_MAX + 4096, &text, NULL, e);
    if (r == -ENOENT)
        return err_set(e, ENOENT, "the key does not exist");
    if (r < 0)
        return r;
    if (!meta_parse(text, ret)) {
        meta_free(ret);
        return err_set(e, EIO, "the object's record '%s' is damaged", name);
    }
    return 0;
}

/* ---- quota --------------------------------------------------------------------- */

int quota_take(struct artifacts *a, uint64_t bytes, struct err *e)
{
    pthread_mutex_lock(&a->lock);
    bool fits = range_ok(a->used, bytes, a->quota);
    if (fits)
        a->used += bytes;
    pthread_mutex_unlock(&a->lock);
    if (fits)
        return 0;
    err_set(e, EDQUOT, "the artifact store's quota of %" PRIu64 " MiB is used up",
            a->quota >> 20);
    return err_hint(e, "delete objects, or raise artifact-quota");
}

void quota_give(struct artifacts *a, uint64_t bytes)
{
    pthread_mutex_lock(&a->lock);
    a->used -= MIN(bytes, a->used);
    pthread_mutex_unlock(&a->lock);
}

void remove_counted(struct artifacts *a, int dir, const char *name)
{
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && unlinkat(dir, name, 0) == 0 &&
        st.st_nlink == 1)
        quota_give(a, (uint64_t)st.st_size);
}

/* ---- opening ------------------------------------------------------------------- */

struct scan {
    struct artifacts *a;
    char (*names)[UUID_CAP]; /* data files that objects use, later sorted */
    size_t n, cap;
    bool failed;
};

static bool scan_object(void *ctx, int bucket_fd, const char *name)
{
    struct scan *s = ctx;
    AUTO(meta_free) struct meta m;
    if (meta_read(bucket_fd, name, &m, NULL) < 0)
        return true; /* damaged: reported when somebody asks for it */
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 256;
        void *names = realloc(s->names, cap * sizeof *s->names);
        if (!names) {
            s->failed = true;
            return false;
        }
        s->names = names;
        s->cap = cap;
    }
    memcpy(s->names[s->n++], m.data, UUID_CAP);
    return true;
}

/* A record that was being replaced when the machine stopped. */
static void drop_unfinished(int dirfd)
{
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;
    while (d && (entry = readdir(d))) {
        if (strncmp(entry->d_name, ".new-", 5) == 0)
            unlinkat(dirfd, entry->d_name, 0);
    }
    if (d)
        closedir(d);
    else if (fd >= 0)
        close(fd);
}

static bool scan_bucket(void *ctx, int buckets_fd, const char *name)
{
    struct scan *s = ctx;
    AUTO_CLOSE int fd = openat(buckets_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || each_entry(fd, scan_object, s, NULL) < 0)
        s->failed = true;
    else
        drop_unfinished(fd);
    return !s->failed;
}

static int compare_names(const void *a, const void *b)
{
    return memcmp(a, b, UUID_CAP);
}

/* A data file without an object is what a crash before publishing leaves. */
static bool scan_data(void *ctx, int data_fd, const char *name)
{
    struct scan *s = ctx;
    struct stat st;
    bool known = s->n > 0 && uuid_is(name, strlen(name)) &&
                 bsearch(name, s->names, s->n, sizeof *s->names, compare_names);
    if (!known)
        unlinkat(data_fd, name, 0);
    else if (fstatat(data_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        s->a->used += (uint64_t)st.st_size;
    return true;
}

static bool drop_file(void *ctx, int fd, const char *name)
{
    (void)ctx;
    unlinkat(fd, name, 0);
    return true;
}

static bool scan_part(void *ctx, int upload_fd, const char *name)
{
    struct artifacts *a = ctx;
    struct stat st;
    if (fstatat(upload_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        a->used += (uint64_t)st.st_size;
    return true;
}

static bool scan_upload(void *ctx, int uploads_fd, const char *name)
{
    struct scan *s = ctx;
    struct stat st;
    AUTO_CLOSE int fd = openat(uploads_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return true;
    drop_unfinished(fd);
    if (fstatat(fd, "info", &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        (double)st.st_mtim.tv_sec + UPLOAD_SECONDS > now_seconds()) {
        each_entry(fd, scan_part, s->a, NULL);
    } else {
        each_entry(fd, drop_file, NULL, NULL);
        unlinkat(uploads_fd, name, AT_REMOVEDIR);
    }
    return true;
}

static int reconcile(struct artifacts *a, struct err *e)
{
    struct scan s = {.a = a};
    int r = each_entry(a->tmp, drop_file, NULL, e);
    if (r == 0)
        r = each_entry(a->buckets, scan_bucket, &s, e);
    if (r == 0 && s.failed)
        r = err_set(e, EIO, "the artifact store's buckets cannot be read");
    if (r == 0) {
        if (s.n > 1)
            qsort(s.names, s.n, sizeof *s.names, compare_names);
        r = each_entry(a->data, scan_data, &s, e);
    }
    if (r == 0)
        r = each_entry(a->uploads, scan_upload, &s, e);
    free(s.names);
    return r;
}

int artifacts_open(struct artifacts **ret, const struct artifacts_config *c, struct err *e)
{
    struct artifacts *a = calloc(1, sizeof *a);
    if (!a)
        return err_sys(e, ENOMEM, "open the artifact store");
    a->dir = a->tmp = a->data = a->buckets = a->uploads = -1;
    a->quota = c->quota_bytes;
    a->object_max = c->object_bytes;
    pthread_mutex_init(&a->lock, NULL);
    int r = durable_dir(AT_FDCWD, c->dir, &a->dir, e);
    if (r == 0)
        r = durable_dir(a->dir, "tmp", &a->tmp, e);
    if (r == 0)
        r = durable_dir(a->dir, "data", &a->data, e);
    if (r == 0)
        r = durable_dir(a->dir, "buckets", &a->buckets, e);
    if (r == 0)
        r = durable_dir(a->dir, "uploads", &a->uploads, e);
    if (r == 0)
        r = reconcile(a, e);
    if (r < 0) {
        artifacts_close(a);
        return err_wrap(e, "open the artifact store '%s'", c->dir);
    }
    *ret = a;
    return 0;
}

void artifacts_close(struct artifacts *a)
{
    if (!a)
        return;
    int fds[] = {a->dir, a->tmp, a->data, a->buckets, a->uploads};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    pthread_mutex_destroy(&a->lock);
    free(a);
}
