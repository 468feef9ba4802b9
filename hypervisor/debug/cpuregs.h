// SPDX-License-Identifier: Apache-2.0
/*
 * A parked vCPU's registers by number and by name: what a debugger sees, and
 * what is logged when a machine ends badly. I/O thread. Values are the
 * guest's.
 */
#ifndef DORMOUSE_DEBUG_CPUREGS_H
#define DORMOUSE_DEBUG_CPUREGS_H

#include "../base/buf.h"
#include "../vm.h"

/* Numbers: GDB's own for aarch64, then system registers of EL1. */
enum {
    CPU_X0 = 0,
    CPU_LR = 30,
    CPU_SP, /* the one in use */
    CPU_PC,
    CPU_PSTATE,
    CPU_V0,
    CPU_FPSR = CPU_V0 + 32,
    CPU_FPCR,
    CPU_ESR,
    CPU_FAR,
    CPU_ELR,
    CPU_SPSR,
    CPU_SP_EL0,
    CPU_SP_EL1,
    CPU_VBAR,
    CPU_SCTLR,
    CPU_TCR,
    CPU_TTBR0,
    CPU_TTBR1,
    CPU_REGS
};

#define CPU_REG_MAX 16u /* bytes */

/* Bytes of register n as a debugger counts them. */
unsigned cpu_reg_size(unsigned n);
/* 0 or -errno; `value` has cpu_reg_size(n) bytes, little-endian. */
int cpu_reg_get(struct vcpu *v, unsigned n, void *value);
int cpu_reg_set(struct vcpu *v, unsigned n, const void *value);
/* A register of up to 8 bytes; 0 when it cannot be read. */
uint64_t cpu_reg(struct vcpu *v, unsigned n);
void cpu_reg_put(struct vcpu *v, unsigned n, uint64_t value);

/* GDB's description of them all. */
void cpu_describe(struct buf *out);
/* A dozen lines to the log. */
void cpu_dump(struct vcpu *v);

#endif
