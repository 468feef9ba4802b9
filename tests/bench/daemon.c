// SPDX-License-Identifier: Apache-2.0
/*
 * Through the whole of it: a client on the host itself, over TLS, starts
 * microVMs of an image, asks their applications, suspends and wakes them.
 *     daemon CASES IMAGE RUNS LOG RESULTS   settings from the environment, as for `dormouse`
 * CASES are names with commas between them. LOG is what dormoused writes: where it says how
 * long its own steps took. The client's instructions count too, as there is one processor; but
 * not those before its first request was written, where a figure begins with that.
 */
#include "daemon.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../api/uuid.h"
#include "../../hypervisor/base/mem.h"

#define STATE "/var/lib/dormouse"
#define PORT  "8080"

static uint64_t written;

/* The linker's --wrap: what the client writes passes here. */
int __real_conn_write(struct conn *c, const void *p, size_t n, int limit_ms);
int __wrap_conn_write(struct conn *c, const void *p, size_t n, int limit_ms);
int __wrap_conn_write(struct conn *c, const void *p, size_t n, int limit_ms)
{
    written = now_ns(); /* before: the other side may run before this one comes back */
    return __real_conn_write(c, p, n, limit_ms);
}

uint64_t last_written(void)
{
    return written;
}

bool api_get(struct bench *b, const char *template, const char *id, json_t **ret)
{
    AUTO(buf_free) struct buf path = BUF_INIT;
    cli_path(&path, template, id);
    const char *p = buf_cstr(&path);
    return p && cli_call(&b->c, "GET", p, NULL, NULL, ret) == CLI_OK;
}

static bool act(struct bench *b, const char *id, const char *method, const char *template)
{
    AUTO(buf_free) struct buf path = BUF_INIT;
    cli_path(&path, template, id);
    const char *p = buf_cstr(&path);
    return p && cli_call(&b->c, method, p, NULL, NULL, NULL) == CLI_OK;
}

bool vm_run(struct bench *b, struct vm *vm)
{
    char token[UUID_CAP];
    json_t *v = NULL;
    uuid_make(token);
    json_t *in = json_pack("{s:s, s:s, s:{s:i, s:i, s:b}}", "imageIdentifier", b->image.arn,
                           "clientToken", token, "idlePolicy", "maxIdleDurationSeconds", 900,
                           "suspendedDurationSeconds", 3600, "autoResumeEnabled", 1);
    int rc = cli_call(&b->c, "POST", MICROVMS, NULL, in, &v);
    json_decref(in);
    const char *id = json_string_value(json_object_get(v, "microvmId"));
    const char *endpoint = json_string_value(json_object_get(v, "endpoint"));
    bool ok = rc == CLI_OK && id && endpoint;
    if (ok) {
        snprintf(vm->id, sizeof vm->id, "%s", id);
        snprintf(vm->endpoint, sizeof vm->endpoint, "%s", endpoint);
    } else {
        printf("# RunMicrovm: %s\n", b->c.fail.e.msg);
    }
    json_decref(v);
    return ok;
}

bool vm_token(struct bench *b, struct vm *vm)
{
    json_t *ports = ports_list(&b->c, PORT);
    int rc = mint_token(&b->c, vm->id, ports, 30, vm->token, sizeof vm->token);
    json_decref(ports);
    return rc == CLI_OK;
}

bool vm_dial(struct bench *b, struct vm *vm)
{
    struct err e = ERR_INIT;
    return http_client_init(&vm->hc, b->c.tls, vm->endpoint, &e) == 0;
}

/* One request; true when the application answered. */
bool vm_ask(struct http_client *hc, const struct vm *vm, const char *path)
{
    struct http_req req = {.path = (char *)(uintptr_t)path, .query = (char *)(uintptr_t) ""};
    struct http_reply reply;
    struct err e = ERR_INIT;
    char data[512];
    const char *const headers[][2] = {
        {"X-aws-proxy-auth", vm->token}, {"X-aws-proxy-port", PORT}, {"Host", vm->endpoint}};
    snprintf(req.method, sizeof req.method, "GET");
    for (size_t i = 0; i < ARRAY_LEN(headers); i++)
        req.headers[i] = (struct http_header){.name = (char *)(uintptr_t)headers[i][0],
                                              .value = (char *)(uintptr_t)headers[i][1]};
    req.nheaders = ARRAY_LEN(headers);
    if (http_client_send(hc, &req, NULL, LIMIT_MS, &reply, &e) < 0) {
        printf("# %s\n", e.msg);
        return false;
    }
    bool ok = reply.status == 200;
    const char *why = http_reply_header(&reply, "x-aws-proxy-error");
    if (!ok)
        printf("# the answer has status %d %s\n", reply.status, why ? why : "");
    while (http1_body(hc->h, data, sizeof data, LIMIT_MS) > 0)
        ;
    http_client_done(hc);
    return ok;
}

bool vm_in_state(struct bench *b, const char *id, const char *want)
{
    for (unsigned i = 0; i < 5000; i++) {
        json_t *v = NULL;
        if (!api_get(b, MICROVMS "/%", id, &v))
            return false;
        const char *state = json_string_value(json_object_get(v, "state"));
        bool there = state && strcmp(state, want) == 0;
        json_decref(v);
        if (there)
            return true;
    }
    return false;
}

bool vm_suspend(struct bench *b, const char *id)
{
    return act(b, id, "POST", MICROVMS "/%/suspend") && vm_in_state(b, id, "SUSPENDED");
}

bool vm_end(struct bench *b, const char *id)
{
    return act(b, id, "DELETE", MICROVMS "/%");
}

bool log_last(const struct bench *b, const char *id, const char *what, char ret[1024])
{
    char line[1024];
    ret[0] = '\0';
    AUTO_FCLOSE FILE *f = fopen(b->log, "re");
    while (f && fgets(line, sizeof line, f)) {
        if (strstr(line, id) && strstr(line, what))
            memcpy(ret, line, sizeof line);
    }
    return ret[0] != '\0';
}

double number_after(const char *line, const char *word)
{
    const char *at = strstr(line, word);
    return at ? strtod(at + strlen(word), NULL) : 0;
}

static const struct {
    const char *name;
    void (*run)(struct bench *b);
} cases[] = {
    {"first-byte", daemon_first},  {"proxy", daemon_proxy},     {"create", daemon_create},
    {"clones-app", daemon_clones}, {"suspend", daemon_suspend}, {"sessions", daemon_sessions},
    {"list", daemon_list},         {"fork", daemon_fork},
};

static bool in_list(const char *list, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = list; (at = strstr(at, name)); at++) {
        if ((at == list || at[-1] == ',') && (at[n] == ',' || at[n] == '\0'))
            return true;
    }
    return false;
}

int main(int argc, char **argv)
{
    static struct bench b = {.c = {.program = "bench", .sigfd = -1}, .state = STATE};
    static const char *const peers[] = {"nginx"};
    const char *clock = getenv("CLOCK"), *clones = getenv("CLONES");
    if (argc < 6) {
        fprintf(stderr, "usage: daemon CASES IMAGE RUNS LOG RESULTS\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    b.runs = (unsigned)strtoul(argv[3], NULL, 10);
    b.clones = clones ? (unsigned)strtoul(clones, NULL, 10) : 0;
    b.log = argv[4];
    if (cli_open(&b.c) != CLI_OK || find_image(&b.c, argv[2], &b.image) != CLI_OK) {
        fprintf(stderr, "error: %s\n", b.c.fail.e.msg);
        return 1;
    }
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (!in_list(argv[1], cases[i].name))
            continue;
        printf("# %s of %s\n", cases[i].name, argv[2]);
        cases[i].run(&b);
    }
    return rec_write(argv[5], clock ? clock : "wall", peers, 1) && !complaints ? 0 : 1;
}
