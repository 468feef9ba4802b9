// SPDX-License-Identifier: Apache-2.0
/*
 * Through the whole of it: a client on the host itself, over TLS, starts
 * microVMs of an image, asks their applications, suspends and wakes them.
 *     daemon IMAGE RUNS LOG RESULTS     settings from the environment, as for `dormouse`
 * LOG is what dormoused writes: where it says how long its own steps took. The
 * client's instructions count too, as there is one processor.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../hypervisor/base/mem.h"
#include "../../tools/cli/cli.h"
#include "record.h"

#define MICROVMS "/2025-09-09/microvms"
#define WHO      "dormouse"
#define WARM     10
#define LIMIT_MS 120000

uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

struct vm {
    char id[72], token[4096];
    struct http_client hc;
};

/* One request over the microVM's own connection; true when the application answered. */
static bool ask(struct vm *vm)
{
    struct http_header headers[4];
    struct http_req req = {.path = (char *)(uintptr_t) "/", .query = (char *)(uintptr_t) ""};
    struct http_reply reply;
    struct err e = ERR_INIT;
    char data[512];
    snprintf(req.method, sizeof req.method, "GET");
    headers[0] = (struct http_header){.name = (char *)(uintptr_t) "X-aws-proxy-auth",
                                      .value = vm->token};
    headers[1] = (struct http_header){.name = (char *)(uintptr_t) "X-aws-proxy-port",
                                      .value = (char *)(uintptr_t) "8080"};
    memcpy(req.headers, headers, 2 * sizeof headers[0]);
    req.nheaders = 2;
    if (http_client_send(&vm->hc, &req, NULL, LIMIT_MS, &reply, &e) < 0) {
        printf("# %s\n", e.msg);
        return false;
    }
    bool ok = reply.status == 200;
    const char *why = http_reply_header(&reply, "x-aws-proxy-error");
    if (!ok)
        printf("# the answer has status %d %s\n", reply.status, why ? why : "");
    while (http1_body(vm->hc.h, data, sizeof data, LIMIT_MS) > 0)
        ;
    http_client_done(&vm->hc);
    return ok;
}

static bool act(struct cli *c, const char *id, const char *method, const char *template)
{
    AUTO(buf_free) struct buf path = BUF_INIT;
    cli_path(&path, template, id);
    const char *p = buf_cstr(&path);
    return p && cli_call(c, method, p, NULL, NULL, NULL) == CLI_OK;
}

static bool in_state(struct cli *c, const char *id, const char *want)
{
    AUTO(buf_free) struct buf path = BUF_INIT;
    cli_path(&path, MICROVMS "/%", id);
    const char *p = buf_cstr(&path);
    for (unsigned i = 0; p && i < 5000; i++) {
        json_t *v = NULL;
        if (cli_call(c, "GET", p, NULL, NULL, &v) != CLI_OK)
            return false;
        const char *state = json_string_value(json_object_get(v, "state"));
        bool there = state && strcmp(state, want) == 0;
        json_decref(v);
        if (there)
            return true;
    }
    return false;
}

static bool once(struct cli *c, const char *image, bool keep)
{
    static struct vm vm;
    struct run_wish wish = {.image = image, .idle = 900, .keep = 3600};
    struct started s;
    struct err e = ERR_INIT;
    json_t *ports = ports_list(c, "8080");
    uint64_t begin = now_ns();
    bool ok = run_vm(c, &wish, &s) == CLI_OK;
    uint64_t accepted = now_ns();
    ok = ok && mint_token(c, s.id, ports, 30, vm.token, sizeof vm.token) == CLI_OK &&
         http_client_init(&vm.hc, c->tls, s.endpoint, &e) == 0;
    ok = ok && ask(&vm);
    uint64_t first = now_ns();
    json_decref(ports);
    uint64_t warm = now_ns();
    for (unsigned i = 0; ok && i < WARM; i++)
        ok = ask(&vm);
    uint64_t end = now_ns();
    ok = ok && act(c, s.id, "POST", MICROVMS "/%/suspend") && in_state(c, s.id, "SUSPENDED");
    uint64_t wake = now_ns();
    ok = ok && ask(&vm);
    uint64_t awake = now_ns();
    if (ok && keep) {
        rec("run-first-byte", "{\"tls\":\"new connection\"}", "time", "ms", WHO,
            MS(first - begin));
        rec("run-api", "{\"until\":\"answer\"}", "time", "ms", WHO, MS(accepted - begin));
        rec("endpoint-request", "{\"connection\":\"kept\"}", "time", "ms", WHO,
            MS(end - warm) / WARM);
        rec("autoresume-first-byte", "{\"tls\":\"established\"}", "time", "ms", WHO,
            MS(awake - wake));
    }
    if (ok)
        http_client_close(&vm.hc);
    else
        printf("# %s\n", c->fail.e.msg[0] ? c->fail.e.msg : e.msg);
    return act(c, s.id, "DELETE", MICROVMS "/%") && ok;
}

static const char *const steps[] = {"total", "embryo", "load", "guest", "hook", "end"};

/* "<id> started in 1.23 ms (embryo 0.10, load 0.42, guest 0.60, hook 0.00, end 0.11)" */
static void note_log(const char *path)
{
    char line[1024], params[64];
    unsigned seen[2] = {0, 0};
    AUTO_FCLOSE FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f)) {
        const char *started = strstr(line, " started in "), *at = started;
        if (!at && !(at = strstr(line, " resumed in ")))
            continue;
        double v[6] = {0};
        v[0] = strtod(at + 12, NULL);
        for (unsigned i = 1; i < ARRAY_LEN(steps); i++) {
            const char *word = strstr(at, steps[i]);
            v[i] = word ? strtod(word + strlen(steps[i]), NULL) : 0;
        }
        if (seen[started != NULL]++ == 0)
            continue; /* the first one is not counted */
        for (unsigned i = 0; i < ARRAY_LEN(steps); i++) {
            snprintf(params, sizeof params, "{\"step\":\"%s\"}", steps[i]);
            rec(started ? "daemon-start" : "daemon-resume", params, "time", "ms", WHO, v[i]);
        }
    }
}

int main(int argc, char **argv)
{
    static struct cli c = {.program = "bench", .sigfd = -1};
    const char *clock = getenv("CLOCK");
    if (argc < 5) {
        fprintf(stderr, "usage: daemon IMAGE RUNS LOG RESULTS\n");
        return 2;
    }
    if (cli_open(&c) != CLI_OK) {
        fprintf(stderr, "error: %s\n", c.fail.e.msg);
        return 1;
    }
    unsigned long runs = strtoul(argv[2], NULL, 10);
    bool ok = true;
    for (unsigned long i = 0; i < runs && ok; i++)
        ok = once(&c, argv[1], i > 0);
    note_log(argv[3]);
    return rec_write(argv[4], clock ? clock : "wall", NULL, 0) && ok ? 0 : 1;
}
