// SPDX-License-Identifier: Apache-2.0
/* What people call images and microVMs; see cli.h. */
#include <stdlib.h>
#include <string.h>

#include "../../api/arn.h"
#include "../../api/uuid.h"
#include "../../hypervisor/base/mem.h"
#include "cli.h"

#define PREFIX "microvm-"

void short_id(const char *id, char ret[16])
{
    const char *from = strncmp(id, PREFIX, strlen(PREFIX)) == 0 ? id + strlen(PREFIX) : id;
    snprintf(ret, 16, "%.8s", from);
}

/* ---- images ------------------------------------------------------------------------ */

int find_image(struct cli *c, const char *text, struct image_ref *ret)
{
    const char *name = text;
    uint32_t major;
    *ret = (struct image_ref){.arn = ""};
    if (strncmp(text, "arn:", 4) == 0) {
        const char *last = strrchr(text, ':');
        if (strlen(text) >= sizeof ret->arn)
            return cli_fail(c, CLI_USAGE, "BAD_NAME", "'%.80s…' is too long", text);
        snprintf(ret->arn, sizeof ret->arn, "%s", text);
        snprintf(ret->name, sizeof ret->name, "%.71s", last + 1);
        return CLI_OK;
    }
    size_t len = strcspn(name, ":");
    if (len == 0 || len >= sizeof ret->name || strpbrk(name, "/ \t\n") ||
        (name[len] && !version_parse(name + len + 1, &major))) {
        cli_fail(c, 0, "BAD_NAME", "'%.100s' is not the name of an image", text);
        return cli_hint(c, CLI_USAGE,
                        "write NAME, NAME:VERSION or an ARN; see: dormouse images");
    }
    memcpy(ret->name, name, len);
    ret->name[len] = '\0';
    if (name[len])
        snprintf(ret->version, sizeof ret->version, "%u.0", major);
    int rc = cli_facts(c);
    if (rc)
        return rc;
    snprintf(ret->arn, sizeof ret->arn, "arn:aws:lambda:%s:%s:microvm-image:%s",
             c->facts.region, c->facts.account, ret->name);
    return CLI_OK;
}

int image_missing(struct cli *c, const char *name, int status)
{
    json_t *all, *item;
    size_t i;
    if (status != CLI_NOT_FOUND)
        return status;
    struct cli_fail keep = c->fail;
    const char *near = NULL;
    if (cli_list(c, "/2025-09-09/microvm-images", NULL, &all)) {
        c->fail = keep;
        return status;
    }
    size_t n = json_array_size(all);
    json_array_foreach(all, i, item)
    {
        const char *other = json_string_value(json_object_get(item, "name"));
        if (other && (!near || word_distance(name, other) < word_distance(name, near)))
            near = other;
    }
    c->fail = keep;
    if (near && strcmp(near, name) == 0) /* the image is there: a version of it is not */
        cli_hint(c, 0, "see its versions: dormouse inspect %s", name);
    else if (near && word_near(name, near))
        cli_hint(c, 0, "did you mean '%s'?", near);
    else if (n == 0)
        cli_hint(c, 0, "there are no images yet; make one: dormouse build DIR --name %s", name);
    else
        cli_hint(c, 0, "see which there are: dormouse images");
    json_decref(all);
    return status;
}

/* ---- microVMs ---------------------------------------------------------------------- */

static const char *without_prefix(const char *id)
{
    return strncmp(id, PREFIX, strlen(PREFIX)) == 0 ? id + strlen(PREFIX) : id;
}

struct match {
    char ids[4][72];
    size_t n;
};

static void take_matches(const json_t *all, const char *prefix, bool ended, struct match *m)
{
    json_t *item;
    size_t i;
    json_array_foreach(all, i, item)
    {
        const char *id = json_string_value(json_object_get(item, "microvmId"));
        const char *state = json_string_value(json_object_get(item, "state"));
        if (!id || !state || (strcmp(state, "TERMINATED") == 0) != ended ||
            strncmp(without_prefix(id), prefix, strlen(prefix)) != 0)
            continue;
        if (m->n < ARRAY_LEN(m->ids))
            snprintf(m->ids[m->n], sizeof m->ids[0], "%s", id);
        m->n++;
    }
}

static int ambiguous(struct cli *c, const char *text, const struct match *m)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    for (size_t i = 0; i < MIN(m->n, ARRAY_LEN(m->ids)); i++)
        buf_printf(&b, "%s%s", i ? "\n" : "", m->ids[i]);
    if (m->n > ARRAY_LEN(m->ids))
        buf_printf(&b, "\nand %zu more", m->n - ARRAY_LEN(m->ids));
    cli_fail(c, 0, "AMBIGUOUS", "'%.60s' is the beginning of %zu ids", text, m->n);
    const char *lines = buf_cstr(&b);
    snprintf(c->fail.cause, sizeof c->fail.cause, "%s", lines ? lines : "");
    return cli_hint(c, CLI_USAGE, "write more of it");
}

int find_vm(struct cli *c, const char *text, char ret_id[72])
{
    const char *id = text, *prefix;
    json_t *all;
    struct match m = {.n = 0};
    struct arn a;
    if (arn_parse(text, &a) == ARN_OK && slice_is(a.kind, "microvm"))
        id = a.name.p;
    prefix = without_prefix(id);
    if (id != prefix && uuid_is(prefix, strlen(prefix))) {
        snprintf(ret_id, 72, "%s", id);
        return CLI_OK;
    }
    if (*prefix == '\0')
        return cli_fail(c, CLI_USAGE, "BAD_NAME", "an empty text names no microVM");
    int rc = cli_list(c, "/2025-09-09/microvms", NULL, &all);
    if (rc)
        return rc;
    take_matches(all, prefix, false, &m);
    if (m.n == 0) /* those that have ended still have logs */
        take_matches(all, prefix, true, &m);
    json_decref(all);
    if (m.n > 1)
        return ambiguous(c, text, &m);
    if (m.n == 0) {
        cli_fail(c, 0, "ResourceNotFoundException", "there is no microVM '%.80s'", text);
        return cli_hint(c, CLI_NOT_FOUND, "see which there are: dormouse ps -a");
    }
    snprintf(ret_id, 72, "%s", m.ids[0]);
    return CLI_OK;
}
