// SPDX-License-Identifier: Apache-2.0
/*
 * RunMicrovm: checks, then one transaction that finds the version and writes
 * the row, then the fleet. The answer never waits for the microVM.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../hypervisor/base/log.h"
#include "../hypervisor/base/mem.h"
#include "op.h"
#include "uuid.h"

#define ENVIRONMENT_MAX 65536u /* as JSON: it goes to the guest as one message */

static uint32_t longest(const struct op *o)
{
    return o->api->max_duration_s ? o->api->max_duration_s : DEFAULT_DURATION_S;
}

int run_duration(struct op *o, struct store_vm *vm)
{
    const json_t *d = json_object_get(o->in, "maximumDurationInSeconds");
    json_int_t n =
        json_is_integer(d) ? json_integer_value(d) : MIN(DEFAULT_DURATION_S, longest(o));
    if (n > (json_int_t)longest(o))
        return op_fail(o, TEXT_DURATION, longest(o));
    vm->max_seconds = (uint32_t)n;
    return 0;
}

void run_idle(struct op *o, struct store_vm *vm)
{
    const json_t *idle = json_object_get(o->in, "idlePolicy");
    vm->has_idle = json_is_object(idle);
    if (!vm->has_idle)
        return;
    vm->idle_seconds =
        (uint32_t)json_integer_value(json_object_get(idle, "maxIdleDurationSeconds"));
    vm->suspended_seconds =
        (uint32_t)json_integer_value(json_object_get(idle, "suspendedDurationSeconds"));
    vm->auto_resume = json_is_true(json_object_get(idle, "autoResumeEnabled"));
}

static int read_logging(struct op *o, struct store_vm *vm)
{
    json_t *logging = json_object_get(o->in, "logging");
    if (!json_is_object(logging))
        return 0;
    if (json_object_get(logging, "cloudWatch") && !op_str(o, "executionRoleArn"))
        return op_fail(o, TEXT_LOGGING_NEEDS_ROLE);
    vm->logging = json_dumps(logging, JSON_COMPACT);
    return vm->logging ? 0 : op_fail(o, TEXT_INTERNAL);
}

/* A JSON object of the request as text, NULL when it is not there or empty. */
static int keep_object(struct op *o, const char *member, char **ret)
{
    const json_t *v = json_object_get(o->in, member);
    if (json_object_size(v) == 0)
        return 0;
    *ret = json_dumps(v, JSON_COMPACT | JSON_SORT_KEYS);
    return *ret ? 0 : op_fail(o, TEXT_INTERNAL);
}

/* What only the extension has. */
static int read_extras(struct op *o, struct store_vm *vm)
{
    const char *name = op_str(o, "name");
    const json_t *tags = json_object_get(o->in, "tags");
    snprintf(vm->name, sizeof vm->name, "%s", name ? name : "");
    if (tags && tags_check(o, tags) < 0)
        return -1;
    if (keep_object(o, "tags", &vm->tags) < 0)
        return -1;
    if (keep_object(o, "environmentVariables", &vm->env) < 0)
        return -1;
    return vm->env && strlen(vm->env) > ENVIRONMENT_MAX
               ? op_fail(o, TEXT_ENVIRONMENT, ENVIRONMENT_MAX / 1024)
               : 0;
}

/* All that does not need the state, in the order the service checks it. */
static int read_request(struct op *o, struct store_vm *vm)
{
    const char *role = op_str(o, "executionRoleArn"), *payload = op_str(o, "runHookPayload");
    if (run_duration(o, vm) < 0 ||
        op_image_name(o, op_str(o, "imageIdentifier"), SAY_MALFORMED, vm->image) < 0 ||
        connectors_read(o, "ingressNetworkConnectors", true, &vm->ingress) < 0 ||
        connectors_read(o, "egressNetworkConnectors", false, &vm->egress) < 0 ||
        read_logging(o, vm) < 0 || read_extras(o, vm) < 0)
        return -1;
    run_idle(o, vm);
    snprintf(vm->role_arn, sizeof vm->role_arn, "%s", role ? role : "");
    if (payload && *payload && !(vm->payload = strdup(payload)))
        return op_fail(o, TEXT_INTERNAL);
    char uuid[37];
    uuid_make(uuid);
    snprintf(vm->id, sizeof vm->id, "microvm-%s", uuid);
    uuid_make(vm->label);
    snprintf(vm->state, sizeof vm->state, "PENDING");
    vm->started_at = op_now();
    return 0;
}

static bool is_active(const struct store_version *v)
{
    return strcmp(v->state, "SUCCESSFUL") == 0 && strcmp(v->status, "ACTIVE") == 0;
}

/* The named version, or the newest active one. 404 with the service's text when none is. */
static int pick_version(struct op *o, const char *image, struct store_version *v)
{
    const char *arn = op_str(o, "imageIdentifier"), *text = op_str(o, "imageVersion");
    struct err e = ERR_INIT;
    struct store_image i;
    int r = store_image_get(o->api->store, image, &i, &e);
    if (r == -ENOENT)
        return op_fail_about(o, "microvm-image", arn, TEXT_NO_IMAGE, arn);
    if (r < 0)
        return op_fail_store(o, &e);
    if (!text) {
        int found = newest_active(o, image, v);
        return found == 0 ? op_fail_about(o, "microvm-image", arn, TEXT_NO_ACTIVE, arn)
                          : MIN(found, 0);
    }
    uint32_t major;
    r = version_parse(text, &major) ? store_version_get(o->api->store, image, major, v, &e)
                                    : -ENOENT;
    if (r == -ENOENT || (r == 0 && !is_active(v)))
        return op_fail_about(o, "microvm-image", arn, TEXT_NO_ACTIVE_VERSION, arn, text);
    return r < 0 ? op_fail_store(o, &e) : 0;
}

static int check_hook(struct op *o, const struct store_version *v, const struct store_vm *vm)
{
    struct image_config c;
    struct err e = ERR_INIT;
    if (!vm->payload)
        return 0;
    if (image_config_parse(v->config, &c, &e) < 0)
        return op_fail_store(o, &e);
    bool enabled = c.hooks[IMAGE_HOOK_RUN].enabled;
    image_config_free(&c);
    return enabled ? 0 : op_fail(o, TEXT_HOOK_DISABLED);
}

/* Inside the transaction. 1: the request was made before. */
static int run_rows(struct op *o, struct store_vm *vm, struct store_client_token *t)
{
    AUTO(store_version_free) struct store_version v = {.config = NULL};
    struct store *s = o->api->store;
    struct err e = ERR_INIT;
    int known = op_token_known(o, t);
    if (known != 0)
        return known;
    if (pick_version(o, vm->image, &v) < 0 || check_hook(o, &v, vm) < 0)
        return -1;
    vm->major = v.major;
    int r = store_vm_add(s, vm, &e);
    return r < 0 ? op_fail_store(o, &e) : op_token_keep(o, t, vm->id, 0);
}

static int answer(struct op *o, const struct store_vm *vm)
{
    jsonw_open(&o->w, '{');
    write_microvm(o, vm);
    if (o->route->input != SHAPE_in_RunMicrovm)
        write_extras(o, vm);
    jsonw_close(&o->w, '}');
    return 0;
}

/* The same request again: the same microVM, whatever became of it; awake if it was asleep. */
static int run_again(struct op *o, const char *id)
{
    AUTO(store_vm_free) struct store_vm vm = {.row = 0};
    struct err e = ERR_INIT;
    if (store_vm_get(o->api->store, id, &vm, &e) < 0)
        return op_fail_store(o, &e);
    if (strcmp(vm.state, "SUSPENDED") == 0) {
        int r = fleet_resume(o->api->fleet, id, &e);
        if (r < 0)
            return op_fail_fleet(o, id, &e);
        store_vm_free(&vm);
        if (store_vm_get(o->api->store, id, &vm, &e) < 0)
            return op_fail_store(o, &e);
    }
    return answer(o, &vm);
}

int op_RunMicrovm(struct op *o)
{
    AUTO(store_vm_free) struct store_vm vm = {.row = 0};
    struct store_client_token t;
    struct err e = ERR_INIT;
    if (op_token_begin(o, &t) < 0 || read_request(o, &vm) < 0)
        return -1;
    if (store_begin(o->api->store, &e) < 0)
        return op_fail_store(o, &e);
    int known = run_rows(o, &vm, &t);
    if (known < 0) {
        store_rollback(o->api->store);
        return -1;
    }
    if (store_commit(o->api->store, &e) < 0)
        return op_fail_store(o, &e);
    if (known > 0)
        return run_again(o, t.resource);
    int r = fleet_run(o->api->fleet, vm.id, &e);
    if (r < 0) { /* never accepted: no row, and the client token is free again */
        struct err undo = ERR_INIT;
        if (store_vm_delete(o->api->store, vm.id, &undo) < 0)
            log_err(LOG_ERROR, &undo, "forget a microVM that was not started");
        return op_fail_fleet(o, vm.id, &e);
    }
    return answer(o, &vm);
}

/* The extension's members are in the input only when its shape has them. */
int op_RunMicrovmWith(struct op *o)
{
    return op_RunMicrovm(o);
}
