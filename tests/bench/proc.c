// SPDX-License-Identifier: Apache-2.0
/* A monitor's memory and page faults, from /proc. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../hypervisor/base/mem.h"
#include "proc.h"

uint64_t proc_faults(pid_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    const char *p = strrchr(text, ')');
    uint64_t faults = 0;
    /* state ppid pgrp session tty tpgid flags minflt */
    if (!p || sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %" SCNu64, &faults) != 1)
        return 0;
    return faults;
}

struct mapping {
    uint64_t from, to, rss, pss, dirty;
};

static void add(struct usage *u, const struct mapping *m, uint64_t from, uint64_t to)
{
    if (m->from >= from && m->to <= to) {
        u->guest_rss += m->rss;
        u->guest_pss += m->pss;
        u->guest_dirty += m->dirty;
    } else {
        u->vmm_rss += m->rss;
        u->vmm_pss += m->pss;
        u->vmm_dirty += m->dirty;
    }
}

/* The run of neighbouring mappings that is as long as the guest's memory. */
static void find_guest(const struct mapping *m, unsigned n, uint64_t mem, uint64_t *from,
                       uint64_t *to)
{
    *from = *to = 0;
    if (mem == 0)
        return;
    for (unsigned i = 0; i < n; i++) {
        for (unsigned k = i; k < n && (k == i || m[k].from == m[k - 1].to); k++) {
            if (m[k].to - m[i].from == mem) {
                *from = m[i].from;
                *to = m[k].to;
                return;
            }
        }
    }
}

bool proc_usage(pid_t pid, uint64_t mem, struct usage *ret)
{
    static struct mapping map[4096];
    unsigned n = 0;
    char path[64], line[512];
    memset(ret, 0, sizeof *ret);
    ret->faults = proc_faults(pid);
    snprintf(path, sizeof path, "/proc/%d/smaps", pid);
    AUTO_FCLOSE FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f)) {
        uint64_t a, b;
        char rest[8];
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s", &a, &b, rest) == 3 && b > a) {
            if (n == ARRAY_LEN(map))
                return false;
            map[n++] = (struct mapping){.from = a, .to = b};
        } else if (n && sscanf(line, "Rss: %" SCNu64, &a) == 1) {
            map[n - 1].rss = a << 10;
        } else if (n && sscanf(line, "Pss: %" SCNu64, &a) == 1) {
            map[n - 1].pss = a << 10;
        } else if (n && (sscanf(line, "Private_Dirty: %" SCNu64, &a) == 1)) {
            map[n - 1].dirty = a << 10;
        }
    }
    uint64_t from, to;
    find_guest(map, n, mem, &from, &to);
    for (unsigned i = 0; i < n; i++)
        add(ret, &map[i], from, to);
    return n > 0 && to > from;
}
