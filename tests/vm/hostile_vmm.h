// SPDX-License-Identifier: Apache-2.0
/*
 * A dormouse-vmm under test, started as the daemon does it: own process id namespace, own user,
 * control socket and /dev/kvm as its only descriptors. Shared by hostile_drive.c and
 * lockdown_drive.c. All waits have a limit, after which the VMM is killed and the test fails.
 */
#ifndef DORMOUSE_TESTS_VM_HOSTILE_VMM_H
#define DORMOUSE_TESTS_VM_HOSTILE_VMM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../../hypervisor/base/msg.h"
#include "../../hypervisor/ctl.h"

#define HOSTILE_MEM   (128ull << 20)
#define HOSTILE_VCPUS 4u
#define WAIT_MS       120000
#define LOG_MAX       16384 /* what a VMM may have to say about one hostile guest */

/* What all tests of a run share. */
struct hostile_env {
    const char *vmm, *kernel, *dir;
    const char *option; /* one more for each VMM, or NULL */
    char disk[256], image[256];
};
extern struct hostile_env env;

struct hvmm {
    pid_t pid;
    int sock, console, log;
    bool console_is_file;
    uint32_t id;
    struct msg msg;
    bool exited;
    struct ctl_exit exit;
    int status;          /* of the process, once ended */
    unsigned streams;    /* that the guest opened */
    int stream;          /* the first of them */
    size_t stream_bytes; /* that came through it, once ended */
    char text[4096 + 1]; /* last of the console */
    size_t len;
};

/* Starts an embryo and waits until it is ready. */
bool hvmm_start(struct hvmm *v, const char *option);
/* Boots the hostile guest with all devices. */
bool hvmm_boot(struct hvmm *v, const char *verb, bool console_to_file);
bool hvmm_restore(struct hvmm *v);
/* Sends an order and waits for its answer: 0, the errno of CTL_FAIL, ECONNRESET when the VMM
 * ended first, ETIMEDOUT. */
int hvmm_order(struct hvmm *v, uint32_t type, const void *body, size_t len, int fd);
/* Waits until the console shows `what`. Messages stay unread meanwhile. */
bool hvmm_shows(struct hvmm *v, const char *what);
/* Waits at most `ms` for the end of the machine; true when it came. */
bool hvmm_exited(struct hvmm *v, int ms);
/* Waits for the end of the process and closes all; the reason of CTL_EXITED, 0 when it ended
 * otherwise. Prints the VMM's log when `show`. */
uint32_t hvmm_end(struct hvmm *v);
void hvmm_kill(struct hvmm *v);
/* After hvmm_end: what the VMM wrote to its log. */
const char *hvmm_log(const struct hvmm *v);
void hvmm_show_log(const struct hvmm *v);

#endif
