// SPDX-License-Identifier: Apache-2.0
/* dormouse build: pack, upload, create or update, follow the log, say how large it became. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "../../api/uuid.h"
#include "../../hypervisor/base/fd.h"
#include "../../hypervisor/base/mem.h"
#include "cli.h"
#include "pack.h"
#include "text.h"

#define BUCKET "artifacts"
#define IMAGES "/2025-09-09/microvm-images"

const struct opt opts_build[] = {
    {"name", 0, "NAME", "name of the image (that of the folder)"},
    {"memory", 'm', "MIB", "memory baseline: 512, 1024, 2048, 4096 or 8192"},
    {"env", 'e', "K=V", "environment variable of the application; may be repeated"},
    {"quiet", 'q', NULL, "do not show the build's log unless it fails"},
    {NULL, 0, NULL, NULL},
};

/* ---- the name ---------------------------------------------------------------------- */

/* From --name, or what of the folder's or file's name can be one. */
static int image_name(struct cli *c, struct args *a, const char *path, char ret[72])
{
    const char *given = args_get(a, "name");
    AUTO_FREE char *full = realpath(path, NULL);
    if (!full)
        return cli_fail(c, CLI_NOT_FOUND, "NO_SUCH_FILE", "'%s': %s", path, strerror(errno));
    const char *from = given ? given : basename(full);
    size_t n = 0, len = strlen(from);
    if (!given && len > 4 && strcmp(from + len - 4, ".zip") == 0)
        len -= 4;
    for (size_t i = 0; i < len && n < 64; i++) {
        char ch = from[i];
        bool good = isalnum((unsigned char)ch) || ch == '-' || ch == '_';
        if (!good && given)
            return cli_fail(c, CLI_USAGE, "BAD_NAME",
                            "an image's name has letters, digits, '-' and '_' only, not '%s'",
                            given);
        if (good || (n > 0 && ret[n - 1] != '-'))
            ret[n++] = (char)(good ? tolower((unsigned char)ch) : '-');
        if (given)
            ret[n - 1] = ch;
    }
    ret[n] = '\0';
    if (n == 0 || (given && len > 64)) {
        cli_fail(c, 0, "BAD_NAME", "'%s' gives no name for an image", from);
        return cli_hint(c, CLI_USAGE, "dormouse build %s --name NAME", path);
    }
    return CLI_OK;
}

/* ---- upload ------------------------------------------------------------------------ */

static int s3_call(struct cli *c, const char *method, const char *path, const char *hash,
                   const struct http_body *body)
{
    static const char empty[] =
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    AUTO(api_answer_free) struct api_answer a;
    const struct api_request r = {.service = "s3",
                                  .method = method,
                                  .path = path,
                                  .body = body,
                                  .content_type = body ? "application/zip" : NULL,
                                  .payload_hash = hash ? hash : empty};
    return cli_request(c, &r, &a);
}

static int upload(struct cli *c, const struct packed *p, const char *name)
{
    AUTO(buf_free) struct buf path = BUF_INIT;
    const struct http_body body = {.fd = p->fd, .size = p->size};
    int rc = s3_call(c, "HEAD", "/s3/" BUCKET, NULL, NULL);
    if (rc == CLI_NOT_FOUND) {
        rc = s3_call(c, "PUT", "/s3/" BUCKET, NULL, NULL);
        if (rc == CLI_STATE) /* somebody else was faster */
            rc = CLI_OK;
    }
    if (rc)
        return rc;
    cli_path(&path, "/s3/" BUCKET "/%.zip", name);
    const char *text = buf_cstr(&path);
    return text ? s3_call(c, "PUT", text, p->sha256, &body) : cli_no_memory(c);
}

/* ---- create or update -------------------------------------------------------------- */

/* What an earlier version was made with stays unless it is given anew. */
static json_t *earlier_config(struct cli *c, const char *image_path)
{
    static const char *const keep[] = {"description",
                                       "logging",
                                       "egressNetworkConnectors",
                                       "cpuConfigurations",
                                       "resources",
                                       "additionalOsCapabilities",
                                       "hooks",
                                       "environmentVariables",
                                       "baseImageArn",
                                       "baseImageVersion",
                                       "buildRoleArn"};
    AUTO(buf_free) struct buf path = BUF_INIT;
    json_t *all = NULL, *config = json_object();
    buf_printf(&path, "%s/versions", image_path);
    const char *p = buf_cstr(&path);
    if (p && cli_list(c, p, NULL, &all) == CLI_OK) {
        const json_t *newest = json_array_get(all, 0);
        for (size_t i = 0; i < ARRAY_LEN(keep); i++) {
            json_t *v = json_object_get(newest, keep[i]);
            if (v)
                json_object_set(config, keep[i], v);
        }
    }
    json_decref(all);
    return config;
}

static void set_default(json_t *v, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void set_default(json_t *v, const char *name, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!json_object_get(v, name))
        json_object_set_new(v, name, json_string(text));
}

static int set_environment(struct cli *c, struct args *a, json_t *config)
{
    const char *pair;
    for (size_t i = 0; (pair = args_nth(a, "env", i)); i++) {
        size_t len = strcspn(pair, "=");
        json_t *env = json_object_get(config, "environmentVariables");
        if (len == 0 || !pair[len])
            return cli_fail(c, CLI_USAGE, "USAGE", "--env needs NAME=VALUE, not '%.60s'", pair);
        if (!env) {
            env = json_object();
            json_object_set_new(config, "environmentVariables", env);
        }
        AUTO_FREE char *key = strndup(pair, len);
        if (!key || json_object_set_new(env, key, json_string(pair + len + 1)) < 0)
            return cli_fail(c, CLI_USAGE, "USAGE", "--env %.60s is not UTF-8 text", pair);
    }
    return CLI_OK;
}

static int set_config(struct cli *c, struct args *a, json_t *config, const char *name)
{
    struct err e = ERR_INIT;
    uint64_t memory = 0;
    if (args_number(a, "memory", 1, INT32_MAX, &memory, &e) < 0)
        return cli_fail_err(c, CLI_USAGE, "USAGE", &e);
    set_default(config, "baseImageArn", "arn:aws:lambda:%s:aws:microvm-image:al2023-1",
                c->facts.region);
    set_default(config, "buildRoleArn", "arn:aws:iam::%s:role/dormouse", c->facts.account);
    json_object_set_new(
        config, "codeArtifact",
        json_pack("{s:o}", "uri", json_sprintf("s3://" BUCKET "/%s.zip", name)));
    if (memory)
        json_object_set_new(config, "resources",
                            json_pack("[{s:I}]", "minimumMemoryInMiB", (json_int_t)memory));
    return set_environment(c, a, config);
}

static int submit(struct cli *c, struct args *a, const struct image_ref *ref, struct built *ret)
{
    AUTO(buf_free) struct buf path = BUF_INIT;
    json_t *now = NULL, *answer = NULL;
    char token[UUID_CAP];
    cli_path(&path, IMAGES "/%", ref->arn);
    const char *p = buf_cstr(&path);
    int rc = p ? cli_call(c, "GET", p, NULL, NULL, &now) : CLI_FAILED;
    bool exists = rc == CLI_OK;
    json_decref(now);
    if (rc != CLI_OK && rc != CLI_NOT_FOUND)
        return rc;
    json_t *config = exists ? earlier_config(c, p) : json_object();
    rc = set_config(c, a, config, ref->name);
    if (!exists)
        json_object_set_new(config, "name", json_string(ref->name));
    uuid_make(token);
    json_object_set_new(config, "clientToken", json_string(token));
    if (rc == CLI_OK)
        rc = cli_call(c, exists ? "PUT" : "POST", exists ? p : IMAGES, NULL, config, &answer);
    if (rc == CLI_OK) {
        snprintf(ret->name, sizeof ret->name, "%s", ref->name);
        snprintf(ret->version, sizeof ret->version, "%.15s", member(answer, "imageVersion"));
    }
    json_decref(config);
    json_decref(answer);
    return rc;
}

/* ---- until it is done -------------------------------------------------------------- */

/* "Dockerfile line 3" in the reason: the lines around it. */
static void add_excerpt(const char *reason, const char *dir, struct buf *b)
{
    AUTO_FREE char *path = NULL, *text = NULL;
    const char *at = strstr(reason, "Dockerfile line ");
    unsigned long want = at ? strtoul(at + 16, NULL, 10) : 0, line = 1;
    if (!want || asprintf(&path, "%s/Dockerfile", dir) < 0)
        return;
    if (fd_read_file(AT_FDCWD, path, 1 << 20, &text, NULL, NULL) < 0)
        return;
    buf_printf(b, "\nDockerfile:%lu", want);
    for (const char *p = text; *p; line++) {
        size_t len = strcspn(p, "\n");
        if (line + 2 >= want && line <= want + 1)
            buf_printf(b, "\n%s %3lu | %.*s", line == want ? ">>>" : "   ", line,
                       (int)MIN(len, (size_t)300), p);
        p += len + (p[len] == '\n');
    }
}

static int build_failed(struct cli *c, const struct built *b, const char *path,
                        const char *reason, struct log_follow *l, bool shown)
{
    AUTO(buf_free) struct buf cause = BUF_INIT;
    char code[64];
    size_t n = strspn(reason, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789");
    bool coded = n > 3 && strncmp(reason + n, ": ", 2) == 0;
    snprintf(code, sizeof code, "%.*s", coded ? (int)MIN(n, sizeof code - 1) : 12,
             coded ? reason : "BUILD_FAILED");
    const char *said = coded ? reason + n + 2 : reason;
    cli_fail(c, 0, code, "image '%s' failed: %s", b->name,
             *said ? said : "no reason was given");
    if (!shown && l->tail.len)
        buf_add(&cause, l->tail.data, l->tail.len);
    add_excerpt(reason, path, &cause);
    const char *text = buf_cstr(&cause);
    if (text)
        snprintf(c->fail.cause, sizeof c->fail.cause, "%s", text + (text[0] == '\n'));
    return cli_hint(c, CLI_FAILED,
                    "correct it, then: dormouse build %s --name %s   full log: dormouse logs "
                    "--build %s",
                    path, b->name, b->name);
}

static int say_sizes(struct cli *c, const struct image_ref *ref, const struct built *b)
{
    AUTO(buf_free) struct buf path = BUF_INIT;
    json_t *list = NULL, *build = NULL;
    cli_path(&path, IMAGES "/%/versions/%/builds", ref->arn, b->version);
    const char *p = buf_cstr(&path);
    int rc = p ? cli_list(c, p, NULL, &list) : CLI_FAILED;
    if (rc == CLI_OK) {
        cli_path(&path, "/%", member(json_array_get(list, 0), "buildId"));
        p = buf_cstr(&path);
        rc = p ? cli_call(c, "GET", p, NULL, NULL, &build) : CLI_FAILED;
    }
    if (rc == CLI_OK) {
        char memory[24], disk[24];
        const json_t *s = json_object_get(build, "snapshotBuild");
        json_int_t d = json_integer_value(json_object_get(s, "diskSnapshotSizeInBytes")) +
                       json_integer_value(json_object_get(s, "codeInstallSizeInBytes"));
        human_size(
            (uint64_t)json_integer_value(json_object_get(s, "memorySnapshotSizeInBytes")),
            memory);
        human_size((uint64_t)d, disk);
        cli_step(c, "snapshot", "%s:%s  %s of memory, %s of disk", b->name, b->version, memory,
                 disk);
    }
    json_decref(list);
    json_decref(build);
    return rc;
}

static int follow(struct cli *c, const struct image_ref *ref, const struct built *b,
                  const char *path, bool quiet)
{
    AUTO(buf_free) struct buf version = BUF_INIT, log = BUF_INIT;
    struct log_follow l = {.to = quiet ? NULL : stderr, .dim = c->color_err};
    char state[24] = "", reason[700] = "";
    int64_t begin = clock_ms();
    cli_path(&version, IMAGES "/%/versions/%", ref->arn, b->version);
    cli_path(&log, "/dormouse/v1/images/%/versions/%/log", ref->arn, b->version);
    const char *p = buf_cstr(&version), *lp = buf_cstr(&log);
    if (!p || !lp)
        return cli_no_memory(c);
    snprintf(l.path, sizeof l.path, "%s", lp);
    wait_begin(c);
    int rc = CLI_OK;
    for (bool over = false; rc == CLI_OK;) {
        uint64_t size = 0;
        rc = log_read(c, &l, &size);
        if (rc || l.offset < size)
            continue;
        if (over)
            break;
        json_t *v = NULL;
        rc = cli_call(c, "GET", p, NULL, NULL, &v);
        snprintf(state, sizeof state, "%s", member(v, "state"));
        snprintf(reason, sizeof reason, "%s", member(v, "stateReason"));
        json_decref(v);
        /* Once more after the end: what was written since the last look. */
        over = strcmp(state, "PENDING") != 0 && strcmp(state, "IN_PROGRESS") != 0;
        if (rc == CLI_OK && !over)
            rc = wait_for(c, clock_ms() - begin < 3000 ? 100 : 300);
    }
    log_end(&l);
    if (rc == CLI_INTERRUPTED)
        fprintf(stderr, "\nThe build goes on. Watch it: dormouse logs --build %s:%s -f\n",
                b->name, b->version);
    else if (rc == CLI_OK && strcmp(state, "SUCCESSFUL") != 0)
        rc = build_failed(c, b, path, reason, &l, !quiet);
    buf_free(&l.tail);
    if (rc == CLI_OK)
        cli_step(c, "built", "%s:%s in %.1f s", b->name, b->version,
                 (double)(clock_ms() - begin) / 1000);
    return rc;
}

int build_image(struct cli *c, struct args *a, const char *path, struct built *ret)
{
    AUTO(packed_close) struct packed p = {.fd = -1};
    struct image_ref ref;
    struct err e = ERR_INIT;
    char name[72], size[24];
    *ret = (struct built){.name = ""};
    int rc = image_name(c, a, path, name);
    if (rc)
        return rc;
    if (pack(path, &p, &e) < 0)
        return cli_fail_err(c, e.num == ENOENT ? CLI_NOT_FOUND : CLI_FAILED, "CANNOT_PACK", &e);
    human_size(p.size, size);
    if (p.files)
        cli_step(c, "packed", "%s.zip (%u file%s, %s)%s%s", name, p.files,
                 p.files == 1 ? "" : "s", size, p.from[0] ? "  FROM " : "", p.from);
    else
        cli_step(c, "packed", "%s.zip (%s)", name, size);
    if (p.skipped)
        fprintf(stderr, "note: %u sockets, pipes or devices were left out\n", p.skipped);
    rc = find_image(c, name, &ref);
    if (rc == CLI_OK)
        rc = upload(c, &p, name);
    if (rc == CLI_OK)
        rc = submit(c, a, &ref, ret);
    packed_close(&p);
    if (rc == CLI_OK)
        rc = follow(c, &ref, ret, path, args_has(a, "quiet"));
    return rc ? rc : say_sizes(c, &ref, ret);
}

int cmd_build(struct cli *c, struct args *a)
{
    struct built b;
    if (a->npos != 1)
        return cli_fail(c, CLI_USAGE, "USAGE", "build needs one folder or zip file");
    int rc = build_image(c, a, a->pos[0], &b);
    if (rc)
        return rc;
    if (c->json)
        return cli_print_new_json(
            c, json_pack("{s:s, s:s}", "name", b.name, "version", b.version));
    printf("%s:%s\n", b.name, b.version);
    return CLI_OK;
}
