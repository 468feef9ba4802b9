// SPDX-License-Identifier: Apache-2.0
/* Firecracker's API as its documentation describes it (v1): JSON over HTTP/1.1 on a unix
 * socket. */
#ifndef DORMOUSE_TESTS_BENCH_FIRECRACKER_API_H
#define DORMOUSE_TESTS_BENCH_FIRECRACKER_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fc_machine {
    unsigned vcpus;
    uint64_t mem;
    const char *kernel, *initrd, *cmdline;
    const char *disk, *tap, *mac; /* NULL: none */
};

/* Connects, until the socket is there and somebody listens; -1 when nobody did in time. */
int fc_connect(const char *path, int limit_ms);
/* One request on the connection; true when its status was 200 or 204. Otherwise `why` says what
 * the answer was. */
bool fc_request(int fd, const char *method, const char *path, const char *body, char *why,
                size_t cap);
/* Everything a machine needs, and its start. */
bool fc_boot(int fd, const struct fc_machine *m, char *why, size_t cap);
bool fc_pause(int fd, char *why, size_t cap);
bool fc_save(int fd, const char *state, const char *memory, char *why, size_t cap);
/* Loads and lets it run. */
bool fc_load(int fd, const char *state, const char *memory, char *why, size_t cap);

#endif
