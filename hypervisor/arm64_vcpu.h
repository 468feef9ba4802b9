// SPDX-License-Identifier: Apache-2.0
/* One vCPU: its making, its thread, its exits. */
#ifndef DORMOUSE_ARM64_VCPU_H
#define DORMOUSE_ARM64_VCPU_H

#include "vm.h"

/* Creates and initialises vCPU `index`; secondary ones start powered off. */
int vcpu_create(struct vm *vm, unsigned index, struct err *e);
/* Starts its thread, which waits for vm->go. */
int vcpu_start_thread(struct vcpu *v, struct err *e);
/* Out of KVM_RUN; vm->lock is held. */
void vcpu_kick(struct vcpu *v);
/* First instruction at `pc` with x0. */
int vcpu_set_entry(struct vcpu *v, uint64_t pc, uint64_t x0, struct err *e);

#endif
