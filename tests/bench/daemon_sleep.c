// SPDX-License-Identifier: Apache-2.0
/* What a suspend costs, for an application that does something, and for a session that was
 * suspended often. The application of these cases is workload.py. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../../hypervisor/base/mem.h"
#include "daemon.h"

#define SESSIONS_MAX 8

struct workload {
    const char *name;
    const char *paths[4]; /* asked one after the other before the suspend */
};

/* Bytes on disk of the session's files. */
static double session_bytes(const struct bench *b, const char *id, const char *prefix)
{
    char path[512];
    double sum = 0;
    struct stat st;
    snprintf(path, sizeof path, "%s/vms/%s", b->state, id);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        char file[800];
        snprintf(file, sizeof file, "%s/%s", path, e->d_name);
        if (strncmp(e->d_name, prefix, strlen(prefix)) == 0 && stat(file, &st) == 0)
            sum += (double)st.st_blocks * 512;
    }
    if (d)
        closedir(d);
    return sum;
}

static bool sleep_once(struct bench *b, struct vm *vm, const char *name, const char *params)
{
    char line[1024];
    if (!vm_suspend(b, vm->id) || !log_last(b, vm->id, " suspended in ", line))
        return false;
    rec(name, params, "time", "ms", WHO, number_after(line, " suspended in "));
    rec(name, params, "freeze", "ms", WHO, number_after(line, "freeze "));
    rec(name, params, "pause", "ms", WHO, number_after(line, "paused "));
    rec(name, params, "bytes", "B", WHO, session_bytes(b, vm->id, "mem."));
    rec(name, params, "disk", "B", WHO, session_bytes(b, vm->id, "disk."));
    return true;
}

static bool work(struct bench *b, const struct workload *w, bool wake)
{
    static struct vm vm;
    char params[96];
    memset(&vm, 0, sizeof vm);
    bool ok = vm_run(b, &vm) && vm_token(b, &vm) && vm_dial(b, &vm);
    for (unsigned i = 0; ok && i < ARRAY_LEN(w->paths) && w->paths[i]; i++)
        ok = vm_ask(&vm.hc, &vm, w->paths[i]);
    snprintf(params, sizeof params, "{\"workload\":\"%s\"}", w->name);
    ok = ok && vm_in_state(b, vm.id, "RUNNING");
    ok = ok && sleep_once(b, &vm, "suspend", params);
    if (wake) {
        uint64_t begin = now_ns();
        ok = ok && vm_ask(&vm.hc, &vm, "/");
        if (ok)
            rec("wake", params, "time", "ms", WHO, MS(now_ns() - begin));
    }
    http_client_close(&vm.hc);
    return vm.id[0] && vm_end(b, vm.id) && ok;
}

void daemon_suspend(struct bench *b)
{
    static const struct workload loads[] = {
        {"python-idle", {NULL}},
        {"python-web-app", {"/", "/work", "/", "/"}},
        {"store-50-mb", {"/fill?mb=50"}},
        {"burst-50-mb", {"/burst?mb=50"}},
        {"compile-in-progress", {"/compile"}},
    };
    for (size_t i = 0; i < ARRAY_LEN(loads); i++) {
        for (unsigned k = 0; k < b->runs; k++) {
            if (!work(b, &loads[i], true)) {
                complain("suspend %s: %s", loads[i].name, b->c.fail.e.msg);
                break;
            }
        }
    }
}

/* One microVM that is suspended and woken again and again: what it costs must not grow. */
void daemon_sessions(struct bench *b)
{
    static struct vm vm;
    char params[64];
    memset(&vm, 0, sizeof vm);
    bool ok = vm_run(b, &vm) && vm_token(b, &vm) && vm_dial(b, &vm) && vm_ask(&vm.hc, &vm, "/");
    for (unsigned n = 1; ok && n <= SESSIONS_MAX; n++) {
        snprintf(params, sizeof params, "{\"sessions\":%u}", n);
        ok = sleep_once(b, &vm, "session-growth", params);
        uint64_t begin = now_ns();
        ok = ok && vm_ask(&vm.hc, &vm, "/");
        if (ok)
            rec("session-growth", params, "wake", "ms", WHO, MS(now_ns() - begin));
    }
    http_client_close(&vm.hc);
    if (!ok)
        complain("sessions: %s", b->c.fail.e.msg);
    if (vm.id[0])
        vm_end(b, vm.id);
}
