// SPDX-License-Identifier: Apache-2.0
/*
 * What has to be known of running microVMs after a kill of this process and is
 * too short-lived for the database: which slot runs which, since when it is
 * idle, how far its log was taken. A small file mapped by whoever serves; a
 * store into it survives the process, and it is void after a boot of the host.
 * Nobody but this role writes it, in particular no microVM's process.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../hypervisor/base/mem.h"
#include "fleet_priv.h"

struct running {
    uint32_t ip; /* 0: nothing runs in the slot */
    uint32_t loaded;
    uint64_t generation, idle_since, last_seq;
};

struct fleet_table {
    char boot[40], pad[24]; /* boot_id of the host */
    struct running slots[PRIV_SLOTS];
};

int table_open(struct fleet *f, struct err *e)
{
    AUTO_CLOSE int fd = openat(f->state_dir, "running", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(e, errno, "open the file 'running'");
    /* With its blocks, so that a store cannot find the disk full. */
    int num = posix_fallocate(fd, 0, sizeof *f->table);
    if (num)
        return err_sys(e, num, "make the file 'running'");
    void *p = mmap(NULL, sizeof *f->table, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return err_sys(e, errno, "map the file 'running'");
    f->table = p;
    if (!f->boot_id[0] || memcmp(f->boot_id, f->table->boot, sizeof f->boot_id) != 0) {
        memset(f->table, 0, sizeof *f->table);
        memcpy(f->table->boot, f->boot_id, sizeof f->boot_id);
    }
    return 0;
}

void table_close(struct fleet *f)
{
    if (f->table)
        munmap(f->table, sizeof *f->table);
    f->table = NULL;
}

/* Stores must happen in the order they are written here: a kill may come between any two. */
#define PUT(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELEASE)

void table_begin(struct fleet *f, uint32_t slot, uint32_t ip, uint64_t generation)
{
    struct running *r = &f->table->slots[slot];
    PUT(r->loaded, 0);
    PUT(r->generation, generation);
    PUT(r->idle_since, now_ns());
    PUT(r->last_seq, 0);
    PUT(r->ip, ip);
}

void table_loaded(struct fleet *f, uint32_t slot)
{
    PUT(f->table->slots[slot].loaded, 1);
}

void table_end(struct fleet *f, uint32_t slot)
{
    if (slot < PRIV_SLOTS)
        PUT(f->table->slots[slot].ip, 0);
}

void table_idle(struct fleet *f, uint32_t slot, uint64_t since)
{
    PUT(f->table->slots[slot].idle_since, since);
}

void table_logged(struct fleet *f, uint32_t slot, uint64_t seq)
{
    PUT(f->table->slots[slot].last_seq, seq);
}

bool table_find(struct fleet *f, uint32_t ip, struct table_entry *ret)
{
    for (uint32_t n = 0; ip && n < PRIV_SLOTS; n++) {
        const struct running *r = &f->table->slots[n];
        if (r->ip == ip) {
            *ret = (struct table_entry){.slot = n,
                                        .loaded = r->loaded != 0,
                                        .generation = r->generation,
                                        .idle_since = MIN(r->idle_since, now_ns()),
                                        .last_seq = r->last_seq};
            return true;
        }
    }
    return false;
}
