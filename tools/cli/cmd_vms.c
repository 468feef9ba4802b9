// SPDX-License-Identifier: Apache-2.0
/* dormouse ps, suspend, resume, terminate. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../hypervisor/base/mem.h"
#include "cli.h"
#include "text.h"

#define MICROVMS "/2025-09-09/microvms"

const struct opt opts_ps[] = {
    {"all", 'a', NULL, "those that have ended, too"},
    {"quiet", 'q', NULL, "full ids only"},
    {"image", 'i', "IMAGE", "only those of this image: NAME or NAME:VERSION"},
    {NULL, 0, NULL, NULL},
};
const struct opt opts_suspend[] = {{NULL, 0, NULL, NULL}};
const struct opt opts_resume[] = {{NULL, 0, NULL, NULL}};
const struct opt opts_terminate[] = {{NULL, 0, NULL, NULL}};

/* ---- ps ---------------------------------------------------------------------------- */

/* The list has summaries only; the rest is asked for one by one. Gone meanwhile: left out. */
static int details(struct cli *c, const json_t *summaries, bool ended, json_t *ret)
{
    json_t *item;
    size_t i;
    json_array_foreach(summaries, i, item)
    {
        AUTO(buf_free) struct buf path = BUF_INIT;
        json_t *v = NULL;
        if (strcmp(member(item, "state"), "TERMINATED") == 0 && !ended)
            continue;
        cli_path(&path, MICROVMS "/%", member(item, "microvmId"));
        const char *p = buf_cstr(&path);
        int rc = p ? cli_call(c, "GET", p, NULL, NULL, &v) : CLI_FAILED;
        if (rc == CLI_OK)
            json_array_append_new(ret, v);
        else if (rc != CLI_NOT_FOUND)
            return rc;
    }
    return CLI_OK;
}

static void add_row(struct table *t, const json_t *v, double now)
{
    char id[16], age[24], image[120], url[420];
    const char *arn = member(v, "imageArn"), *name = strrchr(arn, ':');
    const json_t *end = json_object_get(v, "terminatedAt");
    double began = json_number_value(json_object_get(v, "startedAt"));
    short_id(member(v, "microvmId"), id);
    human_age((end ? json_number_value(end) : now) - began, age);
    snprintf(image, sizeof image, "%.71s:%.15s", name ? name + 1 : arn,
             member(v, "imageVersion"));
    /* Of an ended one its reason is of more use than its address. */
    if (end)
        snprintf(url, sizeof url, "%.400s", member(v, "stateReason"));
    else
        snprintf(url, sizeof url, "https://%.400s/", member(v, "endpoint"));
    const char *const cells[] = {id, image, member(v, "state"), age, url};
    table_row(t, cells);
}

static int print_table(struct cli *c, const json_t *all)
{
    static const char *const heads[] = {"ID", "IMAGE", "STATE", "AGE", "URL", NULL};
    AUTO(table_free) struct table t;
    json_t *v;
    size_t i;
    double now = (double)time(NULL);
    table_init(&t, heads);
    json_array_foreach(all, i, v) add_row(&t, v, now);
    return cli_print_table(c, &t, "No microVMs. Start one: dormouse run IMAGE");
}

/* imageIdentifier=…&imageVersion=… */
static int image_query(struct cli *c, const char *image, struct buf *b)
{
    struct image_ref ref;
    if (!image)
        return CLI_OK;
    int rc = find_image(c, image, &ref);
    if (rc)
        return rc;
    cli_path(b, ref.version[0] ? "imageIdentifier=%&imageVersion=%" : "imageIdentifier=%",
             ref.arn, ref.version);
    return CLI_OK;
}

static void print_ids(const json_t *all, bool ended)
{
    json_t *v;
    size_t i;
    json_array_foreach(all, i, v)
    {
        if (ended || strcmp(member(v, "state"), "TERMINATED") != 0)
            puts(member(v, "microvmId"));
    }
}

int cmd_ps(struct cli *c, struct args *a)
{
    AUTO(buf_free) struct buf query = BUF_INIT;
    json_t *summaries = NULL, *all = json_array();
    bool ended = args_has(a, "all");
    if (a->npos)
        return cli_fail(c, CLI_USAGE, "USAGE", "ps takes no names");
    int rc = image_query(c, args_get(a, "image"), &query);
    if (rc == CLI_OK)
        rc = cli_list(c, MICROVMS, buf_cstr(&query), &summaries);
    if (rc == CLI_OK && args_has(a, "quiet")) {
        print_ids(summaries, ended);
    } else if (rc == CLI_OK) {
        rc = details(c, summaries, ended, all);
        if (rc == CLI_OK)
            rc = c->json ? cli_print_json(c, all) : print_table(c, all);
    }
    json_decref(summaries);
    json_decref(all);
    return rc;
}

/* ---- suspend, resume, terminate ---------------------------------------------------- */

struct verb {
    const char *name, *method, *path, *done;
};

static int one(struct cli *c, const struct verb *v, const char *text)
{
    AUTO(buf_free) struct buf path = BUF_INIT;
    char id[72];
    int rc = find_vm(c, text, id);
    if (rc)
        return rc;
    cli_path(&path, v->path, id);
    const char *p = buf_cstr(&path);
    int64_t begin = clock_ms();
    rc = p ? cli_call(c, v->method, p, NULL, NULL, NULL) : cli_no_memory(c);
    if (rc)
        return rc;
    if (c->color_err)
        cli_step(c, v->done, "%s in %lld ms", id, (long long)(clock_ms() - begin));
    puts(id);
    return CLI_OK;
}

/* Each on its own; the first failure's status is the command's. */
static int each(struct cli *c, const struct verb *v, struct args *a)
{
    int first = CLI_OK;
    if (!a->npos)
        return cli_fail(c, CLI_USAGE, "USAGE", "%s needs a microVM", v->name);
    for (size_t i = 0; i < a->npos; i++) {
        int rc = one(c, v, a->pos[i]);
        if (rc)
            cli_report(c);
        first = first ? first : rc;
        if (rc == CLI_UNREACHABLE)
            break;
    }
    return -first;
}

int cmd_suspend(struct cli *c, struct args *a)
{
    static const struct verb v = {"suspend", "POST", MICROVMS "/%/suspend", "suspended"};
    return each(c, &v, a);
}

int cmd_resume(struct cli *c, struct args *a)
{
    static const struct verb v = {"resume", "POST", MICROVMS "/%/resume", "resumed"};
    return each(c, &v, a);
}

int cmd_terminate(struct cli *c, struct args *a)
{
    static const struct verb v = {"terminate", "DELETE", MICROVMS "/%", "terminated"};
    return each(c, &v, a);
}
