// SPDX-License-Identifier: Apache-2.0
/*
 * Hosts that lack something: a full disk, no descriptors, a locked database, a
 * disk that stands still, no room for one more, a client that asks too often.
 * Each time: a clear error, everybody else goes on, and it works again without
 * a restart.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../../hypervisor/base/mem.h"
#include "fault_cases.h"
#include "fault_host.h"

#define FILLER STATE_DIR "/filler"

static bool says(const struct client *c, const char *word)
{
    if (strstr(c->cli.fail.e.msg, word) || strcmp(c->cli.fail.code, word) == 0)
        return true;
    printf("# the error is %s: %s\n", c->cli.fail.code, c->cli.fail.e.msg);
    return false;
}

static bool state_is(struct client *c, const char *want)
{
    char state[24];
    client_state(c, state);
    if (strcmp(state, want) != 0)
        printf("# its state is %s, not %s\n", state, want);
    return strcmp(state, want) == 0;
}

/* A daemon with other settings; NULL: the usual. */
static bool restart(const char *const *args)
{
    return daemon_stop() && daemon_start(args);
}

/* ---- disk ---- */

static bool fill_disk(void)
{
    AUTO_CLOSE int fd = open(FILLER, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    off_t at = 0;
    for (off_t step = 1 << 30; step >= 4096;) {
        if (posix_fallocate(fd, at, step) == 0)
            at += step;
        else
            step /= 2;
    }
    return fd >= 0 && at > 0;
}

FAULT_CASE(case_full)
{
    struct client a, b;
    if (!CHECK(client_open(&a, 0, image) && client_open(&b, 1, image) && client_run(&a) &&
               client_ask(&a)))
        return;
    CHECK(fill_disk());
    CHECK(!client_run(&b) && (strstr(b.cli.fail.e.msg, "state directory is full") ||
                              says(&b, "InsufficientCapacityException")));
    printf("# a run: %s\n", b.cli.fail.e.msg);
    CHECK(client_ask(&a) && state_is(&a, "RUNNING"));
    CHECK(!client_act(&a, "suspend"));
    printf("# a suspend: %s\n", a.cli.fail.e.msg);
    CHECK(client_ask(&a) && state_is(&a, "RUNNING")); /* it goes on */
    CHECK(unlink(FILLER) == 0);
    CHECK(client_act(&a, "suspend") && state_is(&a, "SUSPENDED"));
    CHECK(client_ask(&a));
    CHECK(client_run(&b) && client_ask(&b));
    CHECK(a.lost + b.lost == 0);
    CHECK(client_act(&a, "terminate") && client_act(&b, "terminate"));
    client_close(&a);
    client_close(&b);
}

FAULT_CASE(case_slow)
{
    unsigned ops, failed, lost;
    AUTO_CLOSE int fs = open(STATE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct crowd *w = crowd_start(3, image);
    client_tells = true;
    crowd_go(w);
    for (unsigned i = 0; i < 3; i++) {
        nap(1500);
        CHECK(ioctl(fs, FIFREEZE, 0) == 0);
        nap(2500);
        CHECK(ioctl(fs, FITHAW, 0) == 0);
    }
    nap(1500);
    crowd_stop(w);
    CHECK(crowd_check(w));
    client_tells = false;
    crowd_end(w, &ops, &failed, &lost);
    printf("# %u operations, %u failed\n", ops, failed);
    CHECK(ops > 0 && failed == 0 && lost == 0);
}

/* ---- database ---- */

FAULT_CASE(case_busy)
{
    struct client a, b;
    sqlite3 *db = NULL;
    if (!CHECK(client_open(&a, 0, image) && client_open(&b, 1, image) && client_run(&a) &&
               client_ask(&a)))
        return;
    CHECK(sqlite3_open(STATE_DIR "/dormouse.db", &db) == SQLITE_OK);
    CHECK(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK);
    CHECK(!client_run(&b) && says(&b, "in use by another program"));
    CHECK(client_ask(&a) && state_is(&a, "RUNNING")); /* reading goes on */
    CHECK(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL) == SQLITE_OK);
    CHECK(sqlite3_close(db) == SQLITE_OK);
    CHECK(client_run(&b) && client_ask(&b));
    CHECK(client_act(&a, "terminate") && client_act(&b, "terminate"));
    CHECK(a.lost + b.lost == 0);
    client_close(&a);
    client_close(&b);
}

/* ---- descriptors ---- */

#define FEW_FILES 160

static int dial_api(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(8443),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

FAULT_CASE(case_files)
{
    struct client a, b;
    int idle[2 * FEW_FILES];
    daemon_files(FEW_FILES);
    CHECK(restart(NULL));
    if (!CHECK(client_open(&a, 0, image) && client_open(&b, 1, image) && client_run(&a) &&
               client_ask(&a)))
        return;
    char state[24];
    b.id[0] = 'x';
    client_state(&b, state); /* so that it has a connection */
    b.id[0] = '\0';
    pid_t api = daemon_api();
    for (size_t i = 0; i < ARRAY_LEN(idle); i++)
        idle[i] = dial_api();
    nap(500);
    bool ran = client_run(&b); /* on the connection it has */
    printf("# %u descriptors in use; with none left a run %s: %s\n", host_fds(api),
           ran ? "succeeds" : "fails", ran ? "-" : b.cli.fail.e.msg);
    CHECK(daemon_api() == api);
    for (size_t i = 0; i < ARRAY_LEN(idle); i++) {
        if (idle[i] >= 0)
            close(idle[i]);
    }
    /* It recovers once it has noticed the closed connections. What was accepted before that may
     * have ended for want of a descriptor, and then another runs. */
    uint64_t end = now_ms() + 60000;
    bool both = false;
    while (!both && now_ms() < end) {
        ran = ran || client_run(&b);
        both = ran && client_ask(&b) && client_ask(&a);
        if (both)
            break;
        client_state(&b, state);
        ran = ran && strcmp(state, "TERMINATED") != 0;
        nap(100);
    }
    CHECK(both);
    CHECK(daemon_api() == api);
    CHECK(client_act(&a, "terminate") && client_act(&b, "terminate"));
    CHECK(a.lost + b.lost == 0);
    client_close(&a);
    client_close(&b);
    daemon_files(0);
    CHECK(restart(NULL));
}

/* ---- limits ---- */

FAULT_CASE(case_room)
{
    static const char *const two[] = {"--max-running", "2", NULL};
    struct client c[3];
    CHECK(restart(two));
    for (unsigned i = 0; i < 3; i++)
        CHECK(client_open(&c[i], i, image));
    CHECK(client_run(&c[0]) && client_run(&c[1]) && client_ask(&c[0]) && client_ask(&c[1]));
    CHECK(!client_run(&c[2]) && says(&c[2], "InsufficientCapacityException"));
    nap(6000); /* now they are idle, the first for longest */
    CHECK(client_run(&c[2]) && client_ask(&c[2]));
    CHECK(state_is(&c[0], "SUSPENDED") && state_is(&c[1], "RUNNING"));
    nap(6000);
    CHECK(client_ask(&c[0])); /* wakes up in the place of the second */
    CHECK(state_is(&c[0], "RUNNING") && state_is(&c[1], "SUSPENDED"));
    CHECK(state_is(&c[2], "RUNNING"));
    for (unsigned i = 0; i < 3; i++) {
        CHECK(client_act(&c[i], "terminate"));
        CHECK(c[i].lost == 0);
        client_close(&c[i]);
    }
    CHECK(restart(NULL));
}

FAULT_CASE(case_rate)
{
    static const char *const five[] = {"--api-rate", "5", NULL};
    struct client c;
    unsigned ok = 0, refused = 0;
    CHECK(restart(five) && client_open(&c, 0, image));
    for (uint64_t end = now_ms() + 20000; now_ms() < end && refused == 0;) {
        json_t *v = client_get(&c, MICROVMS, NULL);
        if (v)
            ok++;
        else if (strcmp(c.cli.fail.code, "ThrottlingException") == 0)
            refused++;
        json_decref(v);
    }
    printf("# %u answered, then: %s\n", ok, c.cli.fail.e.msg);
    CHECK(ok >= 10 && refused == 1 && says(&c, "Rate exceeded"));
    nap(1000);
    json_t *v = client_get(&c, MICROVMS, NULL);
    CHECK(v != NULL);
    json_decref(v);
    client_close(&c);
    CHECK(restart(NULL));
}
