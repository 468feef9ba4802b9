// SPDX-License-Identifier: Apache-2.0
/*
 * snapmap: a picture of a guest's memory, a dot a page, coloured by what the
 * page is. PNG with a palette (stored, not compressed) or SVG with a legend.
 * For people; the file is not trusted.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../hypervisor/base/buf.h"
#include "../hypervisor/base/fd.h"
#include "../hypervisor/base/mem.h"
#include "../hypervisor/base/num.h"
#include "snapview.h"

static const char usage[] =
    "NAME\n"
    "  snapmap - a picture of the memory in a snapshot\n"
    "\n"
    "SYNOPSIS\n"
    "  snapmap [OPTION]... FILE OUT.png\n"
    "  snapmap [OPTION]... FILE OUT.svg\n"
    "\n"
    "DESCRIPTION\n"
    "  One dot for each page of 4 KiB, from left to right and top to bottom in the order of\n"
    "  addresses. Its colour says what the page is: zero, text, code, kernel data, … (the SVG\n"
    "  has a legend; --legend prints it). Pages that a session leaves to its image are grey,\n"
    "  or with --image drawn pale.\n"
    "\n"
    "OPTIONS\n"
    "  --image FILE  the image below a session\n"
    "  --width N     dots in a row; a power of two (default: about twice the height)\n"
    "  --scale N     pixels of a dot, 1 to 16 (default: what makes 512 pixels or more)\n"
    "  --legend      print the colours and how many pages have them\n"
    "  --help        this text\n"
    "\n"
    "EXIT STATUS\n"
    "  0 good, 1 unreadable or not written, 2 wrong arguments\n"
    "\n"
    "SEE ALSO\n"
    "  snapdump, snapdiff\n";

#define FROM_IMAGE ((uint8_t)KINDS) /* left to the image, and it was not given */
#define PALE       16u              /* + kind: from the image */
#define COLOURS    32u
#define SCALE_MAX  16u

struct options {
    const char *file, *out, *image;
    uint64_t width, scale;
    bool legend;
};

static uint32_t colour_of(unsigned index)
{
    if (index == FROM_IMAGE)
        return 0xc8ccd0;
    uint32_t c = kind_infos[index % PALE % KINDS].colour;
    if (index < PALE)
        return c;
    uint32_t pale = 0;
    for (unsigned shift = 0; shift < 24; shift += 8)
        pale |= (255 - (255 - (c >> shift & 255)) / 3) << shift;
    return pale;
}

struct map {
    uint8_t *dots;
    uint64_t pages, width, height, scale;
    uint64_t count[COLOURS];
};

static int look(struct map *m, const struct view *v, const struct view *image, struct err *e)
{
    uint8_t page[SNAP_PAGE];
    for (uint64_t p = 0; p < m->pages; p++) {
        enum view_source from;
        int r = view_page(v, image, p, page, &from, e);
        if (r < 0)
            return r;
        uint8_t dot = FROM_IMAGE;
        if (from != VIEW_FROM_IMAGE)
            dot = (uint8_t)page_kind(page, &v->f.info);
        else if (image)
            dot = (uint8_t)(PALE + page_kind(page, &v->f.info));
        m->dots[p] = dot;
        m->count[dot]++;
    }
    return 0;
}

/* ---- PNG (ISO/IEC 15948): palette, one stored block of at most 65535 bytes after another ----
 */

static uint32_t png_crc(uint32_t crc, const uint8_t *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++)
            crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
    }
    return crc;
}

static void put_be32(uint8_t *p, uint32_t v)
{
    put_le32(p, __builtin_bswap32(v));
}

static void png_chunk(struct buf *b, const char *type, const uint8_t *data, size_t len)
{
    uint8_t raw[4];
    put_be32(raw, (uint32_t)len);
    buf_add(b, raw, 4);
    buf_add(b, type, 4);
    buf_add(b, data, len);
    uint32_t crc = png_crc(0xffffffffu, (const uint8_t *)type, 4);
    put_be32(raw, ~png_crc(crc, data, len));
    buf_add(b, raw, 4);
}

static void zlib_stored(struct buf *z, const uint8_t *p, size_t len)
{
    uint32_t a = 1, b = 0;
    buf_add(z, "\x78\x01", 2);
    for (size_t at = 0; at < len || at == 0;) {
        size_t n = MIN(len - at, (size_t)65535);
        uint8_t head[5] = {at + n == len};
        put_le16(head + 1, (uint16_t)n);
        put_le16(head + 3, (uint16_t)~n);
        buf_add(z, head, sizeof head);
        buf_add(z, p + at, n);
        at += n;
    }
    for (size_t i = 0; i < len; i++) {
        a = (a + p[i]) % 65521;
        b = (b + a) % 65521;
    }
    uint8_t sum[4];
    put_be32(sum, b << 16 | a);
    buf_add(z, sum, sizeof sum);
}

static void make_png(const struct map *m, struct buf *out)
{
    struct buf rows = BUF_INIT, z = BUF_INIT;
    uint8_t head[13] = {0}, palette[COLOURS * 3];
    rows.limit = z.limit = out->limit;
    put_be32(head, (uint32_t)(m->width * m->scale));
    put_be32(head + 4, (uint32_t)(m->height * m->scale));
    head[8] = 8; /* bits */
    head[9] = 3; /* palette */
    for (unsigned i = 0; i < COLOURS; i++) {
        uint32_t c = colour_of(i);
        palette[3 * i] = (uint8_t)(c >> 16);
        palette[3 * i + 1] = (uint8_t)(c >> 8);
        palette[3 * i + 2] = (uint8_t)c;
    }
    for (uint64_t y = 0; y < m->height * m->scale; y++) {
        buf_add(&rows, "", 1); /* no filter */
        for (uint64_t x = 0; x < m->width; x++) {
            uint8_t dot[SCALE_MAX];
            uint64_t p = y / m->scale * m->width + x;
            memset(dot, p < m->pages ? m->dots[p] : FROM_IMAGE, sizeof dot);
            buf_add(&rows, dot, m->scale);
        }
    }
    zlib_stored(&z, rows.data, rows.len);
    buf_add(out, "\x89PNG\r\n\x1a\n", 8);
    png_chunk(out, "IHDR", head, sizeof head);
    png_chunk(out, "PLTE", palette, sizeof palette);
    png_chunk(out, "IDAT", z.data, z.len);
    png_chunk(out, "IEND", NULL, 0);
    out->bad |= rows.bad || z.bad;
    buf_free(&rows);
    buf_free(&z);
}

/* ---- SVG ---- */

static void add_text(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add_text(struct buf *b, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    buf_add(b, text, n > 0 ? MIN((size_t)n, sizeof text - 1) : 0);
}

static void legend_name(unsigned index, char *ret, size_t size)
{
    if (index == FROM_IMAGE)
        snprintf(ret, size, "left to the image");
    else
        snprintf(ret, size, "%s%s", kind_infos[index % PALE].name,
                 index >= PALE ? ", in the image" : "");
}

static void make_svg(const struct map *m, struct buf *out)
{
    uint64_t w = m->width * m->scale, h = m->height * m->scale, line = h + 24;
    unsigned entries = 0;
    for (unsigned i = 0; i < COLOURS; i++)
        entries += m->count[i] > 0;
    add_text(out,
             "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%llu\" height=\"%llu\" "
             "font-family=\"sans-serif\" font-size=\"14\">\n"
             "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n"
             "<g shape-rendering=\"crispEdges\">\n",
             (unsigned long long)w, (unsigned long long)(h + 24 + entries * 20ull));
    for (uint64_t p = 0; p < m->pages;) { /* equal neighbours as one */
        uint64_t n = 1, row = p / m->width;
        while (p + n < m->pages && (p + n) / m->width == row && m->dots[p + n] == m->dots[p])
            n++;
        add_text(out,
                 "<rect x=\"%llu\" y=\"%llu\" width=\"%llu\" height=\"%llu\" "
                 "fill=\"#%06x\"/>\n",
                 (unsigned long long)(p % m->width * m->scale),
                 (unsigned long long)(row * m->scale), (unsigned long long)(n * m->scale),
                 (unsigned long long)m->scale, colour_of(m->dots[p]));
        p += n;
    }
    add_text(out, "</g>\n");
    for (unsigned i = 0; i < COLOURS; i++) {
        char name[60];
        if (m->count[i] == 0)
            continue;
        legend_name(i, name, sizeof name);
        add_text(out,
                 "<rect x=\"8\" y=\"%llu\" width=\"14\" height=\"14\" fill=\"#%06x\" "
                 "stroke=\"#888\"/><text x=\"30\" y=\"%llu\">%s: %llu pages, %.1f MiB</text>\n",
                 (unsigned long long)(line - 12), colour_of(i), (unsigned long long)line, name,
                 (unsigned long long)m->count[i], (double)m->count[i] / 256);
        line += 20;
    }
    add_text(out, "</svg>\n");
}

/* ---- both ---- */

static void shape(struct map *m, const struct options *o)
{
    m->width = o->width ? o->width : 1;
    while (!o->width && m->width * m->width < m->pages * 2)
        m->width *= 2;
    m->height = (m->pages + m->width - 1) / m->width;
    m->scale = o->scale ? o->scale : 1;
    while (!o->scale && m->width * m->scale < 512 && m->scale < SCALE_MAX)
        m->scale *= 2;
}

static int write_picture(const struct map *m, const char *path, bool svg, struct err *e)
{
    struct buf out = BUF_INIT;
    out.limit = 1u << 30;
    if (svg)
        make_svg(m, &out);
    else
        make_png(m, &out);
    int r = out.bad ? err_set(e, ENOMEM, "the picture is too large; try a smaller --scale") : 0;
    AUTO_CLOSE int fd =
        r == 0 ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : -1;
    if (r == 0 && fd < 0)
        r = err_sys(e, errno, "make '%s'", path);
    if (r == 0 && (r = fd_write_full(fd, out.data, out.len)) < 0)
        err_sys(e, -r, "write '%s'", path);
    buf_free(&out);
    return r;
}

static int draw(const struct options *o, bool svg, struct view *v, struct view *image,
                struct err *e)
{
    int r = view_open_over(v, o->file, image, o->image, e);
    if (r < 0)
        return r;
    struct map m = {.pages = v->pages};
    AUTO_FREE uint8_t *dots = malloc(m.pages);
    if (!dots)
        return err_sys(e, ENOMEM, "draw the memory");
    m.dots = dots;
    shape(&m, o);
    r = look(&m, v, o->image ? image : NULL, e);
    if (r == 0)
        r = write_picture(&m, o->out, svg, e);
    for (unsigned i = 0; i < COLOURS && r == 0 && o->legend; i++) {
        char name[60];
        if (m.count[i] == 0)
            continue;
        legend_name(i, name, sizeof name);
        printf("#%06x %8llu pages  %s\n", colour_of(i), (unsigned long long)m.count[i], name);
    }
    return r;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"image", required_argument, NULL, 'i'}, {"width", required_argument, NULL, 'w'},
        {"scale", required_argument, NULL, 's'}, {"legend", no_argument, NULL, 'l'},
        {"help", no_argument, NULL, 'h'},        {NULL, 0, NULL, 0}};
    struct options o = {.file = NULL};
    struct view v = {.fd = -1}, image = {.fd = -1};
    struct err e = ERR_INIT;
    bool good = true;
    int c;
    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (c) {
        case 'h':
            fputs(usage, stdout);
            return 0;
        case 'i':
            o.image = optarg;
            break;
        case 'w':
            good &= parse_u64(optarg, 1, 1u << 16, &o.width) && !(o.width & (o.width - 1));
            break;
        case 's':
            good &= parse_u64(optarg, 1, SCALE_MAX, &o.scale);
            break;
        case 'l':
            o.legend = true;
            break;
        default:
            return 2;
        }
    }
    const char *dot = optind == argc - 2 ? strrchr(argv[optind + 1], '.') : NULL;
    bool svg = dot && strcmp(dot, ".svg") == 0;
    if (!good || !dot || (!svg && strcmp(dot, ".png") != 0)) {
        fprintf(stderr, "snapmap: %s; see snapmap --help\n",
                good ? "name a snapshot and a picture, .png or .svg" : "a number is wrong");
        return 2;
    }
    o.file = argv[optind];
    o.out = argv[optind + 1];
    int r = draw(&o, svg, &v, &image, &e);
    view_close(&v);
    view_close(&image);
    return r < 0 ? view_fail(&e) : 0;
}
