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

int regs_probe(struct regs *regs, struct vcpu *v, struct err *e)
{
    AUTO_FREE struct kvm_reg_list *list = malloc(sizeof *list + REGS_MAX * sizeof(uint64_t));
    struct host_facts *facts = &regs->facts;
    uint32_t ids = 0, values = 0;
    if (!list)
        return err_sys(e, ENOMEM, "list the vCPU's registers");
    list->n = REGS_MAX;
    int r = kvm_call(v->fd, KVM_GET_REG_LIST, list, e);
    if (r < 0)
        return r;
    for (uint64_t i = 0; i < MIN(list->n, (uint64_t)REGS_MAX); i++) {
        uint64_t id = list->reg[i];
        size_t size = KVM_REG_SIZE(id);
        uint8_t *p = regs->fresh + regs->len, *value = p + sizeof id;
        if (excluded(id))
            continue;
        if (!range_ok(regs->len, sizeof id + size, sizeof regs->fresh))
            return err_set(e, E2BIG, "this CPU has more than %u bytes of registers",
                           REGS_BYTES_MAX);
        put_le64(p, id);
        r = kvm_get_reg(v->fd, id, value);
        if (r < 0)
            return err_sys(e, -r, "read register %llx", (unsigned long long)id);
        regs->len += (uint32_t)(sizeof id + size);
        regs->at[++regs->n] = (uint16_t)regs->len;
        ids = crc32c(ids, &id, sizeof id);
        if (identifies(id))
            values = crc32c(values, value, size);
        if (id == MIDR_EL1)
            memcpy(&facts->midr, value, sizeof facts->midr);
    }
    facts->fingerprint = (uint64_t)ids << 32 | values;
    __asm__("mrs %0, cntfrq_el0" : "=r"(facts->cntfrq));
    return 0;
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
    AUTO_FREE uint8_t *all = malloc(regs->len);
    struct snap_reg reg;
    size_t pos = 0;
    int r = 0;
    if (!all)
        return err_sys(e, ENOMEM, "save the registers");
    memcpy(all, regs->fresh, regs->len);
    while (r == 0 && snap_next_reg(all, regs->len, &pos, &reg, NULL) > 0) {
        r = kvm_get_reg(v->fd, reg.id, all + pos - reg.size);
        if (r < 0)
            err_sys(e, -r, "read register %llx", (unsigned long long)reg.id);
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
        dw_bytes(w, SNAP_VCPU_REGS, all, regs->len);
    }
    return r < 0 ? r : 0;
}

/* Where they first differ from pos on. In words: somebody waits. */
static size_t same_until(const uint8_t *a, const uint8_t *b, size_t pos, size_t len)
{
    uint64_t x, y;
    for (; len - pos >= sizeof x; pos += sizeof x) {
        memcpy(&x, a + pos, sizeof x);
        memcpy(&y, b + pos, sizeof y);
        if (x != y)
            break;
    }
    while (pos < len && a[pos] == b[pos])
        pos++;
    return pos;
}

static int load_one(struct vcpu *v, const struct snap_reg *reg, struct err *e)
{
    int r = excluded(reg->id) ? -EINVAL : kvm_set_reg(v->fd, reg->id, reg->value);
    if (r == 0)
        return 0;
    err_sys(e, -r, "vCPU %u: register %llx of the snapshot does not fit this host", v->index,
            (unsigned long long)reg->id);
    return err_hint(e, "restore on a host with the same CPU model and kernel");
}

int regs_load_power(struct vcpu *v, struct dstate_reader *r, bool *ret_on, struct err *e)
{
    struct kvm_mp_state mp;
    int res = dr_u32(r, SNAP_VCPU_MP_STATE, &mp.mp_state, e);
    if (res < 0)
        return res;
    *ret_on = mp.mp_state == KVM_MP_STATE_RUNNABLE;
    if (mp.mp_state == (v->index ? KVM_MP_STATE_STOPPED : KVM_MP_STATE_RUNNABLE))
        return 0;
    return kvm_call(v->fd, KVM_SET_MP_STATE, &mp, e);
}

int regs_load(const struct regs *regs, struct vcpu *v, struct dstate_reader *r, struct err *e)
{
    const void *data;
    size_t len, pos = 0;
    uint32_t serror;
    uint64_t esr;
    int res = dr_bytes(r, SNAP_VCPU_REGS, &data, &len, e);
    if (res == 0)
        res = dr_u32(r, SNAP_VCPU_SERROR, &serror, e);
    if (res == 0)
        res = dr_u64(r, SNAP_VCPU_SERROR_ESR, &esr, e);
    if (res < 0)
        return res;
    struct snap_reg reg;
    for (unsigned i = 0; pos < len; i++) {
        /* Saved in the order of this host's list, so what is fresh is at the same place. */
        if (i < regs->n && pos == regs->at[i]) {
            size_t until = same_until(data, regs->fresh, pos, MIN(len, (size_t)regs->len));
            while (i < regs->n && regs->at[i + 1] <= until)
                i++;
            pos = regs->at[i];
            if (pos == len)
                break;
        }
        res = snap_next_reg(data, len, &pos, &reg, e);
        if (res > 0)
            res = load_one(v, &reg, e);
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
