// SPDX-License-Identifier: Apache-2.0
/*
 * snapdump: what is in a snapshot file. Header, sections, registers by name,
 * devices, and what the pages are. For people; the file is not trusted.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../hypervisor/base/crc32c.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "../snapshot/devstate.h"
#include "snapview.h"

static const char usage[] =
    "NAME\n"
    "  snapdump - what is in a snapshot file\n"
    "\n"
    "SYNOPSIS\n"
    "  snapdump [OPTION]... FILE\n"
    "\n"
    "DESCRIPTION\n"
    "  Prints the header, the sections and the devices of an image (images/*/mem.snap) or a\n"
    "  session (vms/*/mem.snap.*). The format is described in docs/snapshot-format.md.\n"
    "\n"
    "OPTIONS\n"
    "  --registers   the registers of each vCPU and the words of the interrupt controller\n"
    "  --pages       what the pages are and what makes the file big: kinds of content,\n"
    "                repetitions, where in memory they lie\n"
    "  --image FILE  the image below a session: tells changed pages from new ones\n"
    "  --runs        each run of pages\n"
    "  --verify      read all pages and compare their checksums\n"
    "  --help        this text\n"
    "\n"
    "EXIT STATUS\n"
    "  0 good, 1 damaged or unreadable, 2 wrong arguments\n"
    "\n"
    "SEE ALSO\n"
    "  snapdiff, snapmap\n";

struct options {
    bool registers, pages, runs, verify;
    const char *file, *image;
};

static void print_id(const char *name, const uint8_t *id, unsigned len)
{
    printf("%-12s ", name);
    for (unsigned i = 0; i < len; i++)
        printf("%02x", id[i]);
    printf("\n");
}

static const char *section_name(uint32_t type)
{
    return type == SNAP_SECTION_STATE    ? "device state"
           : type == SNAP_SECTION_INDEX  ? "page index"
           : type == SNAP_SECTION_DELTAS ? "page deltas"
           : type == SNAP_SECTION_OWN    ? "own pages"
                                         : "unknown";
}

static void print_header(const struct snap_info *s)
{
    printf("%-12s %s, version %u%s\n", "kind", s->flags & SNAP_FULL ? "image" : "session",
           s->version, s->flags & SNAP_SEALED ? ", sealed" : "");
    print_id("id", s->id, SNAP_ID);
    if (!(s->flags & SNAP_FULL))
        print_id("image", s->parent, SNAP_ID);
    if (s->flags & SNAP_LAYERED) {
        print_id("layer", s->layer.id, SNAP_LAYER_ID);
        printf("%-12s %llu KiB at 0x%llx\n", "", (unsigned long long)s->layer.len >> 10,
               (unsigned long long)(s->mem_base + s->layer.off));
    }
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
        printf("%-12s %u, %s, at %llu, %llu bytes, crc %08x\n", i ? "" : "sections", x->type,
               section_name(x->type), (unsigned long long)x->off, (unsigned long long)x->len,
               x->crc);
    }
}

/* ---- device state ---- */

static int print_registers(const void *data, size_t len, struct err *e)
{
    struct snap_reg reg;
    size_t pos = 0;
    int r;
    while ((r = snap_next_reg(data, len, &pos, &reg, e)) > 0) {
        const uint8_t *v = reg.value;
        char name[40];
        view_reg_name(reg.id, name, sizeof name);
        printf("      %-18s ", name);
        unsigned n = reg.size;
        while (n > 1 && v[n - 1] == 0)
            n--;
        printf("%x", v[n - 1]);
        for (unsigned i = n - 1; i-- > 0;)
            printf("%02x", v[i]);
        printf("\n");
    }
    return r;
}

static int print_gic(const void *data, size_t len, struct err *e)
{
    struct snap_gic_word w;
    size_t pos = 0;
    int r;
    while ((r = snap_next_gic_word(data, len, &pos, &w, e)) > 0) {
        char name[40];
        view_gic_name(&w, name, sizeof name);
        printf("      vCPU %-3u %-22s %llx\n", w.vcpu, name, (unsigned long long)w.value);
    }
    return r;
}

static void print_queue(const uint8_t *p)
{
    printf("%u entries, %s, next %u, descriptors %llx, driver %llx, device %llx", get_le16(p),
           get_le16(p + 2) ? "ready" : "not ready", get_le16(p + 4),
           (unsigned long long)get_le64(p + 8), (unsigned long long)get_le64(p + 16),
           (unsigned long long)get_le64(p + 24));
}

static void print_value(uint32_t tag, uint16_t id, const uint8_t *p, size_t len)
{
    if (len == 4)
        printf("0x%x", get_le32(p));
    else if (len == 8 && !(tag == SNAP_TAG_MACHINE && id == SNAP_MACHINE_DEVS))
        printf("0x%llx", (unsigned long long)get_le64(p));
    else if (view_is_virtio(tag) && id >= 8 && id < 64 && len == 32)
        print_queue(p);
    else if (tag == SNAP_TAG_MACHINE && id == SNAP_MACHINE_DEVS)
        for (size_t i = 0; i + 8 <= len; i += 8) {
            char name[5];
            view_tag(get_le32(p + i), name);
            printf("%s%s %u", i ? ", " : "", name, get_le32(p + i + 4));
        }
    else {
        printf("%zu bytes", len);
        for (size_t i = 0; i < MIN(len, (size_t)24); i++)
            printf("%s%02x", i % 8 ? "" : " ", p[i]);
        printf("%s", len > 24 ? " …" : "");
    }
}

static int print_block(const struct dstate_reader *block, bool registers, struct err *e)
{
    const void *data;
    size_t pos = 0, len;
    uint16_t id;
    int r;
    while ((r = dr_next_field(block, &pos, &id, &data, &len, e)) > 0) {
        bool list = (block->tag == SNAP_TAG_VCPU && id == SNAP_VCPU_REGS) ||
                    (block->tag == SNAP_TAG_GIC && id == SNAP_GIC_WORDS);
        char name[40];
        view_field_name(block->tag, id, name, sizeof name);
        printf("    %-18s ", name);
        print_value(block->tag, id, data, len);
        printf("\n");
        if (list && registers &&
            (r = block->tag == SNAP_TAG_GIC ? print_gic(data, len, e)
                                            : print_registers(data, len, e)) < 0)
            return r;
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
        char tag[5];
        view_tag(block.tag, tag);
        printf("  %s %u: %s, version %u, %zu bytes\n", tag, block.instance,
               view_device(block.tag), block.version, block.len);
        if ((r = print_block(&block, o->registers, e)) < 0)
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

/* ---- pages ---- */

#define REGIONS 64u

struct stats {
    uint64_t kinds[KINDS];
    uint64_t region[REGIONS], region_kinds[REGIONS][KINDS];
    uint64_t zeroed, deltas, same, changed, fresh, stored;
    uint64_t kernel_page, kernel_bytes, kernel_stored;
    uint64_t *hashes;
};

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* The boot header of the arm64 kernel (linux/Documentation/arch/arm64/booting.rst). */
static void find_kernel(struct stats *s, const uint8_t *p, uint64_t page)
{
    if (s->kernel_bytes == 0 && memcmp(p + 56, "ARM\x64", 4) == 0 && get_le64(p + 16) &&
        get_le64(p + 16) < 256ull << 20) {
        s->kernel_page = page;
        s->kernel_bytes = get_le64(p + 16);
    }
}

static int look_at_page(struct stats *s, const struct view *v, const struct view *image,
                        uint64_t page, struct err *e)
{
    uint8_t p[SNAP_PAGE], below[SNAP_PAGE];
    enum view_source from;
    int r = view_page(v, image, page, p, &from, e);
    if (r < 0)
        return r;
    if (from == VIEW_IS_ZERO && !view_is_image(v))
        s->zeroed++;
    if (from == VIEW_FROM_FILE && v->where[page] & VIEW_DELTA)
        s->deltas++;
    if (from != VIEW_FROM_FILE)
        return 0;
    enum page_kind kind = page_kind(p, &v->f.info);
    uint64_t region = page * REGIONS / v->pages;
    find_kernel(s, p, page);
    s->kinds[kind]++;
    s->region[region]++;
    s->region_kinds[region][kind]++;
    s->hashes[s->stored++] =
        (uint64_t)crc32c(0, p, SNAP_PAGE) << 32 | crc32c(1, p, SNAP_PAGE / 2);
    s->kernel_stored +=
        s->kernel_bytes && (page - s->kernel_page) * SNAP_PAGE < s->kernel_bytes;
    if (!image)
        return 0;
    r = view_page(image, NULL, page, below, &from, e);
    if (r < 0)
        return r;
    if (from != VIEW_FROM_FILE)
        s->fresh++;
    else if (memcmp(p, below, SNAP_PAGE) == 0)
        s->same++;
    else
        s->changed++;
    return 0;
}

static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

static void print_kinds(const struct stats *s)
{
    printf("stored pages by kind, the most first\n");
    bool told[KINDS] = {false};
    for (;;) {
        int best = -1;
        for (int k = 0; k < KINDS; k++) {
            if (!told[k] && s->kinds[k] && (best < 0 || s->kinds[k] > s->kinds[best]))
                best = k;
        }
        if (best < 0)
            return;
        told[best] = true;
        printf("  %-13s %7llu pages %8llu KiB %5.1f %%  %s\n", kind_infos[best].name,
               (unsigned long long)s->kinds[best], (unsigned long long)s->kinds[best] * 4,
               percent(s->kinds[best], s->stored), kind_infos[best].what);
    }
}

static void print_stats(struct stats *s, const struct view *v, const struct view *image)
{
    const struct snap_info *info = &v->f.info;
    uint64_t distinct = 0, state = v->f.state_len, index = v->f.nruns * SNAP_RUN_BYTES;
    qsort(s->hashes, s->stored, sizeof s->hashes[0], by_value);
    for (uint64_t i = 0; i < s->stored; i++)
        distinct += i == 0 || s->hashes[i] != s->hashes[i - 1];
    print_kinds(s);
    printf("of %llu stored pages %llu are distinct: %llu KiB are repetitions\n",
           (unsigned long long)s->stored, (unsigned long long)distinct,
           (unsigned long long)(s->stored - distinct) * 4);
    if (s->kernel_bytes)
        printf("kernel image at 0x%llx: %llu KiB of %llu are stored, %.1f %% of all\n",
               (unsigned long long)(info->mem_base + s->kernel_page * SNAP_PAGE),
               (unsigned long long)s->kernel_stored * 4,
               (unsigned long long)s->kernel_bytes >> 10, percent(s->kernel_stored, s->stored));
    if (!view_is_image(v))
        printf("zero where the image has content: %llu pages\n", (unsigned long long)s->zeroed);
    if (s->deltas)
        printf("only what differs from the image is stored of %llu pages%s\n",
               (unsigned long long)s->deltas,
               image ? "" : "; name it with --image to see their kinds");
    if (image)
        printf("against the image: %llu changed, %llu where it has nothing, %llu the same\n",
               (unsigned long long)s->changed, (unsigned long long)s->fresh,
               (unsigned long long)s->same);
    printf("bytes: %llu pages, %zu deltas, %llu page index (%zu runs), %llu device state\n",
           (unsigned long long)info->pages_stored * SNAP_PAGE, v->f.deltas_len,
           (unsigned long long)index, v->f.nruns, (unsigned long long)state);
    printf("where they lie\n");
    for (unsigned i = 0; i < REGIONS; i++) {
        uint64_t part = info->mem_bytes / REGIONS;
        int best = 0;
        for (int k = 0; k < KINDS; k++)
            best = s->region_kinds[i][k] > s->region_kinds[i][best] ? k : best;
        if (s->region[i])
            printf("  0x%09llx %7llu KiB of %llu, mostly %s\n",
                   (unsigned long long)(info->mem_base + part * i),
                   (unsigned long long)s->region[i] * 4, (unsigned long long)part >> 10,
                   kind_infos[best].name);
    }
}

static int print_pages(const struct view *v, const struct view *image, struct err *e)
{
    AUTO_FREE struct stats *s = calloc(1, sizeof *s);
    AUTO_FREE uint64_t *hashes = calloc(v->pages, sizeof *hashes);
    if (!s || !hashes)
        return err_sys(e, ENOMEM, "look at the pages");
    s->hashes = hashes;
    for (uint64_t p = 0; p < v->pages; p++) {
        int r = look_at_page(s, v, image, p, e);
        if (r < 0)
            return r;
    }
    print_stats(s, v, image);
    return 0;
}

static int dump(const struct options *o, struct view *v, struct view *image, struct err *e)
{
    int r = view_open_over(v, o->file, image, o->image, e);
    if (r < 0)
        return r;
    print_header(&v->f.info);
    r = print_state(&v->f, o, e);
    if (r == 0 && o->runs)
        print_runs(&v->f);
    if (r == 0 && o->pages)
        r = print_pages(v, o->image ? image : NULL, e);
    if (r == 0 && o->verify) {
        r = snap_verify_data(&v->f, v->fd, e);
        if (r == 0)
            printf("all pages are as they were written\n");
    }
    return r;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {{"registers", no_argument, NULL, 'r'},
                                          {"pages", no_argument, NULL, 'p'},
                                          {"runs", no_argument, NULL, 'u'},
                                          {"verify", no_argument, NULL, 'v'},
                                          {"image", required_argument, NULL, 'i'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    struct options o = {.file = NULL};
    struct view v = {.fd = -1}, image = {.fd = -1};
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
        if (c == 'i')
            o.image = optarg;
    }
    if (optind != argc - 1) {
        fprintf(stderr, "snapdump: name one file; see snapdump --help\n");
        return 2;
    }
    o.file = argv[optind];
    int r = dump(&o, &v, &image, &e);
    view_close(&v);
    view_close(&image);
    return r < 0 ? view_fail(&e) : 0;
}
