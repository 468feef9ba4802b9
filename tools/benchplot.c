// SPDX-License-Identifier: Apache-2.0
/*
 * Draws results of the benchmarks as SVG, without libraries. Reads what this
 * project's own benchmarks wrote; used by tests/bench/report.sh.
 *     benchplot timeline FILE         lines `# timeline WHO FROM TO CALL`, in us
 *     benchplot growth FILE CASE KEY METRIC TITLE
 *                                     lines of results.jsonl: METRIC against params.KEY
 *     benchplot kinds FILE            the same: what becomes of the pages of a snapshot
 */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH      900
#define LEFT       90
#define POINTS_MAX 64
#define PARTS_MAX  8192

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static void die(const char *what, const char *name)
{
    fprintf(stderr, "error: %s '%s'\n", what, name);
    exit(1);
}

static void head(int height, const char *title)
{
    printf("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
           "font-family=\"sans-serif\" font-size=\"12\">\n"
           "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n"
           "<text x=\"%d\" y=\"20\" font-size=\"15\">%s</text>\n",
           WIDTH, height, 10, title);
}

static void text(double x, double y, const char *anchor, const char *what)
{
    printf("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y, anchor, what);
}

/* ---- one restore, call by call ---- */

static const struct {
    const char *name, *calls, *color;
} groups[] = {
    {"own instructions, page faults", " user ", "#9aa0a6"},
    {"guest until its first instruction", " KVM_RUN ", "#d93025"},
    {"registers", " SET_ONE_REG GET_ONE_REG SET_VCPU_EVENTS GET_REG_LIST ", "#1a73e8"},
    {"interrupt controller", " SET_DEVICE_ATTR GET_DEVICE_ATTR IRQ_LINE ", "#12a4af"},
    {"memory", " mmap munmap madvise SET_USER_MEMORY_REGION ", "#188038"},
    {"device notification", " IOEVENTFD IRQFD eventfd2 ", "#f9ab00"},
    {"files", " pread64 readv read lseek fstat openat ", "#a142f4"},
    {"other calls", "", "#5f6368"},
};
#define GROUPS (sizeof groups / sizeof groups[0])

static size_t group_of(const char *call)
{
    char word[40];
    snprintf(word, sizeof word, " %s ", call);
    size_t i = 0;
    while (i + 1 < GROUPS && !strstr(groups[i].calls, word))
        i++;
    return i;
}

struct part {
    double from, to;
    char who[32], call[32];
};

static int timeline(const char *path)
{
    static struct part parts[PARTS_MAX];
    size_t n = 0, bars = 0;
    double sums[4][GROUPS] = {{0}}, ends[4] = {0}, longest = 0;
    char line[256], whos[4][32] = {""}, label[128];
    FILE *f = fopen(path, "r");
    if (!f)
        die("cannot open", path);
    while (n < PARTS_MAX && fgets(line, sizeof line, f)) {
        struct part *p = &parts[n];
        if (sscanf(line, "# timeline %31s %lf %lf %31[^\n]", p->who, &p->from, &p->to,
                   p->call) == 4)
            n++;
    }
    fclose(f);
    for (size_t i = 0; i < n; i++) {
        size_t b = 0;
        while (b < bars && strcmp(whos[b], parts[i].who) != 0)
            b++;
        if (b == 4)
            continue;
        if (b == bars)
            snprintf(whos[bars++], sizeof whos[0], "%s", parts[i].who);
        sums[b][group_of(parts[i].call)] += parts[i].to - parts[i].from;
        ends[b] = larger(ends[b], parts[i].to);
        longest = larger(longest, ends[b]);
    }
    if (n == 0)
        die("there is no timeline in", path);
    head((int)(60 + bars * 60 + GROUPS * 18), "A restore, from the order to the guest's first "
                                              "instruction (seen calls take longer)");
    double scale = (WIDTH - LEFT - 20) / longest;
    for (size_t b = 0; b < bars; b++) {
        double y = 45 + (double)b * 60;
        text(LEFT - 8, y + 22, "end", whos[b]);
        snprintf(label, sizeof label, "%.0f us", ends[b]);
        text(LEFT, y + 50, "start", label);
        for (size_t i = 0; i < n; i++) {
            const struct part *p = &parts[i];
            double w = (p->to - p->from) * scale;
            if (strcmp(p->who, whos[b]) == 0 && w >= 0.1)
                printf("<rect x=\"%.1f\" y=\"%.0f\" width=\"%.1f\" height=\"34\" "
                       "fill=\"%s\"/>\n",
                       LEFT + p->from * scale, y, w, groups[group_of(p->call)].color);
        }
    }
    for (size_t g = 0; g < GROUPS; g++) {
        double y = 62 + (double)bars * 60 + (double)g * 18;
        int used = snprintf(label, sizeof label, "%s:", groups[g].name);
        for (size_t b = 0; b < bars && used > 0 && (size_t)used < sizeof label; b++)
            used += snprintf(label + used, sizeof label - (size_t)used, " %s %.0f us", whos[b],
                             sums[b][g]);
        printf("<rect x=\"%d\" y=\"%.0f\" width=\"12\" height=\"12\" fill=\"%s\"/>\n", LEFT,
               y - 10, groups[g].color);
        text(LEFT + 20, y, "start", label);
    }
    printf("</svg>\n");
    return 0;
}

/* ---- a figure against a size ---- */

struct point {
    double x, y, peer;
};

static double field(const char *line, const char *key)
{
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    const char *at = strstr(line, quoted);
    char *end;
    if (!at)
        return NAN;
    at += strlen(quoted);
    double v = strtod(at, &end);
    return end == at ? NAN : v;
}

static bool has(const char *line, const char *key, const char *value)
{
    char want[128];
    snprintf(want, sizeof want, "\"%s\":\"%s\"", key, value);
    return strstr(line, want) != NULL;
}

static int by_x(const void *a, const void *b)
{
    const struct point *p = a, *q = b;
    return (p->x > q->x) - (p->x < q->x);
}

/* Sizes double from one to the next, so they stand side by side. */
static double place(size_t i, size_t n)
{
    return LEFT + 10 + (n > 1 ? (double)i / (double)(n - 1) * (WIDTH - LEFT - 80) : 0);
}

static void curve(const struct point *p, size_t n, bool peer, double top, int height,
                  const char *color)
{
    printf("<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", color);
    for (size_t i = 0; i < n; i++) {
        double y = peer ? p[i].peer : p[i].y;
        if (!isnan(y))
            printf("%.1f,%.1f ", place(i, n), height - 50 - y / top * (height - 100));
    }
    printf("\"/>\n");
}

static int growth(char **argv)
{
    static struct point p[POINTS_MAX];
    char line[1024], label[64], unit[16] = "";
    size_t n = 0;
    const int height = 320;
    double top = 0;
    bool peers = false;
    FILE *f = fopen(argv[0], "r");
    if (!f)
        die("cannot open", argv[0]);
    while (n < POINTS_MAX && fgets(line, sizeof line, f)) {
        double x = field(line, argv[2]);
        /* One curve for a peer; lines of further ones repeat our own figures. */
        if (!has(line, "case", argv[1]) || !has(line, "metric", argv[3]) || isnan(x) ||
            x <= 0 || !(has(line, "peer", "qemu") || strstr(line, "\"peer\":null")))
            continue;
        p[n] = (struct point){x, field(line, "median"), field(line, "peer_median")};
        peers |= !isnan(p[n].peer);
        top = larger(top, larger(p[n].y, isnan(p[n].peer) ? 0 : p[n].peer));
        const char *u = strstr(line, "\"unit\":\"");
        if (u)
            sscanf(u + 8, "%15[^\"]", unit);
        n++;
    }
    fclose(f);
    if (n == 0 || top <= 0)
        die("there are no such results in", argv[0]);
    qsort(p, n, sizeof p[0], by_x);
    head(height, argv[4]);
    printf("<path d=\"M%d 50V%dH%d\" fill=\"none\" stroke=\"black\"/>\n", LEFT, height - 50,
           WIDTH - 50);
    for (int i = 0; i <= 4; i++) {
        double v = top * i / 4;
        bool bytes = strcmp(unit, "B") == 0;
        snprintf(label, sizeof label, bytes ? "%.3g MiB" : "%.3g %s", bytes ? v / 1048576 : v,
                 unit);
        text(LEFT - 6, height - 46 - (height - 100) * i / 4.0, "end", label);
    }
    for (size_t i = 0; i < n; i++) {
        snprintf(label, sizeof label, "%g", p[i].x);
        text(place(i, n), height - 32, "middle", label);
    }
    text(WIDTH / 2.0, height - 12, "middle", argv[2]);
    curve(p, n, false, top, height, "#1a73e8");
    text(WIDTH - 55, 60, "end", peers ? "blue: dormouse, red: qemu" : "dormouse");
    if (peers)
        curve(p, n, true, top, height, "#d93025");
    printf("</svg>\n");
    return 0;
}

/* ---- pages of snapshots by what becomes of them ---- */

static const struct {
    const char *metric, *name, *color;
} kinds[] = {
    {"pages-stored", "in the file", "#1a73e8"},
    {"pages-same", "as in the image", "#12a4af"},
    {"pages-zero", "zero, not in the file", "#dadce0"},
};
#define KINDS    (sizeof kinds / sizeof kinds[0])
#define BARS_MAX 16

struct bar {
    char label[128];
    double pages[KINDS];
};

/* {"kind":"full","workload":"idle"} -> full, idle */
static void label_of(const char *line, char ret[128])
{
    char kind[32] = "", work[48] = "", mem[16] = "";
    const char *at = strstr(line, "\"kind\":\"");
    if (at)
        sscanf(at + 8, "%31[^\"]", kind);
    if ((at = strstr(line, "\"workload\":\"")))
        sscanf(at + 12, "%47[^\"]", work);
    if ((at = strstr(line, "\"memory_mib\":")))
        sscanf(at + 13, "%15[0-9]", mem);
    snprintf(ret, 128, "%s, %s%s%s", kind, work, mem[0] ? ", MiB " : "", mem);
}

static int draw_kinds(const char *path)
{
    static struct bar bars[BARS_MAX];
    char line[1024], label[128];
    size_t n = 0;
    double top = 0;
    FILE *f = fopen(path, "r");
    if (!f)
        die("cannot open", path);
    while (fgets(line, sizeof line, f)) {
        for (size_t k = 0; k < KINDS; k++) {
            size_t i = 0;
            if (!has(line, "case", "snapshot-create") || !has(line, "metric", kinds[k].metric))
                continue;
            label_of(line, label);
            while (i < n && strcmp(bars[i].label, label) != 0)
                i++;
            if (i == BARS_MAX)
                continue;
            if (i == n)
                snprintf(bars[n++].label, sizeof bars[0].label, "%s", label);
            bars[i].pages[k] = field(line, "median");
        }
    }
    fclose(f);
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (size_t k = 0; k < KINDS; k++)
            sum += bars[i].pages[k];
        top = larger(top, sum);
    }
    if (n == 0 || top <= 0)
        die("there are no pages of snapshots in", path);
    head((int)(80 + 34 * n), "Pages of a snapshot, each bar as long as the guest's memory");
    for (size_t i = 0; i < n; i++) {
        double x = LEFT + 120, y = 40 + 34.0 * (double)i, sum = 0;
        for (size_t k = 0; k < KINDS; k++)
            sum += bars[i].pages[k];
        text(x - 8, y + 15, "end", bars[i].label);
        for (size_t k = 0; k < KINDS && sum > 0; k++) {
            double width = bars[i].pages[k] / sum * (WIDTH - LEFT - 260);
            printf("<rect x=\"%.1f\" y=\"%.1f\" width=\"%.2f\" height=\"20\" fill=\"%s\"/>\n",
                   x, y, width, kinds[k].color);
            x += width;
        }
        snprintf(label, sizeof label, "%.1f MiB stored", bars[i].pages[0] / 256);
        text(x + 8, y + 15, "start", label);
    }
    for (size_t k = 0; k < KINDS; k++) {
        double x = LEFT + 120 + 170.0 * (double)k, y = 52 + 34.0 * (double)n;
        printf("<rect x=\"%.1f\" y=\"%.1f\" width=\"12\" height=\"12\" fill=\"%s\"/>\n", x, y,
               kinds[k].color);
        text(x + 18, y + 11, "start", kinds[k].name);
    }
    printf("</svg>\n");
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "kinds") == 0)
        return draw_kinds(argv[2]);
    if (argc == 3 && strcmp(argv[1], "timeline") == 0)
        return timeline(argv[2]);
    if (argc == 7 && strcmp(argv[1], "growth") == 0)
        return growth(argv + 2);
    fprintf(stderr, "usage: benchplot timeline FILE\n"
                    "       benchplot growth FILE CASE KEY METRIC TITLE\n"
                    "       benchplot kinds FILE\n");
    return 2;
}
