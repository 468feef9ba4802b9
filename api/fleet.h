// SPDX-License-Identifier: Apache-2.0
/*
 * The fleet: image builds and the life of every microVM on this host. Called
 * by the control API's operations and by the endpoint proxy, from any thread.
 * Rows in the store are written by the operations first (PENDING), then handed
 * over here; from then on the fleet alone changes their state.
 */
#ifndef DORMOUSE_API_FLEET_H
#define DORMOUSE_API_FLEET_H

#include <stdbool.h>
#include <stdint.h>

#include "../hypervisor/base/err.h"
#include "store.h"

struct fleet;
struct artifacts; /* artifacts.h: the built-in S3 store's files */

struct seal;    /* seal.h */
struct events;  /* events.h */
struct metrics; /* metrics.h */

#define FLEET_DNS_MAX 3u

/* Files of the host, opened before the process gives up the file system. */
struct fleet_host {
    int kernel, initrd, meminfo; /* guest kernel Image, initramfs, /proc/meminfo */
    struct seal *seal;           /* the key for seals, or NULL */
    uint64_t kernel_text;        /* bytes of the kernel that stay as they are; 0: not known */
    bool huge;                   /* shared memory may have huge pages */
    uint32_t dns[FLEET_DNS_MAX]; /* host order */
    unsigned ndns;
    char boot_id[40]; /* of the host: what is remembered of processes is void after another */
};
int fleet_host_open(struct fleet_host *h, const char *kernel, const char *initrd,
                    const char *snapshot_key, struct err *e);
void fleet_host_close(struct fleet_host *h);
struct checkpoint_limits {
    uint32_t per_vm;
    uint64_t vm_bytes, all_bytes;
};

/* When pages of an image's working set are made present. */
enum fleet_worksets {
    WORKSETS_OFF,     /* one by one, as they are touched */
    WORKSETS_RESTORE, /* all at the restore, before the machine runs */
    WORKSETS_POOL,    /* in processes that wait in the pool, with KVM's own tables */
};

struct fleet_config {
    enum fleet_worksets worksets;
    const char *state_dir;   /* images/ vms/ live here */
    const char *bases_dir;   /* debian.img python.img */
    const char *cgroup_dir;  /* control groups of the machines, for their CPU time */
    struct fleet_host *host; /* the fleet takes over what is in it */
    const char *domain;      /* e.g. localhost */
    const char *region, *account;
    uint16_t public_port; /* goes into endpoint names when not 443 */
    unsigned max_running; /* microVMs at once, 0: as many as fit */
    struct checkpoint_limits checkpoints;
    uint64_t drift_percent; /* of a working set, that runs touch beyond it; 0: nobody looks */
    uint64_t disk_layers;   /* frozen ones of a disk that are not joined in the background */
    int parent_sock;        /* to the privileged parent, priv.h */
    struct events *events;  /* NULL: nobody is told */
    struct metrics *metrics;
};

int fleet_open(struct fleet **ret, const struct fleet_config *c, struct store *s,
               struct artifacts *a, struct err *e); /* reconciles leftovers of a crash */
void fleet_close(struct fleet *f); /* stops accepting work, ends microVMs in order */

/* Starts building a version whose row is PENDING. */
int fleet_build(struct fleet *f, const char *image, uint32_t major, struct err *e);
/* Removes the files of a deleted version. */
int fleet_forget_version(struct fleet *f, const char *file_id, struct err *e);

/* Starts a microVM whose row is PENDING; returns at once. */
int fleet_run(struct fleet *f, const char *vm_id, struct err *e);
/* Wait until done. -EINVAL with a sentence when the state does not allow it. */
int fleet_suspend(struct fleet *f, const char *vm_id, struct err *e);
int fleet_resume(struct fleet *f, const char *vm_id, struct err *e);
/* The row's idle policy and duration count from now on. */
void fleet_policy(struct fleet *f, const struct store_vm *row);
int fleet_terminate(struct fleet *f, const char *vm_id, struct err *e);

/* Makes the state in a row what it is at this moment: SUSPENDING is never written down, and the
 * row of one that was woken follows a little later. */
void fleet_state_now(struct fleet *f, const char *id, char state[16]);

/* For the endpoint proxy: finds the microVM by its endpoint label, wakes it when its idle
 * policy says so (blocking until it runs), and counts the request as activity until
 * fleet_release(). -ENOENT no such endpoint, -EHOSTDOWN suspended and not to be woken (or
 * gone), -EAGAIN not up yet within the hold limit, -EIO resume failed. */
struct fleet_target {
    char vm_id[ID_CAP];
    uint32_t ip; /* host order */
    void *priv;
    uint64_t resumed_us; /* 0, or how long this request's wake-up took */
    /* The fleet's own. */
    int fd;
    unsigned passage;
    uint64_t began; /* ns */
    struct fleet_target *next;
};
int fleet_acquire(struct fleet *f, const char *label, struct fleet_target *ret, struct err *e);
void fleet_release(struct fleet *f, struct fleet_target *t);
/* A stream to dormouse-init in the guest; the first message is the caller's (GP_PORT_STREAM in
 * guest/abi/proto.h). */
int fleet_stream(struct fleet *f, struct fleet_target *t, int *ret_fd, struct err *e);
/* While a request has a connection into the microVM: it is shut down when the machine goes. */
void fleet_bind(struct fleet_target *t, int fd);
void fleet_unbind(struct fleet_target *t);
/* A raw stream to 127.0.0.1:port inside the guest, for applications that listen only there. */
int fleet_forward(struct fleet *f, struct fleet_target *t, uint16_t port, int *ret_fd,
                  struct err *e);

/* A file of the settings (enum priv_file_id), which only the privileged parent can open. */
int fleet_file(struct fleet *f, uint32_t which, int *ret_fd, struct err *e);

/* Log lines of a build or microVM since `offset`; for the CLI and the build log. */
int fleet_log_open(struct fleet *f, const char *id, int *ret_fd, struct err *e);

#endif
