// SPDX-License-Identifier: Apache-2.0
/* GetMicrovm, ListMicrovms, SuspendMicrovm, ResumeMicrovm, TerminateMicrovm. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "op.h"

static void write_endpoint(struct op *o, const struct store_vm *vm)
{
    char text[400];
    const struct api *a = o->api;
    int n =
        snprintf(text, sizeof text, "%s.lambda-microvm.%s.%s", vm->label, a->region, a->domain);
    if (a->public_port != 443 && n > 0 && (size_t)n < sizeof text)
        snprintf(text + n, sizeof text - (size_t)n, ":%u", a->public_port);
    jsonw_kstr(&o->w, "endpoint", text);
}

static void write_summary(struct op *o, const struct store_vm_brief *vm, const char *arn)
{
    char version[VERSION_CAP];
    op_version_text(vm->major, version);
    jsonw_kstr(&o->w, "microvmId", vm->id);
    jsonw_kstr(&o->w, "state", vm->state);
    jsonw_kstr(&o->w, "imageArn", arn);
    jsonw_kstr(&o->w, "imageVersion", version);
    jsonw_ktime(&o->w, "startedAt", vm->started_at);
}

void write_microvm(struct op *o, const struct store_vm *vm)
{
    struct jsonw *w = &o->w;
    char arn[ARN_CAP];
    struct store_vm_brief brief = {.major = vm->major, .started_at = vm->started_at};
    memcpy(brief.id, vm->id, sizeof brief.id);
    memcpy(brief.state, vm->state, sizeof brief.state);
    op_image_arn(o, vm->image, arn);
    write_summary(o, &brief, arn);
    write_endpoint(o, vm);
    jsonw_ku64(w, "maximumDurationInSeconds", vm->max_seconds);
    jsonw_kstr_opt(w, "executionRoleArn", vm->role_arn);
    if (vm->has_idle) {
        jsonw_kopen(w, "idlePolicy", '{');
        jsonw_ku64(w, "maxIdleDurationSeconds", vm->idle_seconds);
        jsonw_ku64(w, "suspendedDurationSeconds", vm->suspended_seconds);
        jsonw_kbool(w, "autoResumeEnabled", vm->auto_resume);
        jsonw_close(w, '}');
    }
    if (vm->terminated_at > 0)
        jsonw_ktime(w, "terminatedAt", vm->terminated_at);
    jsonw_kstr_opt(w, "stateReason", vm->reason);
    if (vm->ingress) {
        jsonw_key(w, "ingressNetworkConnectors");
        jsonw_raw(w, vm->ingress);
    }
    if (vm->egress) {
        jsonw_key(w, "egressNetworkConnectors");
        jsonw_raw(w, vm->egress);
    }
}

void write_extras(struct op *o, const struct store_vm *vm)
{
    jsonw_kstr_opt(&o->w, "name", vm->name);
    jsonw_key(&o->w, "tags");
    jsonw_raw(&o->w, vm->tags ? vm->tags : "{}");
}

int op_GetMicrovm(struct op *o)
{
    AUTO(store_vm_free) struct store_vm vm = {.row = 0};
    if (op_microvm(o, &vm) < 0)
        return -1;
    jsonw_open(&o->w, '{');
    write_microvm(o, &vm);
    jsonw_close(&o->w, '}');
    return 0;
}

/* ---- list ---------------------------------------------------------------- */

struct vm_list {
    struct op_page page;
    char image[NAME_CAP], arn[ARN_CAP]; /* of the item before */
};

static bool list_microvm(void *ctx, const struct store_vm_brief *vm)
{
    struct vm_list *l = ctx;
    struct op *o = l->page.o;
    char position[24];
    snprintf(position, sizeof position, "%" PRIu64, vm->row);
    if (!op_page_next(&l->page, position))
        return false;
    if (strcmp(vm->image, l->image) != 0) {
        memcpy(l->image, vm->image, sizeof l->image);
        op_image_arn(o, vm->image, l->arn);
    }
    struct store_vm_brief now = *vm;
    fleet_state_now(o->api->fleet, now.id, now.state);
    jsonw_open(&o->w, '{');
    write_summary(o, &now, l->arn);
    jsonw_close(&o->w, '}');
    return true;
}

int op_ListMicrovms(struct op *o)
{
    const char *version = op_str(o, "imageVersion");
    struct store_image i = {.name = ""};
    struct vm_list l = {.image = ""};
    struct op_page *p = &l.page;
    struct err e = ERR_INIT;
    char question[2 * NAME_CAP];
    uint32_t major = 0;
    uint64_t before = UINT64_MAX;
    if (op_str(o, "imageIdentifier") && op_image(o, &i) < 0)
        return -1;
    bool none = version && !version_parse(version, &major); /* no microVM has such a one */
    snprintf(question, sizeof question, "%s %" PRIu32, i.name, major);
    if (op_page_begin(o, p, question) < 0)
        return -1;
    if (p->start[0] && !parse_u64(p->start, 1, INT64_MAX, &before))
        return op_fail(o, TEXT_BAD_PAGE_TOKEN);
    if (!none && store_vm_each(o->api->store, before, i.name[0] ? i.name : NULL, major,
                               list_microvm, &l, &e) < 0)
        return op_fail_store(o, &e);
    return op_page_end(p);
}

/* ---- life ---------------------------------------------------------------- */

static int refuse_state(struct op *o, const struct store_vm *vm, const char *what)
{
    return op_fail_about(o, "microvm", vm->id, TEXT_MICROVM_STATE, vm->id, what, vm->state);
}

int op_SuspendMicrovm(struct op *o)
{
    AUTO(store_vm_free) struct store_vm vm = {.row = 0};
    struct err e = ERR_INIT;
    if (op_microvm(o, &vm) < 0)
        return -1;
    if (strcmp(vm.state, "RUNNING") != 0)
        return refuse_state(o, &vm, "suspended");
    return fleet_suspend(o->api->fleet, vm.id, &e) < 0 ? op_fail_fleet(o, vm.id, &e) : 0;
}

int op_ResumeMicrovm(struct op *o)
{
    AUTO(store_vm_free) struct store_vm vm = {.row = 0};
    struct err e = ERR_INIT;
    if (op_microvm(o, &vm) < 0)
        return -1;
    if (strcmp(vm.state, "SUSPENDED") != 0)
        return refuse_state(o, &vm, "resumed");
    return fleet_resume(o->api->fleet, vm.id, &e) < 0 ? op_fail_fleet(o, vm.id, &e) : 0;
}

static bool is_ending(const struct store_vm *vm)
{
    return strcmp(vm->state, "TERMINATED") == 0 || strcmp(vm->state, "TERMINATING") == 0;
}

int op_TerminateMicrovm(struct op *o)
{
    AUTO(store_vm_free) struct store_vm vm = {.row = 0};
    struct err e = ERR_INIT;
    if (op_microvm(o, &vm) < 0)
        return -1;
    if (is_ending(&vm)) /* terminating twice is no error */
        return 0;
    if (fleet_terminate(o->api->fleet, vm.id, &e) == 0)
        return 0;
    /* It may have ended by itself meanwhile. */
    AUTO(store_vm_free) struct store_vm now = {.row = 0};
    if (store_vm_get(o->api->store, vm.id, &now, NULL) == 0 && is_ending(&now))
        return 0;
    return op_fail_fleet(o, vm.id, &e);
}
