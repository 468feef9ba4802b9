// SPDX-License-Identifier: Apache-2.0
/* How the tool fails and talks; see cli.h. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "../../hypervisor/base/mem.h"
#include "cli.h"
#include "text.h"

int cli_fail(struct cli *c, int status, const char *code, const char *fmt, ...)
{
    va_list ap;
    memset(&c->fail, 0, sizeof c->fail);
    snprintf(c->fail.code, sizeof c->fail.code, "%s", code);
    c->fail.e.num = EINVAL;
    va_start(ap, fmt);
    vsnprintf(c->fail.e.msg, sizeof c->fail.e.msg, fmt, ap);
    va_end(ap);
    return status;
}

int cli_fail_err(struct cli *c, int status, const char *code, const struct err *e)
{
    struct err copy = *e; /* it may be the failure's own */
    memset(&c->fail, 0, sizeof c->fail);
    snprintf(c->fail.code, sizeof c->fail.code, "%s", code);
    c->fail.e = copy;
    return status;
}

int cli_no_memory(struct cli *c)
{
    return cli_fail(c, CLI_FAILED, "OUT_OF_MEMORY", "out of memory");
}

int cli_hint(struct cli *c, int status, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->fail.e.hint, sizeof c->fail.e.hint, fmt, ap);
    va_end(ap);
    return status;
}

/* ---- stderr ---- */

static void put(const char *text)
{
    text_print(stderr, text, strlen(text), true);
}

/* Continuation lines stand under the first. */
static void put_lines(const char *label, const char *text)
{
    fprintf(stderr, "  %-7s", label);
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, "\n");
        text_print(stderr, p, n, true);
        p += n;
        if (*p == '\n' && *++p)
            fputs(*p == '\n' ? "\n" : "\n         ", stderr);
    }
    fprintf(stderr, "\n");
}

static void report_json(const struct cli_fail *f)
{
    json_t *v = json_object();
    const struct {
        const char *key, *text;
    } members[] = {{"error", f->e.msg},
                   {"cause", f->cause},
                   {"try", f->e.hint},
                   {"code", f->code},
                   {"requestId", f->request}};
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        if (members[i].text[0])
            json_object_set_new(v, members[i].key, json_string(members[i].text));
    }
    char *text = json_dumps(v, JSON_COMPACT);
    if (text)
        put(text);
    fputs("\n", stderr);
    free(text);
    json_decref(v);
}

void cli_report(const struct cli *c)
{
    const struct cli_fail *f = &c->fail;
    fflush(stdout);
    if (c->json) {
        report_json(f);
        return;
    }
    fprintf(stderr, c->color_err ? "\033[1;31merror:\033[0m " : "error: ");
    put(f->e.msg);
    fputs("\n", stderr);
    if (f->cause[0])
        put_lines("cause:", f->cause);
    if (f->e.hint[0])
        put_lines("try:", f->e.hint);
    if (f->code[0]) {
        fprintf(stderr, "  code:  ");
        put(f->code);
        if (f->request[0]) {
            fprintf(stderr, "   request: ");
            put(f->request);
        }
        fputs("\n", stderr);
    }
}

void cli_step(const struct cli *c, const char *what, const char *fmt, ...)
{
    AUTO_FREE char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n < 0) {
        text = NULL;
        return;
    }
    fprintf(stderr, c->color_err ? " \033[32m✓\033[0m %-11s " : " %-11s ", what);
    put(text);
    fputs("\n", stderr);
}

/* ---- stdout ---- */

/* Members whose names end with "At" are times. */
static void times_for_people(json_t *v)
{
    const char *key;
    json_t *member;
    size_t i;
    json_array_foreach(v, i, member) times_for_people(member);
    json_object_foreach(v, key, member)
    {
        size_t n = strlen(key);
        if (json_is_number(member) && n > 2 && strcmp(key + n - 2, "At") == 0) {
            char text[40];
            human_time(json_number_value(member), text);
            json_object_set_new(v, key, json_string(text));
        } else {
            times_for_people(member);
        }
    }
}

int cli_print_new_json(struct cli *c, json_t *v)
{
    int rc = cli_print_json(c, v);
    json_decref(v);
    return rc;
}

int cli_print_json(struct cli *c, const json_t *v)
{
    json_t *copy = json_deep_copy(v);
    times_for_people(copy);
    char *text = copy ? json_dumps(copy, JSON_INDENT(2) | JSON_REAL_PRECISION(12)) : NULL;
    json_decref(copy);
    if (!text)
        return cli_no_memory(c);
    text_print(stdout, text, strlen(text), c->safe_out);
    putchar('\n');
    free(text);
    return CLI_OK;
}

int cli_print_table(struct cli *c, const struct table *t, const char *none)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    table_format(t, &b);
    if (b.bad)
        return cli_no_memory(c);
    if (b.len)
        text_print(stdout, (const char *)b.data, b.len, c->safe_out);
    if (t->nrows == 0 && none)
        fprintf(stderr, "%s\n", none);
    return CLI_OK;
}

const char *member(const json_t *v, const char *name)
{
    const char *text = json_string_value(json_object_get(v, name));
    return text ? text : "";
}

int cli_flush(struct cli *c)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return CLI_OK;
    return cli_fail(c, CLI_FAILED, "OUTPUT_FAILED", "cannot write to standard output: %s",
                    strerror(errno));
}
