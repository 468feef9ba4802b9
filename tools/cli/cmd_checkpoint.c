// SPDX-License-Identifier: Apache-2.0
/* dormouse checkpoint, checkpoints, rollback, fork. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../api/uuid.h"
#include "../../hypervisor/base/mem.h"
#include "cli.h"
#include "text.h"

#define VM "/dormouse/v1/microvms/%"

const struct opt opts_checkpoint[] = {
    {"name", 'n', "NAME", "a name to call it by"},
    {"tag", 't', "K=V", "tag; may be repeated"},
    {NULL, 0, NULL, NULL},
};
const struct opt opts_checkpoints[] = {
    {"delete", 'd', "CHECKPOINT", "delete this one; may be repeated"},
    {"quiet", 'q', NULL, "ids only"},
    {NULL, 0, NULL, NULL},
};
const struct opt opts_rollback[] = {{NULL, 0, NULL, NULL}};
const struct opt opts_fork[] = {
    {"count", 'c', "N", "how many microVMs (1)"},
    {"from", 'f', "CHECKPOINT", "from there instead of from now"},
    {"name", 'n', "NAME", "name of the new ones; of many, with a number behind it"},
    {"tag", 't', "K=V", "tag of the new ones; may be repeated"},
    {NULL, 0, NULL, NULL},
};

/* The microVM's id, and a path made of a template and up to one more name. */
static int vm_path(struct cli *c, const char *vm, const char *template, const char *more,
                   char id[72], struct buf *path)
{
    int rc = find_vm(c, vm, id);
    if (rc)
        return rc;
    cli_path(path, template, id, more);
    return buf_cstr(path) ? CLI_OK : cli_no_memory(c);
}

/* Name, tags, and a token, so that the same request twice makes one thing. */
static int request(struct cli *c, struct args *a, json_t **ret)
{
    char token[UUID_CAP];
    const char *name = args_get(a, "name");
    uuid_make(token);
    json_t *tags = pairs_of(c, a, "tag");
    if (!tags)
        return CLI_USAGE;
    json_t *in = json_pack("{s:s}", "clientToken", token);
    if (json_object_size(tags))
        json_object_set(in, "tags", tags);
    json_decref(tags);
    if (name)
        json_object_set_new(in, "name", json_string(name));
    *ret = in;
    return in ? CLI_OK : cli_no_memory(c);
}

int cmd_checkpoint(struct cli *c, struct args *a)
{
    AUTO(buf_free) struct buf path = BUF_INIT;
    char id[72];
    json_t *in = NULL, *v = NULL;
    if (a->npos != 1)
        return cli_fail(c, CLI_USAGE, "USAGE", "checkpoint needs one microVM");
    int rc = request(c, a, &in);
    if (rc == CLI_OK)
        rc = vm_path(c, a->pos[0], VM "/checkpoints", NULL, id, &path);
    int64_t begin = clock_ms();
    if (rc == CLI_OK)
        rc = cli_call(c, "POST", buf_cstr(&path), NULL, in, &v);
    json_decref(in);
    if (rc)
        return rc;
    if (c->json)
        return cli_print_new_json(c, v);
    if (c->color_err)
        cli_step(c, "checkpoint", "%s in %lld ms", member(v, "name"),
                 (long long)(clock_ms() - begin));
    puts(member(v, "checkpointId"));
    json_decref(v);
    return CLI_OK;
}

/* ---- checkpoints ---------------------------------------------------------------------- */

static int delete_all(struct cli *c, struct args *a)
{
    const char *which;
    for (size_t i = 0; (which = args_nth(a, "delete", i)); i++) {
        AUTO(buf_free) struct buf path = BUF_INIT;
        char id[72];
        json_t *v = NULL;
        int rc = vm_path(c, a->pos[0], VM "/checkpoints/%", which, id, &path);
        if (rc == CLI_OK)
            rc = cli_call(c, "DELETE", buf_cstr(&path), NULL, NULL, &v);
        if (rc)
            return rc;
        puts(member(v, "checkpointId"));
        json_decref(v);
    }
    return CLI_OK;
}

static void add_row(struct table *t, const json_t *v, double now)
{
    char age[24], memory[24], disk[24];
    human_age(now - json_number_value(json_object_get(v, "createdAt")), age);
    human_size((uint64_t)json_integer_value(json_object_get(v, "memoryBytes")), memory);
    human_size((uint64_t)json_integer_value(json_object_get(v, "diskBytes")), disk);
    const char *const cells[] = {member(v, "checkpointId"), member(v, "name"), age, memory,
                                 disk};
    table_row(t, cells);
}

static int print_table(struct cli *c, const json_t *all)
{
    static const char *const heads[] = {"CHECKPOINT", "NAME", "AGE", "MEMORY", "DISK", NULL};
    AUTO(table_free) struct table t;
    json_t *v;
    size_t i;
    double now = (double)time(NULL);
    table_init(&t, heads);
    json_array_foreach(all, i, v) add_row(&t, v, now);
    return cli_print_table(c, &t, "No checkpoints. Make one: dormouse checkpoint VM");
}

int cmd_checkpoints(struct cli *c, struct args *a)
{
    AUTO(buf_free) struct buf path = BUF_INIT;
    char id[72];
    json_t *all = NULL, *v;
    size_t i;
    if (a->npos != 1)
        return cli_fail(c, CLI_USAGE, "USAGE", "checkpoints needs one microVM");
    if (args_has(a, "delete"))
        return delete_all(c, a);
    int rc = vm_path(c, a->pos[0], VM "/checkpoints", NULL, id, &path);
    if (rc == CLI_OK)
        rc = cli_list(c, buf_cstr(&path), NULL, &all);
    if (rc == CLI_OK && args_has(a, "quiet")) {
        json_array_foreach(all, i, v) puts(member(v, "checkpointId"));
    } else if (rc == CLI_OK) {
        rc = c->json ? cli_print_json(c, all) : print_table(c, all);
    }
    json_decref(all);
    return rc;
}

/* ---- rollback, fork ------------------------------------------------------------------- */

int cmd_rollback(struct cli *c, struct args *a)
{
    AUTO(buf_free) struct buf path = BUF_INIT;
    char id[72];
    json_t *v = NULL;
    if (a->npos != 2)
        return cli_fail(c, CLI_USAGE, "USAGE", "rollback needs a microVM and a checkpoint");
    int rc = vm_path(c, a->pos[0], VM "/checkpoints/%/rollback", a->pos[1], id, &path);
    int64_t begin = clock_ms();
    if (rc == CLI_OK)
        rc = cli_call(c, "POST", buf_cstr(&path), NULL, NULL, &v);
    if (rc)
        return rc;
    if (c->json)
        return cli_print_new_json(c, v);
    if (c->color_err)
        cli_step(c, "rolled back", "%s in %lld ms", id, (long long)(clock_ms() - begin));
    json_decref(v);
    puts(id);
    return CLI_OK;
}

int cmd_fork(struct cli *c, struct args *a)
{
    AUTO(buf_free) struct buf path = BUF_INIT;
    struct err e = ERR_INIT;
    const char *from = args_get(a, "from");
    char id[72];
    uint64_t count = 1;
    json_t *in = NULL, *v = NULL, *item;
    size_t i;
    if (a->npos != 1)
        return cli_fail(c, CLI_USAGE, "USAGE", "fork needs one microVM");
    if (args_number(a, "count", 1, 100, &count, &e) < 0)
        return cli_fail_err(c, CLI_USAGE, "USAGE", &e);
    int rc = request(c, a, &in);
    if (rc == CLI_OK)
        rc = vm_path(c, a->pos[0], VM "/fork", NULL, id, &path);
    if (rc == CLI_OK) {
        json_object_set_new(in, "count", json_integer((json_int_t)count));
        if (from)
            json_object_set_new(in, "checkpointIdentifier", json_string(from));
        rc = cli_call(c, "POST", buf_cstr(&path), NULL, in, &v);
    }
    json_decref(in);
    if (rc)
        return rc;
    if (c->json)
        return cli_print_new_json(c, v);
    json_array_foreach(json_object_get(v, "items"), i, item)
    {
        if (c->color_err)
            cli_step(c, "forked", "%s https://%s/", member(item, "name"),
                     member(item, "endpoint"));
        puts(member(item, "microvmId"));
    }
    json_decref(v);
    return CLI_OK;
}
