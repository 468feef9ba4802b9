// SPDX-License-Identifier: Apache-2.0
/* From a folder to a zip; see pack.h. */
#include "pack.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../api/digest.h"
#include "../../hypervisor/base/fd.h"
#include "../../hypervisor/base/mem.h"
#include "ignore.h"
#include "zip_write.h"

#define DEPTH_MAX 64u
#define LINK_MAX_ 4096u
#define TEXT_MAX  (1u << 20)

struct walk {
    struct zip_writer zip;
    struct ignore ignore;
    uint32_t skipped;
};

static int temporary_file(struct err *e)
{
    const char *dir = getenv("TMPDIR");
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/dormouse-XXXXXX", dir && *dir ? dir : "/tmp");
    if (n < 0 || (size_t)n >= sizeof path)
        return err_set(e, ENAMETOOLONG, "TMPDIR is too long");
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, errno, "make a temporary file '%s'", path);
    unlink(path);
    return fd;
}

static int add_link(struct walk *w, int dir, const char *name, const char *path,
                    const struct stat *st, struct err *e)
{
    char target[LINK_MAX_];
    ssize_t n = readlinkat(dir, name, target, sizeof target);
    if (n < 0 || n == sizeof target)
        return err_sys(e, n < 0 ? errno : ENAMETOOLONG, "read the link '%s'", path);
    return zip_add_bytes(&w->zip, path, S_IFLNK | 0777, st->st_mtime, target, (size_t)n, e);
}

static int add_file(struct walk *w, int dir, const char *name, const char *path, struct err *e)
{
    struct stat st;
    AUTO_CLOSE int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(e, errno, "read '%s'", path);
    return zip_add_file(&w->zip, path, S_IFREG | (st.st_mode & 07777), st.st_mtime, fd, e);
}

static int add_folder(struct walk *w, int dir, const char *path, unsigned depth, struct err *e);

static int add_entry(struct walk *w, int dir, const char *name, const char *prefix,
                     unsigned depth, struct err *e)
{
    AUTO_FREE char *path = NULL;
    struct stat st;
    if (asprintf(&path, "%s%s", prefix, name) < 0) {
        path = NULL;
        return err_sys(e, ENOMEM, "pack a folder");
    }
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_sys(e, errno, "look at '%s'", path);
    bool out = strcmp(path, "Dockerfile") != 0 && ignore_match(&w->ignore, path);
    if (S_ISDIR(st.st_mode)) {
        if (out && !w->ignore.any_back)
            return 0;
        AUTO_CLOSE int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        AUTO_FREE char *slash = NULL;
        if (fd < 0)
            return err_sys(e, errno, "open the folder '%s'", path);
        if (asprintf(&slash, "%s/", path) < 0) {
            slash = NULL;
            return err_sys(e, ENOMEM, "pack a folder");
        }
        int r = out ? 0
                    : zip_add_bytes(&w->zip, slash, S_IFDIR | (st.st_mode & 07777), st.st_mtime,
                                    NULL, 0, e);
        return r < 0 ? r : add_folder(w, fd, slash, depth + 1, e);
    }
    if (out)
        return 0;
    if (S_ISREG(st.st_mode))
        return add_file(w, dir, name, path, e);
    if (S_ISLNK(st.st_mode))
        return add_link(w, dir, name, path, &st, e);
    w->skipped++;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    char *const *na = a, *const *nb = b;
    return strcmp(*na, *nb);
}

/* The names in the folder, sorted, so that the same folder gives the same zip. */
static int list(int fd, char ***ret, size_t *ret_n)
{
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = copy >= 0 ? fdopendir(copy) : NULL;
    if (!d) {
        int num = errno;
        if (copy >= 0)
            close(copy);
        return -num;
    }
    size_t n = 0, cap = 0;
    char **names = NULL;
    int r = 0;
    for (struct dirent *de; r == 0 && (de = readdir(d));) {
        if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
            continue;
        if (n == cap) {
            cap = cap ? cap * 2 : 32;
            char **grown = reallocarray(names, cap, sizeof *grown);
            if (!grown) {
                r = -ENOMEM;
                break;
            }
            names = grown;
        }
        names[n] = strdup(de->d_name);
        r = names[n] ? 0 : -ENOMEM;
        n += names[n] != NULL;
    }
    closedir(d);
    if (n > 1)
        qsort(names, n, sizeof *names, by_name);
    *ret = names;
    *ret_n = n;
    return r;
}

static int add_folder(struct walk *w, int dir, const char *prefix, unsigned depth,
                      struct err *e)
{
    char **names = NULL;
    size_t n = 0;
    if (depth > DEPTH_MAX)
        return err_set(e, ELOOP, "'%.200s' lies more than %u folders deep", prefix, DEPTH_MAX);
    int r = list(dir, &names, &n);
    if (r < 0)
        err_sys(e, -r, "list the folder '%s'", prefix);
    for (size_t i = 0; i < n && r == 0; i++)
        r = add_entry(w, dir, names[i], prefix, depth, e);
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
    return r;
}

static int hash(struct packed *p, struct err *e)
{
    struct digest d;
    uint8_t sum[DIGEST_MAX];
    AUTO_FREE uint8_t *data = malloc(1 << 16);
    if (!data)
        return err_sys(e, ENOMEM, "read the archive");
    digest_begin(&d, DIGEST_SHA256);
    for (uint64_t at = 0; at < p->size;) {
        size_t n = (size_t)MIN(p->size - at, (uint64_t)1 << 16);
        int r = fd_pread_full(p->fd, data, n, at);
        if (r < 0)
            return err_sys(e, -r, "read the archive");
        digest_add(&d, data, n);
        at += n;
    }
    hex_encode(sum, digest_end(&d, sum), p->sha256);
    return 0;
}

/* The image of the last FROM, for the message. */
static void find_from(int dir, struct packed *p)
{
    AUTO_FREE char *text = NULL;
    if (fd_read_file(dir, "Dockerfile", TEXT_MAX, &text, NULL, NULL) < 0)
        return;
    for (char *line = text; *line;) {
        size_t len = strcspn(line, "\n");
        const char *at = line + strspn(line, " \t");
        if (strncasecmp(at, "FROM", 4) == 0 && (at[4] == ' ' || at[4] == '\t')) {
            at += 4 + strspn(at + 4, " \t");
            snprintf(p->from, sizeof p->from, "%.*s",
                     (int)MIN(strcspn(at, " \t\r\n"), sizeof p->from - 1), at);
        }
        line += len + (line[len] == '\n');
    }
}

static int pack_folder(int dir, const char *path, struct packed *p, struct err *e)
{
    struct walk w = {.skipped = 0};
    AUTO_FREE char *text = NULL;
    if (faccessat(dir, "Dockerfile", R_OK, 0) < 0) {
        err_sys(e, errno, "there is no Dockerfile in '%s'", path);
        return err_hint(e, "an image is made by a Dockerfile, e.g.: FROM dormouse/python");
    }
    find_from(dir, p);
    p->fd = temporary_file(e);
    if (p->fd < 0)
        return p->fd;
    struct err none = ERR_INIT;
    int r = fd_read_file(dir, ".dockerignore", TEXT_MAX, &text, NULL, &none);
    if (r < 0 && r != -ENOENT) {
        *e = none;
        return err_wrap(e, "read .dockerignore");
    }
    r = text ? ignore_parse(&w.ignore, text) : 0;
    if (r < 0)
        return err_sys(e, -r, "read .dockerignore");
    zip_writer_init(&w.zip, p->fd);
    r = add_folder(&w, dir, "", 0, e);
    if (r == 0)
        r = zip_finish(&w.zip, e);
    p->size = w.zip.off;
    p->bytes = w.zip.bytes;
    p->files = w.zip.files;
    p->skipped = w.skipped;
    zip_writer_free(&w.zip);
    ignore_free(&w.ignore);
    return r;
}

int pack(const char *path, struct packed *ret, struct err *e)
{
    struct stat st;
    char magic[2];
    *ret = (struct packed){.fd = -1};
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(e, errno, "open '%s'", path);
    int r;
    if (S_ISDIR(st.st_mode)) {
        r = pack_folder(fd, path, ret, e);
    } else {
        ret->size = ret->bytes = (uint64_t)st.st_size;
        ret->fd = take_fd(&fd);
        r = fd_pread_full(ret->fd, magic, sizeof magic, 0);
        if (r < 0 || memcmp(magic, "PK", 2) != 0) {
            err_set(e, EINVAL, "'%s' is neither a folder nor a zip file", path);
            r = err_hint(e, "give the folder that the Dockerfile is in");
        }
    }
    if (r == 0)
        r = hash(ret, e);
    if (r < 0)
        packed_close(ret);
    return r;
}

void packed_close(struct packed *p)
{
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
}
