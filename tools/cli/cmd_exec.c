// SPDX-License-Identifier: Apache-2.0
/* dormouse exec and update. What a command prints is a stranger's text. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../api/digest.h"
#include "../../hypervisor/base/mem.h"
#include "cli.h"
#include "terminal.h"
#include "text.h"

#define DEFAULT_SECONDS 60u
#define INPUT_MAX       4194304u
#define MARGIN_MS       30000

const struct opt opts_exec[] = {
    {"user", 'u', "USER", "as this user of the microVM: name, or numbers 1000:1000"},
    {"workdir", 'd', "DIR", "in this directory"},
    {"env", 'e', "K=V", "only these variables, not the application's; may be repeated"},
    {"timeout", 0, "SECONDS", "kill it after so long (60)"},
    {"interactive", 'i', NULL, "standard input to the command, up to 4 MiB"},
    {"tty", 't', NULL,
     "with a terminal, for what somebody types to; a shell without a command"},
    {NULL, 0, NULL, NULL},
};
const struct opt opts_update[] = {
    {"idle", 0, "SECONDS", "suspend after so long without a request"},
    {"keep", 0, "SECONDS", "end one that was suspended for so long (28800)"},
    {"no-idle", 0, NULL, "do not suspend it by itself"},
    {"max", 0, "SECONDS", "end it so long after its start"},
    {"name", 0, "NAME", "a name for people"},
    {"tag", 't', "K=V", "its tags, all of them; may be repeated"},
    {NULL, 0, NULL, NULL},
};

/* ---- exec -------------------------------------------------------------------------- */

static int add_input(struct cli *c, json_t *in)
{
    AUTO_FREE uint8_t *data = malloc(INPUT_MAX + 1);
    AUTO_FREE char *coded = malloc(4 * ((INPUT_MAX + 2) / 3) + 1);
    size_t len = 0;
    if (!data || !coded)
        return cli_no_memory(c);
    for (;;) {
        ssize_t n = read(0, data + len, INPUT_MAX + 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return cli_fail(c, CLI_FAILED, "INPUT", "read standard input: %s", strerror(errno));
        len += (size_t)n;
        if (n == 0 || len > INPUT_MAX)
            break;
    }
    if (len > INPUT_MAX)
        return cli_fail(c, CLI_USAGE, "USAGE", "standard input is longer than 4 MiB");
    base64_encode(data, len, coded);
    json_object_set_new(in, "stdinBase64", json_string(coded));
    return CLI_OK;
}

static int request(struct cli *c, struct args *a, uint64_t seconds, json_t *in)
{
    bool tty = args_has(a, "tty");
    json_t *words = json_array();
    for (size_t i = 1; i < a->npos; i++)
        json_array_append_new(words, json_string(a->pos[i]));
    if (a->npos > 1)
        json_object_set_new(in, "command", words);
    else
        json_decref(words);
    if (!tty) {
        json_object_set_new(in, "timeoutInSeconds", json_integer((json_int_t)seconds));
        json_object_set_new(in, "maxOutputBytes", json_integer(INPUT_MAX));
    }
    if (args_get(a, "user"))
        json_object_set_new(in, "user", json_string(args_get(a, "user")));
    if (args_get(a, "workdir"))
        json_object_set_new(in, "workingDirectory", json_string(args_get(a, "workdir")));
    if (args_has(a, "env")) {
        json_t *env = pairs_of(c, a, "env");
        if (!env)
            return CLI_USAGE;
        json_object_set_new(in, "environmentVariables", env);
    }
    return args_has(a, "interactive") && !tty ? add_input(c, in) : CLI_OK;
}

/* The text, or what its base64 stands for. */
static int print_output(struct cli *c, const json_t *v, const char *name, FILE *to)
{
    char key[40];
    const json_t *text = json_object_get(v, name);
    if (text) {
        text_print(to, json_string_value(text), json_string_length(text), isatty(fileno(to)));
    } else {
        snprintf(key, sizeof key, "%sBase64", name);
        const char *coded = json_string_value(json_object_get(v, key));
        size_t len = coded ? strlen(coded) : 0, n = 0;
        AUTO_FREE char *url = malloc(len + 1);
        AUTO_FREE uint8_t *data = malloc(len + 1);
        for (size_t i = 0; i < len && url; i++)
            url[i] = coded[i] == '+' ? '-' : coded[i] == '/' ? '_' : coded[i];
        while (len > 0 && coded[len - 1] == '=')
            len--;
        if (!url || !data || !base64url_decode(url, len, data, len + 1, &n))
            return cli_fail(c, CLI_FAILED, "BAD_ANSWER", "the host's answer is not base64");
        text_print(to, (const char *)data, n, isatty(fileno(to)));
    }
    snprintf(key, sizeof key, "%sTruncated", name);
    if (json_is_true(json_object_get(v, key)))
        fprintf(stderr, "(%s was longer than 4 MiB: the rest is left out)\n", name);
    return CLI_OK;
}

static int show(struct cli *c, const json_t *v)
{
    const json_t *signal = json_object_get(v, "signal");
    int rc = print_output(c, v, "stdout", stdout);
    if (rc == CLI_OK)
        rc = print_output(c, v, "stderr", stderr);
    if (rc == CLI_OK)
        rc = cli_flush(c);
    if (rc)
        return rc;
    if (json_is_true(json_object_get(v, "timedOut")))
        return cli_fail(c, CLI_TIMEOUT, "TIMEOUT", "the command was killed: its time was up");
    /* Its own status is ours; less than 0 says that there is nothing to report. */
    return signal ? -(128 + (int)json_integer_value(signal))
                  : -(int)json_integer_value(json_object_get(v, "exitCode"));
}

int cmd_exec(struct cli *c, struct args *a)
{
    AUTO(buf_free) struct buf path = BUF_INIT;
    struct err e = ERR_INIT;
    uint64_t seconds = DEFAULT_SECONDS;
    char id[72];
    json_t *v = NULL;
    bool tty = args_has(a, "tty");
    if (a->npos < (tty ? 1 : 2))
        return cli_fail(c, CLI_USAGE, "USAGE", "exec needs a microVM and a command");
    if (tty && (c->json || args_has(a, "timeout")))
        return cli_fail(c, CLI_USAGE, "USAGE", "a terminal has neither --json nor --timeout");
    if (args_number(a, "timeout", 1, 3600, &seconds, &e) < 0)
        return cli_fail_err(c, CLI_USAGE, "USAGE", &e);
    json_t *in = json_object();
    int rc = request(c, a, seconds, in);
    if (rc == CLI_OK)
        rc = find_vm(c, a->pos[0], id);
    if (rc == CLI_OK && tty) {
        cli_path(&path, "/dormouse/v1/microvms/%/terminal", id);
        rc = buf_cstr(&path) ? terminal_run(c, buf_cstr(&path), in)
                             : cli_fail(c, CLI_FAILED, "OUT_OF_MEMORY", "out of memory");
    } else if (rc == CLI_OK) {
        cli_path(&path, "/dormouse/v1/microvms/%/exec", id);
        rc = buf_cstr(&path) ? cli_call_for(c, (int)seconds * 1000 + MARGIN_MS, "POST",
                                            buf_cstr(&path), in, &v)
                             : cli_no_memory(c);
    }
    json_decref(in);
    if (rc == CLI_OK && !tty)
        rc = c->json ? cli_print_json(c, v) : show(c, v);
    json_decref(v);
    return rc;
}

/* ---- update ------------------------------------------------------------------------ */

static int changes(struct cli *c, struct args *a, json_t *in)
{
    struct err e = ERR_INIT;
    uint64_t idle = 0, keep = 28800, max = 0;
    if (args_number(a, "idle", 60, 28800, &idle, &e) < 0 ||
        args_number(a, "keep", 0, INT32_MAX, &keep, &e) < 0 ||
        args_number(a, "max", 1, INT32_MAX, &max, &e) < 0)
        return cli_fail_err(c, CLI_USAGE, "USAGE", &e);
    if (idle && args_has(a, "no-idle"))
        return cli_fail(c, CLI_USAGE, "USAGE", "--idle and --no-idle exclude each other");
    if (args_has(a, "keep") && !idle)
        return cli_fail(c, CLI_USAGE, "USAGE", "--keep goes with --idle");
    if (idle)
        json_object_set_new(in, "idlePolicy",
                            json_pack("{s:I, s:I, s:b}", "maxIdleDurationSeconds",
                                      (json_int_t)idle, "suspendedDurationSeconds",
                                      (json_int_t)keep, "autoResumeEnabled", 1));
    if (args_has(a, "no-idle"))
        json_object_set_new(in, "removeIdlePolicy", json_true());
    if (max)
        json_object_set_new(in, "maximumDurationInSeconds", json_integer((json_int_t)max));
    if (args_get(a, "name"))
        json_object_set_new(in, "name", json_string(args_get(a, "name")));
    if (args_has(a, "tag")) {
        json_t *tags = pairs_of(c, a, "tag");
        if (!tags)
            return CLI_USAGE;
        json_object_set_new(in, "tags", tags);
    }
    return json_object_size(in) ? CLI_OK
                                : cli_fail(c, CLI_USAGE, "USAGE", "nothing is to be changed");
}

int cmd_update(struct cli *c, struct args *a)
{
    json_t *in = json_object();
    int rc =
        a->npos ? changes(c, a, in) : cli_fail(c, CLI_USAGE, "USAGE", "update needs a microVM");
    for (size_t i = 0; i < a->npos && rc == CLI_OK; i++) {
        AUTO(buf_free) struct buf path = BUF_INIT;
        char id[72];
        json_t *v = NULL;
        rc = find_vm(c, a->pos[i], id);
        if (rc)
            break;
        cli_path(&path, "/dormouse/v1/microvms/%", id);
        rc = buf_cstr(&path) ? cli_call(c, "PATCH", buf_cstr(&path), NULL, in, &v)
                             : cli_no_memory(c);
        if (rc == CLI_OK && c->json)
            rc = cli_print_json(c, v);
        else if (rc == CLI_OK)
            puts(id);
        json_decref(v);
    }
    json_decref(in);
    return rc;
}
