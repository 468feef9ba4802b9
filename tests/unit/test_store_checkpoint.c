// SPDX-License-Identifier: Apache-2.0
/*
 * Checkpoints, forks and shared disk layers in the store: who has a layer, when
 * nobody has it any more, what goes with what, and the upgrade of a database
 * that knew none of it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../api/chain.h"
#include "../../api/store_checkpoint.h"
#include "../../api/store_priv.h"
#include "../../hypervisor/base/mem.h"
#include "../tap.h"
#include "store_file.h"

static char dir[] = "/tmp/dormouse-test-checkpoint-XXXXXX";
static char path[64];

static struct store *fresh(void)
{
    struct store *s = NULL;
    struct err e = ERR_INIT;
    store_file_remove(path);
    if (store_open(&s, path, &e) < 0) {
        printf("Bail out! %s\n", e.msg);
        exit(1);
    }
    return s;
}

static void add_vm(struct store *s, const char *id, const char *state)
{
    struct store_vm vm = {.major = 1, .started_at = 1};
    snprintf(vm.id, sizeof vm.id, "%s", id);
    snprintf(vm.label, sizeof vm.label, "label-%s", id);
    snprintf(vm.image, sizeof vm.image, "box");
    snprintf(vm.state, sizeof vm.state, "%s", state);
    CHECK(store_vm_add(s, &vm, NULL) == 0);
}

static struct store_disk disk_of(uint64_t serial, uint32_t n, const char *a, const char *b)
{
    struct store_disk d = {.serial = serial, .n = n};
    snprintf(d.layers[0], LAYER_CAP, "%s", a);
    snprintf(d.layers[1], LAYER_CAP, "%s", b);
    return d;
}

static struct store_checkpoint checkpoint_of(const char *vm, const char *id, const char *name)
{
    struct store_checkpoint c = {
        .created_at = 2.5, .memory_bytes = 100, .disk_bytes = 20, .generation = 7};
    snprintf(c.vm, sizeof c.vm, "%s", vm);
    snprintf(c.id, sizeof c.id, "%s", id);
    snprintf(c.name, sizeof c.name, "%s", name);
    return c;
}

/* Names of the layers nobody has, one behind the other. */
static const char *unused(struct store *s)
{
    static char text[200];
    char ids[8][LAYER_CAP];
    size_t n = 0;
    text[0] = '\0';
    CHECK(store_layers_unused(s, ids, 8, &n, NULL) == 0);
    for (size_t i = 0; i < n; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s ", ids[i]);
    return text;
}

TEST(disks)
{
    struct store *s = fresh();
    struct store_disk d, got;
    struct err e = ERR_INIT;
    uint64_t n = 9;
    CHECK(store_disk_get(s, "vm", &got, &e) == 0 && got.serial == 0 && got.n == 0);
    CHECK(store_disk_count(s, &n, &e) == 0 && n == 0);
    d = disk_of(3, 2, "a", "b");
    CHECK(store_disk_set(s, "vm", &d, &e) == -ENOENT); /* layers that are not known */
    CHECK(store_disk_get(s, "vm", &got, &e) == 0 && got.serial == 0);
    CHECK(store_layer_add(s, "a", 10, &e) == 0 && store_layer_add(s, "b", 20, &e) == 0);
    CHECK(store_layer_add(s, "a", 10, &e) == -EEXIST);
    CHECK(store_disk_set(s, "vm", &d, &e) == 0);
    CHECK(store_disk_get(s, "vm", &got, &e) == 0 && got.serial == 3 && got.n == 2);
    CHECK_STR(got.layers[0], "a");
    CHECK_STR(got.layers[1], "b");
    d = disk_of(4, 1, "b", "");
    CHECK(store_disk_set(s, "vm", &d, &e) == 0);
    CHECK(store_disk_get(s, "vm", &got, &e) == 0 && got.serial == 4 && got.n == 1);
    CHECK_STR(unused(s), "a ");
    CHECK_STR(unused(s), ""); /* handed out once */
    store_close(s);
}

TEST(layers_are_counted)
{
    struct store *s = fresh();
    struct err e = ERR_INIT;
    struct store_checkpoint c = checkpoint_of("vm", "checkpoint-1", "one");
    add_vm(s, "vm", "RUNNING");
    add_vm(s, "child", "RUNNING");
    CHECK(store_layer_add(s, "a", 1, &e) == 0 && store_layer_add(s, "b", 1, &e) == 0);
    struct store_disk d = disk_of(1, 2, "a", "b"), low = disk_of(0, 1, "a", "");
    CHECK(store_disk_set(s, "vm", &d, &e) == 0);
    CHECK(store_checkpoint_add(s, &c, &low, &e) == 0);
    CHECK(store_disk_set(s, "child", &low, &e) == 0);
    CHECK_STR(unused(s), "");
    CHECK(store_disk_drop(s, "vm", &e) == 0);
    CHECK_STR(unused(s), "b ");
    CHECK(store_checkpoint_delete(s, "checkpoint-1", &e) == 0); /* its disk goes with it */
    CHECK_STR(unused(s), "");
    CHECK(store_vm_delete(s, "child", &e) == 0); /* so does a microVM's */
    CHECK_STR(unused(s), "a ");
    store_close(s);
}

static struct chain_part part_of(const char *a, const char *b)
{
    struct chain_part p = {.n = 2};
    snprintf(p.layers[0], LAYER_CAP, "%s", a);
    snprintf(p.layers[1], LAYER_CAP, "%s", b);
    return p;
}

static const char *layers_of(struct store *s, const char *holder)
{
    static char text[4 * LAYER_CAP + 8];
    struct store_disk d;
    CHECK(store_disk_get(s, holder, &d, NULL) == 0);
    text[0] = '\0';
    for (uint32_t i = 0; i < d.n; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s ", d.layers[i]);
    return text;
}

static bool has_id(const struct store_ids *l, const char *id)
{
    for (size_t i = 0; i < l->n; i++) {
        if (strcmp(l->v[i], id) == 0)
            return true;
    }
    return false;
}

/* One microVM with two checkpoints, its fork, and one that has ended with one. */
TEST(layers_joined)
{
    struct store *s = fresh();
    struct err e = ERR_INIT;
    const char *const ids[] = {"a", "b", "c"};
    struct store_checkpoint c1 = checkpoint_of("vm", "checkpoint-1", "one");
    struct store_checkpoint c2 = checkpoint_of("vm", "checkpoint-2", "two");
    struct store_checkpoint c3 = checkpoint_of("old", "checkpoint-3", "three");
    add_vm(s, "vm", "RUNNING");
    add_vm(s, "fork", "SUSPENDED");
    add_vm(s, "old", "TERMINATED");
    for (unsigned i = 0; i < ARRAY_LEN(ids); i++)
        CHECK(store_layer_add(s, ids[i], 10 + i, &e) == 0);
    struct store_disk abc = disk_of(3, 2, "a", "b"), ab = disk_of(0, 2, "a", "b");
    struct store_disk a = disk_of(0, 1, "a", ""), ac = disk_of(1, 2, "a", "c");
    abc.n = 3;
    snprintf(abc.layers[2], LAYER_CAP, "c");
    CHECK(store_disk_set(s, "vm", &abc, &e) == 0);
    CHECK(store_disk_set(s, "fork", &ab, &e) == 0);
    CHECK(store_checkpoint_add(s, &c1, &a, &e) == 0);
    CHECK(store_checkpoint_add(s, &c2, &ab, &e) == 0);
    CHECK(store_checkpoint_add(s, &c3, &ab, &e) == 0);

    AUTO(store_ids_free) struct store_ids l = {.n = 0};
    CHECK(store_layer_vms(s, "a", &l, &e) == 0);
    CHECK(l.n == 3 && has_id(&l, "vm") && has_id(&l, "fork") && has_id(&l, "old"));
    uint64_t count = 0, bytes = 0;
    CHECK(store_layer_sum(s, &count, &bytes, &e) == 0 && count == 3 && bytes == 33);

    struct chain_part p = part_of("a", "b");
    uint32_t n = 9;
    /* A layer that is not known: nothing is changed. */
    CHECK(store_disk_join(s, "vm", &p, "m", &n, &e) == -ENOENT);
    CHECK_STR(layers_of(s, "vm"), "a b c ");
    CHECK(store_layer_add(s, "m", 20, &e) == 0);
    CHECK(store_disk_join(s, "vm", &p, "m", &n, &e) == 0 && n == 2);
    CHECK_STR(layers_of(s, "vm"), "m c ");
    CHECK_STR(layers_of(s, "checkpoint-1"), "a ");
    CHECK_STR(layers_of(s, "checkpoint-2"), "m ");
    CHECK_STR(layers_of(s, "fork"), "a b ");
    CHECK_STR(layers_of(s, "checkpoint-3"), "a b ");
    struct store_disk d;
    CHECK(store_disk_get(s, "vm", &d, &e) == 0 && d.serial == 3);
    CHECK_STR(unused(s), ""); /* others have them still */
    CHECK(store_disk_join(s, NULL, &p, "m", &n, &e) == 0 && n == 1);
    CHECK_STR(layers_of(s, "checkpoint-3"), "m ");
    CHECK_STR(layers_of(s, "fork"), "a b ");
    CHECK(store_disk_join(s, "fork", &p, "m", &n, &e) == 0 && n == 1);
    CHECK_STR(unused(s), "b "); /* a is checkpoint-1's */
    CHECK(store_checkpoint_delete(s, "checkpoint-1", &e) == 0);
    CHECK_STR(unused(s), "a ");

    /* Neighbours in the list but not in the chain; and once more what is done already. */
    CHECK(store_layer_add(s, "a", 1, &e) == 0 && store_layer_add(s, "b", 1, &e) == 0);
    CHECK(store_disk_set(s, "fork", &ac, &e) == 0);
    CHECK(store_disk_join(s, "fork", &p, "m", &n, &e) == 0 && n == 0);
    CHECK(store_disk_join(s, "vm", &p, "m", &n, &e) == 0 && n == 0);
    CHECK_STR(layers_of(s, "fork"), "a c ");
    store_close(s);
}

TEST(many_unused)
{
    struct store *s = fresh();
    struct err e = ERR_INIT;
    char ids[5][LAYER_CAP], id[16];
    size_t n, seen = 0;
    for (unsigned i = 0; i < 12; i++) {
        snprintf(id, sizeof id, "layer-%u", i);
        CHECK(store_layer_add(s, id, 1, &e) == 0);
    }
    do {
        CHECK(store_layers_unused(s, ids, 5, &n, &e) == 0);
        seen += n;
    } while (n == 5);
    CHECK(seen == 12);
    store_close(s);
}

static bool count_up_to(void *ctx, const struct store_checkpoint *c)
{
    unsigned *left = ctx;
    CHECK(strcmp(c->vm, "vm") == 0);
    return --*left > 0;
}

TEST(checkpoints)
{
    struct store *s = fresh();
    struct err e = ERR_INIT;
    const struct store_disk none = {.n = 0};
    struct store_checkpoint c = checkpoint_of("vm", "checkpoint-1", "one"), got;
    uint64_t count, bytes;
    char text[] = "{\"a\":\"b\"}";
    c.tags = text;
    CHECK(store_checkpoint_add(s, &c, &none, &e) == 0);
    CHECK(store_checkpoint_add(s, &c, &none, &e) == -EEXIST);
    struct store_checkpoint same = checkpoint_of("vm", "checkpoint-2", "one");
    CHECK(store_checkpoint_add(s, &same, &none, &e) == -EEXIST);
    struct store_checkpoint other = checkpoint_of("vm2", "checkpoint-2", "one");
    CHECK(store_checkpoint_add(s, &other, &none, &e) == 0);
    CHECK(store_checkpoint_find(s, "vm", "one", &got, &e) == 0);
    CHECK_STR(got.id, "checkpoint-1");
    CHECK_STR(got.tags, text);
    CHECK(got.created_at == 2.5 && got.memory_bytes == 100 && got.disk_bytes == 20 &&
          got.generation == 7);
    store_checkpoint_free(&got);
    CHECK(store_checkpoint_find(s, "vm", "checkpoint-1", &got, &e) == 0);
    store_checkpoint_free(&got);
    CHECK(store_checkpoint_find(s, "vm2", "checkpoint-1", &got, &e) == -ENOENT);
    CHECK(store_checkpoint_find(s, "vm", "", &got, &e) == -ENOENT);
    /* Without a name there may be many; an id wins over a name that looks like it. */
    for (unsigned i = 0; i < 100; i++) {
        char id[32];
        snprintf(id, sizeof id, "checkpoint-x%u", i);
        struct store_checkpoint x = checkpoint_of("vm", id, "");
        CHECK(store_checkpoint_add(s, &x, &none, &e) == 0);
    }
    struct store_checkpoint sly = checkpoint_of("vm", "checkpoint-y", "checkpoint-x7");
    CHECK(store_checkpoint_add(s, &sly, &none, &e) == 0);
    CHECK(store_checkpoint_find(s, "vm", "checkpoint-x7", &got, &e) == 0);
    CHECK_STR(got.id, "checkpoint-x7");
    store_checkpoint_free(&got);
    CHECK(store_checkpoint_sum(s, "vm", &count, &bytes, &e) == 0 && count == 102 &&
          bytes == 102 * 120);
    CHECK(store_checkpoint_sum(s, NULL, &count, &bytes, &e) == 0 && count == 103);
    CHECK(store_checkpoint_sum(s, "nobody", &count, &bytes, &e) == 0 && count == 0 &&
          bytes == 0);
    unsigned left = 1000;
    CHECK(store_checkpoint_each(s, "vm", UINT64_MAX, count_up_to, &left, &e) == 0);
    CHECK(left == 1000 - 102);
    left = 3;
    CHECK(store_checkpoint_each(s, "vm", UINT64_MAX, count_up_to, &left, &e) == 0 && left == 0);
    CHECK(store_checkpoint_delete(s, "checkpoint-none", &e) == -ENOENT);
    store_close(s);
}

static void count_ids(void *ctx, const char *id)
{
    unsigned *n = ctx;
    (void)id;
    ++*n;
}

TEST(ends)
{
    struct store *s = fresh();
    struct err e = ERR_INIT;
    add_vm(s, "lives", "SUSPENDED");
    add_vm(s, "ended", "TERMINATED");
    static const char *const vms[] = {"lives", "ended", "unknown"};
    struct store_disk d;
    for (unsigned i = 0; i < 3; i++) {
        char id[32], layer[8];
        snprintf(id, sizeof id, "checkpoint-%u", i);
        snprintf(layer, sizeof layer, "l%u", i);
        struct store_checkpoint c = checkpoint_of(vms[i], id, "");
        d = disk_of(1, 1, layer, "");
        CHECK(store_layer_add(s, layer, 1, &e) == 0);
        CHECK(store_disk_set(s, vms[i], &d, &e) == 0);
        CHECK(store_checkpoint_add(s, &c, &d, &e) == 0);
    }
    unsigned n = 0;
    CHECK(store_checkpoint_ids(s, false, count_ids, &n, &e) == 0 && n == 3);
    /* Of one that has ended the disk goes; its checkpoints when it is forgotten. */
    n = 0;
    CHECK(store_checkpoint_drop(s, NULL, count_ids, &n, &e) == 0 && n == 1);
    CHECK_STR(unused(s), "l2 ");
    CHECK(store_disk_get(s, "ended", &d, &e) == 0 && d.n == 0);
    CHECK(store_disk_get(s, "checkpoint-1", &d, &e) == 0 && d.n == 1);
    CHECK(store_vm_delete(s, "ended", &e) == 0);
    n = 0;
    CHECK(store_checkpoint_drop(s, NULL, count_ids, &n, &e) == 0 && n == 1);
    CHECK_STR(unused(s), "l1 ");
    n = 0;
    CHECK(store_checkpoint_drop(s, "lives", count_ids, &n, &e) == 0 && n == 1);
    CHECK_STR(unused(s), "l0 ");
    n = 0;
    CHECK(store_checkpoint_ids(s, true, count_ids, &n, &e) == 0 && n == 0);
    uint64_t disks = 9;
    CHECK(store_disk_count(s, &disks, &e) == 0 && disks == 0);
    store_close(s);
}

static bool in_order(void *ctx, const struct store_lineage *l)
{
    unsigned *n = ctx;
    CHECK(l->number == ++*n);
    CHECK_STR(l->parent, "parent");
    return true;
}

TEST(lineage)
{
    struct store *s = fresh();
    struct err e = ERR_INIT;
    struct store_lineage l = {.parent = "parent", .fork = "fork-1"}, got;
    for (unsigned i = 3; i > 0; i--) {
        snprintf(l.vm, sizeof l.vm, "vm%u", i);
        l.number = i;
        add_vm(s, l.vm, "RUNNING");
        CHECK(store_lineage_add(s, &l, &e) == 0);
    }
    unsigned n = 0;
    CHECK(store_lineage_each(s, "fork-1", in_order, &n, &e) == 0 && n == 3);
    CHECK(store_lineage_get(s, "vm2", &got, &e) == 0);
    CHECK(got.number == 2);
    n = 0;
    CHECK(store_checkpoint_ids(s, false, count_ids, &n, &e) == 0 && n == 0);
    add_vm(s, "young", "PENDING"); /* its fork's memory is wanted still */
    snprintf(l.vm, sizeof l.vm, "young");
    CHECK(store_lineage_add(s, &l, &e) == 0);
    CHECK(store_checkpoint_ids(s, false, count_ids, &n, &e) == 0 && n == 1);
    CHECK(store_vm_delete(s, "vm2", &e) == 0);
    CHECK(store_lineage_get(s, "vm2", &got, &e) == -ENOENT);
    store_close(s);
}

/* All of a transaction or nothing: what a fork relies on. */
TEST(rolled_back)
{
    struct store *s = fresh();
    struct err e = ERR_INIT;
    struct store_disk d = disk_of(1, 1, "a", ""), got;
    CHECK(store_begin(s, &e) == 0);
    CHECK(store_layer_add(s, "a", 1, &e) == 0);
    CHECK(store_disk_set(s, "vm", &d, &e) == 0);
    CHECK(store_disk_get(s, "vm", &got, &e) == 0 && got.n == 1);
    store_rollback(s);
    CHECK(store_disk_get(s, "vm", &got, &e) == 0 && got.n == 0 && got.serial == 0);
    CHECK_STR(unused(s), "");
    store_close(s);
}

TEST(upgrade)
{
    struct store *s = NULL;
    struct err e = ERR_INIT;
    char copy[80];
    store_close(fresh());
    unlink(path);
    CHECK(store_open_steps(&s, path, store_steps, 1, &e) == 0);
    CHECK(
        sqlite3_exec(s->w.db,
                     "INSERT INTO vm (id, label, image, major, state, reason, role_arn, "
                     "has_idle, auto_resume, idle_seconds, suspended_seconds, max_seconds, "
                     "started_at, terminated_at, suspended_at, ip, generation) VALUES "
                     "('old', 'label', 'box', 1, 'SUSPENDED', '', '', 1, 1, 60, 60, 60, 1, 0, "
                     "2, 3, 4)",
                     NULL, NULL, NULL) == SQLITE_OK);
    store_close(s);
    CHECK(store_open(&s, path, &e) == 0);
    snprintf(copy, sizeof copy, "%s.v1.bak", path);
    CHECK(access(copy, R_OK) == 0);
    struct store_vm vm;
    struct store_disk d;
    if (CHECK(store_vm_get(s, "old", &vm, &e) == 0)) {
        CHECK(vm.generation == 4);
        store_vm_free(&vm);
    }
    CHECK(store_disk_get(s, "old", &d, &e) == 0 && d.serial == 0 && d.n == 0);
    CHECK(store_vm_delete(s, "old", &e) == 0); /* the triggers are there */
    store_close(s);
}

int main(void)
{
    if (!mkdtemp(dir)) {
        printf("Bail out! cannot make %s\n", dir);
        return 1;
    }
    snprintf(path, sizeof path, "%s/state.db", dir);
    RUN(disks);
    RUN(layers_are_counted);
    RUN(layers_joined);
    RUN(many_unused);
    RUN(checkpoints);
    RUN(ends);
    RUN(lineage);
    RUN(rolled_back);
    RUN(upgrade);
    char cmd[100];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd) != 0 ? 1 : TAP_DONE();
}
