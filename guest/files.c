// SPDX-License-Identifier: Apache-2.0
/*
 * GP_FILE_READ, GP_FILE_WRITE, GP_FILE_LIST: files as the application sees them.
 * Answers are GP_REPLY messages; the last one of a read or a list has EOF.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "session.h"
#include "users.h"

#define LIST_MAX 100000u

/* Enters the application's file system and takes the absolute path. */
static int begin(struct session_env *s, const struct req *r, char *path, size_t size,
                 struct fail *f)
{
    if (!req_str(r, GP_T_PATH, path, size) || path[0] != '/')
        return fail_set(f, EINVAL, "PATH must be absolute and shorter than %zu bytes", size);
    return session_enter(s, f);
}

/* ---- read ---- */

static int send_range(const struct session_env *s, int fd, uint64_t offset, uint64_t limit,
                      bool *end, struct fail *f)
{
    uint8_t *buf = malloc(SESSION_CHUNK + 64);
    if (!buf)
        return fail_set(f, ENOMEM, "out of memory");
    int r = 0;
    *end = false;
    while (r == 0 && limit > 0 && !*end) {
        struct tlv_writer w = tlv_writer_init(buf, SESSION_CHUNK + 64);
        tlv_put_u32(&w, GP_T_ERRNO, 0);
        size_t some = limit < SESSION_CHUNK ? (size_t)limit : SESSION_CHUNK;
        ssize_t n = pread(fd, buf + w.len + TLV_HEADER_SIZE, some, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            r = fail_sys(f, errno, "read");
        *end = n == 0;
        if (n <= 0)
            continue;
        tlv_reserve(&w, GP_T_DATA, (size_t)n); /* the data is in place already */
        offset += (uint64_t)n;
        limit -= (uint64_t)n;
        if ((r = session_send(s, GP_REPLY, &w)) < 0)
            f->num = -r;
    }
    free(buf);
    return r;
}

void file_read_serve(struct session_env *s, const struct req *r)
{
    char path[4096];
    struct fail f = {.num = 0};
    struct stat st = {.st_size = 0};
    uint64_t offset, limit;
    bool end = false;
    AUTO_CLOSE int fd = -1;
    if (!req_u64(r, GP_T_OFFSET, 0, &offset) || offset > INT64_MAX ||
        !req_u64(r, GP_T_LIMIT, UINT64_MAX, &limit))
        fail_set(&f, EINVAL, "OFFSET or LIMIT is malformed");
    else if (begin(s, r, path, sizeof(path), &f) == 0) {
        /* a pipe or device must not hold the stream up */
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0 || fstat(fd, &st) < 0)
            fail_sys(&f, errno, "%s", path);
        else if (S_ISDIR(st.st_mode))
            fail_sys(&f, EISDIR, "%s", path);
        else
            send_range(s, fd, offset, limit, &end, &f);
    }
    struct reply rp;
    reply_init(&rp, &f);
    tlv_put_u64(&rp.w, GP_T_SIZE, (uint64_t)st.st_size);
    tlv_put_u32(&rp.w, GP_T_EOF, end);
    session_send(s, GP_REPLY, &rp.w);
}

/* ---- write ---- */

static void make_parents(const char *path)
{
    char dir[4096];
    text_put(dir, sizeof(dir), "%s", path);
    char *slash = strrchr(dir, '/');
    if (!slash || slash == dir)
        return;
    *slash = '\0';
    make_dirs(dir, 0755); /* what is wrong with it the open tells */
}

static int take_data(struct session_env *s, int fd, uint64_t *at, struct fail *f)
{
    for (;;) {
        struct req r;
        const uint8_t *d;
        size_t n;
        int err = session_read(s, &r);
        if (err < 0)
            return fail_sys(f, -err, "the stream broke before the end of the data");
        if (r.type != GP_STDIN)
            return fail_set(f, EBADMSG, "only data may follow a file write");
        if (!req_find(&r, GP_T_DATA, &d, &n) || n == 0)
            return 0;
        if (f->num == 0 && (err = write_full(fd, d, n)) < 0)
            fail_sys(f, -err, "write"); /* the rest is still taken from the stream */
        *at += n;
    }
}

void file_write_serve(struct session_env *s, const struct req *r)
{
    char path[4096], user[256];
    struct fail f = {.num = 0};
    struct user owner = {.uid = 0};
    uint32_t mode;
    uint64_t at;
    AUTO_CLOSE int fd = -1;
    if (!req_u32(r, GP_T_MODE, 0644, &mode) || mode > 07777 ||
        !req_u64(r, GP_T_OFFSET, 0, &at) || at > INT64_MAX ||
        !req_str(r, GP_T_USER, user, sizeof(user)))
        fail_set(&f, EINVAL, "MODE, OFFSET or USER is malformed");
    else if (begin(s, r, path, sizeof(path), &f) == 0 && user_find(user, &owner, &f) == 0) {
        make_parents(path);
        int more = at ? 0 : O_TRUNC;
        fd = open(path, O_WRONLY | O_CREAT | more | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);
        if (fd < 0)
            fail_sys(&f, errno, "%s", path);
        else if (fcntl(fd, F_SETFL, 0) < 0 || (at && lseek(fd, (off_t)at, SEEK_SET) < 0) ||
                 (user[0] && fchown(fd, owner.uid, owner.gid) < 0) ||
                 ((req_has(r, GP_T_MODE) || user[0]) && fchmod(fd, mode) < 0))
            fail_sys(&f, errno, "%s", path);
    }
    take_data(s, fd, &at, &f);
    struct reply rp;
    reply_init(&rp, &f);
    tlv_put_u64(&rp.w, GP_T_SIZE, at);
    session_send(s, GP_REPLY, &rp.w);
}

/* ---- list ---- */

static char type_of(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR:
        return 'd';
    case S_IFLNK:
        return 'l';
    case S_IFREG:
        return 'f';
    default:
        return 'o';
    }
}

static void add_entry(struct tlv_writer *w, const char *name, const struct stat *st)
{
    char text[400];
    text_put(text, sizeof(text), "%c %o %llu %lld %s", type_of(st->st_mode),
             (unsigned)st->st_mode & 07777u, (unsigned long long)st->st_size,
             (long long)st->st_mtime, name);
    tlv_put_str(w, GP_T_ENTRY, text);
}

static int send_list(const struct session_env *s, DIR *dir, struct fail *f)
{
    uint8_t buf[8192];
    struct tlv_writer w = tlv_writer_init(buf, sizeof(buf));
    const struct dirent *e;
    tlv_put_u32(&w, GP_T_ERRNO, 0);
    for (unsigned count = 0; (e = readdir(dir)); count++) {
        struct stat st;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (count >= LIST_MAX)
            return fail_set(f, E2BIG, "the directory has more than %u entries", LIST_MAX);
        if (w.cap - w.len < 512) {
            int r = session_send(s, GP_REPLY, &w);
            if (r < 0)
                return fail_sys(f, -r, "send");
            w = tlv_writer_init(buf, sizeof(buf));
            tlv_put_u32(&w, GP_T_ERRNO, 0);
        }
        add_entry(&w, e->d_name, &st);
    }
    int r = session_send(s, GP_REPLY, &w);
    return r < 0 ? fail_sys(f, -r, "send") : 0;
}

void file_list_serve(struct session_env *s, const struct req *r)
{
    char path[4096];
    struct fail f = {.num = 0};
    if (begin(s, r, path, sizeof(path), &f) == 0) {
        DIR *dir = opendir(path);
        if (dir) {
            send_list(s, dir, &f);
            closedir(dir);
        } else {
            fail_sys(&f, errno, "%s", path);
        }
    }
    struct reply rp;
    reply_init(&rp, &f);
    tlv_put_u32(&rp.w, GP_T_EOF, 1);
    session_send(s, GP_REPLY, &rp.w);
}
