// SPDX-License-Identifier: Apache-2.0
/* Breakpoints, watchpoints, single steps; see stops.h. */
#include "stops.h"

#include <errno.h>
#include <string.h>

#include "../base/mem.h"
#include "../kvm.h"
#include "cpuregs.h"
#include "guestmem.h"

#define BRK_INSN 0xd4200000u /* BRK #0 */
#define EC_SHIFT 26u
#define EC_MASK  0x3fu
enum { EC_STEP = 0x32, EC_WATCH = 0x34, EC_BRK = 0x3c };

/* DBGBCR<n>_EL1 and DBGWCR<n>_EL1: enabled at EL0 and EL1, for these bytes, loads, stores. */
static uint64_t control(unsigned access, uint64_t bytes)
{
    return 1u | 3u << 1 | (uint64_t)access << 3 | bytes << 5;
}

static struct soft_stop *find_soft(const struct stops *s, uint64_t va)
{
    for (unsigned i = 0; i < s->nsoft; i++) {
        if (s->soft[i].va == va)
            return (struct soft_stop *)&s->soft[i];
    }
    return NULL;
}

static int add_soft(struct stops *s, struct vcpu *v, uint64_t va)
{
    static const uint32_t brk = BRK_INSN;
    if (find_soft(s, va))
        return 0;
    if (s->nsoft == STOPS_SOFT_MAX)
        return -ENOSPC;
    struct soft_stop *b = &s->soft[s->nsoft];
    b->va = va;
    if (va % 4 || guest_read(v, va, &b->insn, 4) != 4 || guest_write(v, va, &brk, 4) != 4)
        return -EFAULT;
    s->nsoft++;
    return 0;
}

static int remove_soft(struct stops *s, struct vcpu *v, uint64_t va)
{
    struct soft_stop *b = find_soft(s, va);
    uint32_t now;
    if (!b)
        return -ENOENT;
    /* Gone already where the guest has reused the page. */
    if (guest_read(v, va, &now, 4) == 4 && now == BRK_INSN)
        guest_write(v, va, &b->insn, 4);
    *b = s->soft[--s->nsoft];
    return 0;
}

static int add_hard(struct stops *s, enum stop_type type, uint64_t va, uint64_t len)
{
    bool code = type == STOP_HARD;
    struct hard_stop *list = code ? s->code : s->data;
    unsigned *n = code ? &s->ncode : &s->ndata;
    /* A watchpoint covers bytes of one double word. */
    if (code ? va % 4 != 0 : len < 1 || len > 8 || va % 8 + len > 8)
        return -EINVAL;
    if (*n == STOPS_HARD_MAX)
        return -ENOSPC;
    list[(*n)++] = (struct hard_stop){.type = type, .va = va, .len = (unsigned)len};
    return 0;
}

static int remove_hard(struct stops *s, enum stop_type type, uint64_t va)
{
    bool code = type == STOP_HARD;
    struct hard_stop *list = code ? s->code : s->data;
    unsigned *n = code ? &s->ncode : &s->ndata;
    for (unsigned i = 0; i < *n; i++) {
        if (list[i].va == va && list[i].type == type) {
            list[i] = list[--*n];
            return 0;
        }
    }
    return -ENOENT;
}

int stops_add(struct stops *s, struct vcpu *v, enum stop_type type, uint64_t va, uint64_t len)
{
    return type == STOP_SOFT ? add_soft(s, v, va) : add_hard(s, type, va, len);
}

int stops_remove(struct stops *s, struct vcpu *v, enum stop_type type, uint64_t va)
{
    return type == STOP_SOFT ? remove_soft(s, v, va) : remove_hard(s, type, va);
}

void stops_clear(struct stops *s, struct vcpu *v)
{
    while (s->nsoft)
        remove_soft(s, v, s->soft[0].va);
    s->ncode = s->ndata = 0;
}

int stops_apply(const struct stops *s, struct vcpu *v, bool on, bool step)
{
    struct kvm_guest_debug d;
    memset(&d, 0, sizeof d);
    if (on)
        d.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
    if (on && step)
        d.control |= KVM_GUESTDBG_SINGLESTEP;
    if (on && s->ncode + s->ndata)
        d.control |= KVM_GUESTDBG_USE_HW;
    for (unsigned i = 0; i < s->ncode; i++) {
        d.arch.dbg_bcr[i] = control(0, 0xf);
        d.arch.dbg_bvr[i] = s->code[i].va;
    }
    for (unsigned i = 0; i < s->ndata; i++) {
        const struct hard_stop *w = &s->data[i];
        unsigned access = w->type == STOP_READ ? 1 : w->type == STOP_WRITE ? 2 : 3;
        uint64_t bytes = ((1ull << w->len) - 1) << w->va % 8;
        d.arch.dbg_wcr[i] = control(access, bytes);
        d.arch.dbg_wvr[i] = w->va & ~7ull;
    }
    return kvm_call(v->fd, KVM_SET_GUEST_DEBUG, &d, NULL);
}

enum stop_cause stops_cause(const struct stops *s, struct vcpu *v,
                            const struct kvm_debug_exit_arch *x)
{
    switch (x->hsr >> EC_SHIFT & EC_MASK) {
    case EC_STEP:
        return CAUSE_STEP;
    case EC_WATCH:
        return CAUSE_WATCHPOINT;
    case EC_BRK:
        return find_soft(s, cpu_reg(v, CPU_PC)) ? CAUSE_BREAKPOINT : CAUSE_GUESTS_OWN;
    default:
        return CAUSE_BREAKPOINT;
    }
}

/* Taking an exception to EL1 (Arm ARM, D1.3) as far as it concerns what a BRK can meet. */
void stops_hand_back(struct vcpu *v, const struct kvm_debug_exit_arch *x)
{
    enum { MODE = 0xf, EL0T = 0, EL1T = 4, EL1H = 5, AARCH32 = 0x10, DAIF = 0x3c0 };
    const uint64_t kept = 0xf1400000; /* NZCV, DIT, PAN */
    const uint64_t pan = 1u << 22, span = 1u << 23;
    uint64_t pstate = cpu_reg(v, CPU_PSTATE), offset;
    if (pstate & AARCH32)
        offset = 0x600;
    else if ((pstate & MODE) == EL0T)
        offset = 0x400;
    else
        offset = (pstate & MODE) == EL1T ? 0 : 0x200;
    cpu_reg_put(v, CPU_ELR, cpu_reg(v, CPU_PC));
    cpu_reg_put(v, CPU_SPSR, pstate);
    cpu_reg_put(v, CPU_ESR, x->hsr);
    cpu_reg_put(v, CPU_PC, cpu_reg(v, CPU_VBAR) + offset);
    pstate = (pstate & kept) | DAIF | EL1H;
    if (!(cpu_reg(v, CPU_SCTLR) & span))
        pstate |= pan;
    cpu_reg_put(v, CPU_PSTATE, pstate);
}
