// SPDX-License-Identifier: Apache-2.0
/*
 * An application that reads 12 MiB for every request but the one its image was
 * built with: page faults of its processes up to the first answer, as the host
 * counts them, before and after the daemon has recorded the working set again.
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../hypervisor/base/fd.h"
#include "../../hypervisor/base/mem.h"
#include "fault_cases.h"
#include "fault_host.h"

#define IMAGE    "drift"
#define MIB      12
#define RUNS_MAX 40
#define READY_MS 120000
#define RECORDED "working set recorded again"

static bool build(void)
{
    static const char dockerfile[] = "FROM dormouse/debian\n"
                                     "COPY payload /payload\n"
                                     "EXPOSE 8080\n"
                                     "CMD [\"/payload\", \"count\", \"8080\", \"12\"]\n";
    _Static_assert(MIB == 12, "as in the Dockerfile");
    mkdir("/tests/drift", 0755);
    AUTO_CLOSE int fd = open("/tests/drift/Dockerfile", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    return fd >= 0 && write(fd, dockerfile, sizeof dockerfile - 1) > 0 &&
           system("cp /tests/payload /tests/drift/payload && chmod 755 /tests/drift/payload && "
                  "/tests/dormouse build --name " IMAGE " --quiet /tests/drift") == 0;
}

static bool has_file(const char *pid, const char *part)
{
    char path[300], to[600];
    snprintf(path, sizeof path, "/proc/%s/fd", pid);
    DIR *dir = opendir(path);
    bool found = false;
    for (struct dirent *d; dir && !found && (d = readdir(dir));) {
        ssize_t n = readlinkat(dirfd(dir), d->d_name, to, sizeof to - 1);
        to[MAX(n, 0)] = '\0';
        found = strstr(to, part) != NULL;
    }
    if (dir)
        closedir(dir);
    return found;
}

/* Of the process that runs a microVM: it has its disk open. 0: there is none. */
static unsigned long faults_of(const char *vm)
{
    unsigned long faults = 0;
    DIR *proc = opendir("/proc");
    for (struct dirent *d; proc && faults == 0 && (d = readdir(proc));) {
        AUTO_FREE char *stat = NULL;
        char path[300];
        snprintf(path, sizeof path, "/proc/%s/stat", d->d_name);
        if (!isdigit((unsigned char)d->d_name[0]) ||
            fd_read_file(AT_FDCWD, path, 4096, &stat, NULL, NULL) < 0)
            continue;
        /* pid (comm) state ppid pgrp session tty tpgid flags minflt */
        const char *p = strrchr(stat, ')');
        if (p && strstr(stat, "(dormouse-vmm)") && has_file(d->d_name, vm) &&
            sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %lu", &faults) != 1)
            faults = 0;
    }
    if (proc)
        closedir(proc);
    return faults;
}

static bool await_running(struct client *c)
{
    char state[24];
    for (uint64_t end = now_ms() + READY_MS; now_ms() < end; nap(20)) {
        client_state(c, state);
        if (strcmp(state, "RUNNING") == 0)
            return true;
    }
    printf("# %s is %s\n", c->id, state);
    return false;
}

/* One microVM, one request; how many faults that was. */
static bool one_run(struct client *c, unsigned long *ret)
{
    if (!client_run(c) || !await_running(c))
        return false;
    unsigned long before = faults_of(c->id);
    bool ok = before > 0 && client_ask(c);
    unsigned long after = ok ? faults_of(c->id) : 0;
    *ret = after - before;
    printf("# %lu page faults\n", *ret);
    /* The daemon asks it for its pages a moment later; and looks at one run a second. */
    nap(1200);
    return client_act(c, "terminate") && after > before;
}

/* Of three runs, the first of which may have been prepared for before. */
static unsigned long least_of(struct client *c)
{
    unsigned long least = ~0ul, faults;
    for (unsigned i = 0; i < 3; i++) {
        if (!CHECK(one_run(c, &faults)))
            return 0;
        least = MIN(least, faults);
    }
    return least;
}

FAULT_CASE(case_drift)
{
    struct client c;
    unsigned long faults;
    unsigned runs = 0, recorded = daemon_said(RECORDED);
    (void)image;
    if (!CHECK(build() && client_open(&c, 95, IMAGE)))
        return;
    unsigned long before = least_of(&c);
    while (daemon_said(RECORDED) == recorded && runs++ < RUNS_MAX) {
        if (!CHECK(one_run(&c, &faults)))
            return;
    }
    unsigned long after = least_of(&c);
    printf("# %lu page faults up to the first answer; recorded again after %u more runs; then "
           "%lu\n",
           before, runs, after);
    CHECK(daemon_said(RECORDED) == recorded + 1);
    /* The memory it reads is more than 3000 pages; the host maps up to 16 at a time. */
    CHECK(before > (MIB << 8) / 16 && after * 2 < before);
    /* Not again: what is touched is what is known. */
    for (unsigned i = 0; i < 10; i++)
        CHECK(one_run(&c, &faults));
    CHECK(daemon_said(RECORDED) == recorded + 1);
    client_close(&c);
    CHECK(system("/tests/dormouse rm " IMAGE " >/dev/null") == 0);
}
