// SPDX-License-Identifier: Apache-2.0
/* The daemon under test; see fault_host.h. Whatever it leaves becomes our child. */
#include "fault_host.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../hypervisor/base/mem.h"

#define UP_LIMIT_MS   180000
#define DOWN_LIMIT_MS 180000
#define SETTLE_MS     30000

static pid_t daemon_main;
static unsigned files;
static uint64_t state_of_draw;

uint64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void seed(uint64_t s)
{
    state_of_draw = s * 2654435761u + 1;
}

uint32_t draw(uint32_t below)
{
    /* splitmix64; also from several threads, where only the order varies */
    uint64_t z = __atomic_add_fetch(&state_of_draw, 0x9e3779b97f4a7c15u, __ATOMIC_RELAXED);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return below ? (uint32_t)((z ^ (z >> 31)) >> 16) % below : 0;
}

void reap(void)
{
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
}

pid_t daemon_pid(void)
{
    return daemon_main;
}

pid_t daemon_api(void)
{
    char path[64];
    int pid = 0;
    DIR *dir = opendir("/proc");
    for (struct dirent *d; dir && !pid && (d = readdir(dir));) {
        char name[64] = "";
        int parent = 0, n = atoi(d->d_name);
        snprintf(path, sizeof path, "/proc/%d/stat", n);
        AUTO_FCLOSE FILE *f = n > 0 ? fopen(path, "re") : NULL;
        if (f && fscanf(f, "%*d (%63[^)]) %*c %d", name, &parent) == 2 &&
            parent == daemon_main && strcmp(name, "dormoused-api") == 0)
            pid = n;
    }
    if (dir)
        closedir(dir);
    return pid;
}

void daemon_files(unsigned n)
{
    files = n;
}

static bool is_ready(void)
{
    return access(RUN_DIR "/ready", F_OK) == 0;
}

/* Until the file says that it serves; woken by its making. */
static bool await_ready(void)
{
    uint64_t end = now_ms() + UP_LIMIT_MS;
    AUTO_CLOSE int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    inotify_add_watch(watch, RUN_DIR, IN_CREATE | IN_CLOSE_WRITE);
    while (!is_ready()) {
        char events[4096];
        struct pollfd pf = {.fd = watch, .events = POLLIN};
        poll(&pf, 1, 200);
        if (read(watch, events, sizeof events) < 0 && errno != EAGAIN)
            return false;
        if (now_ms() > end || waitpid(daemon_main, NULL, WNOHANG) == daemon_main) {
            printf("# the daemon did not start\n");
            return false;
        }
    }
    return true;
}

bool daemon_start(const char *const *args)
{
    const char *argv[24] = {"dormoused", "--listen", "127.0.0.1:8443", "--public-port", "8443"};
    size_t n = 5;
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    while (args && *args && n < ARRAY_LEN(argv) - 1)
        argv[n++] = *args++;
    mkdir(RUN_DIR, 0755);
    unlink(RUN_DIR "/ready");
    daemon_main = fork();
    if (daemon_main == 0) {
        const struct rlimit l = {files, files};
        if (files)
            setrlimit(RLIMIT_NOFILE, &l);
        int log = open(DAEMON_LOG, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        dup2(log, 1);
        dup2(log, 2);
        execv("/usr/bin/dormoused", (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    return daemon_main > 0 && await_ready();
}

static void await_end(pid_t pid)
{
    char path[64];
    for (unsigned i = 0; i < 20000; i++) {
        int status;
        if (waitpid(pid, &status, WNOHANG) == pid)
            return;
        snprintf(path, sizeof path, "/proc/%d", pid);
        if (access(path, F_OK) < 0)
            return;
        const struct timespec pause = {.tv_nsec = 1000000};
        nanosleep(&pause, NULL);
    }
    printf("# process %d does not end\n", pid);
}

void daemon_kill(enum victim v)
{
    pid_t api = daemon_api();
    unlink(RUN_DIR "/ready");
    if (v != VICTIM_API)
        kill(daemon_main, SIGKILL);
    if (v != VICTIM_PARENT && api > 0)
        kill(api, SIGKILL);
    if (v != VICTIM_API)
        await_end(daemon_main);
    if (api > 0 && v == VICTIM_ALL)
        await_end(api);
    if (v != VICTIM_API)
        daemon_main = 0;
}

bool daemon_again(const char *const *args)
{
    return daemon_main ? await_ready() : daemon_start(args);
}

bool daemon_stop(void)
{
    int status = 0;
    uint64_t end = now_ms() + DOWN_LIMIT_MS;
    kill(daemon_main, SIGTERM);
    while (waitpid(daemon_main, &status, WNOHANG) == 0) {
        const struct timespec pause = {.tv_nsec = 5000000};
        nanosleep(&pause, NULL);
        if (now_ms() > end) {
            printf("# the daemon does not stop\n");
            daemon_kill(VICTIM_ALL);
            return false;
        }
    }
    daemon_main = 0;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* ---- what is left ---- */

static unsigned count_names(const char *path, const char *prefix, const char *what, bool tell)
{
    unsigned n = 0;
    DIR *dir = opendir(path);
    for (struct dirent *d; dir && (d = readdir(dir));) {
        if (d->d_name[0] == '.' || strncmp(d->d_name, prefix, strlen(prefix)) != 0)
            continue;
        n++;
        if (tell)
            printf("# left: %s %s/%s\n", what, path, d->d_name);
    }
    if (dir)
        closedir(dir);
    return n;
}

static unsigned each_process(const char *want, bool tell)
{
    unsigned found = 0;
    DIR *dir = opendir("/proc");
    for (struct dirent *d; dir && (d = readdir(dir));) {
        char path[64], name[64] = "", state = 0;
        int n = atoi(d->d_name);
        snprintf(path, sizeof path, "/proc/%d/stat", n);
        AUTO_FCLOSE FILE *f = n > 0 ? fopen(path, "re") : NULL;
        if (!f || fscanf(f, "%*d (%63[^)]) %c", name, &state) != 2 || strcmp(name, want) != 0 ||
            state == 'Z')
            continue;
        found++;
        if (tell)
            printf("# left: process %d (%s) in state %c\n", n, name, state);
    }
    if (dir)
        closedir(dir);
    return found;
}

unsigned host_processes(void)
{
    return each_process("dormouse-vmm", false);
}

/* Distinct network namespaces besides our own. */
static unsigned namespaces(void)
{
    static char seen[2048][32];
    unsigned n = 0;
    DIR *dir = opendir("/proc");
    for (struct dirent *d; dir && (d = readdir(dir));) {
        char path[64], text[32] = "";
        if (atoi(d->d_name) <= 0)
            continue;
        snprintf(path, sizeof path, "/proc/%.20s/ns/net", d->d_name);
        if (readlink(path, text, sizeof text - 1) <= 0)
            continue;
        unsigned i = 0;
        while (i < n && strcmp(seen[i], text) != 0)
            i++;
        if (i == n && n < ARRAY_LEN(seen))
            memcpy(seen[n++], text, sizeof text);
    }
    if (dir)
        closedir(dir);
    return n - 1;
}

static unsigned lines_of(const char *path)
{
    unsigned n = 0;
    AUTO_FCLOSE FILE *f = fopen(path, "re");
    for (int ch; f && (ch = fgetc(f)) != EOF;)
        n += ch == '\n';
    return n;
}

/* Groups with a process; the daemon keeps those of its slots until it ends. */
static unsigned groups_in_use(void)
{
    static const char top[] = "/sys/fs/cgroup/dormouse";
    unsigned n = 0;
    DIR *dir = opendir(top);
    for (struct dirent *d; dir && (d = readdir(dir));) {
        char path[128], line[64];
        snprintf(path, sizeof path, "%s/%.40s/cgroup.events", top, d->d_name);
        AUTO_FCLOSE FILE *f = strncmp(d->d_name, "vm", 2) == 0 ? fopen(path, "re") : NULL;
        while (f && fgets(line, sizeof line, f))
            n += strcmp(line, "populated 1\n") == 0;
    }
    if (dir)
        closedir(dir);
    return n;
}

unsigned host_closed_groups(void)
{
    static const char top[] = "/sys/fs/cgroup/dormouse";
    unsigned n = 0, seen = 0;
    DIR *dir = opendir(top);
    for (struct dirent *d; dir && (d = readdir(dir));) {
        struct stat st;
        if (strncmp(d->d_name, "vm", 2) != 0 && strcmp(d->d_name, ".") != 0)
            continue;
        bool readable =
            fstatat(dirfd(dir), d->d_name, &st, 0) == 0 && (st.st_mode & 0005) == 0005;
        n += !readable;
        seen++;
    }
    if (dir)
        closedir(dir);
    return seen > 1 ? n : 1;
}

static unsigned leftovers(unsigned vms, bool tell)
{
    static unsigned mounts;
    unsigned bad = 0, nursery = daemon_main > 0; /* a process and its namespaces */
    struct {
        unsigned n, max;
        const char *what;
    } found[] = {
        {each_process("dormouse-vmm", tell && vms == 0), vms + nursery, "microVM processes"},
        {nursery ? groups_in_use()
                 : count_names("/sys/fs/cgroup/dormouse", "vm", "control group", tell),
         vms, "control groups"},
        {count_names("/sys/class/net", "dm", "network device", tell && vms == 0), vms,
         "network devices"},
        {count_names(RUN_DIR "/vm", "", "socket", tell && vms == 0), vms, "sockets"},
        {namespaces(), vms + nursery, "network namespaces"},
    };
    for (size_t i = 0; i < ARRAY_LEN(found); i++) {
        if (found[i].n > found[i].max) {
            if (tell)
                printf("# %u %s, at most %u belong to microVMs\n", found[i].n, found[i].what,
                       found[i].max);
            bad++;
        }
    }
    unsigned now = lines_of("/proc/self/mounts");
    if (mounts && now != mounts) {
        if (tell)
            printf("# %u mounts, there were %u\n", now, mounts);
        bad++;
    }
    mounts = mounts ? mounts : now;
    return bad;
}

/* Those that are just ending are given their time. */
unsigned host_leftovers(unsigned vms)
{
    uint64_t end = now_ms() + SETTLE_MS;
    for (;;) {
        reap();
        if (leftovers(vms, false) == 0)
            return 0;
        if (now_ms() > end)
            return leftovers(vms, true);
        const struct timespec pause = {.tv_nsec = 20000000};
        nanosleep(&pause, NULL);
    }
}

unsigned daemon_said(const char *what)
{
    char line[1024];
    unsigned n = 0;
    AUTO_FCLOSE FILE *f = fopen(DAEMON_LOG, "re");
    while (f && fgets(line, sizeof line, f))
        n += strstr(line, what) != NULL;
    return n;
}

long host_rss_kib(pid_t pid)
{
    char path[64], line[256];
    long kib = -1;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    AUTO_FCLOSE FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "VmRSS: %ld", &kib) == 1)
            break;
    }
    return kib;
}

void host_room(void)
{
    char line[256];
    long kib;
    struct statvfs st;
    AUTO_FCLOSE FILE *f = fopen("/proc/meminfo", "re");
    printf("# host:");
    while (f && fgets(line, sizeof line, f)) {
        char name[32];
        if (sscanf(line, "%31[^:]: %ld", name, &kib) == 2 &&
            (strcmp(name, "MemAvailable") == 0 || strcmp(name, "AnonPages") == 0 ||
             strcmp(name, "Shmem") == 0 || strcmp(name, "Slab") == 0))
            printf(" %s %ld MiB,", name, kib >> 10);
    }
    if (statvfs(STATE_DIR, &st) == 0)
        printf(" disk free %llu MiB\n", (unsigned long long)st.f_bavail * st.f_frsize >> 20);
}

unsigned host_fds(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    return count_names(path, "", "", false);
}

unsigned setting(const char *name, unsigned def)
{
    const char *v = getenv(name);
    return v && *v ? (unsigned)strtoul(v, NULL, 10) : def;
}

void nap(unsigned ms)
{
    const struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000l};
    nanosleep(&ts, NULL);
}
