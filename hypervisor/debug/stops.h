// SPDX-License-Identifier: Apache-2.0
/*
 * What stops a guest for a debugger: breakpoints, watchpoints, single steps.
 * Software breakpoints are BRK instructions in guest memory; the others are
 * the CPU's debug registers, through KVM. All vCPUs are parked when these are
 * called, in the I/O thread.
 */
#ifndef DORMOUSE_DEBUG_STOPS_H
#define DORMOUSE_DEBUG_STOPS_H

#include <linux/kvm.h>

#include "../vm.h"

#define STOPS_SOFT_MAX 64u
#define STOPS_HARD_MAX KVM_ARM_MAX_DBG_REGS

/* As in GDB's Z packets. */
enum stop_type { STOP_SOFT, STOP_HARD, STOP_WRITE, STOP_READ, STOP_ACCESS };

struct stops {
    struct soft_stop {
        uint64_t va;
        uint32_t insn; /* what was there */
    } soft[STOPS_SOFT_MAX];
    struct hard_stop {
        enum stop_type type;
        uint64_t va;
        unsigned len;
    } code[STOPS_HARD_MAX], data[STOPS_HARD_MAX];
    unsigned nsoft, ncode, ndata;
};

/* Through the translation of vCPU v. -EFAULT, -ENOSPC, -EINVAL. */
int stops_add(struct stops *s, struct vcpu *v, enum stop_type type, uint64_t va, uint64_t len);
/* -ENOENT */
int stops_remove(struct stops *s, struct vcpu *v, enum stop_type type, uint64_t va);
void stops_clear(struct stops *s, struct vcpu *v);
/* Tells KVM what is to stop this vCPU; with `on` false nothing does. */
int stops_apply(const struct stops *s, struct vcpu *v, bool on, bool step);

/* Why a vCPU left with KVM_EXIT_DEBUG. */
enum stop_cause { CAUSE_STEP, CAUSE_BREAKPOINT, CAUSE_WATCHPOINT, CAUSE_GUESTS_OWN };
enum stop_cause stops_cause(const struct stops *s, struct vcpu *v,
                            const struct kvm_debug_exit_arch *x);
/* The guest's own BRK, which came to us because we asked for ours: it gets its exception. */
void stops_hand_back(struct vcpu *v, const struct kvm_debug_exit_arch *x);

#endif
