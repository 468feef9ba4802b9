// SPDX-License-Identifier: Apache-2.0
/* dormouse logs, and the reading of logs that build uses. Log text comes from guests. */
#include <stdlib.h>
#include <string.h>

#include "../../hypervisor/base/mem.h"
#include "cli.h"
#include "text.h"

#define TAIL_MAX   3000u /* bytes of the end that are kept for a failure's message */
#define TAIL_LINES 20u

const struct opt opts_logs[] = {
    {"build", 'b', NULL, "the log of an image's build: NAME or NAME:VERSION"},
    {"follow", 'f', NULL, "go on until the end"},
    {"tail", 'n', "LINES", "only the last lines of what is there"},
    {NULL, 0, NULL, NULL},
};

/* ---- reading ----------------------------------------------------------------------- */

static const char *last_lines(const char *text, size_t len, size_t lines)
{
    const char *p = text + len;
    if (p > text && p[-1] == '\n')
        p--;
    while (p > text) {
        if (p[-1] == '\n' && --lines == 0)
            break;
        p--;
    }
    return p;
}

static void keep_tail(struct log_follow *l, const struct buf *b)
{
    buf_add(&l->tail, b->data, b->len);
    if (l->tail.len <= TAIL_MAX)
        return;
    const char *text = (const char *)l->tail.data;
    const char *from = last_lines(text, l->tail.len, TAIL_LINES);
    size_t drop = MAX((size_t)(from - text), l->tail.len - TAIL_MAX);
    buf_drop(&l->tail, drop);
}

static void print_dim(FILE *to, const struct buf *b)
{
    const char *p = (const char *)b->data, *end = p + b->len;
    while (p < end) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t n = nl ? (size_t)(nl - p) : (size_t)(end - p);
        fputs("\033[2m", to);
        text_print(to, p, n, true);
        fputs("\033[0m", to);
        if (nl)
            fputc('\n', to);
        p += n + (nl != NULL);
    }
}

int log_read(struct cli *c, struct log_follow *l, uint64_t *ret_size)
{
    AUTO(api_answer_free) struct api_answer a;
    char query[40];
    snprintf(query, sizeof query, "offset=%llu", (unsigned long long)l->offset);
    const struct api_request r = {
        .service = "lambda",
        .method = "GET",
        .path = l->path,
        .query = query,
        .payload_hash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"};
    int rc = cli_request(c, &r, &a);
    if (rc)
        return rc;
    l->offset = a.next_offset;
    *ret_size = a.log_size;
    if (!a.body.len)
        return CLI_OK;
    keep_tail(l, &a.body);
    if (l->all)
        buf_add(l->all, a.body.data, a.body.len);
    if (l->to && l->dim)
        print_dim(l->to, &a.body);
    else if (l->to)
        text_print(l->to, (const char *)a.body.data, a.body.len,
                   l->to == stdout ? c->safe_out : true);
    if (l->to)
        fflush(l->to);
    return CLI_OK;
}

void log_end(struct log_follow *l)
{
    /* What follows begins on a line of its own. */
    if (l->to && l->tail.len && l->tail.data[l->tail.len - 1] != '\n')
        fputc('\n', l->to);
}

/* ---- the command ------------------------------------------------------------------- */

/* The newest version of the image. */
static int newest_version(struct cli *c, struct image_ref *ref)
{
    AUTO(buf_free) struct buf path = BUF_INIT;
    json_t *v = NULL;
    cli_path(&path, "/2025-09-09/microvm-images/%/versions", ref->arn);
    const char *p = buf_cstr(&path);
    int rc = p ? cli_call(c, "GET", p, "maxResults=1", NULL, &v) : CLI_FAILED;
    if (rc)
        return image_missing(c, ref->name, rc);
    const char *text = json_string_value(
        json_object_get(json_array_get(json_object_get(v, "items"), 0), "imageVersion"));
    snprintf(ref->version, sizeof ref->version, "%s", text ? text : "1.0");
    json_decref(v);
    return CLI_OK;
}

/* Paths of the log, and of what says whether more may come. */
static int paths(struct cli *c, struct args *a, struct log_follow *l, struct buf *state)
{
    AUTO(buf_free) struct buf path = BUF_INIT;
    struct image_ref ref;
    char id[72];
    int rc;
    if (args_has(a, "build")) {
        rc = find_image(c, a->pos[0], &ref);
        if (rc == CLI_OK && !ref.version[0])
            rc = newest_version(c, &ref);
        if (rc)
            return rc;
        cli_path(&path, "/dormouse/v1/images/%/versions/%/log", ref.arn, ref.version);
        cli_path(state, "/2025-09-09/microvm-images/%/versions/%", ref.arn, ref.version);
    } else {
        rc = find_vm(c, a->pos[0], id);
        if (rc)
            return rc;
        cli_path(&path, "/dormouse/v1/microvms/%/log", id);
        cli_path(state, "/2025-09-09/microvms/%", id);
    }
    const char *text = buf_cstr(&path);
    if (!text || !buf_cstr(state))
        return cli_no_memory(c);
    snprintf(l->path, sizeof l->path, "%s", text);
    return CLI_OK;
}

static bool is_over(const char *state)
{
    static const char *const ends[] = {"TERMINATED", "SUCCESSFUL", "FAILED", "DELETED"};
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        if (state && strcmp(state, ends[i]) == 0)
            return true;
    }
    return false;
}

/* Up to where the log ended at the first look: it may grow as fast as it is read. */
static int all_of_it(struct cli *c, struct log_follow *l)
{
    uint64_t end = 0, now;
    int rc = log_read(c, l, &end);
    for (uint64_t last = 0; rc == CLI_OK && l->offset < end && l->offset > last;) {
        last = l->offset;
        rc = log_read(c, l, &now);
    }
    return rc;
}

/* Reads what is there without printing, then prints its last lines. */
static int print_tail(struct cli *c, struct log_follow *l, size_t lines)
{
    AUTO(buf_free) struct buf text = BUF_INIT;
    l->to = NULL;
    l->all = &text;
    int rc = all_of_it(c, l);
    if (rc == CLI_OK && text.len && lines) {
        const char *from = last_lines((const char *)text.data, text.len, lines);
        text_print(stdout, from, text.len - (size_t)(from - (const char *)text.data),
                   c->safe_out);
    }
    l->to = stdout;
    l->all = NULL;
    return rc;
}

static int follow(struct cli *c, struct log_follow *l, const char *state_path)
{
    wait_begin(c);
    for (;;) {
        json_t *v;
        int rc = cli_call(c, "GET", state_path, NULL, NULL, &v);
        if (rc)
            return rc;
        bool over = is_over(json_string_value(json_object_get(v, "state")));
        json_decref(v);
        /* The log is read after the state, so at the end nothing is missed. */
        if ((rc = all_of_it(c, l)) || over)
            return rc;
        if ((rc = wait_for(c, 300)))
            return rc;
    }
}

int cmd_logs(struct cli *c, struct args *a)
{
    AUTO(buf_free) struct buf state = BUF_INIT;
    struct log_follow l = {.to = stdout};
    struct err e = ERR_INIT;
    uint64_t lines = 0;
    if (a->npos != 1)
        return cli_fail(c, CLI_USAGE, "USAGE",
                        "logs needs one microVM, or --build and an image");
    if (args_number(a, "tail", 0, 1000000, &lines, &e) < 0)
        return cli_fail_err(c, CLI_USAGE, "USAGE", &e);
    int rc = paths(c, a, &l, &state);
    if (rc == CLI_OK)
        rc = args_has(a, "tail") ? print_tail(c, &l, (size_t)lines) : all_of_it(c, &l);
    if (rc == CLI_OK && args_has(a, "follow"))
        rc = follow(c, &l, buf_cstr(&state));
    buf_free(&l.tail);
    return rc;
}
