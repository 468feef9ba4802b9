// SPDX-License-Identifier: Apache-2.0
/* Names of registers, interrupt controller words, devices and their fields; see snapview.h. */
#include <stdio.h>
#include <string.h>

#include "../hypervisor/base/mem.h"
#include "snapview.h"

/* Names of system registers by op0, op1, crn, crm, op2 (ARM DDI 0487, D24). */
static const struct {
    uint16_t op;
    const char *name;
} sysregs[] = {
#define OP(op0, op1, crn, crm, op2) (op0) << 14 | (op1) << 11 | (crn) << 7 | (crm) << 3 | (op2)
    {OP(3, 0, 0, 0, 0), "MIDR_EL1"},
    {OP(3, 0, 0, 0, 6), "REVIDR_EL1"},
    {OP(3, 0, 0, 4, 0), "ID_AA64PFR0_EL1"},
    {OP(3, 0, 0, 4, 1), "ID_AA64PFR1_EL1"},
    {OP(3, 0, 0, 4, 4), "ID_AA64ZFR0_EL1"},
    {OP(3, 0, 0, 5, 0), "ID_AA64DFR0_EL1"},
    {OP(3, 0, 0, 6, 0), "ID_AA64ISAR0_EL1"},
    {OP(3, 0, 0, 6, 1), "ID_AA64ISAR1_EL1"},
    {OP(3, 0, 0, 6, 2), "ID_AA64ISAR2_EL1"},
    {OP(3, 0, 0, 7, 0), "ID_AA64MMFR0_EL1"},
    {OP(3, 0, 0, 7, 1), "ID_AA64MMFR1_EL1"},
    {OP(3, 0, 0, 7, 2), "ID_AA64MMFR2_EL1"},
    {OP(3, 0, 1, 0, 0), "SCTLR_EL1"},
    {OP(3, 0, 1, 0, 1), "ACTLR_EL1"},
    {OP(3, 0, 1, 0, 2), "CPACR_EL1"},
    {OP(3, 0, 2, 0, 0), "TTBR0_EL1"},
    {OP(3, 0, 2, 0, 1), "TTBR1_EL1"},
    {OP(3, 0, 2, 0, 2), "TCR_EL1"},
    {OP(3, 0, 5, 1, 0), "AFSR0_EL1"},
    {OP(3, 0, 5, 1, 1), "AFSR1_EL1"},
    {OP(3, 0, 5, 2, 0), "ESR_EL1"},
    {OP(3, 0, 6, 0, 0), "FAR_EL1"},
    {OP(3, 0, 7, 4, 0), "PAR_EL1"},
    {OP(3, 0, 10, 2, 0), "MAIR_EL1"},
    {OP(3, 0, 10, 3, 0), "AMAIR_EL1"},
    {OP(3, 0, 12, 0, 0), "VBAR_EL1"},
    {OP(3, 0, 13, 0, 1), "CONTEXTIDR_EL1"},
    {OP(3, 0, 13, 0, 4), "TPIDR_EL1"},
    {OP(3, 0, 14, 1, 0), "CNTKCTL_EL1"},
    {OP(3, 2, 0, 0, 0), "CSSELR_EL1"},
    {OP(2, 0, 0, 2, 2), "MDSCR_EL1"},
    {OP(3, 1, 0, 0, 1), "CLIDR_EL1"},
    {OP(3, 3, 0, 0, 1), "CTR_EL0"},
    {OP(3, 3, 13, 0, 2), "TPIDR_EL0"},
    {OP(3, 3, 13, 0, 3), "TPIDRRO_EL0"},
    {OP(3, 3, 14, 2, 1), "CNTP_CTL_EL0"},
    {OP(3, 3, 14, 2, 2), "CNTP_CVAL_EL0"},
    {OP(3, 3, 14, 3, 1), "CNTV_CTL_EL0"},
    /* KVM's number for CNTV_CVAL is that of CNTVCT, by an old mistake. */
    {OP(3, 3, 14, 0, 2), "CNTV_CVAL_EL0"},
};

/* KVM register ids: linux/Documentation/virt/kvm/api.rst, KVM_SET_ONE_REG. */
#define REG_KIND(id)  ((id) >> 16 & 0xfff)
#define KIND_CORE     0x010u
#define KIND_DEMUX    0x011u
#define KIND_SYSREG   0x013u
#define KIND_FIRMWARE 0x014u
#define KIND_SVE      0x015u
#define KIND_BITMAP   0x016u

static void core_name(unsigned n, char *ret, size_t size)
{
    static const char *const special[] = {"SP_EL0", "PC", "PSTATE", "SP_EL1", "ELR_EL1"};
    static const char *const spsr[] = {"SPSR_EL1", "SPSR_abt", "SPSR_und", "SPSR_irq",
                                       "SPSR_fiq"};
    /* In units of 32 bits from the start of struct kvm_regs. */
    if (n < 62)
        snprintf(ret, size, "X%u", n / 2);
    else if (n < 72)
        snprintf(ret, size, "%s", special[(n - 62) / 2]);
    else if (n < 82)
        snprintf(ret, size, "%s", spsr[(n - 72) / 2]);
    else if (n < 84 + 128)
        snprintf(ret, size, "V%u", (n - 84) / 4);
    else
        snprintf(ret, size, "%s", n == 212 ? "FPSR" : "FPCR");
}

void view_reg_name(uint64_t id, char *ret, size_t size)
{
    unsigned n = (unsigned)(id & 0xffff);
    switch (REG_KIND(id)) {
    case KIND_CORE:
        core_name(n, ret, size);
        return;
    case KIND_SYSREG:
        for (unsigned i = 0; i < ARRAY_LEN(sysregs); i++) {
            if (sysregs[i].op == n) {
                snprintf(ret, size, "%s", sysregs[i].name);
                return;
            }
        }
        snprintf(ret, size, "S%u_%u_C%u_C%u_%u", n >> 14, n >> 11 & 7, n >> 7 & 15, n >> 3 & 15,
                 n & 7);
        return;
    case KIND_DEMUX:
        snprintf(ret, size, "CCSIDR[%u]", n & 0xff);
        return;
    case KIND_FIRMWARE:
        snprintf(ret, size, "firmware %u", n);
        return;
    case KIND_BITMAP:
        snprintf(ret, size, "firmware bitmap %u", n);
        return;
    case KIND_SVE:
        snprintf(ret, size, "SVE %04x", n);
        return;
    default:
        snprintf(ret, size, "%llx", (unsigned long long)id);
    }
}

/* ---- GIC ---- */

struct range {
    uint32_t first, last;
    const char *name;
};

/* Arm IHI 0069: distributor and redistributors share most of their layout. */
static const struct range gicd[] = {
    {0x0, 0x0, "CTLR"},           {0x8, 0x8, "STATUSR"},       {0x80, 0xfc, "IGROUPR"},
    {0x100, 0x17c, "ISENABLER"},  {0x180, 0x1fc, "ICENABLER"}, {0x200, 0x27c, "ISPENDR"},
    {0x280, 0x2fc, "ICPENDR"},    {0x300, 0x37c, "ISACTIVER"}, {0x380, 0x3fc, "ICACTIVER"},
    {0x400, 0x7fc, "IPRIORITYR"}, {0x800, 0xbfc, "ITARGETSR"}, {0xc00, 0xcfc, "ICFGR"},
    {0xf10, 0xf1c, "CPENDSGIR"},  {0xf20, 0xf2c, "SPENDSGIR"}, {0x6000, 0x7fd8, "IROUTER"},
};
static const struct range gicr[] = {
    {0x0, 0x0, "CTLR"},
    {0x10, 0x10, "STATUSR"},
    {0x14, 0x14, "WAKER"},
    {0x70, 0x74, "PROPBASER"},
    {0x78, 0x7c, "PENDBASER"},
    {0x10080, 0x10080, "IGROUPR0"},
    {0x10100, 0x10100, "ISENABLER0"},
    {0x10180, 0x10180, "ICENABLER0"},
    {0x10200, 0x10200, "ISPENDR0"},
    {0x10280, 0x10280, "ICPENDR0"},
    {0x10300, 0x10300, "ISACTIVER0"},
    {0x10400, 0x1041c, "IPRIORITYR"},
    {0x10c00, 0x10c04, "ICFGR"},
};
static const struct range gicc[] = {
    {0x0, 0x0, "CTLR"},   {0x4, 0x4, "PMR"},   {0x8, 0x8, "BPR"},
    {0x1c, 0x1c, "ABPR"}, {0xd0, 0xdc, "APR"},
};
static const struct range icc[] = {
    {OP(3, 0, 4, 6, 0), OP(3, 0, 4, 6, 0), "PMR_EL1"},
    {OP(3, 0, 12, 8, 3), OP(3, 0, 12, 8, 3), "BPR0_EL1"},
    {OP(3, 0, 12, 8, 4), OP(3, 0, 12, 8, 7), "AP0R_EL1"},
    {OP(3, 0, 12, 9, 0), OP(3, 0, 12, 9, 3), "AP1R_EL1"},
    {OP(3, 0, 12, 12, 3), OP(3, 0, 12, 12, 3), "BPR1_EL1"},
    {OP(3, 0, 12, 12, 4), OP(3, 0, 12, 12, 4), "CTLR_EL1"},
    {OP(3, 0, 12, 12, 5), OP(3, 0, 12, 12, 5), "SRE_EL1"},
    {OP(3, 0, 12, 12, 6), OP(3, 0, 12, 12, 6), "IGRPEN0_EL1"},
    {OP(3, 0, 12, 12, 7), OP(3, 0, 12, 12, 7), "IGRPEN1_EL1"},
};

void view_gic_name(const struct snap_gic_word *w, char *ret, size_t size)
{
    static const struct {
        uint32_t group;
        const char *prefix;
        const struct range *ranges;
        size_t n;
    } groups[] = {{1, "GICD", gicd, ARRAY_LEN(gicd)},
                  {2, "GICC", gicc, ARRAY_LEN(gicc)},
                  {5, "GICR", gicr, ARRAY_LEN(gicr)},
                  {6, "ICC", icc, ARRAY_LEN(icc)}};
    for (size_t g = 0; g < ARRAY_LEN(groups); g++) {
        if (groups[g].group != w->group)
            continue;
        for (size_t i = 0; i < groups[g].n; i++) {
            const struct range *r = &groups[g].ranges[i];
            if (w->offset < r->first || w->offset > r->last)
                continue;
            snprintf(ret, size, "%s_%s", groups[g].prefix, r->name);
            if (r->last > r->first) {
                size_t n = strlen(ret);
                snprintf(ret + n, size - n, "+%x", w->offset - r->first);
            }
            return;
        }
        snprintf(ret, size, "%s %05x", groups[g].prefix, w->offset);
        return;
    }
    snprintf(ret, size, "group %u %05x", w->group, w->offset);
}

/* ---- devices ---- */

void view_tag(uint32_t tag, char ret[5])
{
    for (unsigned i = 0; i < 4; i++) {
        char c = (char)(tag >> 8 * i);
        ret[i] = c >= ' ' && c <= '~' ? c : '?';
    }
    ret[4] = '\0';
}

const char *view_device(uint32_t tag)
{
    static const struct {
        uint32_t tag;
        const char *name;
    } devices[] = {{SNAP_TAG_MACHINE, "the machine"},
                   {SNAP_TAG_VCPU, "a virtual CPU"},
                   {SNAP_TAG_GIC, "interrupt controller"},
                   {SNAP_TAG_UART, "PL011 serial port"},
                   {SNAP_TAG_RTC, "PL031 clock"},
                   {SNAP_TAG_VMGENID, "generation id"},
                   {SNAP_TAG('V', 'B', 'L', 'K'), "virtio-blk disk"},
                   {SNAP_TAG('V', 'N', 'E', 'T'), "virtio-net"},
                   {SNAP_TAG('V', 'S', 'O', 'K'), "virtio-vsock"},
                   {SNAP_TAG('V', 'R', 'N', 'G'), "virtio-rng"},
                   {SNAP_TAG('V', 'B', 'L', 'L'), "virtio-balloon"}};
    for (size_t i = 0; i < ARRAY_LEN(devices); i++) {
        if (devices[i].tag == tag)
            return devices[i].name;
    }
    return "unknown";
}

bool view_is_virtio(uint32_t tag)
{
    return strncmp(view_device(tag), "virtio", 6) == 0;
}

void view_field_name(uint32_t tag, uint16_t field, char *ret, size_t size)
{
    static const char *const virtio[] = {
        "status",          "features",      "interrupt status", "config generation",
        "features select", "driver select", "queue select"};
    static const char *const uart[] = {"IMSC", "RIS", "CR", "LCR_H", "IFLS", "IBRD, FBRD"};
    static const char *const vcpu[] = {"registers", "MP state", "SError", "SError syndrome"};
    const char *name = NULL;
    if (tag == SNAP_TAG_MACHINE && field <= 2)
        name = field == SNAP_MACHINE_COUNTER ? "counter" : "devices";
    else if (tag == SNAP_TAG_UART && field >= 1 && field <= ARRAY_LEN(uart))
        name = uart[field - 1];
    else if (tag == SNAP_TAG_VCPU && field >= 1 && field <= ARRAY_LEN(vcpu))
        name = vcpu[field - 1];
    else if (tag == SNAP_TAG_GIC && field == SNAP_GIC_WORDS)
        name = "words";
    else if (view_is_virtio(tag) && field >= 1 && field <= ARRAY_LEN(virtio))
        name = virtio[field - 1];
    if (name)
        snprintf(ret, size, "%s", name);
    else if (view_is_virtio(tag) && field < 64)
        snprintf(ret, size, "queue %u", field - 8u);
    else
        snprintf(ret, size, "field %u", field);
}
