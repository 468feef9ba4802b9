// SPDX-License-Identifier: Apache-2.0
/* dormouse cp and ls: files in a microVM. Names and content are a stranger's. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../api/digest.h"
#include "../../api/urlenc.h"
#include "../../hypervisor/base/fd.h"
#include "../../hypervisor/base/mem.h"
#include "cli.h"
#include "text.h"

#define PIECE ((size_t)4 << 20)

const struct opt opts_cp[] = {
    {"user", 'u', "USER", "owner of a file that is copied in"},
    {"mode", 'm', "OCTAL", "its mode (that of the file here)"},
    {NULL, 0, NULL, NULL},
};
const struct opt opts_ls[] = {{NULL, 0, NULL, NULL}};

/* "VM:PATH"; false when it is a file here: "-", or a name with a slash in front of the colon.
 */
static bool split(const char *text, char vm[80], const char **path)
{
    const char *colon = strchr(text, ':');
    const char *slash = strchr(text, '/');
    if (!colon || colon == text || (slash && slash < colon) || (size_t)(colon - text) >= 80)
        return false;
    memcpy(vm, text, (size_t)(colon - text));
    vm[colon - text] = '\0';
    *path = colon + 1;
    return true;
}

struct remote {
    char id[72];
    const char *path;
    struct buf target; /* of the request, without the query */
};

static int open_remote(struct cli *c, const char *vm, const char *path, struct remote *r)
{
    if (path[0] != '/')
        return cli_fail(c, CLI_USAGE, "USAGE", "the path in the microVM must begin with /");
    int rc = find_vm(c, vm, r->id);
    if (rc)
        return rc;
    r->path = path;
    cli_path(&r->target, "/dormouse/v1/microvms/%/files", r->id);
    return buf_cstr(&r->target) ? CLI_OK : cli_no_memory(c);
}

static void path_query(struct buf *q, const char *path, uint64_t offset)
{
    buf_str(q, "path=");
    url_encode(q, path, strlen(path), false);
    buf_printf(q, "&offset=%" PRIu64, offset);
}

/* ---- out --------------------------------------------------------------------------- */

static int copy_out(struct cli *c, const struct remote *r, int fd, const char *name)
{
    static const char nothing[] = "";
    char hash[65];
    sha256_hex(nothing, 0, hash);
    uint64_t offset = 0;
    for (bool end = false; !end;) {
        AUTO(buf_free) struct buf q = BUF_INIT;
        AUTO(api_answer_free) struct api_answer a = {.body = BUF_INIT};
        path_query(&q, r->path, offset);
        const struct api_request ask = {.service = "lambda",
                                        .method = "GET",
                                        .path = buf_cstr((struct buf *)(uintptr_t)&r->target),
                                        .query = buf_cstr(&q),
                                        .payload_hash = hash};
        int rc = ask.query ? cli_request(c, &ask, &a) : cli_no_memory(c);
        if (rc)
            return rc;
        int n = fd_write_full(fd, a.body.data, a.body.len);
        if (n < 0)
            return cli_fail(c, CLI_FAILED, "OUTPUT_FAILED", "write '%s': %s", name,
                            strerror(-n));
        end = a.end_of_file || a.body.len == 0;
        offset += a.body.len;
    }
    return CLI_OK;
}

/* Into a directory: under the file's own name. */
static int open_local(struct cli *c, const struct remote *r, const char *to, char *name,
                      size_t cap, int *ret)
{
    struct stat st;
    const char *base = strrchr(r->path, '/') + 1;
    bool dir = stat(to, &st) == 0 && S_ISDIR(st.st_mode);
    if (dir && (!*base || strcmp(base, "..") == 0 || strcmp(base, ".") == 0))
        return cli_fail(c, CLI_USAGE, "USAGE", "say which file to copy, not a directory");
    snprintf(name, cap, "%s%s%s", to, dir ? "/" : "", dir ? base : "");
    *ret = strcmp(to, "-") == 0 ? dup(1)
                                : open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    return *ret < 0 ? cli_fail(c, CLI_FAILED, "OUTPUT_FAILED", "create '%s': %s", name,
                               strerror(errno))
                    : CLI_OK;
}

/* ---- in ---------------------------------------------------------------------------- */

static ssize_t fill(int fd, uint8_t *data)
{
    size_t len = 0;
    while (len < PIECE) {
        ssize_t n = read(fd, data + len, PIECE - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        len += (size_t)n;
    }
    return (ssize_t)len;
}

static int copy_in(struct cli *c, const struct remote *r, int fd, const char *name,
                   const char *mode, const char *user)
{
    AUTO_FREE uint8_t *data = malloc(PIECE);
    uint64_t offset = 0;
    if (!data)
        return cli_no_memory(c);
    for (;;) {
        AUTO(buf_free) struct buf q = BUF_INIT;
        AUTO(api_answer_free) struct api_answer a = {.body = BUF_INIT};
        char hash[65];
        ssize_t n = fill(fd, data);
        if (n < 0)
            return cli_fail(c, CLI_FAILED, "INPUT", "read '%s': %s", name, strerror((int)-n));
        if (n == 0 && offset > 0)
            return CLI_OK;
        path_query(&q, r->path, offset);
        buf_printf(&q, "&mode=%s", mode);
        if (user) {
            buf_str(&q, "&user=");
            url_encode(&q, user, strlen(user), false);
        }
        sha256_hex(data, (size_t)n, hash);
        const struct http_body body = {.data = data, .fd = -1, .size = (uint64_t)n};
        const struct api_request put = {.service = "lambda",
                                        .method = "PUT",
                                        .path = buf_cstr((struct buf *)(uintptr_t)&r->target),
                                        .query = buf_cstr(&q),
                                        .body = &body,
                                        .content_type = "application/octet-stream",
                                        .payload_hash = hash};
        int rc = put.query ? cli_request(c, &put, &a) : cli_no_memory(c);
        if (rc)
            return rc;
        offset += (uint64_t)n;
        if ((size_t)n < PIECE)
            return CLI_OK;
    }
}

static int in(struct cli *c, struct args *a, const struct remote *r, const char *from)
{
    struct stat st;
    char mode[8];
    const char *given = args_get(a, "mode");
    AUTO_CLOSE int fd = strcmp(from, "-") == 0 ? dup(0) : open(from, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return cli_fail(c, CLI_FAILED, "INPUT", "open '%s': %s", from, strerror(errno));
    if (S_ISDIR(st.st_mode)) {
        cli_fail(c, 0, "INPUT", "'%s' is a directory", from);
        return cli_hint(c, CLI_FAILED,
                        "tar -C '%s' -c . | dormouse exec -i VM -- tar -x -C DIR", from);
    }
    snprintf(mode, sizeof mode, "%o", S_ISREG(st.st_mode) ? st.st_mode & 0777u : 0644u);
    return copy_in(c, r, fd, from, given ? given : mode, args_get(a, "user"));
}

int cmd_cp(struct cli *c, struct args *a)
{
    AUTO(buf_free) struct buf target = BUF_INIT;
    char vm[80], name[4200];
    const char *path = NULL;
    if (a->npos != 2)
        return cli_fail(c, CLI_USAGE, "USAGE", "cp needs a source and a destination");
    struct remote r = {.target = BUF_INIT};
    bool from_vm = split(a->pos[0], vm, &path), to_vm = !from_vm && split(a->pos[1], vm, &path);
    if (!from_vm && !to_vm)
        return cli_fail(c, CLI_USAGE, "USAGE", "one of the two must be VM:PATH");
    int rc = open_remote(c, vm, path, &r);
    if (rc == CLI_OK && from_vm) {
        AUTO_CLOSE int fd = -1;
        rc = open_local(c, &r, a->pos[1], name, sizeof name, &fd);
        if (rc == CLI_OK)
            rc = copy_out(c, &r, fd, name);
    } else if (rc == CLI_OK) {
        rc = in(c, a, &r, a->pos[0]);
    }
    buf_free(&r.target);
    return rc;
}

/* ---- ls ---------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    const char *x = json_string_value(json_object_get(*(json_t *const *)a, "name"));
    const char *y = json_string_value(json_object_get(*(json_t *const *)b, "name"));
    return strcmp(x ? x : "", y ? y : "");
}

static int print_entries(struct cli *c, const json_t *v)
{
    static const char *const heads[] = {"MODE", "SIZE", "MODIFIED", "NAME", NULL};
    const json_t *items = json_object_get(v, "items");
    size_t n = json_array_size(items);
    AUTO(table_free) struct table t;
    AUTO_FREE json_t **sorted = calloc(n + 1, sizeof *sorted);
    table_init(&t, heads);
    if (!sorted)
        return cli_no_memory(c);
    for (size_t i = 0; i < n; i++)
        sorted[i] = json_array_get(items, i);
    qsort(sorted, n, sizeof *sorted, by_name);
    for (size_t i = 0; i < n; i++) {
        const char *type = json_string_value(json_object_get(sorted[i], "type"));
        const char *mode = json_string_value(json_object_get(sorted[i], "mode"));
        const char *name = json_string_value(json_object_get(sorted[i], "name"));
        char what[16], size[24], time[40], shown[300];
        bool dir = type && strcmp(type, "directory") == 0;
        snprintf(what, sizeof what, "%c%s", dir ? 'd' : type ? type[0] : '?', mode ? mode : "");
        human_size((uint64_t)json_integer_value(json_object_get(sorted[i], "size")), size);
        human_time(json_number_value(json_object_get(sorted[i], "modifiedAt")), time);
        snprintf(shown, sizeof shown, "%s%s", name ? name : "", dir ? "/" : "");
        const char *const cells[] = {what, size, time, shown};
        table_row(&t, cells);
    }
    int rc = cli_print_table(c, &t, NULL);
    if (rc == CLI_OK && json_is_true(json_object_get(v, "truncated")))
        fprintf(stderr, "(there are more: only 10000 entries are shown)\n");
    return rc;
}

int cmd_ls(struct cli *c, struct args *a)
{
    AUTO(buf_free) struct buf target = BUF_INIT;
    AUTO(buf_free) struct buf q = BUF_INIT;
    char vm[80], id[72];
    const char *path = "/";
    json_t *v = NULL;
    if (a->npos < 1 || a->npos > 2)
        return cli_fail(c, CLI_USAGE, "USAGE", "ls needs a microVM and a path");
    if (a->npos == 2 || !split(a->pos[0], vm, &path))
        snprintf(vm, sizeof vm, "%s", a->pos[0]);
    if (a->npos == 2)
        path = a->pos[1];
    int rc = find_vm(c, vm, id);
    if (rc)
        return rc;
    cli_path(&target, "/dormouse/v1/microvms/%/directory", id);
    cli_path(&q, "path=%", path);
    rc = buf_cstr(&target) && buf_cstr(&q)
             ? cli_call(c, "GET", buf_cstr(&target), buf_cstr(&q), NULL, &v)
             : cli_no_memory(c);
    if (rc == CLI_OK)
        rc = c->json ? cli_print_json(c, v) : print_entries(c, v);
    json_decref(v);
    return rc;
}
