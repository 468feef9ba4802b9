// SPDX-License-Identifier: Apache-2.0
/* What /proc says of a monitor: its memory and page faults. */
#ifndef DORMOUSE_TESTS_BENCH_PROC_H
#define DORMOUSE_TESTS_BENCH_PROC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct usage {
    uint64_t faults;                 /* minor, of the whole process so far */
    uint64_t vmm_rss, guest_rss;     /* bytes */
    uint64_t vmm_dirty, guest_dirty; /* private to this process: what it wrote */
    uint64_t vmm_pss, guest_pss;
};

/* The guest's memory is the mappings that together make the largest one of `mem` bytes. False
 * when there is none: then all is the program's own. */
bool proc_usage(pid_t pid, uint64_t mem, struct usage *ret);
uint64_t proc_faults(pid_t pid);

#endif
