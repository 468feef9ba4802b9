// SPDX-License-Identifier: Apache-2.0
/*
 * The daemon under test, on the emulated host itself: started, killed without
 * warning, and looked for what it leaves. Used by fault_*.c.
 */
#ifndef DORMOUSE_TESTS_FAULT_HOST_H
#define DORMOUSE_TESTS_FAULT_HOST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define STATE_DIR  "/var/lib/dormouse"
#define RUN_DIR    "/run/dormouse"
#define DAEMON_LOG "/tmp/dormoused.log"

enum victim { VICTIM_ALL, VICTIM_PARENT, VICTIM_API, VICTIMS };

uint64_t now_ms(void);
uint32_t draw(uint32_t below); /* from the seed */
void seed(uint64_t s);

/* Starts dormoused with these more arguments (NULL-terminated) and waits until it serves. */
bool daemon_start(const char *const *args);
/* SIGKILL; the one that is left starts or ends by itself. Returns when those killed are gone.
 */
void daemon_kill(enum victim v);
/* Until it serves again after a kill, starting it when nobody else does. */
bool daemon_again(const char *const *args);
void daemon_files(unsigned n); /* RLIMIT_NOFILE of those started from here on; 0: as ours */
bool daemon_stop(void);        /* SIGTERM; false: it did not end in order */
pid_t daemon_pid(void);
pid_t daemon_api(void); /* the network-facing process, 0: none */

/* What must not be left: microVM processes, control groups, taps, sockets, mounts, namespaces,
 * directories. Each finding is printed; returns how many. `vms`: microVMs that may be there. */
unsigned host_leftovers(unsigned vms);
/* Control groups whose processor time the daemon's network-facing process, which is another
 * user, cannot read. */
unsigned host_closed_groups(void);
unsigned host_processes(void);          /* named dormouse-vmm */
unsigned daemon_said(const char *what); /* lines of its log that have it */
void host_room(void);                   /* prints what memory and disk are left */
long host_rss_kib(pid_t pid);
unsigned host_fds(pid_t pid);
void reap(void); /* children that ended */

/* A number from the environment. */
unsigned setting(const char *name, unsigned def);
void nap(unsigned ms);

#endif
