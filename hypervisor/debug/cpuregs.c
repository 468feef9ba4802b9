// SPDX-License-Identifier: Apache-2.0
/* A vCPU's registers; see cpuregs.h. */
#include "cpuregs.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "../base/log.h"
#include "../base/mem.h"
#include "../kvm.h"

#define CORE(size, field) \
    (KVM_REG_ARM64 | KVM_REG_ARM_CORE | KVM_REG_SIZE_##size | KVM_REG_ARM_CORE_REG(field))
#define MODE_MASK 0xfu
#define MODE_EL1H 5u

/* From CPU_SP on, but for the vector registers. */
static const struct named {
    const char *name, *type;
    uint64_t id;
} named[] = {
    [CPU_SP] = {"sp", "data_ptr", CORE(U64, regs.sp)},
    [CPU_PC] = {"pc", "code_ptr", CORE(U64, regs.pc)},
    [CPU_PSTATE] = {"cpsr", "uint32", CORE(U64, regs.pstate)},
    [CPU_FPSR] = {"fpsr", "uint32", CORE(U32, fp_regs.fpsr)},
    [CPU_FPCR] = {"fpcr", "uint32", CORE(U32, fp_regs.fpcr)},
    [CPU_ESR] = {"esr_el1", "uint64", ARM64_SYS_REG(3, 0, 5, 2, 0)},
    [CPU_FAR] = {"far_el1", "data_ptr", ARM64_SYS_REG(3, 0, 6, 0, 0)},
    [CPU_ELR] = {"elr_el1", "code_ptr", CORE(U64, elr_el1)},
    [CPU_SPSR] = {"spsr_el1", "uint64", CORE(U64, spsr[KVM_SPSR_EL1])},
    [CPU_SP_EL0] = {"sp_el0", "data_ptr", CORE(U64, regs.sp)},
    [CPU_SP_EL1] = {"sp_el1", "data_ptr", CORE(U64, sp_el1)},
    [CPU_VBAR] = {"vbar_el1", "code_ptr", ARM64_SYS_REG(3, 0, 12, 0, 0)},
    [CPU_SCTLR] = {"sctlr_el1", "uint64", ARM64_SYS_REG(3, 0, 1, 0, 0)},
    [CPU_TCR] = {"tcr_el1", "uint64", ARM64_SYS_REG(3, 0, 2, 0, 2)},
    [CPU_TTBR0] = {"ttbr0_el1", "uint64", ARM64_SYS_REG(3, 0, 2, 0, 0)},
    [CPU_TTBR1] = {"ttbr1_el1", "uint64", ARM64_SYS_REG(3, 0, 2, 0, 1)},
};
_Static_assert(ARRAY_LEN(named) == CPU_REGS, "every register is described");

unsigned cpu_reg_size(unsigned n)
{
    if (n >= CPU_V0 && n < CPU_FPSR)
        return 16;
    return n == CPU_PSTATE || n == CPU_FPSR || n == CPU_FPCR ? 4 : 8;
}

static uint64_t id_of(struct vcpu *v, unsigned n)
{
    if (n < CPU_SP) /* a register is two of KVM's 32-bit words */
        return CORE(U64, regs.regs[0]) + 2ull * n;
    if (n >= CPU_V0 && n < CPU_FPSR)
        return CORE(U128, fp_regs.vregs[0]) + 4ull * (n - CPU_V0);
    if (n == CPU_SP && (cpu_reg(v, CPU_PSTATE) & MODE_MASK) == MODE_EL1H)
        n = CPU_SP_EL1;
    return named[n].id;
}

/* KVM's PSTATE has 8 bytes where a debugger's has 4. */
int cpu_reg_get(struct vcpu *v, unsigned n, void *value)
{
    uint8_t b[CPU_REG_MAX];
    int r = n < CPU_REGS ? kvm_get_reg(v->fd, id_of(v, n), b) : -EINVAL;
    if (r == 0)
        memcpy(value, b, cpu_reg_size(n));
    return r;
}

int cpu_reg_set(struct vcpu *v, unsigned n, const void *value)
{
    uint8_t b[CPU_REG_MAX] = {0};
    if (n >= CPU_REGS)
        return -EINVAL;
    memcpy(b, value, cpu_reg_size(n));
    return kvm_set_reg(v->fd, id_of(v, n), b);
}

uint64_t cpu_reg(struct vcpu *v, unsigned n)
{
    uint64_t value = 0;
    return cpu_reg_get(v, n, &value) < 0 ? 0 : value;
}

void cpu_reg_put(struct vcpu *v, unsigned n, uint64_t value)
{
    cpu_reg_set(v, n, &value);
}

static void describe(struct buf *out, const char *name, unsigned n, const char *type)
{
    buf_printf(out, "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\" regnum=\"%u\"/>", name,
               8 * cpu_reg_size(n), type, n);
}

void cpu_describe(struct buf *out)
{
    buf_str(out, "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target>"
                 "<architecture>aarch64</architecture>");
    for (unsigned n = 0; n < CPU_REGS; n++) {
        char name[8];
        if (n == CPU_X0)
            buf_str(out, "<feature name=\"org.gnu.gdb.aarch64.core\">");
        else if (n == CPU_V0)
            buf_str(out, "</feature><feature name=\"org.gnu.gdb.aarch64.fpu\">");
        else if (n == CPU_ESR)
            buf_str(out, "</feature><feature name=\"org.dormouse.el1\">");
        bool vector = n >= CPU_V0 && n < CPU_FPSR;
        snprintf(name, sizeof name, "%c%u", vector ? 'v' : 'x', vector ? n - CPU_V0 : n);
        if (n < CPU_SP || vector)
            describe(out, name, n, vector ? "uint128" : "uint64");
        else
            describe(out, named[n].name, n, named[n].type);
    }
    buf_str(out, "</feature></target>");
}

void cpu_dump(struct vcpu *v)
{
    static const struct {
        const char *name;
        unsigned n;
    } first[] = {{"pc", CPU_PC},   {"sp", CPU_SP},   {"pstate", CPU_PSTATE},
                 {"esr", CPU_ESR}, {"far", CPU_FAR}, {"elr", CPU_ELR}};
    char line[200];
    int len = 0;
    for (unsigned i = 0; i < ARRAY_LEN(first); i++)
        len += snprintf(line + len, sizeof line - (size_t)len, " %s %016llx", first[i].name,
                        (unsigned long long)cpu_reg(v, first[i].n));
    log_info("vCPU %u:%s", v->index, line);
    for (unsigned i = 0; i <= CPU_LR; i += 4) {
        len = 0;
        for (unsigned n = i; n < i + 4 && n <= CPU_LR; n++)
            len += snprintf(line + len, sizeof line - (size_t)len, " x%-2u %016llx", n,
                            (unsigned long long)cpu_reg(v, n));
        log_info("vCPU %u:%s", v->index, line);
    }
}
