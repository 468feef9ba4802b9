// SPDX-License-Identifier: Apache-2.0
/*
 * Stands in for the fleet and the token mint where only the control API is
 * under test: it moves the rows as the fleet would, at once, and counts calls.
 * A test sets `fails` to make the next call fail.
 */
#ifndef DORMOUSE_TESTS_FAKE_FLEET_H
#define DORMOUSE_TESTS_FAKE_FLEET_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "../../api/api.h"
#include "../../api/fleet_checkpoint.h"
#include "../../api/fleet_info.h"

struct fleet {
    struct store *store;
    int fails;  /* errno of the next call, 0 = succeeds */
    bool holds; /* builds and runs stay PENDING */
    bool build_fails;
    const char *log; /* path of the log of whatever is asked for, NULL: there is none */
    int stream;      /* what fleet_stream() gives; -1: it fails */
    unsigned acquired, policies, idle_seconds;
    unsigned builds, forgotten, runs, suspends, resumes, terminates;
    unsigned checkpoints, rollbacks, forks;
};

static int fake_turn(struct fleet *f, unsigned *count, struct err *e)
{
    int fails = f->fails;
    f->fails = 0;
    if (fails)
        return err_set(e, fails, "a sentence from the fleet");
    (*count)++;
    return 0;
}

void fleet_state_now(struct fleet *f, const char *id, char state[16])
{
    (void)f;
    (void)id;
    (void)state;
}

int fleet_build(struct fleet *f, const char *image, uint32_t major, struct err *e)
{
    struct store_image i;
    struct store_version v;
    int r = fake_turn(f, &f->builds, e);
    if (r < 0 || f->holds)
        return r;
    if (store_image_get(f->store, image, &i, e) < 0 ||
        store_version_get(f->store, image, major, &v, e) < 0)
        return -EIO;
    const char *done = strcmp(i.state, "CREATING") == 0 ? "CREATE" : "UPDATE";
    snprintf(v.state, sizeof v.state, "%s", f->build_fails ? "FAILED" : "SUCCESSFUL");
    snprintf(v.build_state, sizeof v.build_state, "%s", v.state);
    if (f->build_fails) {
        snprintf(v.reason, sizeof v.reason, "The container image build failed.");
        snprintf(i.latest_failed, sizeof i.latest_failed, "%u.0", major % 1000000);
        snprintf(i.state, sizeof i.state, "%s_FAILED", done);
    } else {
        snprintf(v.status, sizeof v.status, "ACTIVE");
        snprintf(v.file_id, sizeof v.file_id, "file-%u", major);
        v.memory_bytes = 1000;
        v.disk_bytes = 10;
        snprintf(i.latest_active, sizeof i.latest_active, "%u.0", major % 1000000);
        snprintf(i.state, sizeof i.state, "%sD", done);
    }
    r = store_version_set(f->store, &v, &i, e);
    store_version_free(&v);
    return r;
}

int fleet_forget_version(struct fleet *f, const char *file_id, struct err *e)
{
    (void)file_id;
    return fake_turn(f, &f->forgotten, e);
}

static int fake_move(struct fleet *f, const char *id, const char *state, struct err *e)
{
    struct store_vm vm;
    int r = store_vm_get(f->store, id, &vm, e);
    if (r < 0)
        return r;
    snprintf(vm.state, sizeof vm.state, "%s", state);
    if (strcmp(state, "TERMINATED") == 0)
        vm.terminated_at = vm.started_at + 1;
    r = store_vm_set(f->store, &vm, NULL, e);
    store_vm_free(&vm);
    return r;
}

int fleet_run(struct fleet *f, const char *vm_id, struct err *e)
{
    int r = fake_turn(f, &f->runs, e);
    return r < 0 || f->holds ? r : fake_move(f, vm_id, "RUNNING", e);
}

int fleet_suspend(struct fleet *f, const char *vm_id, struct err *e)
{
    int r = fake_turn(f, &f->suspends, e);
    return r < 0 ? r : fake_move(f, vm_id, "SUSPENDED", e);
}

int fleet_resume(struct fleet *f, const char *vm_id, struct err *e)
{
    int r = fake_turn(f, &f->resumes, e);
    return r < 0 ? r : fake_move(f, vm_id, "RUNNING", e);
}

int fleet_terminate(struct fleet *f, const char *vm_id, struct err *e)
{
    int r = fake_turn(f, &f->terminates, e);
    return r < 0 ? r : fake_move(f, vm_id, "TERMINATED", e);
}

void fleet_policy(struct fleet *f, const struct store_vm *row)
{
    f->policies++;
    f->idle_seconds = row->has_idle ? row->idle_seconds : 0;
}

int fleet_checkpoint(struct fleet *f, struct store_checkpoint *c, struct err *e)
{
    const struct store_disk d = {.n = 0};
    AUTO(store_checkpoint_free) struct store_checkpoint other = {.tags = NULL};
    int r = fake_turn(f, &f->checkpoints, e);
    if (r < 0)
        return r;
    if (c->name[0] && store_checkpoint_find(f->store, c->vm, c->name, &other, NULL) == 0)
        return err_set(e, EEXIST, "it already has a checkpoint of this name");
    c->created_at = 1000.5;
    c->memory_bytes = 8192;
    c->disk_bytes = 4096;
    c->generation = 3;
    return store_checkpoint_add(f->store, c, &d, e);
}

int fleet_checkpoint_delete(struct fleet *f, const char *vm_id, const char *which,
                            struct err *e)
{
    (void)vm_id;
    int r = fake_turn(f, &f->checkpoints, e);
    return r < 0 ? r : store_checkpoint_delete(f->store, which, e);
}

int fleet_rollback(struct fleet *f, const char *vm_id, const char *which, struct err *e)
{
    (void)which;
    int r = fake_turn(f, &f->rollbacks, e);
    return r < 0 ? r : fake_move(f, vm_id, "RUNNING", e);
}

int fleet_fork(struct fleet *f, const struct fleet_fork *ask, struct err *e)
{
    int r = fake_turn(f, &f->forks, e);
    bool begun = r == 0 && (r = store_begin(f->store, e)) == 0;
    for (size_t i = 0; i < ask->n; i++) {
        struct store_lineage l = {.number = (uint32_t)i + 1};
        snprintf(l.vm, sizeof l.vm, "%s", ask->children[i].id);
        snprintf(l.parent, sizeof l.parent, "%s", ask->parent);
        snprintf(l.checkpoint, sizeof l.checkpoint, "%s", ask->which ? ask->which : "");
        snprintf(l.fork, sizeof l.fork, "%s", ask->id);
        if (r == 0)
            r = store_vm_add(f->store, &ask->children[i], e);
        if (r == 0)
            r = store_lineage_add(f->store, &l, e);
        store_vm_free(&ask->children[i]);
    }
    if (r == 0 && ask->also && ask->also(ask->ctx) < 0)
        r = err_set(e, ECANCELED, "not wanted any more");
    if (r == 0)
        return store_commit(f->store, e);
    if (begun)
        store_rollback(f->store);
    return r;
}

int fleet_log_open(struct fleet *f, const char *id, int *ret_fd, struct err *e)
{
    unsigned calls = 0;
    int r = fake_turn(f, &calls, e);
    if (r < 0)
        return r;
    *ret_fd = f->log ? open(f->log, O_RDONLY | O_CLOEXEC) : -1;
    return *ret_fd < 0 ? err_sys(e, ENOENT, "open the log of %s", id) : 0;
}

int fleet_acquire(struct fleet *f, const char *label, struct fleet_target *ret, struct err *e)
{
    struct store_vm vm;
    unsigned calls = 0;
    int r = fake_turn(f, &calls, e);
    if (r == 0)
        r = store_vm_by_label(f->store, label, &vm, e);
    if (r < 0)
        return r;
    bool runs = strcmp(vm.state, "RUNNING") == 0;
    store_vm_free(&vm);
    if (!runs)
        return err_set(e, EHOSTDOWN, "it does not run");
    *ret = (struct fleet_target){.priv = f};
    f->acquired++;
    return 0;
}

void fleet_release(struct fleet *f, struct fleet_target *t)
{
    (void)t;
    f->acquired--;
}

int fleet_stream(struct fleet *f, struct fleet_target *t, int *ret_fd, struct err *e)
{
    (void)t;
    *ret_fd = f->stream;
    f->stream = -1;
    return *ret_fd < 0 ? err_set(e, EHOSTDOWN, "it went") : 0;
}

void fleet_vm_info(struct fleet *f, const struct store_vm *row, struct fleet_vm_info *ret)
{
    (void)f;
    bool asleep = strcmp(row->state, "SUSPENDED") == 0;
    *ret = (struct fleet_vm_info){.vcpus = 2,
                                  .memory_bytes = 4ull << 30,
                                  .disk_bytes = 8192,
                                  .suspended_bytes = asleep ? 12288 : 0,
                                  .resume = {.total = 12.5, .load = 3.25, .pooled = true}};
}

void fleet_host_info(struct fleet *f, struct fleet_host_info *ret)
{
    *ret = (struct fleet_host_info){.slots = 1024,
                                    .slots_in_use = f->runs,
                                    .embryos = 3,
                                    .builds = f->builds,
                                    .states = {[VM_RUNNING] = f->runs}};
}

/* Readable instead of secret. */
int token_mint(const struct token_key *k, const struct token_claims *c, char *ret, size_t cap,
               struct err *e)
{
    (void)k;
    (void)e;
    int n = snprintf(ret, cap, "%s %s", c->shell ? "shell" : "ports", c->vm_id);
    for (size_t i = 0; i < c->nranges && n > 0 && (size_t)n < cap; i++)
        n += snprintf(ret + n, cap - (size_t)n, " %u-%u", c->ranges[i].start, c->ranges[i].end);
    return 0;
}

#endif
