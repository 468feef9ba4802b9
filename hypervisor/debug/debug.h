// SPDX-License-Identifier: Apache-2.0
/*
 * Where the VMM calls its debug twin. In dormouse-vmm-debug (DORMOUSE_DEBUG)
 * these are functions of this folder; in the lean binary they are empty and
 * nothing of the folder is linked.
 */
#ifndef DORMOUSE_DEBUG_DEBUG_H
#define DORMOUSE_DEBUG_DEBUG_H

#include <stdbool.h>
#include <stdint.h>

#include "../base/err.h"

struct vm;
struct vcpu;

struct debug_options {
    const char *gdb, *trace;
};

#ifdef DORMOUSE_DEBUG

#define DEBUG_USAGE                                                             \
    "  --gdb WHERE[,wait]    a GDB server at PORT, ADDRESS:PORT or a path;\n"   \
    "                        wait: the machine begins when the debugger says\n" \
    "  --trace FILE          device accesses, notifications and interrupts\n"   \
    "  --no-filter           the jail without the system call filter\n"

/* Before the jail. */
int debug_open(struct vm *vm, const struct debug_options *o, struct err *e);
/* After vm_create(). */
void debug_start(struct vm *vm);
/* A vCPU thread: KVM_RUN returned. True: that was for the debugger. */
bool debug_exit(struct vcpu *v);
/* vm->lock is held: stays parked though the machine runs. */
bool debug_held(const struct vcpu *v);
/* I/O thread: something may have happened. */
void debug_kicked(struct vm *vm);
/* I/O thread, all vCPUs parked: the machine is over. */
void debug_ended(struct vm *vm);

#else

#define DEBUG_USAGE ""

static inline int debug_open(struct vm *vm, const struct debug_options *o, struct err *e)
{
    (void)vm;
    (void)o;
    (void)e;
    return 0;
}
static inline void debug_start(struct vm *vm)
{
    (void)vm;
}
static inline bool debug_exit(struct vcpu *v)
{
    (void)v;
    return false;
}
static inline bool debug_held(const struct vcpu *v)
{
    (void)v;
    return false;
}
static inline void debug_kicked(struct vm *vm)
{
    (void)vm;
}
static inline void debug_ended(struct vm *vm)
{
    (void)vm;
}

#endif
#endif
