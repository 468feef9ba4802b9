// SPDX-License-Identifier: Apache-2.0
/*
 * Writes the guest's initramfs: an uncompressed newc cpio that depends on
 * nothing but its list and the files named in it. Entries are sorted, owner is
 * root, times are 0, inode numbers count up: the same input gives the same
 * bytes. Runs on the build machine.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENTRIES_MAX 256
#define FILE_LIMIT  (64ul << 20)

struct entry {
    char path[128]; /* without the leading slash */
    unsigned mode;  /* with the type */
    unsigned maj, min;
    char source[256];
};

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *fmt, ...)
{
    va_list ap;
    fprintf(stderr, "error: ");
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(1);
}

static bool parse_line(char *line, struct entry *e, const char *list, unsigned number)
{
    char path[130], kind[256];
    int used = 0;
    line[strcspn(line, "#\n")] = '\0';
    if (line[strspn(line, " \t")] == '\0')
        return false;
    if (sscanf(line, " %129s %o %n", path, &e->mode, &used) < 2 || used == 0 ||
        path[0] != '/' || path[1] == '\0' || e->mode > 07777)
        die("%s:%u: write `/path MODE [source | c MAJOR MINOR]`", list, number);
    snprintf(e->path, sizeof(e->path), "%.127s", path + 1);
    const char *rest = line + used;
    e->source[0] = '\0';
    e->maj = e->min = 0;
    if (*rest == '\0') {
        e->mode |= S_IFDIR;
    } else if (sscanf(rest, "c %u %u %n", &e->maj, &e->min, &used) == 2) {
        e->mode |= S_IFCHR;
    } else if (sscanf(rest, "%255s %n", kind, &used) == 1 && rest[used] == '\0') {
        e->mode |= S_IFREG;
        memcpy(e->source, kind, sizeof(e->source));
    } else {
        die("%s:%u: write `/path MODE [source | c MAJOR MINOR]`", list, number);
    }
    return true;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->path, ((const struct entry *)b)->path);
}

static size_t read_list(const char *list, struct entry *entries)
{
    FILE *f = fopen(list, "r");
    char line[512];
    size_t n = 0;
    if (!f)
        die("cannot read '%s': %s", list, strerror(errno));
    for (unsigned number = 1; fgets(line, sizeof(line), f); number++) {
        if (n == ENTRIES_MAX)
            die("%s: more than %d entries", list, ENTRIES_MAX);
        n += parse_line(line, &entries[n], list, number);
    }
    fclose(f);
    qsort(entries, n, sizeof(*entries), by_path);
    for (size_t i = 1; i < n; i++)
        if (strcmp(entries[i - 1].path, entries[i].path) == 0)
            die("%s: '/%s' is listed twice", list, entries[i].path);
    return n;
}

static void pad(FILE *out, size_t to)
{
    while ((size_t)ftell(out) % to != 0)
        fputc(0, out);
}

static void put_header(FILE *out, unsigned ino, const struct entry *e, unsigned nlink,
                       size_t size)
{
    /* magic, ino, mode, uid, gid, nlink, mtime, size, dev 2, rdev 2, name length, check */
    fprintf(out, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", ino, e->mode, 0u,
            0u, nlink, 0u, (unsigned)size, 0u, 0u, e->maj, e->min,
            (unsigned)strlen(e->path) + 1, 0u);
    fputs(e->path, out);
    fputc(0, out);
    pad(out, 4);
}

static void put_entry(FILE *out, unsigned ino, const struct entry *e, const char *base)
{
    char path[1024];
    static char data[65536];
    if (!S_ISREG(e->mode)) {
        put_header(out, ino, e, S_ISDIR(e->mode) ? 2 : 1, 0);
        return;
    }
    snprintf(path, sizeof(path), "%s/%s", base, e->source);
    FILE *in = fopen(path, "rb");
    struct stat st;
    if (!in || fstat(fileno(in), &st) < 0)
        die("cannot read '%s': %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode) || (unsigned long)st.st_size > FILE_LIMIT)
        die("'%s' is not a file of a size that belongs here", path);
    put_header(out, ino, e, 1, (size_t)st.st_size);
    size_t total = 0, n;
    while ((n = fread(data, 1, sizeof(data), in)) > 0) {
        fwrite(data, 1, n, out);
        total += n;
    }
    if (ferror(in) || total != (size_t)st.st_size)
        die("'%s' changed while it was read", path);
    fclose(in);
    pad(out, 4);
}

int main(int argc, char **argv)
{
    static struct entry entries[ENTRIES_MAX];
    if (argc != 4) {
        fprintf(stderr,
                "Usage: mkinitrd LIST SOURCES OUT\n\n"
                "Writes the cpio OUT as LIST says; sources are looked up in SOURCES.\n");
        return 2;
    }
    char tmp[1024];
    if ((size_t)snprintf(tmp, sizeof(tmp), "%s.new", argv[3]) >= sizeof(tmp))
        die("the path '%s' is too long", argv[3]);
    size_t n = read_list(argv[1], entries);
    FILE *out = fopen(tmp, "wb");
    if (!out)
        die("cannot write '%s': %s", tmp, strerror(errno));
    for (size_t i = 0; i < n; i++)
        put_entry(out, (unsigned)i + 1, &entries[i], argv[2]);
    struct entry end = {.path = "TRAILER!!!"};
    put_header(out, 0, &end, 1, 0);
    if (ferror(out) || fclose(out) != 0 || rename(tmp, argv[3]) != 0) {
        unlink(tmp);
        die("cannot write '%s': %s", argv[3], strerror(errno));
    }
    return 0;
}
