// SPDX-License-Identifier: Apache-2.0
/* The debug twin's calls from the VMM; see debug.h. */
#include "debug.h"

#include "../base/log.h"
#include "cpuregs.h"
#include "gdb.h"
#include "trace.h"

int debug_open(struct vm *vm, const struct debug_options *o, struct err *e)
{
    int r = o->trace ? trace_open(o->trace, e) : 0;
    if (r == 0 && o->gdb)
        r = gdb_open(&vm->gdb, vm, o->gdb, e);
    return r;
}

void debug_start(struct vm *vm)
{
    if (vm->gdb)
        gdb_start(vm->gdb);
}

bool debug_exit(struct vcpu *v)
{
    trace_cpu(v->index);
    if (v->run->exit_reason != KVM_EXIT_DEBUG || !v->vm->gdb)
        return false;
    gdb_vcpu_exit(v->vm->gdb, v);
    return true;
}

bool debug_held(const struct vcpu *v)
{
    return v->vm->gdb && v->vm->gdb->held[v->index];
}

void debug_kicked(struct vm *vm)
{
    if (vm->gdb)
        gdb_kicked(vm->gdb);
}

void debug_ended(struct vm *vm)
{
    uint32_t reason = vm->end.reason;
    if (vm->gdb)
        gdb_ended(vm->gdb);
    if (reason == CTL_EXIT_POWEROFF || reason == CTL_EXIT_STOPPED)
        return;
    log_info("registers at the end (%s):", vm->end.text);
    for (unsigned i = 0; i < vm->nvcpus; i++)
        cpu_dump(&vm->vcpus[i]);
}
