// SPDX-License-Identifier: Apache-2.0
/* Checkpoints, ways back and forks: how long the caller waits, how long the parent stands
 * still, and when each of five children has answered. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../../hypervisor/base/mem.h"
#include "daemon.h"

#define CHILDREN  5
#define SETTLE_US 200000

static void note(const char *name, const char *params, double ms)
{
    rec(name, params, "time", "ms", WHO, ms);
}

static bool post(struct bench *b, const char *template, const char *id, const char *more,
                 const json_t *in, json_t **ret)
{
    AUTO(buf_free) struct buf path = BUF_INIT;
    cli_path(&path, template, id, more);
    const char *p = buf_cstr(&path);
    return p && cli_call(&b->c, "POST", p, NULL, in, ret) == CLI_OK;
}

/* What the daemon's log says of the last one. */
static void note_still(const struct bench *b, const char *name, const char *id,
                       const char *what, bool keep)
{
    char line[1024];
    if (keep && log_last(b, id, what, line))
        note(name, "{\"part\":\"stood still\"}", number_after(line, "stood still "));
}

static bool checkpoint(struct bench *b, struct vm *vm, bool keep)
{
    json_t *in = json_object(), *v = NULL;
    char id[72] = "";
    usleep(SETTLE_US);
    uint64_t begin = now_ns();
    bool ok = post(b, "/dormouse/v1/microvms/%/checkpoints", vm->id, NULL, in, &v);
    uint64_t end = now_ns();
    const char *text = json_string_value(json_object_get(v, "checkpointId"));
    snprintf(id, sizeof id, "%s", text ? text : "");
    json_decref(v);
    json_decref(in);
    if (ok && keep)
        note("checkpoint", "{\"part\":\"call\"}", MS(end - begin));
    if (ok)
        note_still(b, "checkpoint", vm->id, " checkpoint ", keep);
    ok = ok && vm_ask(&vm->hc, vm, "/");
    usleep(SETTLE_US);
    begin = now_ns();
    ok =
        ok && post(b, "/dormouse/v1/microvms/%/checkpoints/%/rollback", vm->id, id, NULL, NULL);
    end = now_ns();
    ok = ok && vm_ask(&vm->hc, vm, "/");
    if (ok && keep) {
        note("rollback", "{\"part\":\"call\"}", MS(end - begin));
        note("rollback", "{\"part\":\"first byte\"}", MS(now_ns() - begin));
    }
    return ok;
}

static bool fork_five(struct bench *b, struct vm *vm, bool keep)
{
    static struct vm child[CHILDREN];
    json_t *in = json_pack("{s:i}", "count", CHILDREN), *v = NULL;
    char params[64];
    memset(child, 0, sizeof child);
    usleep(SETTLE_US);
    uint64_t begin = now_ns(), first[CHILDREN] = {0};
    bool ok = post(b, "/dormouse/v1/microvms/%/fork", vm->id, NULL, in, &v);
    uint64_t called = now_ns();
    for (size_t i = 0; ok && i < CHILDREN; i++) {
        const json_t *item = json_array_get(json_object_get(v, "items"), i);
        const char *id = json_string_value(json_object_get(item, "microvmId"));
        const char *endpoint = json_string_value(json_object_get(item, "endpoint"));
        snprintf(child[i].id, sizeof child[i].id, "%s", id ? id : "");
        snprintf(child[i].endpoint, sizeof child[i].endpoint, "%s", endpoint ? endpoint : "");
        ok = vm_token(b, &child[i]) && vm_ask(&b->c.api, &child[i], "/");
        first[i] = now_ns();
    }
    json_decref(v);
    json_decref(in);
    if (ok && keep) {
        note("fork", "{\"children\":5,\"part\":\"call\"}", MS(called - begin));
        for (unsigned i = 0; i < CHILDREN; i++) {
            snprintf(params, sizeof params, "{\"children\":5,\"first byte\":%u}", i + 1);
            note("fork", params, MS(first[i] - begin));
        }
    }
    if (ok)
        note_still(b, "fork", vm->id, " forked into ", keep);
    for (unsigned i = 0; i < CHILDREN; i++)
        ok = child[i].id[0] && vm_end(b, child[i].id) && ok;
    return ok;
}

void daemon_fork(struct bench *b)
{
    static struct vm vm;
    memset(&vm, 0, sizeof vm);
    bool ok = vm_run(b, &vm) && vm_token(b, &vm) && vm_dial(b, &vm) && vm_ask(&vm.hc, &vm, "/");
    for (unsigned i = 0; i < b->runs && ok; i++)
        ok = checkpoint(b, &vm, i > 0) && fork_five(b, &vm, i > 0);
    if (!ok)
        complain("checkpoints and forks: %s", b->c.fail.e.msg);
    http_client_close(&vm.hc);
    if (vm.id[0])
        vm_end(b, vm.id);
}
