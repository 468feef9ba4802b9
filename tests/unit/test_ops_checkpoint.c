// SPDX-License-Identifier: Apache-2.0
/* Checkpoints, rollback and fork at the API, against a real store and a fake fleet. */
#include <unistd.h>

#include "../tap.h"
#include "ops_client.h"

static char dir[] = "/tmp/dormouse-test-ops-checkpoint-XXXXXX";
static char path[64];
static struct client c;

#define EXT "/dormouse/v1/microvms/"

static const char *fresh(void)
{
    static char id[80];
    client_open(&c, path);
    CHECK(call(&c, "POST", V "/microvm-images", "{'name':'box'," CONFIG "}") == 201);
    CHECK(call(&c, "POST", V "/microvms",
               "{'imageIdentifier':'" ARN "box','maximumDurationInSeconds':777,'idlePolicy':"
               "{'maxIdleDurationSeconds':61,'suspendedDurationSeconds':62,"
               "'autoResumeEnabled':true}}") == 200);
    snprintf(id, sizeof id, "%s", text_at(&c, "microvmId"));
    return id;
}

static int on_vm(const char *method, const char *vm, const char *tail, const char *body)
{
    char target[300];
    snprintf(target, sizeof target, EXT "%s/%s", vm, tail);
    return call(&c, method, target, "%s", body);
}

TEST(checkpoints)
{
    const char *vm = fresh();
    char id[80];
    CHECK(on_vm("POST", vm, "checkpoints", "{}") == 201);
    CHECK(strncmp(text_at(&c, "checkpointId"), "checkpoint-", 11) == 0);
    CHECK_STR(text_at(&c, "microvmId"), vm);
    CHECK_STR(text_at(&c, "name"), "");
    CHECK(json_integer_value(json_object_get(c.json, "memoryBytes")) == 8192);
    CHECK(json_number_value(json_object_get(c.json, "createdAt")) == 1000.5);
    CHECK(on_vm("POST", vm, "checkpoints", "{'name':'one','tags':{'a':'b'}}") == 201);
    snprintf(id, sizeof id, "%s", text_at(&c, "checkpointId"));
    CHECK_STR(text_at(&c, "tags.a"), "b");
    CHECK(on_vm("GET", vm, "checkpoints/one", "") == 200);
    CHECK_STR(text_at(&c, "checkpointId"), id);
    CHECK(on_vm("POST", vm, "checkpoints", "{'name':'one'}") == 409);
    CHECK(on_vm("GET", vm, "checkpoints", "") == 200 && items(&c) == 2);
    CHECK_STR(text_at(&c, "items.0.name"), "one");
    CHECK(on_vm("GET", vm, "checkpoints?maxResults=1", "") == 200 && items(&c) == 1);
    char next[400];
    snprintf(next, sizeof next, "checkpoints?maxResults=1&nextToken=%s",
             text_at(&c, "nextToken"));
    CHECK(on_vm("GET", vm, next, "") == 200 && items(&c) == 1);
    CHECK_STR(text_at(&c, "items.0.name"), "");
    CHECK(on_vm("GET", vm, "checkpoints?nextToken=x", "") == 400);
    CHECK(on_vm("DELETE", vm, "checkpoints/one", "") == 200);
    CHECK_STR(text_at(&c, "checkpointId"), id);
    CHECK(on_vm("DELETE", vm, "checkpoints/one", "") == 404);
    client_close(&c);
}

TEST(refusals)
{
    const char *vm = fresh();
    char want[200];
    snprintf(want, sizeof want, "MicroVM %s has no checkpoint none", vm);
    CHECK(on_vm("GET", vm, "checkpoints/none", "") == 404);
    CHECK(failed(&c, 404, "ResourceNotFoundException", want));
    CHECK_STR(text_at(&c, "resourceType"), "checkpoint");
    CHECK(on_vm("POST", vm, "checkpoints/none/rollback", "") == 404);
    CHECK(failed(&c, 404, "ResourceNotFoundException", want));
    CHECK(on_vm("POST", "microvm-none", "checkpoints", "{}") == 404);
    CHECK(on_vm("POST", vm, "checkpoints", "{'name':'a b'}") == 400);
    CHECK(on_vm("POST", vm, "checkpoints", "{'tags':{'aws:x':'y'}}") == 400);
    CHECK(on_vm("POST", vm, "fork", "{'count':0}") == 400);
    CHECK(on_vm("POST", vm, "fork", "{'count':101}") == 400);
    CHECK(on_vm("POST", vm, "fork", "{'count':'two'}") == 400);
    /* What the fleet says, as the client hears it. */
    c.fleet.fails = EDQUOT;
    CHECK(on_vm("POST", vm, "checkpoints", "{}") == 402);
    CHECK(failed(&c, 402, "ServiceQuotaExceededException", "a sentence from the fleet"));
    c.fleet.fails = EINVAL;
    CHECK(on_vm("POST", vm, "fork", "{}") == 409);
    CHECK(failed(&c, 409, "ConflictException", "a sentence from the fleet"));
    c.fleet.fails = ENOSPC;
    CHECK(on_vm("POST", vm, "fork", "{}") == 500);
    CHECK_STR(c.res.error_type, "InsufficientCapacityException");
    c.fleet.fails = EIO;
    CHECK(on_vm("POST", vm, "fork", "{}") == 500);
    CHECK_STR(c.res.error_type, "InternalServerException");
    CHECK(c.fleet.forks == 0 && c.fleet.checkpoints == 0);
    c.rights = RIGHTS_READ;
    CHECK(on_vm("POST", vm, "checkpoints", "{}") == 403);
    CHECK(on_vm("POST", vm, "fork", "{}") == 403);
    CHECK(on_vm("GET", vm, "checkpoints", "") == 200 && items(&c) == 0);
    client_close(&c);
}

TEST(rollback)
{
    const char *vm = fresh();
    CHECK(on_vm("POST", vm, "checkpoints", "{'name':'one'}") == 201);
    CHECK(on_vm("POST", vm, "checkpoints/one/rollback", "") == 200);
    CHECK_STR(text_at(&c, "microvmId"), vm);
    CHECK_STR(text_at(&c, "state"), "RUNNING");
    CHECK(c.fleet.rollbacks == 1);
    c.fleet.fails = EINVAL;
    CHECK(on_vm("POST", vm, "checkpoints/one/rollback", "") == 409);
    client_close(&c);
}

TEST(forks)
{
    const char *vm = fresh();
    char child[80], fork[80];
    CHECK(on_vm("POST", vm, "fork", "{'count':3,'name':'way','tags':{'a':'b'}}") == 201);
    CHECK(items(&c) == 3);
    CHECK_STR(text_at(&c, "parentMicrovmId"), vm);
    CHECK_STR(text_at(&c, "items.2.name"), "way-3");
    CHECK_STR(text_at(&c, "items.1.tags.a"), "b");
    CHECK_STR(text_at(&c, "items.1.state"), "PENDING");
    CHECK(strcmp(text_at(&c, "items.0.microvmId"), text_at(&c, "items.1.microvmId")) != 0);
    CHECK(strcmp(text_at(&c, "items.0.endpoint"), text_at(&c, "items.1.endpoint")) != 0);
    const json_t *first = json_array_get(json_object_get(c.json, "items"), 0);
    CHECK(json_integer_value(json_object_get(first, "maximumDurationInSeconds")) == 777);
    const json_t *idle = json_object_get(first, "idlePolicy");
    CHECK(json_integer_value(json_object_get(idle, "maxIdleDurationSeconds")) == 61);
    snprintf(child, sizeof child, "%s", text_at(&c, "items.0.microvmId"));
    snprintf(fork, sizeof fork, "%s", text_at(&c, "forkId"));
    CHECK(on_vm("GET", child, "", "") == 404); /* a slash is another path */
    char target[160];
    snprintf(target, sizeof target, EXT "%s", child);
    CHECK(call(&c, "GET", target, "%s", "") == 200);
    CHECK_STR(text_at(&c, "forkedFrom.microvmId"), vm);
    CHECK_STR(text_at(&c, "forkedFrom.forkId"), fork);
    CHECK_STR(text_at(&c, "forkedFrom.checkpointId"), "");
    CHECK(on_vm("POST", vm, "fork", "") == 201 && items(&c) == 1);
    CHECK_STR(text_at(&c, "items.0.name"), "");
    client_close(&c);
}

/* The same request again makes nothing new, and another one with its token is refused. */
TEST(again)
{
    const char *vm = fresh();
    char first[80];
    CHECK(on_vm("POST", vm, "checkpoints", "{'clientToken':'t'}") == 201);
    snprintf(first, sizeof first, "%s", text_at(&c, "checkpointId"));
    CHECK(on_vm("POST", vm, "checkpoints", "{'clientToken':'t'}") == 201);
    CHECK_STR(text_at(&c, "checkpointId"), first);
    CHECK(c.fleet.checkpoints == 1);
    CHECK(on_vm("POST", vm, "checkpoints", "{'clientToken':'t','name':'x'}") == 409);
    CHECK(on_vm("POST", vm, "fork", "{'clientToken':'t','count':2}") == 201);
    snprintf(first, sizeof first, "%s", text_at(&c, "items.1.microvmId"));
    CHECK(on_vm("POST", vm, "fork", "{'clientToken':'t','count':2}") == 201);
    CHECK_STR(text_at(&c, "items.1.microvmId"), first);
    CHECK(c.fleet.forks == 1);
    CHECK(on_vm("POST", vm, "fork", "{'clientToken':'t','count':3}") == 409);
    client_close(&c);
}

int main(void)
{
    if (!mkdtemp(dir)) {
        printf("Bail out! cannot make %s\n", dir);
        return 1;
    }
    snprintf(path, sizeof path, "%s/state.db", dir);
    RUN(checkpoints);
    RUN(refusals);
    RUN(rollback);
    RUN(forks);
    RUN(again);
    char cmd[100];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd) != 0 ? 1 : TAP_DONE();
}
