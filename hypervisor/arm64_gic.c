// SPDX-License-Identifier: Apache-2.0
/*
 * The in-kernel GIC; see arm64_gic.h. The state is a list of words in the
 * order in which they must be written; words that hold what a fresh GIC holds
 * are left out when saving. A forged list can only name registers that KVM
 * offers, and KVM checks each.
 */
#include "arm64_gic.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/ioctl.h>

#include "../snapshot/devstate.h"
#include "../snapshot/snapstate.h"
#include "base/mem.h"
#include "kvm.h"
#include "vm.h"

#define NR_IRQS   64u /* 32 private, 32 SPIs */
#define NR_PRIV   32u
#define WORDS_MAX (256u + 64u * CTL_VCPUS_MAX)

static int set_addr(struct vm *vm, uint64_t type, uint64_t addr, struct err *e)
{
    int r = kvm_set_attr(vm->gic_fd, KVM_DEV_ARM_VGIC_GRP_ADDR, type, &addr);
    return r < 0 ? err_sys(e, -r, "place the GIC") : 0;
}

int gic_create(struct vm *vm, struct err *e)
{
    static const struct {
        unsigned version;
        uint32_t type, addr_a, addr_b;
        uint64_t base_a, base_b;
    } kinds[] = {
        {3, KVM_DEV_TYPE_ARM_VGIC_V3, KVM_VGIC_V3_ADDR_TYPE_DIST, KVM_VGIC_V3_ADDR_TYPE_REDIST,
         MAP_GICD, MAP_GICR},
        {2, KVM_DEV_TYPE_ARM_VGIC_V2, KVM_VGIC_V2_ADDR_TYPE_DIST, KVM_VGIC_V2_ADDR_TYPE_CPU,
         MAP_GICD, MAP_GICC},
    };
    for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
        struct kvm_create_device dev = {.type = kinds[i].type};
        if (ioctl(vm->fd, (int)KVM_CREATE_DEVICE, &dev) < 0)
            continue;
        vm->gic = kinds[i].version;
        vm->gic_fd = (int)dev.fd;
        if (vm->gic == 2 && vm->nvcpus > 8)
            return err_set(e, EINVAL, "a GICv2 host runs at most 8 vCPUs, not %u", vm->nvcpus);
        int r = set_addr(vm, kinds[i].addr_a, kinds[i].base_a, e);
        if (r == 0)
            r = set_addr(vm, kinds[i].addr_b, kinds[i].base_b, e);
        if (r < 0)
            return r;
        uint32_t nr = NR_IRQS;
        r = kvm_set_attr(vm->gic_fd, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &nr);
        if (r == 0)
            r = kvm_set_attr(vm->gic_fd, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT,
                             NULL);
        return r < 0 ? err_sys(e, -r, "initialise the GIC") : 0;
    }
    return err_sys(e, errno, "KVM offers no GIC");
}

/* One register range of the distributor, redistributor or CPU interface. */
struct range {
    uint32_t offset;
    uint16_t words;
    enum { IF_SET, ALWAYS, AND_CLEAR, PRIMED } when;
};
/* IF_SET: a fresh GIC holds zero. ALWAYS: it may hold something else. AND_CLEAR: the register
 * only sets bits, the one 0x80 behind it clears them (a fresh GIC has its SGIs enabled).
 * PRIMED: priorities. Reset leaves them unknown (IHI 0069, GICD_IPRIORITYR), so an embryo with
 * nothing to do makes them those that Linux will, and a restore finds them in place. */
#define LINUX_PRIORITIES_V3 0xc0c0c0c0u
#define LINUX_PRIORITIES_V2 0xa0a0a0a0u

/* In the order of writing: a pending bit means what the trigger mode before it says. The
 * SPI part of each array follows the private part. */
#define SPIS(base, bits) \
    ((base) + NR_PRIV * (bits) / 8), (uint16_t)((NR_IRQS - NR_PRIV) * (bits) / 32)
#define PRIV(base, bits) (base), (uint16_t)(NR_PRIV * (bits) / 32)

static const struct range v3_dist[] = {
    {0x0008, 1, ALWAYS},       /* IIDR: the implementation whose words these are */
    {0x0000, 1, ALWAYS},       /* CTLR */
    {SPIS(0x0080, 1), ALWAYS}, /* IGROUPR */
    {SPIS(0x0c00, 2), ALWAYS}, /* ICFGR */
    {SPIS(0x0400, 8), PRIMED}, /* IPRIORITYR */
    {0x6100, 64, IF_SET},      /* IROUTER of INTID 32..63 */
    {SPIS(0x0100, 1), IF_SET}, /* ISENABLER */
    {SPIS(0x0200, 1), IF_SET}, /* ISPENDR */
    {SPIS(0x0300, 1), IF_SET}, /* ISACTIVER */
};
#define SGI 0x10000u
static const struct range v3_redist[] = {
    {PRIV(SGI + 0x0080, 1), ALWAYS},    /* IGROUPR0 */
    {SGI + 0x0c04, 1, ALWAYS},          /* ICFGR1; ICFGR0 is read-only */
    {PRIV(SGI + 0x0400, 8), PRIMED},    /* IPRIORITYR */
    {PRIV(SGI + 0x0100, 1), AND_CLEAR}, /* ISENABLER0 */
    {PRIV(SGI + 0x0200, 1), IF_SET},    /* ISPENDR0 */
    {PRIV(SGI + 0x0300, 1), IF_SET},    /* ISACTIVER0 */
};
static const struct range v2_dist[] = {
    {0x008, 1, ALWAYS},       /* IIDR */
    {0x000, 1, ALWAYS},       /* CTLR */
    {SPIS(0x080, 1), ALWAYS}, /* IGROUPR */
    {SPIS(0xc00, 2), ALWAYS}, /* ICFGR */
    {SPIS(0x400, 8), PRIMED}, /* IPRIORITYR */
    {SPIS(0x800, 8), ALWAYS}, /* ITARGETSR */
    {SPIS(0x100, 1), IF_SET}, /* ISENABLER */
    {SPIS(0x200, 1), IF_SET}, /* ISPENDR */
    {SPIS(0x300, 1), IF_SET}, /* ISACTIVER */
};
static const struct range v2_banked[] = {
    {PRIV(0x080, 1), ALWAYS},    /* IGROUPR */
    {0xc04, 1, ALWAYS},          /* ICFGR of the PPIs */
    {PRIV(0x400, 8), PRIMED},    /* IPRIORITYR */
    {PRIV(0x100, 1), AND_CLEAR}, /* ISENABLER */
    {PRIV(0x200, 1), IF_SET},    /* ISPENDR of the PPIs */
    {PRIV(0x300, 1), IF_SET},    /* ISACTIVER */
    {0xf20, 4, IF_SET},          /* SPENDSGIR: which vCPUs sent the pending SGIs */
};
static const struct range v2_cpu[] = {
    {0x00, 1, ALWAYS}, /* CTLR */
    {0x04, 1, ALWAYS}, /* PMR */
    {0x08, 1, ALWAYS}, /* BPR */
    {0x1c, 1, ALWAYS}, /* ABPR */
    {0xd0, 4, IF_SET}, /* APR */
};

#define ICC(crn, crm, op2) (3u << 14 | (crn) << 7 | (crm) << 3 | (op2))
#define ICC_CTLR           ICC(12u, 12u, 4u)
static const uint32_t v3_icc[] = {
    ICC(12u, 12u, 5u),                  /* SRE_EL1 */
    ICC_CTLR,          ICC(4u, 6u, 0u), /* PMR_EL1 */
    ICC(12u, 8u, 3u),                   /* BPR0_EL1 */
    ICC(12u, 12u, 3u),                  /* BPR1_EL1 */
    ICC(12u, 12u, 6u),                  /* IGRPEN0_EL1 */
    ICC(12u, 12u, 7u),                  /* IGRPEN1_EL1 */
};

static uint64_t attr_of(struct vm *vm, uint32_t group, uint32_t vcpu, uint32_t offset)
{
    /* v3 wants the vCPU's affinity above bit 32, v2 its number; with at most 16 vCPUs both
     * are the index. The distributor of v3 belongs to nobody. */
    if (vm->gic == 3 && group == KVM_DEV_ARM_VGIC_GRP_DIST_REGS)
        vcpu = 0;
    return (uint64_t)vcpu << 32 | offset;
}

static void add_word(struct buf *b, uint32_t group, uint32_t vcpu, uint32_t offset,
                     uint64_t value)
{
    uint8_t raw[SNAP_GIC_WORD];
    put_le32(raw, group);
    put_le32(raw + 4, vcpu);
    put_le32(raw + 8, offset);
    put_le64(raw + 12, value);
    buf_add(b, raw, sizeof raw);
}

/* What collect() gathers: the words of `nvcpus`, or of a fresh GIC those which are not known
 * to be zero. */
struct collect {
    struct vm *vm;
    struct buf b;
    bool fresh;
};

static int save_ranges(struct collect *c, uint32_t group, uint32_t vcpu,
                       const struct range *ranges, unsigned n, struct err *e)
{
    struct vm *vm = c->vm;
    int r;
    for (unsigned i = 0; i < n; i++) {
        if (c->fresh && ranges[i].when == IF_SET)
            continue;
        for (uint32_t w = 0; w < ranges[i].words; w++) {
            uint32_t offset = ranges[i].offset + 4 * w, value = 0;
            uint64_t attr = attr_of(vm, group, vcpu, offset);
            if (c->fresh && ranges[i].when == PRIMED)
                value = vm->gic == 3 ? LINUX_PRIORITIES_V3 : LINUX_PRIORITIES_V2;
            else if ((r = kvm_get_attr(vm->gic_fd, group, attr, &value)) < 0)
                return err_sys(e, -r, "access GIC register %x of group %u", offset, group);
            if (ranges[i].when == AND_CLEAR)
                add_word(&c->b, group, vcpu, offset + 0x80, (uint32_t)~value);
            if (value || ranges[i].when != IF_SET)
                add_word(&c->b, group, vcpu, offset, value);
        }
    }
    return 0;
}

static int save_icc(struct collect *c, uint32_t vcpu, uint32_t reg, bool always, uint64_t *ret,
                    struct err *e)
{
    uint32_t group = KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS;
    int r = kvm_get_attr(c->vm->gic_fd, group, attr_of(c->vm, group, vcpu, reg), ret);
    if (r < 0)
        return err_sys(e, -r, "read GIC CPU register %x", reg);
    if (*ret || always)
        add_word(&c->b, group, vcpu, reg, *ret);
    return 0;
}

static int save_v3_cpu(struct collect *c, uint32_t vcpu, struct err *e)
{
    uint64_t value = 0;
    unsigned priority_bits = 5;
    int r = 0;
    for (unsigned i = 0; i < ARRAY_LEN(v3_icc) && r == 0; i++) {
        r = save_icc(c, vcpu, v3_icc[i], true, &value, e);
        if (v3_icc[i] == ICC_CTLR)
            priority_bits = (unsigned)(value >> 8 & 7) + 1;
    }
    /* Active priorities: one register for 5 bits of priority, two for 6, four for 7. */
    unsigned n = priority_bits <= 5 ? 1 : priority_bits == 6 ? 2 : 4;
    for (unsigned i = 0; i < n && r == 0 && !c->fresh; i++) {
        r = save_icc(c, vcpu, ICC(12u, 8u, 4u | i), false, &value, e); /* AP0Rn */
        if (r == 0)
            r = save_icc(c, vcpu, ICC(12u, 9u, i), false, &value, e); /* AP1Rn */
    }
    return r;
}

static int collect(struct collect *c, unsigned nvcpus, struct err *e)
{
    const uint32_t dist = KVM_DEV_ARM_VGIC_GRP_DIST_REGS;
    bool v3 = c->vm->gic == 3;
    int r = v3 ? save_ranges(c, dist, 0, v3_dist, ARRAY_LEN(v3_dist), e)
               : save_ranges(c, dist, 0, v2_dist, ARRAY_LEN(v2_dist), e);
    for (uint32_t i = 0; i < nvcpus && r == 0; i++) {
        r = v3 ? save_ranges(c, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, i, v3_redist,
                             ARRAY_LEN(v3_redist), e)
               : save_ranges(c, dist, i, v2_banked, ARRAY_LEN(v2_banked), e);
        if (r == 0)
            r = v3 ? save_v3_cpu(c, i, e)
                   : save_ranges(c, KVM_DEV_ARM_VGIC_GRP_CPU_REGS, i, v2_cpu, ARRAY_LEN(v2_cpu),
                                 e);
    }
    if (r == 0 && c->b.bad)
        r = err_sys(e, ENOMEM, "read the GIC");
    return r;
}

int gic_probe(struct vm *vm, struct err *e)
{
    struct collect c = {.vm = vm, .b = BUF_INIT, .fresh = true};
    int r = collect(&c, 1, e);
    vm->gic_fresh = c.b;
    return r;
}

static bool is_priority(const struct snap_gic_word *w)
{
    return (w->group == KVM_DEV_ARM_VGIC_GRP_DIST_REGS ||
            w->group == KVM_DEV_ARM_VGIC_GRP_REDIST_REGS) &&
           (w->offset & ~SGI) >= 0x400 && (w->offset & ~SGI) < 0x800;
}

void gic_prime(struct vm *vm)
{
    struct snap_gic_word w;
    int r = 0;
    for (unsigned i = 0; i < vm->nvcpus; i++) {
        size_t pos = 0;
        while (snap_next_gic_word(vm->gic_fresh.data, vm->gic_fresh.len, &pos, &w, NULL) > 0) {
            if (r == 0 && is_priority(&w))
                r = kvm_set_attr(vm->gic_fd, w.group, attr_of(vm, w.group, i, w.offset),
                                 &w.value);
        }
    }
    vm->primed = r == 0;
}

int gic_save(struct vm *vm, struct dstate_writer *w, struct err *e)
{
    struct collect c = {.vm = vm, .b = BUF_INIT};
    int r = collect(&c, vm->nvcpus, e);
    if (r == 0)
        dw_bytes(w, SNAP_GIC_WORDS, c.b.data, c.b.len);
    buf_free(&c.b);
    return r;
}

/* Both lists are in the same order, so the search normally goes on where the last ended. */
static bool is_fresh(const struct vm *vm, const struct snap_gic_word *w, size_t *at)
{
    struct snap_gic_word fresh;
    size_t pos = *at;
    while (snap_next_gic_word(vm->gic_fresh.data, vm->gic_fresh.len, &pos, &fresh, NULL) > 0) {
        if (fresh.group == w->group && fresh.offset == w->offset) {
            *at = pos;
            return fresh.value == w->value && (vm->primed || !is_priority(w));
        }
    }
    return false;
}

int gic_load(struct vm *vm, struct dstate_reader *r, struct err *e)
{
    const void *data;
    size_t len, pos = 0, fresh = 0;
    uint32_t vcpu = 0;
    int res = dr_bytes(r, SNAP_GIC_WORDS, &data, &len, e);
    if (res < 0)
        return res;
    if (len > WORDS_MAX * SNAP_GIC_WORD)
        return err_set(e, EBADMSG, "the snapshot has too many GIC words");
    struct snap_gic_word w;
    while ((res = snap_next_gic_word(data, len, &pos, &w, e)) > 0) {
        bool known = w.group == KVM_DEV_ARM_VGIC_GRP_DIST_REGS ||
                     w.group == KVM_DEV_ARM_VGIC_GRP_CPU_REGS ||
                     w.group == KVM_DEV_ARM_VGIC_GRP_REDIST_REGS ||
                     w.group == KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS;
        if (!known || w.vcpu >= vm->nvcpus)
            return err_set(e, EBADMSG, "the snapshot has a GIC word of group %u, vCPU %u",
                           w.group, w.vcpu);
        if (w.vcpu != vcpu)
            fresh = 0;
        vcpu = w.vcpu;
        if (is_fresh(vm, &w, &fresh))
            continue;
        res =
            kvm_set_attr(vm->gic_fd, w.group, attr_of(vm, w.group, w.vcpu, w.offset), &w.value);
        if (res < 0) {
            err_sys(e, -res, "write GIC register %x of group %u", w.offset, w.group);
            return err_hint(e, "restore on a host with the same GIC and kernel");
        }
    }
    return res;
}
