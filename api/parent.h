// SPDX-License-Identifier: Apache-2.0
/*
 * The privileged parent role: root, single-threaded, parses nothing from
 * outside. It answers the PRIV_* messages of the api role (priv.h), which it
 * does not trust: every field is checked and nonsense ends the child.
 *
 * Called by dormoused's main. Programs log, so this role logs by itself.
 */
#ifndef DORMOUSE_API_PARENT_H
#define DORMOUSE_API_PARENT_H

#include <stdint.h>

#include "../hypervisor/base/err.h"
#include "priv.h"

#define PARENT_VMM_UID 64000u /* uid and gid of slot s: PARENT_VMM_UID + s */

struct parent_config {
    const char *vmm_path; /* dormouse-vmm, e.g. /usr/bin/dormouse-vmm */
    const char *nft_path; /* NULL: /usr/sbin/nft; its rules are loaded once at start */
    const char *run_dir;  /* <run>/vm: sockets of the microVM processes */
    /* Files the api role may ask for, by enum priv_file_id; NULL: there is none. */
    const char *files[PRIV_FILES];
    void (*refresh)(void *ctx); /* every so many seconds, with the role's ctx; NULL: never */
    unsigned refresh_s;
};

/* The whole parent role. Forks a child that calls `role(ctx, sock)`, which has to give up its
 * privileges (its result is the child's exit status); serves it; when it dies, starts it again
 * after a growing pause and offers it the microVMs that run, also those of a parent that was
 * killed. Returns 0 after SIGTERM or SIGINT, which it hands on to the child and whose end it
 * awaits; also 0 when the child ended with status 0: then nothing that was spawned is left.
 * Negative errno when the host lacks something (no /dev/kvm, no cgroup v2, nft fails): with a
 * hint. */
int parent_supervise(const struct parent_config *c, int (*role)(void *ctx, int sock), void *ctx,
                     struct err *e);

#endif
