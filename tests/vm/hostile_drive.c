// SPDX-License-Identifier: Apache-2.0
/*
 * Starts one microVM for each verb of the hostile guest (tests/guests/hostile.h) and looks at
 * what becomes of it: either the guest says that all held, or it is stopped with the reason
 * that is expected, or it goes on for ever and the control socket still answers. hostile_drive
 * VMM KERNEL DIR [OPTION]      OPTION: for each VMM, e.g. --no-jail With VERBS="a b" in the
 * environment only these.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../tap.h"
#include "hostile_vmm.h"

#define DISK_SIZE (1 << 20)
#define STATS_MS  300 /* between two looks at a guest at work */

enum how {
    HOLDS,   /* powers off after "held" */
    ENDS,    /* the machine ends with `reason` */
    ENDLESS, /* "holding": looked at, then stopped */
    SAVED,   /* the same, and saved and restored while it goes on */
    QUIET,   /* ENDLESS, but its messages are left to pile up until it holds twice */
    MUTE,    /* HOLDS, and nothing came through its first stream */
    LOGGED,  /* HOLDS, and what it printed is limited */
    SILENT,  /* ENDLESS without a word on a console that is a file */
};

struct expectation {
    const char *verb;
    enum how how;
    uint32_t reason;
};

static const struct expectation verbs[] = {
    {"descriptor_loop", HOLDS, 0},
    {"zero_length", HOLDS, 0},
    {"huge_length", HOLDS, 0},
    {"outside_ram", HOLDS, 0},
    {"into_devices", HOLDS, 0},
    {"wrapping", HOLDS, 0},
    {"ring_indices", HOLDS, 0},
    {"indirect", HOLDS, 0},
    {"queue_addresses", HOLDS, 0},
    {"queue_sizes", HOLDS, 0},
    {"live_queue", HOLDS, 0},
    {"used_ring_wrap", HOLDS, 0},
    {"features", HOLDS, 0},
    {"reset_in_flight", HOLDS, 0},
    {"reset_race", HOLDS, 0},
    {"rewritten_under_way", HOLDS, 0},
    {"odd_accesses", HOLDS, 0},
    {"undescribed_accesses", HOLDS, 0},
    {"config_space", HOLDS, 0},
    {"balloon_outside", HOLDS, 0},
    {"balloon_everything", HOLDS, 0},
    {"balloon_own_rings", HOLDS, 0},
    {"disk_ranges", HOLDS, 0},
    {"net_headers", HOLDS, 0},
    {"vsock_lengths", MUTE, 0},
    {"vsock_words", HOLDS, 0},
    {"vsock_flood", QUIET, 0},
    {"notify_flood", SAVED, 0},
    {"rng_flood", ENDLESS, 0},
    {"console_flood", LOGGED, 0},
    {"console_endless", SILENT, 0},
    {"vmgenid", HOLDS, 0},
    {"psci_cpu_on", HOLDS, 0},
    {"wild_entries", ENDLESS, 0},
    {"psci_unknown", HOLDS, 0},
    {"psci_reset", ENDS, CTL_EXIT_RESET},
    {"psci_reset2", ENDS, CTL_EXIT_RESET},
    {"psci_all_off", ENDLESS, 0},
    {"psci_on_off", HOLDS, 0},
    {"execute_nowhere", HOLDS, 0},
    {"self_modifying", HOLDS, 0},
    {"unmapped_accesses", HOLDS, 0},
    {"wild_page_table", HOLDS, 0},
    {"gic_pokes", HOLDS, 0},
    {"system_registers", HOLDS, 0},
    {"all_spin", SAVED, 0},
    {"wfi_for_ever", SAVED, 0},
};

static int stats(struct hvmm *v)
{
    return hvmm_order(v, CTL_STATS, NULL, 0, -1);
}

/* A guest at work: the VMM answers until it ends. */
static void watch(struct hvmm *v)
{
    for (int64_t ms = 0; ms < WAIT_MS && !hvmm_exited(v, STATS_MS); ms += STATS_MS) {
        int r = stats(v);
        if (r && !(r == ECONNRESET && v->exited)) {
            CHECK(r == 0);
            break;
        }
    }
}

static bool save(struct hvmm *v)
{
    struct ctl_save s = {.flags = CTL_SAVE_FULL};
    int fd = open(env.image, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int r = hvmm_order(v, CTL_SAVE, &s, sizeof s, fd);
    close(fd);
    return r == 0;
}

static void answers(struct hvmm *v)
{
    for (unsigned i = 0; i < 3; i++)
        CHECK(stats(v) == 0);
    CHECK(hvmm_order(v, CTL_PAUSE, NULL, 0, -1) == 0);
    CHECK(stats(v) == 0);
    CHECK(hvmm_order(v, CTL_RESUME, NULL, 0, -1) == 0);
    CHECK(stats(v) == 0);
}

static void stopped(struct hvmm *v)
{
    CHECK(hvmm_order(v, CTL_STOP, NULL, 0, -1) == 0);
    CHECK(hvmm_end(v) == CTL_EXIT_STOPPED);
    CHECK(!strstr(v->text, "broken"));
}

static void saved(struct hvmm *v)
{
    for (unsigned i = 0; i < 3; i++) {
        CHECK(hvmm_order(v, CTL_PAUSE, NULL, 0, -1) == 0);
        CHECK(save(v));
        CHECK(hvmm_order(v, CTL_RESUME, NULL, 0, -1) == 0);
    }
    stopped(v);
    if (!CHECK(hvmm_start(v, NULL)))
        return;
    CHECK(hvmm_restore(v));
    answers(v);
    stopped(v);
}

static off_t console_max(void)
{
    const char *limit = getenv("CONSOLE_LIMIT");
    return (limit ? strtol(limit, NULL, 10) : 1 << 20) + 100; /* and the line that says so */
}

static void run(const struct expectation *x)
{
    static struct hvmm v;
    struct stat st;
    if (!CHECK(hvmm_start(&v, NULL)))
        return;
    if (!CHECK(hvmm_boot(&v, x->verb, x->how == LOGGED || x->how == SILENT))) {
        hvmm_kill(&v);
        return;
    }
    switch (x->how) {
    case HOLDS:
    case ENDS:
    case MUTE:
    case LOGGED:
        watch(&v);
        if (x->how == LOGGED)
            CHECK(fstat(v.console, &st) == 0 && st.st_size > 0 && st.st_size <= console_max());
        CHECK(hvmm_end(&v) == (x->how == ENDS ? x->reason : CTL_EXIT_POWEROFF));
        CHECK(x->how == ENDS || strstr(v.exit.console, "held"));
        CHECK(x->how != MUTE || (v.streams && v.stream_bytes == 0));
        break;
    case QUIET:
        CHECK(hvmm_shows(&v, "holding\nholding"));
        answers(&v);
        printf("# %u streams\n", v.streams);
        stopped(&v);
        break;
    case ENDLESS:
    case SAVED:
        CHECK(hvmm_shows(&v, "holding"));
        answers(&v);
        x->how == SAVED ? saved(&v) : stopped(&v);
        break;
    default:
        answers(&v);
        stopped(&v);
        break;
    }
    CHECK(strlen(hvmm_log(&v)) < LOG_MAX);
    if (tap_.test_failed) {
        printf("# %s: %s\n# console: %s\n", x->verb, v.exit.text,
               v.exit.console[0] ? v.exit.console : v.text);
        hvmm_show_log(&v);
    }
}

static bool chosen(const char *verb)
{
    const char *only = getenv("VERBS"), *at = only ? strstr(only, verb) : NULL;
    return !only || (at && (at[strlen(verb)] == ' ' || at[strlen(verb)] == '\0'));
}

int main(int argc, char **argv)
{
    struct timespec t[2];
    if (argc < 4) {
        fprintf(stderr, "usage: hostile_drive VMM KERNEL DIR [OPTION]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    env.vmm = argv[1];
    env.kernel = argv[2];
    env.dir = argv[3];
    env.option = argc > 4 ? argv[4] : NULL;
    snprintf(env.disk, sizeof env.disk, "%s/hostile.disk", env.dir);
    snprintf(env.image, sizeof env.image, "%s/hostile.image", env.dir);
    int fd = open(env.disk, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, DISK_SIZE) < 0) {
        perror(env.disk);
        return 2;
    }
    close(fd);
    for (unsigned i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (!chosen(verbs[i].verb))
            continue;
        clock_gettime(CLOCK_MONOTONIC, &t[0]);
        tap_.in_test = true;
        tap_.test_failed = false;
        run(&verbs[i]);
        tap_.in_test = false;
        clock_gettime(CLOCK_MONOTONIC, &t[1]);
        tap_report_(!tap_.test_failed, verbs[i].verb);
        printf("# %lld ms\n", (long long)(t[1].tv_sec - t[0].tv_sec) * 1000 +
                                  (t[1].tv_nsec - t[0].tv_nsec) / 1000000);
    }
    unlink(env.disk);
    unlink(env.image);
    return TAP_DONE();
}
