// SPDX-License-Identifier: Apache-2.0
/*
 * UpdateMicrovm: what may change while a microVM lives, and its name and tags.
 * A member that is left out stays; timers follow at once.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../hypervisor/base/mem.h"
#include "op.h"

static int replace_tags(struct op *o, struct store_vm *vm)
{
    json_t *tags = json_object_get(o->in, "tags");
    if (!tags)
        return 0;
    if (tags_check(o, tags) < 0)
        return -1;
    free(vm->tags);
    vm->tags = json_object_size(tags) ? json_dumps(tags, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    return vm->tags || !json_object_size(tags) ? 0 : op_fail(o, TEXT_INTERNAL);
}

int op_UpdateMicrovm(struct op *o)
{
    AUTO(store_vm_free) struct store_vm vm = {.row = 0};
    struct err e = ERR_INIT;
    const char *name = op_str(o, "name");
    if (op_microvm(o, &vm) < 0)
        return -1;
    if (strcmp(vm.state, "TERMINATED") == 0 || strcmp(vm.state, "TERMINATING") == 0)
        return op_fail_about(o, "microvm", vm.id, TEXT_ENDED, vm.id, vm.state);
    if (json_object_get(o->in, "maximumDurationInSeconds") && run_duration(o, &vm) < 0)
        return -1;
    if (json_object_get(o->in, "idlePolicy"))
        run_idle(o, &vm);
    if (json_is_true(json_object_get(o->in, "removeIdlePolicy"))) {
        if (json_object_get(o->in, "idlePolicy"))
            return op_fail(o, TEXT_IDLE_BOTH);
        vm.has_idle = vm.auto_resume = false;
        vm.idle_seconds = vm.suspended_seconds = 0;
    }
    if (name)
        snprintf(vm.name, sizeof vm.name, "%s", name);
    if (replace_tags(o, &vm) < 0)
        return -1;
    int r = store_vm_update(o->api->store, &vm, &e);
    if (r == -ESTALE)
        return op_fail_about(o, "microvm", vm.id, TEXT_ENDED, vm.id, "TERMINATED");
    if (r < 0)
        return op_fail_store(o, &e);
    fleet_policy(o->api->fleet, &vm);
    jsonw_open(&o->w, '{');
    write_microvm(o, &vm);
    write_extras(o, &vm);
    jsonw_close(&o->w, '}');
    return 0;
}
