// SPDX-License-Identifier: Apache-2.0
/* dormouse images, rm, inspect. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../hypervisor/base/mem.h"
#include "cli.h"
#include "text.h"

#define IMAGES "/2025-09-09/microvm-images"

const struct opt opts_images[] = {
    {"quiet", 'q', NULL, "names only"},
    {NULL, 0, NULL, NULL},
};
const struct opt opts_rm[] = {{NULL, 0, NULL, NULL}};
const struct opt opts_inspect[] = {{NULL, 0, NULL, NULL}};

static double seconds_since(const json_t *v, const char *name)
{
    return (double)time(NULL) - json_number_value(json_object_get(v, name));
}

static int print_table(struct cli *c, const json_t *all)
{
    static const char *const heads[] = {"NAME", "VERSION", "STATE", "AGE", NULL};
    AUTO(table_free) struct table t;
    json_t *item;
    size_t i;
    table_init(&t, heads);
    json_array_foreach(all, i, item)
    {
        char age[24];
        human_age(seconds_since(item, "createdAt"), age);
        const char *active = member(item, "latestActiveImageVersion");
        const char *const cells[] = {member(item, "name"), *active ? active : "-",
                                     member(item, "state"), age};
        table_row(&t, cells);
    }
    return cli_print_table(c, &t, "No images. Make one: dormouse build DIR");
}

int cmd_images(struct cli *c, struct args *a)
{
    json_t *all, *item;
    size_t i;
    if (a->npos)
        return cli_fail(c, CLI_USAGE, "USAGE", "images takes no names");
    int rc = cli_list(c, IMAGES, NULL, &all);
    if (rc)
        return rc;
    if (c->json) {
        rc = cli_print_json(c, all);
    } else if (args_has(a, "quiet")) {
        json_array_foreach(all, i, item) puts(member(item, "name"));
    } else {
        rc = print_table(c, all);
    }
    json_decref(all);
    return rc;
}

/* ---- rm ---------------------------------------------------------------------------- */

static int remove_one(struct cli *c, const char *text)
{
    AUTO(buf_free) struct buf path = BUF_INIT;
    struct image_ref ref;
    int rc = find_image(c, text, &ref);
    if (rc)
        return rc;
    cli_path(&path, ref.version[0] ? IMAGES "/%/versions/%" : IMAGES "/%", ref.arn,
             ref.version);
    const char *p = buf_cstr(&path);
    rc = p ? cli_call(c, "DELETE", p, NULL, NULL, NULL) : CLI_FAILED;
    if (rc == CLI_STATE && strstr(c->fail.e.msg, "not terminated"))
        cli_hint(c, 0, "dormouse ps -q --image %s | xargs dormouse terminate", ref.name);
    if (rc == CLI_OK)
        puts(text);
    return image_missing(c, ref.name, rc);
}

/* Each on its own; the first failure's status is the command's. */
int cmd_rm(struct cli *c, struct args *a)
{
    int first = CLI_OK;
    if (!a->npos)
        return cli_fail(c, CLI_USAGE, "USAGE", "rm needs the name of an image");
    for (size_t i = 0; i < a->npos; i++) {
        int rc = remove_one(c, a->pos[i]);
        if (rc && a->npos > 1)
            cli_report(c);
        first = first ? first : rc;
    }
    return first && a->npos > 1 ? -first : first;
}

/* ---- inspect ----------------------------------------------------------------------- */

static json_t *sizes_of(struct cli *c, const char *arn, const char *version)
{
    AUTO(buf_free) struct buf path = BUF_INIT;
    json_t *list = NULL, *build = NULL;
    cli_path(&path, IMAGES "/%/versions/%/builds", arn, version);
    const char *p = buf_cstr(&path);
    if (!p || cli_list(c, p, NULL, &list))
        return NULL;
    const char *id = member(json_array_get(list, 0), "buildId");
    if (*id) {
        cli_path(&path, "/%", id);
        if ((p = buf_cstr(&path)))
            cli_call(c, "GET", p, NULL, NULL, &build);
    }
    json_decref(list);
    return build;
}

static int inspect_image(struct cli *c, const struct image_ref *ref)
{
    AUTO(buf_free) struct buf path = BUF_INIT;
    json_t *image = NULL, *versions = NULL, *v, *kept = json_array();
    size_t i;
    cli_path(&path, IMAGES "/%", ref->arn);
    const char *p = buf_cstr(&path);
    int rc = p ? cli_call(c, "GET", p, NULL, NULL, &image) : CLI_FAILED;
    if (rc == CLI_OK) {
        cli_path(&path, "/versions");
        p = buf_cstr(&path);
        rc = p ? cli_list(c, p, NULL, &versions) : CLI_FAILED;
    }
    json_array_foreach(versions, i, v)
    {
        const char *version = member(v, "imageVersion");
        if (ref->version[0] && strcmp(ref->version, version) != 0)
            continue;
        json_t *build = sizes_of(c, ref->arn, version);
        if (build)
            json_object_set_new(v, "build", build);
        json_array_append(kept, v);
    }
    if (rc == CLI_OK && ref->version[0] && json_array_size(kept) == 0)
        rc = cli_fail(c, CLI_NOT_FOUND, "ResourceNotFoundException",
                      "image '%s' has no version %s", ref->name, ref->version);
    if (rc == CLI_OK) {
        json_object_set(image, "versions", kept);
        rc = cli_print_json(c, image);
    }
    json_decref(image);
    json_decref(versions);
    json_decref(kept);
    return rc;
}

static int inspect_vm(struct cli *c, const char *text)
{
    AUTO(buf_free) struct buf path = BUF_INIT;
    char id[72];
    json_t *v;
    int rc = find_vm(c, text, id);
    if (rc)
        return rc;
    cli_path(&path, "/dormouse/v1/microvms/%", id);
    const char *p = buf_cstr(&path);
    rc = p ? cli_call(c, "GET", p, NULL, NULL, &v) : CLI_FAILED;
    if (rc)
        return rc;
    rc = cli_print_json(c, v);
    json_decref(v);
    return rc;
}

static bool looks_like_vm(const char *text)
{
    return strncmp(text, "microvm-", 8) == 0 || strstr(text, ":microvm:") != NULL ||
           strstr(text, ":microvm/") != NULL;
}

int cmd_inspect(struct cli *c, struct args *a)
{
    struct image_ref ref;
    if (a->npos != 1)
        return cli_fail(c, CLI_USAGE, "USAGE", "inspect needs one microVM or image");
    const char *text = a->pos[0];
    if (looks_like_vm(text))
        return inspect_vm(c, text);
    int rc = find_image(c, text, &ref);
    rc = rc ? rc : inspect_image(c, &ref);
    if (rc != CLI_NOT_FOUND || strspn(text, "0123456789abcdef-") != strlen(text))
        return rc == CLI_NOT_FOUND ? image_missing(c, ref.name, rc) : rc;
    return inspect_vm(c, text); /* the beginning of an id */
}
