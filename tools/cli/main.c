// SPDX-License-Identifier: Apache-2.0
/*
 * dormouse: the command line tool. The table of commands, help, and the way
 * from a failure to the exit status.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../hypervisor/base/mem.h"
#include "cli.h"

static const struct opt common[] = {
    {"url", 0, "URL", "where the host is: https://host:port (DORMOUSE_URL)"},
    {"ca", 0, "FILE", "certificate authority to trust (AWS_CA_BUNDLE)"},
    {"json", 0, NULL, "answers and errors as JSON"},
    {"no-color", 0, NULL, "no colours, as with NO_COLOR"},
    {"help", 'h', NULL, "what the command does"},
    {NULL, 0, NULL, NULL},
};

const struct opt opts_help[] = {{NULL, 0, NULL, NULL}};

#define COMMAND(name, usage, text)                   \
    {                                                \
#name, cmd_##name, usage, text, opts_##name, \
    }
static const struct cli_command commands[] = {
    COMMAND(deploy, "DIR|ZIP", "build, run, and show the address: the whole way"),
    COMMAND(build, "DIR|ZIP", "make an image, or a new version of it, from a Dockerfile"),
    COMMAND(images, "", "list images"),
    COMMAND(rm, "IMAGE...", "delete images, or with NAME:VERSION one version"),
    COMMAND(run, "IMAGE", "start a microVM from an image"),
    COMMAND(ps, "", "list microVMs"),
    COMMAND(curl, "VM [PATH]", "send a request to a microVM's application"),
    COMMAND(token, "VM", "mint a token for a microVM's endpoint"),
    COMMAND(logs, "VM | --build IMAGE", "show what an application or a build has printed"),
    COMMAND(exec, "VM -- COMMAND...", "run a command in a microVM; -it: a shell"),
    COMMAND(cp, "VM:PATH FILE | FILE VM:PATH", "copy a file out of a microVM or into it"),
    COMMAND(ls, "VM [PATH]", "list a directory in a microVM"),
    COMMAND(update, "VM...", "change idle policy, longest life, name or tags"),
    COMMAND(suspend, "VM...", "put microVMs to sleep"),
    COMMAND(resume, "VM...", "wake microVMs"),
    COMMAND(terminate, "VM...", "end microVMs"),
    COMMAND(checkpoint, "VM", "keep memory and disk as they are now, to come back to"),
    COMMAND(checkpoints, "VM", "list a microVM's checkpoints, or delete some"),
    COMMAND(rollback, "VM CHECKPOINT", "memory and disk back to a checkpoint"),
    COMMAND(fork, "VM", "new microVMs that go on from here, or from a checkpoint"),
    COMMAND(inspect, "VM|IMAGE", "all that is known about it, as JSON"),
    COMMAND(events, "", "what happens to microVMs and images, as it happens"),
    COMMAND(keys, "create|list|revoke", "access keys: make, list, revoke"),
    COMMAND(host, "", "what the host is doing"),
    COMMAND(doctor, "", "check the way to the host, and say how to repair it"),
    COMMAND(env, "", "print exports for AWS SDKs: eval \"$(dormouse env)\""),
    COMMAND(version, "", "versions of this program and of the host"),
    COMMAND(help, "[COMMAND]", "what a command does"),
};

const struct cli_command *cli_commands(size_t *ret_n)
{
    *ret_n = ARRAY_LEN(commands);
    return commands;
}

/* ---- help ---------------------------------------------------------------------------- */

static void print_options(const struct opt *o)
{
    for (; o && o->name; o++) {
        char letter[6] = "", left[40];
        if (o->letter)
            snprintf(letter, sizeof letter, "-%c, ", o->letter);
        snprintf(left, sizeof left, "%s--%s%s%s", letter, o->name, o->value ? " " : "",
                 o->value ? o->value : "");
        printf("  %-22s %s\n", left, o->text);
    }
}

static void help_short(void)
{
    printf("Dormouse: microVMs that sleep when idle and wake in milliseconds.\n\n"
           "  dormouse deploy ./app          from a Dockerfile to a running microVM\n"
           "  dormouse ps                    what runs and what sleeps\n"
           "  dormouse curl VM /             ask its application; a sleeping one wakes\n"
           "  dormouse doctor                when something does not work\n\n"
           "All commands: dormouse help     Manual: man dormouse\n");
}

static void help_all(void)
{
    printf("Usage: dormouse COMMAND [OPTIONS] [NAMES]\n\nCommands:\n");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        printf("  %-11s %-18s %s\n", commands[i].name, commands[i].usage, commands[i].text);
    printf("\nOptions of all commands:\n");
    print_options(common);
    printf("\nVM is an id or the beginning of one. IMAGE is NAME, NAME:VERSION or an ARN.\n"
           "Exit status: 0 done, 1 failed, 2 usage, 3 not found, 4 denied, 5 wrong state,\n"
           "6 host not reached, 7 took too long, 130 interrupted.\n");
}

static void help_one(const struct cli_command *cmd)
{
    printf("Usage: dormouse %s [OPTIONS] %s\n\n%s\n\nOptions:\n", cmd->name, cmd->usage,
           cmd->text);
    print_options(cmd->opts);
    print_options(common);
}

static const struct cli_command *find_command(struct cli *c, const char *name)
{
    const struct cli_command *near = NULL;
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
        if (word_near(name, commands[i].name) &&
            (!near || word_distance(name, commands[i].name) < word_distance(name, near->name)))
            near = &commands[i];
    }
    cli_fail(c, 0, "USAGE", "there is no command '%.60s'", name);
    if (near)
        cli_hint(c, 0, "did you mean: dormouse %s", near->name);
    else
        cli_hint(c, 0, "dormouse help");
    return NULL;
}

int cmd_help(struct cli *c, struct args *a)
{
    if (a->npos == 0) {
        help_all();
        return CLI_OK;
    }
    const struct cli_command *cmd = find_command(c, a->pos[0]);
    if (!cmd)
        return CLI_USAGE;
    help_one(cmd);
    return CLI_OK;
}

/* ---- main ---------------------------------------------------------------------------- */

static bool wants_color(const struct args *a, int fd)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return isatty(fd) && !(no && *no) && !(term && strcmp(term, "dumb") == 0) &&
           !args_has(a, "no-color");
}

static int usage(struct cli *c, const struct cli_command *cmd, const struct err *e)
{
    struct err copy = *e;
    if (!copy.hint[0])
        err_hint(&copy, "dormouse help %s", cmd->name);
    return cli_fail_err(c, CLI_USAGE, "USAGE", &copy);
}

static int run(struct cli *c, char **argv, size_t argc)
{
    struct args a = {.opts = {NULL, common}};
    struct err e = ERR_INIT;
    /* Options of all commands may stand in front of the command. */
    size_t at = 0;
    while (at < argc && argv[at][0] == '-' && argv[at][1]) {
        if (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0) {
            help_all();
            return CLI_OK;
        }
        if (strcmp(argv[at], "--version") == 0) {
            printf("dormouse " DORMOUSE_VERSION "\n");
            return CLI_OK;
        }
        bool value = strcmp(argv[at], "--url") == 0 || strcmp(argv[at], "--ca") == 0;
        at += value && at + 1 < argc ? 2 : 1;
    }
    if (at == argc && argc == 0) {
        help_short();
        return CLI_OK;
    }
    if (at == argc)
        return cli_fail(c, CLI_USAGE, "USAGE", "no command was given");
    const struct cli_command *cmd = find_command(c, argv[at]);
    if (!cmd)
        return CLI_USAGE;
    memmove(argv + 1, argv, at * sizeof *argv); /* over the command's name */
    a.opts[0] = cmd->opts;
    if (args_parse(&a, argv + 1, argc - 1, &e) < 0)
        return usage(c, cmd, &e);
    c->json = args_has(&a, "json");
    c->url = args_get(&a, "url");
    c->ca = args_get(&a, "ca");
    c->color_out = wants_color(&a, 1);
    c->color_err = wants_color(&a, 2);
    if (args_has(&a, "help")) {
        help_one(cmd);
        return CLI_OK;
    }
    int rc = cmd->run(c, &a);
    if (rc == CLI_USAGE && !c->fail.e.hint[0])
        cli_hint(c, 0, "dormouse %s %s   (dormouse help %s)", cmd->name, cmd->usage, cmd->name);
    return rc;
}

int main(int argc, char **argv)
{
    struct cli c = {.program = "dormouse", .sigfd = -1, .safe_out = isatty(1)};
    int rc = run(&c, argv + 1, argc > 0 ? (size_t)argc - 1 : 0);
    if (rc == CLI_OK)
        rc = cli_flush(&c);
    if (rc > 0 && rc != CLI_INTERRUPTED)
        cli_report(&c);
    http_client_close(&c.api);
    tls_client_close(c.tls);
    if (c.sigfd >= 0)
        close(c.sigfd);
    return rc < 0 ? -rc : rc;
}
