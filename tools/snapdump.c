// SPDX-License-Identifier: Apache-2.0
/*
 * snapdump: what is in a snapshot file. Header, sections, registers by name,
 * devices, and what the pages are. For people; the file is not trusted.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "../hypervisor/base/crc32c.h"
#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "../snapshot/devstate.h"
#include "../snapshot/memscan.h"
#include "../snapshot/snapfile.h"
#include "../snapshot/snapstate.h"

static const char usage[] =
    "Usage: snapdump [options] FILE\n"
    "\n"
    "  --registers   the registers of each vCPU and the words of the GIC\n"
    "  --pages       what the pages are: distinct, repeated, nearly empty, where they lie\n"
    "  --runs        each run of pages\n"
    "  --verify      read all pages and compare their checksums\n"
    "  --help\n"
    "\n"
    "Exit status: 0 good, 1 damaged or unreadable, 2 wrong arguments.\n";

struct options {
    bool registers, pages, runs, verify;
    const char *file;
};

static void print_id(const char *name, const uint8_t id[SNAP_ID])
{
    printf("%-12s ", name);
    for (unsigned i = 0; i < SNAP_ID; i++)
        printf("%02x", id[i]);
    printf("\n");
}

static void print_header(const struct snap_info *s)
{
    printf("%-12s %s, version %u\n", "kind", s->flags & SNAP_FULL ? "image" : "session",
           s->version);
    print_id("id", s->id);
    if (!(s->flags & SNAP_FULL))
        print_id("image", s->parent);
    printf("%-12s %llu MiB at 0x%llx\n", "memory", (unsigned long long)s->mem_bytes >> 20,
           (unsigned long long)s->mem_base);
    printf("%-12s %u vCPUs, GICv%u, MIDR %llx, counter %llu Hz, fingerprint %016llx\n", "host",
           s->vcpus, s->gic, (unsigned long long)s->midr, (unsigned long long)s->cntfrq,
           (unsigned long long)s->fingerprint);
    printf("%-12s %llu stored (%llu KiB), %llu zero\n", "pages",
           (unsigned long long)s->pages_stored, (unsigned long long)s->pages_stored * 4,
           (unsigned long long)s->pages_zero);
    printf("%-12s %llu bytes, page data at %llu\n", "file", (unsigned long long)s->file_len,
           (unsigned long long)s->data_off);
    for (unsigned i = 0; i < s->nsections; i++) {
        const struct snap_section *x = &s->sections[i];
        printf("%-12s type %u at %llu, %llu bytes, crc %08x\n", i ? "" : "sections", x->type,
               (unsigned long long)x->off, (unsigned long long)x->len, x->crc);
    }
}

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

static void reg_name(uint64_t id, char *ret, size_t size)
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

static int print_registers(const struct dstate_reader *block, struct err *e)
{
    struct snap_reg reg;
    const void *data;
    size_t len, pos = 0;
    int r = dr_bytes(block, SNAP_VCPU_REGS, &data, &len, e);
    while (r >= 0 && (r = snap_next_reg(data, len, &pos, &reg, e)) > 0) {
        const uint8_t *v = reg.value;
        char name[40];
        reg_name(reg.id, name, sizeof name);
        printf("    %-18s ", name);
        for (unsigned i = reg.size; i-- > 0;)
            printf("%02x", v[i]);
        printf("\n");
    }
    return r;
}

static int print_gic(const struct dstate_reader *block, struct err *e)
{
    static const char *const groups[] = {"?", "GICD", "GICC", "?", "?", "GICR", "ICC"};
    struct snap_gic_word w;
    const void *data;
    size_t len, pos = 0;
    int r = dr_bytes(block, SNAP_GIC_WORDS, &data, &len, e);
    while (r >= 0 && (r = snap_next_gic_word(data, len, &pos, &w, e)) > 0)
        printf("    %s vCPU %u %05x = %llx\n", groups[w.group < 7 ? w.group : 0], w.vcpu,
               w.offset, (unsigned long long)w.value);
    return r;
}

static int print_fields(const struct dstate_reader *block, struct err *e)
{
    const void *data;
    size_t pos = 0, len;
    uint16_t id;
    int r;
    while ((r = dr_next_field(block, &pos, &id, &data, &len, e)) > 0) {
        const uint8_t *p = data;
        printf("    field %-4u %5zu bytes ", id, len);
        if (len == 4)
            printf(" 0x%x", get_le32(p));
        else if (len == 8)
            printf(" 0x%llx", (unsigned long long)get_le64(p));
        else
            for (size_t i = 0; i < MIN(len, (size_t)32); i++)
                printf("%s%02x", i % 8 ? "" : " ", p[i]);
        printf("%s\n", len > 32 ? " …" : "");
    }
    return r;
}

static int print_state(const struct snap_file *f, const struct options *o, struct err *e)
{
    struct dstate_reader block;
    size_t pos = 0;
    int r;
    printf("device state\n");
    while ((r = dr_next(f->state, f->state_len, &pos, &block, e)) > 0) {
        bool vcpu = block.tag == SNAP_TAG_VCPU, gic = block.tag == SNAP_TAG_GIC;
        char tag[5] = {0};
        for (unsigned i = 0; i < 4; i++) {
            char c = (char)(block.tag >> 8 * i);
            tag[i] = c >= ' ' && c <= '~' ? c : '?';
        }
        printf("  %s %u, version %u, %zu bytes\n", tag, block.instance, block.version,
               block.len);
        if (vcpu || gic)
            r = !o->registers ? 0 : vcpu ? print_registers(&block, e) : print_gic(&block, e);
        else
            r = print_fields(&block, e);
        if (r < 0)
            return r;
    }
    return r;
}

static void print_runs(const struct snap_file *f)
{
    for (size_t i = 0; i < f->nruns; i++) {
        struct snap_run run = snap_run_at(f->index, i);
        printf("run 0x%llx %u pages %s crc %08x\n",
               (unsigned long long)(f->info.mem_base + (uint64_t)run.page * SNAP_PAGE),
               run.count, run.flags & SNAP_RUN_ZERO ? "zero" : "data", run.crc);
    }
}

struct page_stats {
    uint64_t *hashes;
    size_t n;
    uint64_t nearly_empty, text;
    uint64_t by_region[64]; /* stored pages in each 64th of memory */
};

static void look_at_page(struct page_stats *s, const uint8_t *p)
{
    unsigned set = 0, printable = 0;
    for (unsigned i = 0; i < SNAP_PAGE; i++) {
        set += p[i] != 0;
        printable += (p[i] >= ' ' && p[i] <= '~') || p[i] == '\n' || p[i] == '\t';
    }
    s->nearly_empty += set < 64;
    s->text += printable > SNAP_PAGE * 9 / 10;
    s->hashes[s->n++] = (uint64_t)crc32c(0, p, SNAP_PAGE) << 32 | crc32c(1, p, SNAP_PAGE / 2);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void print_stats(struct page_stats *s, const struct snap_info *info)
{
    uint64_t distinct = 0;
    qsort(s->hashes, s->n, sizeof s->hashes[0], by_value);
    for (size_t i = 0; i < s->n; i++)
        distinct += i == 0 || s->hashes[i] != s->hashes[i - 1];
    printf("stored pages %zu: %llu distinct, %llu with fewer than 64 bytes set, %llu text\n",
           s->n, (unsigned long long)distinct, (unsigned long long)s->nearly_empty,
           (unsigned long long)s->text);
    for (unsigned i = 0; i < 64; i++) {
        uint64_t part = info->mem_bytes / 64;
        if (s->by_region[i])
            printf("  0x%09llx %6llu KiB of %llu\n",
                   (unsigned long long)(info->mem_base + part * i),
                   (unsigned long long)s->by_region[i] * 4, (unsigned long long)part >> 10);
    }
}

static int print_pages(const struct snap_file *f, int fd, struct err *e)
{
    AUTO_FREE uint8_t *buf = malloc(SNAP_RUN_MAX * SNAP_PAGE);
    struct page_stats s;
    memset(&s, 0, sizeof s);
    s.hashes = calloc(f->info.pages_stored + 1, sizeof s.hashes[0]);
    int r = buf && s.hashes ? 0 : err_sys(e, ENOMEM, "look at the pages");
    for (size_t i = 0; i < f->nruns && r == 0; i++) {
        struct snap_run run = snap_run_at(f->index, i);
        if (run.flags & SNAP_RUN_ZERO)
            continue;
        r = fd_pread_full(fd, buf, (size_t)run.count * SNAP_PAGE, run.off);
        if (r < 0)
            err_sys(e, -r, "read pages");
        for (uint64_t k = 0; k < run.count && r == 0; k++) {
            uint64_t region = (run.page + k) * 64 / (f->info.mem_bytes / SNAP_PAGE);
            s.by_region[region]++;
            look_at_page(&s, buf + k * SNAP_PAGE);
        }
    }
    if (r == 0)
        print_stats(&s, &f->info);
    free(s.hashes);
    return r;
}

static int dump(const struct options *o, struct err *e)
{
    struct snap_file f = SNAP_FILE_INIT;
    AUTO_CLOSE int fd = open(o->file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(e, errno, "open '%s'", o->file);
    int r = snap_open(&f, fd, NULL, e);
    if (r < 0)
        return err_wrap(e, "'%s'", o->file);
    print_header(&f.info);
    r = print_state(&f, o, e);
    if (r == 0 && o->runs)
        print_runs(&f);
    if (r == 0 && o->pages)
        r = print_pages(&f, fd, e);
    if (r == 0 && o->verify) {
        r = snap_verify_data(&f, fd, e);
        if (r == 0)
            printf("all pages are as they were written\n");
    }
    snap_free(&f);
    return r;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"registers", no_argument, NULL, 'r'}, {"pages", no_argument, NULL, 'p'},
        {"runs", no_argument, NULL, 'u'},      {"verify", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},      {NULL, 0, NULL, 0}};
    struct options o = {.file = NULL};
    struct err e = ERR_INIT;
    int c;
    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (c == 'h') {
            fputs(usage, stdout);
            return 0;
        }
        if (c == '?')
            return 2; /* getopt has said why */
        o.registers |= c == 'r';
        o.pages |= c == 'p';
        o.runs |= c == 'u';
        o.verify |= c == 'v';
    }
    if (optind != argc - 1) {
        fputs(usage, stderr);
        return 2;
    }
    o.file = argv[optind];
    if (dump(&o, &e) < 0) {
        fprintf(stderr, "error: %s\n", e.msg);
        if (e.hint[0])
            fprintf(stderr, "  try: %s\n", e.hint);
        return 1;
    }
    return 0;
}
