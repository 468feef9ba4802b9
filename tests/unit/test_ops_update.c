// SPDX-License-Identifier: Apache-2.0
/* RunMicrovm with name, tags and environment, and UpdateMicrovm, with a fake fleet. */
#include <unistd.h>

#include "../tap.h"
#include "ops_client.h"

static char path[] = "/tmp/dormouse-test-update-XXXXXX";
static struct client c;

#define RUN_WITH "/dormouse/v1/run"

static long long at(const char *name)
{
    return json_integer_value(json_object_get(c.json, name));
}

static long long idle(const char *name)
{
    return json_integer_value(json_object_get(json_object_get(c.json, "idlePolicy"), name));
}

TEST(run_with_more)
{
    struct store_vm vm;
    char id[ID_CAP], target[200];
    CHECK(call(&c, "POST", RUN_WITH,
               "{'imageIdentifier':'" ARN "box','name':'web-1','tags':{'team':'a'},"
               "'environmentVariables':{'KEY':'its value'},'clientToken':'t'}") == 200);
    snprintf(id, sizeof id, "%s", text_at(&c, "microvmId"));
    CHECK_STR(text_at(&c, "name"), "web-1");
    CHECK_STR(text_at(&c, "tags.team"), "a");
    CHECK(!strstr(buf_cstr(&c.res.body), "its value")); /* it may be a secret */
    CHECK(store_vm_get(c.fleet.store, id, &vm, NULL) == 0);
    CHECK_STR(vm.env, "{\"KEY\":\"its value\"}");
    store_vm_free(&vm);
    /* The same request again is the same microVM. */
    CHECK(call(&c, "POST", RUN_WITH,
               "{'imageIdentifier':'" ARN "box','name':'web-1','tags':{'team':'a'},"
               "'environmentVariables':{'KEY':'its value'},'clientToken':'t'}") == 200);
    CHECK_STR(text_at(&c, "microvmId"), id);
    CHECK(call(&c, "POST", RUN_WITH, "{'imageIdentifier':'" ARN "box','clientToken':'t'}") ==
          409);
    /* The service's own operations do not know the additions. */
    snprintf(target, sizeof target, V "/microvms/%s", id);
    CHECK(call(&c, "GET", target, "%s", "") == 200 && !json_object_get(c.json, "name") &&
          !json_object_get(c.json, "tags"));
    snprintf(target, sizeof target, "/dormouse/v1/microvms/%s", id);
    CHECK(call(&c, "GET", target, "%s", "") == 200);
    CHECK_STR(text_at(&c, "name"), "web-1");
    CHECK(call(&c, "POST", V "/microvms", "{'imageIdentifier':'" ARN "box','name':'no'}") ==
          200);
    CHECK(store_vm_get(c.fleet.store, text_at(&c, "microvmId"), &vm, NULL) == 0);
    CHECK(!vm.name[0] && !vm.env && !vm.tags);
    store_vm_free(&vm);
}

TEST(wrong_additions)
{
    AUTO_FREE char *big = malloc(4001);
    memset(big, 'x', 4000);
    big[4000] = '\0';
    CHECK(call(&c, "POST", RUN_WITH, "{'imageIdentifier':'" ARN "box','name':'a b'}") == 400);
    CHECK(call(&c, "POST", RUN_WITH, "{'imageIdentifier':'" ARN "box','tags':{'aws:x':'1'}}") ==
          400);
    CHECK(call(&c, "POST", RUN_WITH,
               "{'imageIdentifier':'" ARN "box','environmentVariables':{'A B':'1'}}") == 400);
    struct buf body = BUF_INIT;
    buf_str(&body, "{'imageIdentifier':'" ARN "box','environmentVariables':{'k':''");
    for (unsigned i = 0; i < 20; i++)
        buf_printf(&body, ",'k%u':'%s'", i, big);
    buf_str(&body, "}}");
    CHECK(call(&c, "POST", RUN_WITH, "%s", buf_cstr(&body)) == 400);
    CHECK_STR(text_at(&c, "message"), "environmentVariables take more than 64 KiB");
    buf_free(&body);
}

TEST(update)
{
    struct store_vm vm;
    char id[ID_CAP], target[200], end[200];
    CHECK(call(&c, "POST", V "/microvms", "{'imageIdentifier':'" ARN "box'}") == 200);
    snprintf(id, sizeof id, "%s", text_at(&c, "microvmId"));
    snprintf(target, sizeof target, "/dormouse/v1/microvms/%s", id);
    snprintf(end, sizeof end, V "/microvms/%s", id);
    unsigned told = c.fleet.policies;
    CHECK(call(&c, "PATCH", target,
               "{'idlePolicy':{'maxIdleDurationSeconds':120,'suspendedDurationSeconds':7,"
               "'autoResumeEnabled':true},'maximumDurationInSeconds':3600,'name':'n',"
               "'tags':{'a':'b'}}") == 200);
    CHECK(idle("maxIdleDurationSeconds") == 120 && idle("suspendedDurationSeconds") == 7);
    CHECK(at("maximumDurationInSeconds") == 3600);
    CHECK(c.fleet.policies == told + 1 && c.fleet.idle_seconds == 120);
    CHECK(store_vm_get(c.fleet.store, id, &vm, NULL) == 0);
    CHECK(vm.has_idle && vm.auto_resume && vm.idle_seconds == 120 && vm.max_seconds == 3600);
    CHECK_STR(vm.name, "n");
    store_vm_free(&vm);
    /* What is left out stays. */
    CHECK(call(&c, "PATCH", target, "{'name':'m'}") == 200);
    CHECK(idle("maxIdleDurationSeconds") == 120 && at("maximumDurationInSeconds") == 3600);
    CHECK_STR(text_at(&c, "tags.a"), "b");
    CHECK(call(&c, "PATCH", target, "{'tags':{}}") == 200);
    CHECK(json_object_size(json_object_get(c.json, "tags")) == 0);
    CHECK(call(&c, "PATCH", target, "{'removeIdlePolicy':true}") == 200);
    CHECK(!json_object_get(c.json, "idlePolicy") && c.fleet.idle_seconds == 0);
    CHECK(call(&c, "PATCH", target,
               "{'removeIdlePolicy':true,'idlePolicy':{'maxIdleDurationSeconds':120,"
               "'suspendedDurationSeconds':7,'autoResumeEnabled':true}}") == 400);
    CHECK(call(&c, "PATCH", target, "{'maximumDurationInSeconds':28801}") == 400);
    CHECK(call(&c, "PATCH", target, "{'idlePolicy':{'maxIdleDurationSeconds':1}}") == 400);
    CHECK(call(&c, "DELETE", end, "%s", "") == 200);
    CHECK(call(&c, "PATCH", target, "{'name':'x'}") == 409);
    CHECK(call(&c, "PATCH", "/dormouse/v1/microvms/nobody", "{'name':'x'}") == 404);
}

int main(void)
{
    int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    client_open(&c, path);
    CHECK(call(&c, "POST", V "/microvm-images", "{'name':'box'," CONFIG "}") == 201);
    RUN(run_with_more);
    RUN(wrong_additions);
    RUN(update);
    client_close(&c);
    store_file_remove(path);
    return TAP_DONE();
}
