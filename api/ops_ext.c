// SPDX-License-Identifier: Apache-2.0
/*
 * Extensions under /dormouse/v1/: logs of builds and microVMs, what a microVM
 * costs, and the host. Log text comes from guests.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../hypervisor/base/mem.h"
#include "fleet_info.h"
#include "op.h"

#define LOG_STEP 65536u /* bytes per answer at most */

/* ---- logs ---------------------------------------------------------------- */

/* The bytes from `offset`; at most one step of them, then up to the end of a line. An offset
 * behind the end is answered from the start: the log was begun anew. */
static int read_log(int fd, uint64_t offset, struct buf *ret, uint64_t *ret_next,
                    uint64_t *ret_size)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (offset > (uint64_t)st.st_size)
        offset = 0;
    uint8_t *at = buf_reserve(ret, LOG_STEP);
    if (!at)
        return -ENOMEM;
    ssize_t n = pread(fd, at, LOG_STEP, (off_t)offset);
    if (n < 0)
        return -errno;
    const uint8_t *end = n == LOG_STEP ? memrchr(at, '\n', (size_t)n) : NULL;
    ret->len += end ? (size_t)(end + 1 - at) : (size_t)n;
    *ret_next = offset + ret->len;
    *ret_size = MAX((uint64_t)st.st_size, *ret_next);
    return 0;
}

/* id: a microVM's or a build's, "" when nothing can have been logged yet. */
static int answer_log(struct op *o, const char *id)
{
    const json_t *from = json_object_get(o->in, "offset");
    uint64_t next = 0, size = 0;
    char text[24], size_text[24];
    struct err e = ERR_INIT;
    AUTO_CLOSE int fd = -1;
    int r = id[0] ? fleet_log_open(o->api->fleet, id, &fd, &e) : -ENOENT;
    if (r == 0)
        r = read_log(fd, from ? (uint64_t)json_integer_value(from) : 0, &o->res->body, &next,
                     &size);
    if (r < 0 && r != -ENOENT) {
        if (!e.num)
            err_sys(&e, -r, "read the log of %s", id);
        return op_fail_fleet(o, id, &e);
    }
    o->res->content_type = "text/plain; charset=utf-8";
    snprintf(text, sizeof text, "%" PRIu64, next);
    http_res_header(o->res, "x-dormouse-next-offset", text);
    snprintf(size_text, sizeof size_text, "%" PRIu64, size);
    http_res_header(o->res, "x-dormouse-log-size", size_text);
    http_res_header(o->res, "X-Content-Type-Options", "nosniff");
    return 0;
}

int op_GetMicrovmImageLog(struct op *o)
{
    AUTO(store_version_free) struct store_version v = {.config = NULL};
    const char *image = op_str(o, "imageIdentifier");
    if (strncmp(image, "arn:", 4) != 0) { /* a bare name will do */
        char arn[ARN_CAP];
        op_image_arn(o, image, arn);
        if (json_object_set_new(o->in, "imageIdentifier", json_string(arn)) < 0)
            return op_fail(o, TEXT_INTERNAL);
    }
    if (op_version(o, NULL, &v) < 0)
        return -1;
    return answer_log(o, v.file_id); /* "" until the build begins */
}

int op_GetMicrovmLog(struct op *o)
{
    AUTO(store_vm_free) struct store_vm vm = {.row = 0};
    return op_microvm(o, &vm) < 0 ? -1 : answer_log(o, vm.id);
}

/* ---- a microVM ----------------------------------------------------------- */

static void write_ms(struct jsonw *w, const char *key, double ms)
{
    char text[32];
    snprintf(text, sizeof text, "%.3f", ms);
    jsonw_key(w, key);
    jsonw_raw(w, text);
}

static void write_timing(struct jsonw *w, const char *name, const struct fleet_timing *t)
{
    char key[32];
    if (t->total <= 0)
        return;
    snprintf(key, sizeof key, "last%sMs", name);
    write_ms(w, key, t->total);
    snprintf(key, sizeof key, "last%sPhases", name);
    jsonw_kopen(w, key, '{');
    write_ms(w, "embryoMs", t->embryo);
    write_ms(w, "loadMs", t->load);
    write_ms(w, "guestMs", t->guest);
    write_ms(w, "hookMs", t->hook);
    write_ms(w, "endMs", t->end);
    jsonw_kbool(w, "pooled", t->pooled);
    jsonw_close(w, '}');
}

int op_GetMicrovmDetails(struct op *o)
{
    AUTO(store_vm_free) struct store_vm vm = {.row = 0};
    struct fleet_vm_info info;
    struct jsonw *w = &o->w;
    if (op_microvm(o, &vm) < 0)
        return -1;
    fleet_vm_info(o->api->fleet, &vm, &info);
    jsonw_open(w, '{');
    write_microvm(o, &vm);
    write_extras(o, &vm);
    jsonw_ku64(w, "generation", vm.generation);
    if (info.memory_bytes) {
        jsonw_ku64(w, "vcpus", info.vcpus);
        jsonw_ku64(w, "memoryBytes", info.memory_bytes);
    }
    if (info.disk_bytes)
        jsonw_ku64(w, "diskBytes", info.disk_bytes);
    if (strcmp(vm.state, "SUSPENDED") == 0) {
        jsonw_ku64(w, "suspendedBytes", info.suspended_bytes);
        if (vm.suspended_at > 0)
            jsonw_ktime(w, "suspendedAt", vm.suspended_at);
    }
    if (write_lineage(o, vm.id) < 0)
        return -1;
    write_timing(w, "Start", &info.start);
    write_timing(w, "Resume", &info.resume);
    jsonw_close(w, '}');
    return 0;
}

/* ---- the host ------------------------------------------------------------ */

int op_GetHost(struct op *o)
{
    static const enum vm_state shown[] = {VM_PENDING, VM_RUNNING, VM_SUSPENDING, VM_SUSPENDED,
                                          VM_TERMINATING};
    struct fleet_host_info info;
    struct jsonw *w = &o->w;
    fleet_host_info(o->api->fleet, &info);
    jsonw_open(w, '{');
    jsonw_kstr(w, "version", DORMOUSE_VERSION);
    jsonw_kstr(w, "region", o->api->region);
    jsonw_kstr(w, "account", o->api->account);
    jsonw_kstr(w, "domain", o->api->domain);
    jsonw_ktime(w, "time", op_now());
    jsonw_ku64(w, "cpus", info.cpus);
    jsonw_ku64(w, "memoryBytes", info.memory_bytes);
    jsonw_ku64(w, "memoryInUseBytes", info.memory_in_use);
    jsonw_ku64(w, "slots", info.slots);
    jsonw_ku64(w, "slotsInUse", info.slots_in_use);
    jsonw_ku64(w, "embryos", info.embryos);
    jsonw_ku64(w, "builds", info.builds);
    jsonw_kopen(w, "microvms", '{');
    for (size_t i = 0; i < ARRAY_LEN(shown); i++)
        jsonw_ku64(w, fsm_name(shown[i]), info.states[shown[i]]);
    jsonw_close(w, '}');
    jsonw_close(w, '}');
    return 0;
}
