// SPDX-License-Identifier: Apache-2.0
/*
 * See copy.h. Destinations are resolved after chroot() into the image, so no
 * link of the image or the archive leads out of it.
 */
#include "copy.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "glob.h"
#include "proc.h"
#include "users.h"
#include "zip.h"

#define PATH_LIMIT  4096u
#define IGNORE_MAX  (256u * 1024u)
#define IGNORE_FILE ".dockerignore"

struct copy {
    const struct copy_job *job;
    struct zip zip;
    uint32_t uid, gid;
    char *ignore; /* text of .dockerignore, or NULL */
    size_t ignore_len;
    const char *pattern; /* the source in hand, clean */
    size_t pattern_len;
    char first[ZIP_NAME_MAX]; /* first path that matched it */
    bool matched, many;
};

/* ---- the archive ---- */

static int open_zip(struct zip *z, const struct copy_job *job, struct fail *f)
{
    AUTO_CLOSE int fd = open(job->disk, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail_sys(f, errno, "open the build context");
    off_t real = lseek(fd, 0, SEEK_END);
    if (real < 0 || job->size == 0 || job->size > (uint64_t)real)
        return fail_set(f, EINVAL, "the build context is larger than its disk");
    void *p = mmap(NULL, (size_t)job->size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        return fail_sys(f, errno, "map the build context");
    return zip_open(z, p, (size_t)job->size, f);
}

void copy_check(void *ctx, struct fail *f)
{
    struct zip z;
    if (open_zip(&z, ctx, f) == 0)
        zip_check(&z, f);
}

struct text {
    char *p;
    size_t len, cap;
};

static int to_text(void *ctx, const uint8_t *data, size_t len)
{
    struct text *t = ctx;
    if (len > t->cap - t->len)
        return -EFBIG;
    memcpy(t->p + t->len, data, len);
    t->len += len;
    return 0;
}

static int load_ignore(struct copy *c, struct fail *f)
{
    struct zip_entry e;
    int r;
    for (size_t pos = 0; (r = zip_next(&c->zip, &pos, &e, f)) > 0;) {
        if (e.kind != ZIP_FILE || strcmp(e.name, IGNORE_FILE) != 0)
            continue;
        if (e.size > IGNORE_MAX)
            return fail_set(f, EFBIG, "the .dockerignore file is larger than %u bytes",
                            IGNORE_MAX);
        struct text t = {.p = malloc(e.size + 1u), .cap = e.size};
        if (!t.p)
            return fail_set(f, ENOMEM, "out of memory");
        c->ignore = t.p;
        r = zip_read(&c->zip, &e, to_text, &t, f);
        c->ignore_len = t.len;
        return r;
    }
    return r;
}

static bool ignored(const struct copy *c, const char *name)
{
    bool out = false;
    for (size_t at = 0; at < c->ignore_len;) {
        const char *line = c->ignore + at;
        const char *nl = memchr(line, '\n', c->ignore_len - at);
        size_t len = nl ? (size_t)(nl - line) : c->ignore_len - at;
        at += len + 1;
        while (len > 0 && strchr(" \t\r", line[len - 1]))
            len--;
        while (len > 0 && (*line == ' ' || *line == '\t')) {
            line++;
            len--;
        }
        if (len == 0 || *line == '#')
            continue;
        bool back = *line == '!';
        if (back) {
            line++;
            len--;
        }
        while (len > 0 && (*line == '/' || (*line == '.' && len > 1 && line[1] == '/'))) {
            line++;
            len--;
        }
        while (len > 0 && line[len - 1] == '/')
            len--;
        if (glob_ignores(line, len, name))
            out = !back;
    }
    return out;
}

/* ---- the image ---- */

static int give(const struct copy *c, const char *path)
{
    return lchown(path, c->uid, c->gid) < 0 ? -errno : 0;
}

/* mkdir -p; what is new belongs to the owner asked for. */
static int make_tree(const struct copy *c, const char *path, struct fail *f)
{
    char buf[PATH_LIMIT];
    text_put(buf, sizeof(buf), "%s", path);
    for (char *p = buf + 1;; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char was = *p;
        *p = '\0';
        if (mkdir(buf, 0755) == 0) {
            int r = give(c, buf);
            if (r < 0)
                return fail_sys(f, -r, "chown %s", buf);
        } else if (errno != EEXIST) {
            return fail_sys(f, errno, "make the directory %s", buf);
        }
        if (was == '\0')
            break;
        *p = was;
    }
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode))
        return fail_set(f, ENOTDIR, "%s is in the image already and is not a directory", path);
    return 0;
}

static int make_parent(const struct copy *c, const char *path, struct fail *f)
{
    char buf[PATH_LIMIT];
    text_put(buf, sizeof(buf), "%s", path);
    char *slash = strrchr(buf, '/');
    if (!slash || slash == buf)
        return 0;
    *slash = '\0';
    return make_tree(c, buf, f);
}

static int to_fd(void *ctx, const uint8_t *data, size_t len)
{
    return write_full(*(const int *)ctx, data, len);
}

static int put_file(const struct copy *c, const struct zip_entry *e, const char *path,
                    struct fail *f)
{
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail_sys(f, errno, "write %s", path);
    int r = zip_read(&c->zip, e, to_fd, &fd, f);
    if (r < 0)
        return f->num ? r : fail_sys(f, -r, "write %s", path);
    struct timespec times[2] = {{.tv_sec = e->mtime}, {.tv_sec = e->mtime}};
    if (fchown(fd, c->uid, c->gid) < 0 ||
        fchmod(fd, c->job->has_mode ? c->job->mode : e->mode) < 0 || futimens(fd, times) < 0)
        return fail_sys(f, errno, "set owner, mode and time of %s", path);
    return 0;
}

static int put_link(const struct copy *c, const struct zip_entry *e, const char *path,
                    struct fail *f)
{
    char target[ZIP_LINK_MAX + 1];
    struct text t = {.p = target, .cap = ZIP_LINK_MAX};
    int r = zip_read(&c->zip, e, to_text, &t, f);
    if (r < 0)
        return f->num ? r : fail_sys(f, -r, "read the link %s", e->name);
    target[t.len] = '\0';
    if (strlen(target) != t.len)
        return fail_set(f, EBADMSG, "the link \"%s\" has a NUL in its target", e->name);
    if (symlink(target, path) < 0)
        return fail_sys(f, errno, "make the link %s", path);
    r = give(c, path);
    return r < 0 ? fail_sys(f, -r, "chown %s", path) : 0;
}

static int put_dir(const struct copy *c, const struct zip_entry *e, const char *path,
                   struct fail *f)
{
    struct stat st;
    bool was = stat(path, &st) == 0;
    int r = make_tree(c, path, f);
    if (r < 0 || was)
        return r;
    if (chmod(path, c->job->has_mode ? c->job->mode : e->mode) < 0)
        return fail_sys(f, errno, "set the mode of %s", path);
    return 0;
}

static int put(const struct copy *c, const struct zip_entry *e, const char *path,
               struct fail *f)
{
    struct stat st;
    if (e->kind == ZIP_DIR)
        return put_dir(c, e, path, f);
    int r = make_parent(c, path, f);
    if (r < 0)
        return r;
    if (lstat(path, &st) == 0) {
        if (S_ISDIR(st.st_mode))
            return fail_set(f, EISDIR, "%s is a directory in the image already", path);
        /* a new file, so that hard links elsewhere keep the old content */
        if (unlink(path) < 0)
            return fail_sys(f, errno, "replace %s", path);
    }
    return e->kind == ZIP_LINK ? put_link(c, e, path, f) : put_file(c, e, path, f);
}

/* ---- the rules ---- */

static bool is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* How much of the entry's name the pattern covers, 0 for none, or -1 when it is the root. */
static int covers(const struct copy *c, const char *name)
{
    if (c->pattern_len == 0)
        return -1;
    size_t want = path_parts(c->pattern, c->pattern_len), end = 0;
    for (size_t parts = 0; parts < want; parts++) {
        if (parts > 0 && name[end] == '/')
            end++;
        else if (parts > 0)
            return 0;
        end += strcspn(name + end, "/");
    }
    bool same = c->pattern_len == end && memcmp(c->pattern, name, end) == 0;
    return same || glob_match(c->pattern, c->pattern_len, name, end) ? (int)end : 0;
}

/* Looks through the archive once to learn how many paths the source names. */
static int survey(struct copy *c, struct fail *f)
{
    struct zip_entry e;
    int r;
    c->matched = c->many = false;
    for (size_t pos = 0; (r = zip_next(&c->zip, &pos, &e, f)) > 0;) {
        int n = covers(c, e.name);
        if (n == 0 || ignored(c, e.name))
            continue;
        e.name[n > 0 ? n : 0] = '\0';
        if (!c->matched)
            memcpy(c->first, e.name, strlen(e.name) + 1);
        else if (strcmp(c->first, e.name) != 0)
            c->many = true;
        c->matched = true;
    }
    if (r == 0 && !c->matched && c->pattern_len > 0)
        return fail_set(f, ENOENT, "COPY failed: \"%.*s\" is not in the build context",
                        (int)c->pattern_len, c->pattern);
    return r;
}

static int copy_matches(const struct copy *c, bool into, struct fail *f)
{
    const char *dst = c->job->dst;
    size_t dst_len = strlen(dst);
    while (dst_len > 0 && dst[dst_len - 1] == '/')
        dst_len--;
    struct zip_entry e;
    char path[PATH_LIMIT];
    int r;
    for (size_t pos = 0; (r = zip_next(&c->zip, &pos, &e, f)) > 0;) {
        int n = covers(c, e.name);
        if (n == 0 || ignored(c, e.name))
            continue;
        const char *rest = n > 0 ? e.name + n : e.name;
        rest += *rest == '/';
        const char *slash = strrchr(e.name, '/');
        if (*rest == '\0' && e.kind != ZIP_DIR && into)
            rest = slash ? slash + 1 : e.name; /* a file named itself: it keeps its name */
        int len =
            text_put(path, sizeof(path), "%.*s%s%s", (int)dst_len, dst, *rest ? "/" : "", rest);
        if (len < 0 || (size_t)len >= sizeof(path))
            return fail_set(f, ENAMETOOLONG, "the destination of \"%s\" is too long", e.name);
        if ((r = put(c, &e, len > 0 ? path : "/", f)) < 0)
            return r;
    }
    return r;
}

/* "./a//b/" and "/a/b" both mean a/b in the context; ".." leads out of it. */
static int clean_source(const char *src, char *out, size_t size, struct fail *f)
{
    size_t n = 0;
    for (const char *p = src; *p;) {
        size_t len = strcspn(p, "/");
        if (len == 2 && p[0] == '.' && p[1] == '.')
            return fail_set(f, EINVAL, "COPY failed: \"%s\" is outside the build context", src);
        if (len > 0 && !(len == 1 && p[0] == '.')) {
            if (n + len + 2 > size)
                return fail_set(f, ENAMETOOLONG, "the source \"%.80s\" is too long", src);
            if (n > 0)
                out[n++] = '/';
            memcpy(out + n, p, len);
            n += len;
        }
        p += len + (p[len] == '/');
    }
    out[n] = '\0';
    return 0;
}

static int copy_source(struct copy *c, const char *src, struct fail *f)
{
    char pattern[ZIP_NAME_MAX];
    const struct copy_job *job = c->job;
    int r = clean_source(src, pattern, sizeof(pattern), f);
    if (r < 0)
        return r;
    c->pattern = pattern;
    c->pattern_len = strlen(pattern);
    if ((r = survey(c, f)) < 0)
        return r;
    bool slash = job->dst[strlen(job->dst) - 1] == '/';
    if ((c->many && c->pattern_len > 0) && !slash)
        return fail_set(f, EINVAL,
                        "When using COPY with more than one source file, the "
                        "destination must be a directory and end with a /");
    /* the root of the context: "" covers every name with nothing */
    return copy_matches(c, slash || is_dir(job->dst), f);
}

static int set_owner(struct copy *c, struct fail *f)
{
    struct user u;
    uint64_t id;
    const char *who = c->job->chown;
    if (!*who)
        return 0;
    int r = user_find(who, &u, f);
    if (r < 0)
        return r;
    c->uid = u.uid;
    c->gid = u.gid;
    if (!strchr(who, ':') && parse_u64(who, UINT32_MAX, &id))
        c->gid = u.uid; /* a number alone stands for both */
    return 0;
}

void copy_run(void *ctx, struct fail *f)
{
    struct copy c = {.job = ctx};
    const struct copy_job *job = c.job;
    if (job->nsrc == 0 || job->dst[0] != '/') {
        fail_set(f, EINVAL, "COPY needs a source and an absolute destination");
        return;
    }
    if (job->nsrc > 1 && job->dst[strlen(job->dst) - 1] != '/') {
        fail_set(f, EINVAL,
                 "When using COPY with more than one source file, the destination "
                 "must be a directory and end with a /");
        return;
    }
    if (open_zip(&c.zip, job, f) < 0 || load_ignore(&c, f) < 0)
        return;
    if (chroot(ROOT_DIR) < 0 || chdir("/") < 0) {
        fail_sys(f, errno, "enter the image");
        return;
    }
    umask(0);
    if (set_owner(&c, f) < 0)
        return;
    for (size_t i = 0; i < job->nsrc; i++)
        if (copy_source(&c, job->src[i], f) < 0)
            return;
}
