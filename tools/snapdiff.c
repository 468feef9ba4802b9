// SPDX-License-Identifier: Apache-2.0
/*
 * snapdiff: what differs between two snapshots, in the header, in the device
 * state field by field and register by register, and in memory page by page.
 * For people; the files are not trusted.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "../snapshot/devstate.h"
#include "snapview.h"

static const char usage[] =
    "NAME\n"
    "  snapdiff - what differs between two snapshots\n"
    "\n"
    "SYNOPSIS\n"
    "  snapdiff [OPTION]... A B\n"
    "\n"
    "DESCRIPTION\n"
    "  Compares header, device state and memory. A and B are images or sessions. A session's\n"
    "  memory is that of its image with its own pages over it: when one of the two files is\n"
    "  the image of the other, it is used; else name the image with --image. Without it, "
    "pages\n"
    "  that neither session has are taken for the same, and pages that only one has for\n"
    "  different.\n"
    "\n"
    "OPTIONS\n"
    "  --image FILE  the image below the sessions\n"
    "  --pages       each run of pages that differ\n"
    "  --bytes       and how many bytes of them\n"
    "  --help        this text\n"
    "\n"
    "EXIT STATUS\n"
    "  0 the same, 1 different, 2 wrong arguments or unreadable files\n"
    "\n"
    "SEE ALSO\n"
    "  snapdump, snapmap\n";

struct options {
    bool pages, bytes;
    const char *a, *b, *image;
};

struct diff {
    struct view a, b, image;
    const struct view *below_a, *below_b; /* or NULL */
    uint64_t found;
};

/* ---- header ---- */

static void number(struct diff *d, const char *name, uint64_t a, uint64_t b)
{
    if (a == b)
        return;
    d->found++;
    printf("header  %-12s %llu -> %llu\n", name, (unsigned long long)a, (unsigned long long)b);
}

static void compare_headers(struct diff *d)
{
    const struct snap_info *a = &d->a.f.info, *b = &d->b.f.info;
    if ((a->flags ^ b->flags) & SNAP_FULL) {
        d->found++;
        printf("header  %-12s %s -> %s\n", "kind", a->flags & SNAP_FULL ? "image" : "session",
               b->flags & SNAP_FULL ? "image" : "session");
    }
    number(d, "memory base", a->mem_base, b->mem_base);
    number(d, "memory", a->mem_bytes, b->mem_bytes);
    number(d, "vCPUs", a->vcpus, b->vcpus);
    number(d, "GIC", a->gic, b->gic);
    number(d, "MIDR", a->midr, b->midr);
    number(d, "counter Hz", a->cntfrq, b->cntfrq);
    number(d, "fingerprint", a->fingerprint, b->fingerprint);
    number(d, "stored pages", a->pages_stored, b->pages_stored);
}

/* ---- device state ---- */

static void print_hex(const uint8_t *p, size_t len)
{
    if (!p) {
        printf("-");
        return;
    }
    if (len <= 16) { /* as a number */
        for (size_t i = len; i-- > 0;)
            printf("%02x", p[i]);
        return;
    }
    for (size_t i = 0; i < MIN(len, (size_t)16); i++)
        printf("%02x", p[i]);
    printf("… (%zu bytes)", len);
}

static void print_pair(struct diff *d, const char *where, const char *name, const void *a,
                       size_t alen, const void *b, size_t blen)
{
    d->found++;
    printf("%-7s %-18s ", where, name);
    print_hex(a, alen);
    printf(" -> ");
    print_hex(b, blen);
    printf("\n");
}

/* The register `id` in a list, or NULL. */
static bool find_reg(const void *data, size_t len, uint64_t id, struct snap_reg *ret)
{
    size_t pos = 0;
    while (snap_next_reg(data, len, &pos, ret, NULL) > 0) {
        if (ret->id == id)
            return true;
    }
    return false;
}

static void compare_regs(struct diff *d, const char *where, const void *a, size_t alen,
                         const void *b, size_t blen)
{
    struct snap_reg x, y;
    char name[40];
    for (size_t pos = 0; snap_next_reg(a, alen, &pos, &x, NULL) > 0;) {
        bool there = find_reg(b, blen, x.id, &y);
        if (there && x.size == y.size && memcmp(x.value, y.value, x.size) == 0)
            continue;
        view_reg_name(x.id, name, sizeof name);
        print_pair(d, where, name, x.value, x.size, there ? y.value : NULL, there ? y.size : 0);
    }
    for (size_t pos = 0; snap_next_reg(b, blen, &pos, &y, NULL) > 0;) {
        if (find_reg(a, alen, y.id, &x))
            continue;
        view_reg_name(y.id, name, sizeof name);
        print_pair(d, where, name, NULL, 0, y.value, y.size);
    }
}

static bool find_word(const void *data, size_t len, const struct snap_gic_word *like,
                      struct snap_gic_word *ret)
{
    size_t pos = 0;
    while (snap_next_gic_word(data, len, &pos, ret, NULL) > 0) {
        if (ret->group == like->group && ret->vcpu == like->vcpu && ret->offset == like->offset)
            return true;
    }
    return false;
}

/* A word that is missing holds what a fresh GIC holds. */
static void compare_words(struct diff *d, const void *a, size_t alen, const void *b,
                          size_t blen)
{
    struct snap_gic_word x, y;
    char name[40], text[2][20];
    for (unsigned turn = 0; turn < 2; turn++) {
        const void *p = turn ? b : a, *q = turn ? a : b;
        size_t plen = turn ? blen : alen, qlen = turn ? alen : blen;
        for (size_t pos = 0; snap_next_gic_word(p, plen, &pos, &x, NULL) > 0;) {
            bool there = find_word(q, qlen, &x, &y);
            if (there && (turn || x.value == y.value))
                continue;
            view_gic_name(&x, name, sizeof name);
            snprintf(text[0], sizeof text[0], "%llx", (unsigned long long)x.value);
            snprintf(text[1], sizeof text[1], "%llx",
                     (unsigned long long)(there ? y.value : 0));
            if (!there)
                snprintf(text[1], sizeof text[1], "reset");
            d->found++;
            printf("GIC     vCPU %u %-18s %s -> %s\n", x.vcpu, name, text[turn], text[!turn]);
        }
    }
}

static void compare_blocks(struct diff *d, struct dstate_reader *a, struct dstate_reader *b)
{
    char tag[5], where[16], name[40];
    const void *x, *y;
    size_t xlen, ylen;
    uint16_t id;
    view_tag(a->tag, tag);
    snprintf(where, sizeof where, "%s %u", tag, a->instance);
    for (size_t pos = 0; dr_next_field(a, &pos, &id, &x, &xlen, NULL) > 0;) {
        bool there = dr_bytes(b, id, &y, &ylen, NULL) == 0;
        if (there && xlen == ylen && memcmp(x, y, xlen) == 0)
            continue;
        view_field_name(a->tag, id, name, sizeof name);
        if (there && a->tag == SNAP_TAG_VCPU && id == SNAP_VCPU_REGS)
            compare_regs(d, where, x, xlen, y, ylen);
        else if (there && a->tag == SNAP_TAG_GIC && id == SNAP_GIC_WORDS)
            compare_words(d, x, xlen, y, ylen);
        else
            print_pair(d, where, name, x, xlen, there ? y : NULL, there ? ylen : 0);
    }
    for (size_t pos = 0; dr_next_field(b, &pos, &id, &y, &ylen, NULL) > 0;) {
        if (dr_bytes(a, id, &x, &xlen, NULL) == 0)
            continue;
        view_field_name(a->tag, id, name, sizeof name);
        print_pair(d, where, name, NULL, 0, y, ylen);
    }
}

static void only(struct diff *d, const struct dstate_reader *block, char which)
{
    char tag[5];
    view_tag(block->tag, tag);
    d->found++;
    printf("%s %u  only in %c\n", tag, block->instance, which);
}

static void compare_states(struct diff *d)
{
    const struct snap_file *a = &d->a.f, *b = &d->b.f;
    struct dstate_reader x, y;
    for (size_t pos = 0; dr_next(a->state, a->state_len, &pos, &x, NULL) > 0;) {
        if (dr_find(b->state, b->state_len, x.tag, x.instance, &y, NULL) == 0)
            compare_blocks(d, &x, &y);
        else
            only(d, &x, 'A');
    }
    for (size_t pos = 0; dr_next(b->state, b->state_len, &pos, &y, NULL) > 0;) {
        if (dr_find(a->state, a->state_len, y.tag, y.instance, &x, NULL) < 0)
            only(d, &y, 'B');
    }
}

/* ---- memory ---- */

struct page_run {
    uint64_t first, count, bytes;
};

static void print_run(const struct diff *d, const struct options *o, const struct page_run *r)
{
    if (r->count == 0 || !(o->pages || o->bytes))
        return;
    printf("memory  0x%llx %llu pages",
           (unsigned long long)(d->a.f.info.mem_base + r->first * SNAP_PAGE),
           (unsigned long long)r->count);
    if (o->bytes)
        printf(", %llu bytes", (unsigned long long)r->bytes);
    printf("\n");
}

static uint64_t differing(const uint8_t *a, const uint8_t *b)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < SNAP_PAGE; i++)
        n += a[i] != b[i];
    return n;
}

static int compare_memory(struct diff *d, const struct options *o, struct err *e)
{
    uint64_t total = 0, bytes = 0, kinds[2][KINDS] = {{0}};
    struct page_run run = {.count = 0};
    uint64_t pages = MAX(d->a.pages, d->b.pages);
    for (uint64_t p = 0; p < pages; p++) {
        uint8_t x[SNAP_PAGE], y[SNAP_PAGE];
        enum view_source from_x, from_y;
        int r = view_page(&d->a, d->below_a, p, x, &from_x, e);
        if (r == 0)
            r = view_page(&d->b, d->below_b, p, y, &from_y, e);
        if (r < 0)
            return r;
        bool unknown = (from_x == VIEW_FROM_IMAGE && !d->below_a) !=
                       (from_y == VIEW_FROM_IMAGE && !d->below_b);
        uint64_t n = differing(x, y);
        if (n == 0 && !unknown)
            continue;
        if (run.count && run.first + run.count != p) {
            print_run(d, o, &run);
            run.count = 0;
        }
        if (run.count == 0)
            run = (struct page_run){.first = p};
        run.count++;
        run.bytes += n;
        bytes += n;
        total++;
        kinds[0][page_kind(x, &d->a.f.info)]++;
        kinds[1][page_kind(y, &d->b.f.info)]++;
    }
    print_run(d, o, &run);
    printf("memory  %llu of %llu pages differ, in %llu bytes\n", (unsigned long long)total,
           (unsigned long long)pages, (unsigned long long)bytes);
    for (int k = 0; k < KINDS; k++) {
        if (kinds[0][k] || kinds[1][k])
            printf("        %-13s %7llu in A, %7llu in B\n", kind_infos[k].name,
                   (unsigned long long)kinds[0][k], (unsigned long long)kinds[1][k]);
    }
    d->found += total;
    return 0;
}

/* What lies below a session: the image named, or the other file. */
static int find_below(const struct view *v, const struct view *other, const struct view *image,
                      const struct view **ret, struct err *e)
{
    *ret = NULL;
    if (view_is_image(v))
        return 0;
    if (image) {
        *ret = image;
        return snap_check_pair(&image->f.info, &v->f.info, e);
    }
    if (snap_check_pair(&other->f.info, &v->f.info, NULL) == 0)
        *ret = other;
    return 0;
}

static int compare(struct diff *d, const struct options *o, struct err *e)
{
    int r = view_open(&d->a, o->a, e);
    if (r == 0)
        r = view_open(&d->b, o->b, e);
    if (r == 0 && o->image)
        r = view_open(&d->image, o->image, e);
    const struct view *image = o->image ? &d->image : NULL;
    if (r == 0)
        r = find_below(&d->a, &d->b, image, &d->below_a, e);
    if (r == 0)
        r = find_below(&d->b, &d->a, image, &d->below_b, e);
    if (r < 0)
        return r;
    compare_headers(d);
    compare_states(d);
    return compare_memory(d, o, e);
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {{"image", required_argument, NULL, 'i'},
                                          {"pages", no_argument, NULL, 'p'},
                                          {"bytes", no_argument, NULL, 'b'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    struct options o = {.a = NULL};
    struct diff d = {.a = {.fd = -1}, .b = {.fd = -1}, .image = {.fd = -1}};
    struct err e = ERR_INIT;
    int c;
    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (c == 'h') {
            fputs(usage, stdout);
            return 0;
        }
        if (c == '?')
            return 2;
        o.pages |= c == 'p';
        o.bytes |= c == 'b';
        if (c == 'i')
            o.image = optarg;
    }
    if (optind != argc - 2) {
        fprintf(stderr, "snapdiff: name two files; see snapdiff --help\n");
        return 2;
    }
    o.a = argv[optind];
    o.b = argv[optind + 1];
    int r = compare(&d, &o, &e);
    view_close(&d.a);
    view_close(&d.b);
    view_close(&d.image);
    if (r < 0) {
        view_fail(&e);
        return 2;
    }
    return d.found > 0;
}
