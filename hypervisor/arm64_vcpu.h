// SPDX-License-Identifier: Apache-2.0
/* One vCPU: its making, its thread, its exits. */
#ifndef DORMOUSE_ARM64_VCPU_H
#define DORMOUSE_ARM64_VCPU_H

#include "vm.h"

/* What all vCPUs of this host start with: sets vm->init and vm->run_len. */
int vcpu_probe(struct vm *vm, struct err *e);
/* Creates and initialises vCPU `index`; secondary ones start powered off. */
int vcpu_create(struct vm *vm, unsigned index, struct err *e);
/* Once for the process and its children. */
void vcpu_handle_kicks(void);
/* Starts its thread, which waits for vm->go. */
int vcpu_start_thread(struct vcpu *v, struct err *e);
/* Out of KVM_RUN; vm->lock is held. */
void vcpu_kick(struct vcpu *v);
/* First instruction at `pc` with x0. */
int vcpu_set_entry(struct vcpu *v, uint64_t pc, uint64_t x0, struct err *e);

/* Register Xn; 31: the program counter. */
int vcpu_set_x(struct vcpu *v, unsigned n, uint64_t value, struct err *e);

#define VCPU_TOUCHED 0x0f000000ull /* a write here ends vm->touching */

#endif
