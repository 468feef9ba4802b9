// SPDX-License-Identifier: Apache-2.0
/* dormouse host, env, version. */
#include <stdlib.h>
#include <string.h>

#include "../../hypervisor/base/mem.h"
#include "cli.h"
#include "text.h"

const struct opt opts_host[] = {{NULL, 0, NULL, NULL}};
const struct opt opts_env[] = {{NULL, 0, NULL, NULL}};
const struct opt opts_version[] = {{NULL, 0, NULL, NULL}};

static unsigned long long number(const json_t *v, const char *name)
{
    return (unsigned long long)json_integer_value(json_object_get(v, name));
}

static void print_host(struct cli *c, const json_t *v)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    char memory[24], used[24];
    const char *state;
    json_t *n;
    const char *version = json_string_value(json_object_get(v, "version"));
    human_size(number(v, "memoryBytes"), memory);
    human_size(number(v, "memoryInUseBytes"), used);
    buf_printf(&b, "host       %s, version %s\n", c->set.url, version ? version : "?");
    buf_printf(&b, "machine    %llu CPUs, %s of memory, %s promised to microVMs\n",
               number(v, "cpus"), memory, used);
    buf_printf(&b, "processes  %llu in use of %llu, %llu ready for the next microVM\n",
               number(v, "slotsInUse"), number(v, "slots"), number(v, "embryos"));
    buf_printf(&b, "builds     %llu under way\nmicroVMs  ", number(v, "builds"));
    bool any = false;
    json_object_foreach(json_object_get(v, "microvms"), state, n)
    {
        if (json_integer_value(n) > 0) {
            buf_printf(&b, "%s %lld %s", any ? "," : "", (long long)json_integer_value(n),
                       state);
            any = true;
        }
    }
    buf_str(&b, any ? "\n" : " none\n");
    text_print(stdout, (const char *)b.data, b.bad ? 0 : b.len, c->safe_out);
}

int cmd_host(struct cli *c, struct args *a)
{
    json_t *v;
    if (a->npos)
        return cli_fail(c, CLI_USAGE, "USAGE", "host takes no names");
    int rc = cli_call(c, "GET", "/dormouse/v1/host", NULL, NULL, &v);
    if (rc)
        return rc;
    if (c->json)
        rc = cli_print_json(c, v);
    else
        print_host(c, v);
    json_decref(v);
    return rc;
}

static void print_export(const char *name, const char *value)
{
    if (!value)
        return;
    printf("export %s='", name);
    for (; *value; value++)
        *value == '\'' ? fputs("'\\''", stdout) : putchar(*value);
    puts("'");
}

/* For `eval "$(dormouse env)"`: what any AWS SDK needs. */
int cmd_env(struct cli *c, struct args *a)
{
    AUTO_FREE char *s3 = NULL, *ca = NULL;
    if (a->npos)
        return cli_fail(c, CLI_USAGE, "USAGE", "env takes no names");
    int rc = cli_open(c);
    if (rc)
        return rc;
    size_t len = strlen(c->set.url);
    if (len && c->set.url[len - 1] == '/')
        len--;
    if (asprintf(&s3, "%.*s/s3", (int)len, c->set.url) < 0) {
        s3 = NULL;
        return cli_no_memory(c);
    }
    ca = c->set.ca ? realpath(c->set.ca, NULL) : NULL;
    print_export("DORMOUSE_URL", c->set.url);
    print_export("AWS_ENDPOINT_URL_LAMBDA_MICROVMS", c->set.url);
    print_export("AWS_ENDPOINT_URL_S3", s3);
    print_export("AWS_REGION", c->set.region);
    print_export("AWS_DEFAULT_REGION", c->set.region);
    print_export("AWS_ACCESS_KEY_ID", c->set.key_id);
    print_export("AWS_SECRET_ACCESS_KEY", c->set.secret);
    print_export("AWS_SESSION_TOKEN", c->set.session);
    print_export("AWS_CA_BUNDLE", ca);
    print_export("NODE_EXTRA_CA_CERTS", ca);
    return CLI_OK;
}

int cmd_version(struct cli *c, struct args *a)
{
    (void)a;
    int rc = cli_facts(c);
    const char *host = rc == CLI_OK ? c->facts.version : NULL;
    if (c->json) {
        json_t *v = json_pack("{s:s, s:s?}", "dormouse", DORMOUSE_VERSION, "host", host);
        rc = cli_print_json(c, v);
        json_decref(v);
        return rc;
    }
    printf("dormouse  " DORMOUSE_VERSION "\nhost      ");
    if (host)
        printf("%s\n", host);
    else
        printf("not reached: %s\n", c->fail.e.msg);
    return CLI_OK;
}
