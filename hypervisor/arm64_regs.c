// SPDX-License-Identifier: Apache-2.0
/*
 * vCPU registers; see arm64_regs.h. Called by vm_save.c and vm_restore.c in
 * the I/O thread while the vCPU is parked. Register ids and values in a
 * snapshot are not trusted: KVM checks what is written, and nothing here is
 * indexed by them.
 */
#include "arm64_regs.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "../snapshot/devstate.h"
#include "../snapshot/snapstate.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "kvm.h"
#include "vm.h"

#define MPIDR_EL1 ARM64_SYS_REG(3, 0, 0, 0, 5)
#define MIDR_EL1  ARM64_SYS_REG(3, 0, 0, 0, 0)

/* Not part of a vCPU's state: its number, and the two machine-wide counters. */
static bool excluded(uint64_t id)
{
    return id == MPIDR_EL1 || id == KVM_REG_ARM_TIMER_CNT || id == KVM_REG_ARM_PTIMER_CNT;
}

/* Op0 3, Op1 0, 1 or 3, CRn 0: identification registers. */
static bool identifies(uint64_t id)
{
    return (id & KVM_REG_ARM_COPROC_MASK) == KVM_REG_ARM64_SYSREG &&
           (id & KVM_REG_ARM64_SYSREG_OP0_MASK) >> KVM_REG_ARM64_SYSREG_OP0_SHIFT == 3 &&
           (id & KVM_REG_ARM64_SYSREG_CRN_MASK) == 0;
}

/* KVM_ARM_VCPU_INIT zeroes the general and floating-point registers (but PSTATE) and the
 * breakpoint and watchpoint registers: no need to ask. */
static bool starts_as_zero(uint64_t id)
{
    if ((id & KVM_REG_ARM_COPROC_MASK) == KVM_REG_ARM_CORE)
        return (id & 0xffff) != KVM_REG_ARM_CORE_REG(regs.pstate);
    uint64_t debug = ARM64_SYS_REG(2, 0, 0, 0, 4);
    return (id & ~(uint64_t)(KVM_REG_ARM64_SYSREG_CRM_MASK | 3)) == debug;
}

static int list_regs(struct regs *regs, int vcpu_fd, struct err *e)
{
    AUTO_FREE struct kvm_reg_list *list = malloc(sizeof *list + REGS_MAX * sizeof(uint64_t));
    if (!list)
        return err_sys(e, ENOMEM, "list the vCPU's registers");
    list->n = REGS_MAX;
    int r = kvm_call(vcpu_fd, KVM_GET_REG_LIST, list, e);
    if (r < 0)
        return r;
    for (uint64_t i = 0; i < list->n && regs->n < REGS_MAX; i++) {
        if (!excluded(list->reg[i]))
            regs->ids[regs->n++] = list->reg[i];
    }
    return 0;
}

int regs_probe(struct regs *regs, struct vcpu *v, struct err *e)
{
    regs->n = regs->len = 0;
    int r = list_regs(regs, v->fd, e);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < regs->n; i++) {
        uint32_t size = KVM_REG_SIZE(regs->ids[i]);
        if (!range_ok(regs->len, size, sizeof regs->values))
            return err_set(e, E2BIG, "this CPU has more than %u bytes of registers",
                           REGS_BYTES_MAX);
        if (!starts_as_zero(regs->ids[i]))
            r = kvm_get_reg(v->fd, regs->ids[i], regs->values + regs->len);
        if (r < 0)
            return err_sys(e, -r, "read register %llx", (unsigned long long)regs->ids[i]);
        regs->at[i] = regs->len;
        regs->len += size;
    }
    return 0;
}

void regs_facts(const struct regs *regs, struct host_facts *ret)
{
    uint32_t ids = crc32c(0, regs->ids, regs->n * sizeof regs->ids[0]), values = 0;
    ret->midr = 0;
    for (unsigned i = 0; i < regs->n; i++) {
        if (identifies(regs->ids[i]))
            values = crc32c(values, regs->values + regs->at[i], KVM_REG_SIZE(regs->ids[i]));
        if (regs->ids[i] == MIDR_EL1)
            memcpy(&ret->midr, regs->values + regs->at[i], sizeof ret->midr);
    }
    ret->fingerprint = (uint64_t)ids << 32 | values;
    __asm__("mrs %0, cntfrq_el0" : "=r"(ret->cntfrq));
}

/* Writing the counter moves the virtual offset of the whole machine. The uapi names of the
 * two registers are swapped against the architecture's; the names are what KVM means. */
int regs_counter_get(struct vcpu *v, uint64_t *ret, struct err *e)
{
    int r = kvm_get_reg(v->fd, KVM_REG_ARM_TIMER_CNT, ret);
    return r < 0 ? err_sys(e, -r, "read the guest's counter") : 0;
}

int regs_counter_set(struct vcpu *v, uint64_t counter, struct err *e)
{
    int r = kvm_set_reg(v->fd, KVM_REG_ARM_TIMER_CNT, &counter);
    return r < 0 ? err_sys(e, -r, "set the guest's counter") : 0;
}

int regs_save(const struct regs *regs, struct vcpu *v, struct dstate_writer *w, struct err *e)
{
    struct buf b = BUF_INIT;
    int r = 0;
    for (unsigned i = 0; i < regs->n && r == 0; i++) {
        uint32_t size = KVM_REG_SIZE(regs->ids[i]);
        uint8_t *p = buf_reserve(&b, sizeof(uint64_t) + size);
        if (!p) {
            r = err_sys(e, ENOMEM, "save the registers");
            break;
        }
        put_le64(p, regs->ids[i]);
        r = kvm_get_reg(v->fd, regs->ids[i], p + sizeof(uint64_t));
        if (r < 0)
            err_sys(e, -r, "read register %llx", (unsigned long long)regs->ids[i]);
        b.len += sizeof(uint64_t) + size;
    }
    struct kvm_mp_state mp = {0};
    if (r == 0)
        r = kvm_call(v->fd, KVM_GET_MP_STATE, &mp, e);
    struct kvm_vcpu_events events;
    memset(&events, 0, sizeof events);
    if (r >= 0)
        r = kvm_call(v->fd, KVM_GET_VCPU_EVENTS, &events, e);
    if (r >= 0) {
        dw_u32(w, SNAP_VCPU_MP_STATE, mp.mp_state);
        dw_u32(w, SNAP_VCPU_SERROR,
               (uint32_t)events.exception.serror_pending |
                   (uint32_t)events.exception.serror_has_esr << 1 |
                   (uint32_t)events.exception.ext_dabt_pending << 2);
        dw_u64(w, SNAP_VCPU_SERROR_ESR, events.exception.serror_esr);
        dw_bytes(w, SNAP_VCPU_REGS, b.data, b.len);
        r = 0;
    }
    buf_free(&b);
    return r;
}

/* Most registers have 8 bytes, and this is done for all of them while somebody waits. */
static bool same_value(const uint8_t *a, const uint8_t *b, size_t size)
{
    uint64_t x, y;
    if (size != sizeof x)
        return memcmp(a, b, size) == 0;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x == y;
}

static int load_one(const struct regs *regs, unsigned *next, struct vcpu *v,
                    const struct snap_reg *reg, struct err *e)
{
    /* Saved in the order of the list, so normally the next one. */
    unsigned i = *next;
    if (i >= regs->n || regs->ids[i] != reg->id) {
        for (i = 0; i < regs->n && regs->ids[i] != reg->id; i++)
            ;
    }
    if (i < regs->n) {
        *next = i + 1;
        if (KVM_REG_SIZE(reg->id) == reg->size &&
            same_value(regs->values + regs->at[i], reg->value, reg->size))
            return 0;
    }
    int r = excluded(reg->id) ? -EINVAL : kvm_set_reg(v->fd, reg->id, reg->value);
    if (r == 0)
        return 0;
    err_sys(e, -r, "vCPU %u: register %llx of the snapshot does not fit this host", v->index,
            (unsigned long long)reg->id);
    return err_hint(e, "restore on a host with the same CPU model and kernel");
}

int regs_load(const struct regs *regs, struct vcpu *v, const struct dstate_reader *r,
              struct err *e)
{
    const void *data;
    size_t len, pos = 0;
    uint32_t mp_state, serror;
    uint64_t esr;
    int res = dr_bytes(r, SNAP_VCPU_REGS, &data, &len, e);
    if (res == 0)
        res = dr_u32(r, SNAP_VCPU_MP_STATE, &mp_state, e);
    if (res == 0)
        res = dr_u32(r, SNAP_VCPU_SERROR, &serror, e);
    if (res == 0)
        res = dr_u64(r, SNAP_VCPU_SERROR_ESR, &esr, e);
    if (res < 0)
        return res;
    unsigned next = 0;
    struct snap_reg reg;
    while ((res = snap_next_reg(data, len, &pos, &reg, e)) > 0) {
        res = load_one(regs, &next, v, &reg, e);
        if (res < 0)
            return res;
    }
    if (res < 0)
        return res;
    if (mp_state != (v->index ? KVM_MP_STATE_STOPPED : KVM_MP_STATE_RUNNABLE)) {
        struct kvm_mp_state mp = {.mp_state = mp_state};
        res = kvm_call(v->fd, KVM_SET_MP_STATE, &mp, e);
        if (res < 0)
            return res;
    }
    if (serror) {
        struct kvm_vcpu_events events;
        memset(&events, 0, sizeof events);
        events.exception.serror_pending = serror & 1;
        events.exception.serror_has_esr = serror >> 1 & 1;
        events.exception.ext_dabt_pending = serror >> 2 & 1;
        events.exception.serror_esr = esr;
        res = kvm_call(v->fd, KVM_SET_VCPU_EVENTS, &events, e);
    }
    return res < 0 ? res : 0;
}
