// SPDX-License-Identifier: Apache-2.0
/* dormouse keys: access keys of the host. A secret is printed once, to stdout. */
#include <string.h>
#include <time.h>

#include "../../hypervisor/base/mem.h"
#include "cli.h"
#include "text.h"

#define KEYS "/dormouse/v1/keys"

const struct opt opts_keys[] = {
    {"name", 0, "NAME", "create: whose it is"},
    {"rights", 0, "RIGHTS", "create: admin, run or read (run)"},
    {NULL, 0, NULL, NULL},
};

static int create(struct cli *c, struct args *a)
{
    const char *name = args_get(a, "name"), *rights = args_get(a, "rights");
    json_t *v = NULL;
    if (a->npos != 1 || !name)
        return cli_fail(c, CLI_USAGE, "USAGE", "keys create needs --name");
    json_t *in = json_pack("{s:s, s:s}", "name", name, "rights", rights ? rights : "run");
    int rc = cli_call(c, "POST", KEYS, NULL, in, &v);
    json_decref(in);
    if (rc == CLI_OK && c->json) {
        rc = cli_print_json(c, v);
    } else if (rc == CLI_OK) {
        printf("AWS_ACCESS_KEY_ID=%s\nAWS_SECRET_ACCESS_KEY=%s\n", member(v, "accessKeyId"),
               member(v, "secretAccessKey"));
        fprintf(stderr, "The secret is shown this once.\n");
    }
    json_decref(v);
    return rc;
}

static int list(struct cli *c)
{
    static const char *const heads[] = {"ID", "NAME", "RIGHTS", "AGE", NULL};
    AUTO(table_free) struct table t;
    json_t *all = NULL, *v;
    size_t i;
    table_init(&t, heads);
    int rc = cli_list(c, KEYS, NULL, &all);
    if (rc == CLI_OK && c->json)
        rc = cli_print_json(c, all);
    if (rc == CLI_OK && !c->json) {
        json_array_foreach(all, i, v)
        {
            char age[24];
            human_age((double)time(NULL) - json_number_value(json_object_get(v, "createdAt")),
                      age);
            const char *const cells[] = {member(v, "accessKeyId"), member(v, "name"),
                                         member(v, "rights"), age};
            table_row(&t, cells);
        }
        rc = cli_print_table(c, &t, NULL);
    }
    json_decref(all);
    return rc;
}

static int revoke_keys(struct cli *c, struct args *a)
{
    int rc = a->npos > 1 ? CLI_OK
                         : cli_fail(c, CLI_USAGE, "USAGE", "keys revoke needs the id of a key");
    for (size_t i = 1; i < a->npos && rc == CLI_OK; i++) {
        AUTO(buf_free) struct buf path = BUF_INIT;
        cli_path(&path, KEYS "/%", a->pos[i]);
        rc = buf_cstr(&path) ? cli_call(c, "DELETE", buf_cstr(&path), NULL, NULL, NULL)
                             : cli_no_memory(c);
        if (rc == CLI_OK)
            puts(a->pos[i]);
    }
    return rc;
}

int cmd_keys(struct cli *c, struct args *a)
{
    const char *verb = a->npos ? a->pos[0] : "";
    if (strcmp(verb, "create") == 0)
        return create(c, a);
    if (strcmp(verb, "list") == 0 && a->npos == 1)
        return list(c);
    if (strcmp(verb, "revoke") == 0)
        return revoke_keys(c, a);
    return cli_fail(c, CLI_USAGE, "USAGE", "keys create, keys list or keys revoke ID...");
}
