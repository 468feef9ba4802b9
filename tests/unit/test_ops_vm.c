// SPDX-License-Identifier: Apache-2.0
/* RunMicrovm and what follows it, against a real store and a fake fleet. */
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "../tap.h"
#include "ops_client.h"

static char dir[] = "/tmp/dormouse-test-vm-XXXXXX";
static char path[64];
static struct client c;

#define VMS      V "/microvms"
#define IMAGES   V "/microvm-images"
#define BOX      IMAGES "/" ARN_URL "box"
#define INVALID  400, "ValidationException"
#define CONFLICT 409, "ConflictException"
#define MISSING  404, "ResourceNotFoundException"

static void fresh(void)
{
    client_open(&c, path);
    CHECK(call(&c, "POST", IMAGES, "{'name':'box'," CONFIG "}") == 201);
    CHECK(call(&c, "POST", IMAGES,
               "{'name':'hooked'," CONFIG ",'hooks':{'microvmHooks':{'run':'ENABLED'},"
               "'microvmImageHooks':{'ready':'ENABLED'}}}") == 201);
}

static int run(const char *members)
{
    return call(&c, "POST", VMS, "{'imageIdentifier':'" ARN "box'%s}", members);
}

/* Runs one and makes its path with a tail. */
static const char *vm_path(const char *id, const char *tail)
{
    static char text[200];
    snprintf(text, sizeof text, VMS "/%s%s", id, tail);
    return text;
}

static void started(char id[ID_CAP], const char *members)
{
    CHECK(run(members) == 200);
    snprintf(id, ID_CAP, "%s", text_at(&c, "microvmId"));
}

static json_int_t number_at(const char *name)
{
    return json_integer_value(json_object_get(c.json, name));
}

TEST(run_answers)
{
    fresh();
    CHECK(run("") == 200);
    CHECK(strncmp(text_at(&c, "microvmId"), "microvm-", 8) == 0);
    CHECK_STR(text_at(&c, "state"), "PENDING");
    CHECK_STR(text_at(&c, "imageArn"), ARN "box");
    CHECK_STR(text_at(&c, "imageVersion"), "1.0");
    CHECK_STR(text_at(&c, "ingressNetworkConnectors.0"), NC "HTTP_INGRESS");
    CHECK_STR(text_at(&c, "egressNetworkConnectors.0"), NC "INTERNET_EGRESS");
    CHECK(number_at("maximumDurationInSeconds") == 28800);
    CHECK(json_is_real(json_object_get(c.json, "startedAt")));
    CHECK(!json_object_get(c.json, "idlePolicy") && !json_object_get(c.json, "stateReason") &&
          !json_object_get(c.json, "terminatedAt") &&
          !json_object_get(c.json, "executionRoleArn"));
    const char *endpoint = text_at(&c, "endpoint");
    CHECK_STR(endpoint + 36, ".lambda-microvm." REGION ".localhost:8443");
    CHECK(strncmp(endpoint, text_at(&c, "microvmId") + 8, 36) != 0); /* another uuid */
    c.api.public_port = 443;
    CHECK(call(&c, "GET", vm_path(text_at(&c, "microvmId"), ""), "%s", "") == 200);
    CHECK_STR(text_at(&c, "endpoint") + 36, ".lambda-microvm." REGION ".localhost");
    CHECK_STR(text_at(&c, "state"), "RUNNING");

    CHECK(call(&c, "POST", VMS,
               "{'imageIdentifier':'" ARN "hooked','imageVersion':'1','executionRoleArn':'" ROLE
               "','idlePolicy':{'maxIdleDurationSeconds':60,'suspendedDurationSeconds':0,"
               "'autoResumeEnabled':true},'maximumDurationInSeconds':77,"
               "'runHookPayload':'the secret','ingressNetworkConnectors':['" NC
               "SHELL_INGRESS','" NC
               "HTTP_INGRESS'],'logging':{'cloudWatch':{'logGroup':'g'}}}") == 200);
    CHECK(number_at("maximumDurationInSeconds") == 77);
    CHECK_STR(text_at(&c, "executionRoleArn"), ROLE);
    CHECK_STR(text_at(&c, "ingressNetworkConnectors.1"), NC "HTTP_INGRESS");
    const json_t *idle = json_object_get(c.json, "idlePolicy");
    CHECK(json_integer_value(json_object_get(idle, "maxIdleDurationSeconds")) == 60);
    CHECK(json_is_true(json_object_get(idle, "autoResumeEnabled")));
    CHECK(!memmem(c.res.body.data, c.res.body.len, "secret", 6));
    CHECK(!json_object_get(c.json, "logging") && !json_object_get(c.json, "clientToken"));
    struct store_vm vm;
    CHECK(store_vm_get(c.fleet.store, text_at(&c, "microvmId"), &vm, NULL) == 0);
    CHECK_STR(vm.payload, "the secret");
    CHECK_STR(vm.logging, "{\"cloudWatch\":{\"logGroup\":\"g\"}}");
    store_vm_free(&vm);
    client_close(&c);
}

TEST(run_refusals)
{
    fresh();
    CHECK(call(&c, "POST", VMS, "{'imageIdentifier':'box'}") == 400);
    CHECK(failed(&c, INVALID, "Malformed ARN - doesn't start with 'arn:'"));
    /* constraints come before the ARN */
    CHECK(call(&c, "POST", VMS, "{'imageIdentifier':'box','maximumDurationInSeconds':0}") ==
          400);
    CHECK(strncmp(text_at(&c, "message"), "1 validation error", 18) == 0);
    CHECK(call(&c, "POST", VMS, "{'imageIdentifier':'" ARN "none'}") == 404);
    CHECK(failed(&c, MISSING, "MicroVMImage not found for MicroVMImageID: " ARN "none"));
    CHECK(run(",'imageVersion':'9.0'") == 404);
    CHECK(failed(&c, MISSING,
                 "No active version found for MicroVM image " ARN "box and version 9.0"));
    CHECK(run(",'imageVersion':'x'") == 404);
    CHECK(run(",'runHookPayload':'p'") == 400);
    CHECK(failed(
        &c, INVALID,
        "The run hook must be enabled in the MicroVM image to pass the run hook payload"));
    CHECK(run(",'runHookPayload':''") == 200);
    CHECK(run(",'logging':{'cloudWatch':{}}") == 400);
    CHECK(failed(&c, INVALID, "Logging cannot be enabled without providing executionRoleArn"));
    CHECK(run(",'logging':{'disabled':{}}") == 200);
    CHECK(run(",'ingressNetworkConnectors':['HTTP_INGRESS']") == 400);
    CHECK(failed(&c, INVALID, "Malformed network connector ARN"));
    CHECK(run(",'egressNetworkConnectors':['arn:aws:lambda:" REGION ":" ACCOUNT
              ":network-connector:nc-1']") == 404);
    CHECK(run(",'egressNetworkConnectors':['" NC "HTTP_INGRESS']") == 400);
    CHECK(run(",'maximumDurationInSeconds':28801") == 400);
    CHECK(failed(&c, INVALID,
                 "1 validation error detected: Value at 'maximumDurationInSeconds' failed to "
                 "satisfy constraint: Member must have value less than or equal to 28800"));
    c.api.max_duration_s = 100000; /* the operator raises it */
    CHECK(run(",'maximumDurationInSeconds':100000") == 200);
    CHECK(run(",'maximumDurationInSeconds':100001") == 400);
    c.api.max_duration_s = 60;
    CHECK(run("") == 200);
    CHECK(number_at("maximumDurationInSeconds") == 60);
    client_close(&c);
}

TEST(run_picks_the_newest_active_version)
{
    fresh();
    CHECK(call(&c, "PUT", BOX, "{" CONFIG "}") == 200);
    CHECK(run("") == 200);
    CHECK_STR(text_at(&c, "imageVersion"), "2.0");
    CHECK(run(",'imageVersion':'1.0'") == 200);
    CHECK_STR(text_at(&c, "imageVersion"), "1.0");
    CHECK(call(&c, "PATCH", BOX "/versions/2.0", "{'status':'INACTIVE'}") == 200);
    CHECK(run("") == 200);
    CHECK_STR(text_at(&c, "imageVersion"), "1.0");
    CHECK(run(",'imageVersion':'2.0'") == 404);
    CHECK(call(&c, "PATCH", BOX "/versions/1.0", "{'status':'INACTIVE'}") == 200);
    CHECK(run("") == 404);
    CHECK(failed(&c, MISSING, "No active version found for MicroVM image " ARN "box"));
    c.fleet.holds = true; /* a version being built does not count, old ones go on */
    CHECK(call(&c, "PATCH", BOX "/versions/1.0", "{'status':'ACTIVE'}") == 200);
    CHECK(call(&c, "PUT", BOX, "{" CONFIG "}") == 200);
    CHECK(run("") == 200);
    CHECK_STR(text_at(&c, "imageVersion"), "1.0");
    client_close(&c);
}

TEST(fleet_failures)
{
    static const struct {
        int errnum, status;
        const char *name, *message;
    } cases[] = {
        {EINVAL, 409, "ConflictException", "a sentence from the fleet"},
        {ENOSPC, 500, "InsufficientCapacityException", NULL},
        {EAGAIN, 500, "InsufficientCapacityException", NULL},
        {ENOMEM, 500, "InsufficientCapacityException", NULL},
        {ENOENT, 404, "ResourceNotFoundException", NULL},
        {EIO, 500, "InternalServerException", NULL},
    };
    fresh();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        c.fleet.fails = cases[i].errnum;
        CHECK(run(",'clientToken':'same'") == cases[i].status);
        CHECK_STR(c.res.error_type, cases[i].name);
        if (cases[i].message)
            CHECK_STR(text_at(&c, "message"), cases[i].message);
        else
            CHECK(strstr(text_at(&c, "message"), "sentence") == NULL);
        CHECK(call(&c, "GET", VMS, "%s", "") == 200 && items(&c) == 0);
    }
    CHECK(run(",'clientToken':'same'") == 200); /* what was never accepted is not remembered */
    client_close(&c);
}

TEST(run_again_with_the_token)
{
    fresh();
    char id[ID_CAP];
    started(id, ",'clientToken':'t'");
    CHECK(run(",'clientToken':'t'") == 200);
    CHECK_STR(text_at(&c, "microvmId"), id);
    CHECK(c.fleet.runs == 1);
    CHECK(run(",'clientToken':'t','maximumDurationInSeconds':5") == 409);
    CHECK(failed(&c, CONFLICT, "The clientToken was used before with other parameters"));
    CHECK_STR(text_at(&c, "resourceId"), id);
    CHECK(call(&c, "POST", vm_path(id, "/suspend"), "%s", "") == 200);
    CHECK(run(",'clientToken':'t'") == 200); /* wakes it */
    CHECK_STR(text_at(&c, "state"), "RUNNING");
    CHECK(c.fleet.resumes == 1);
    CHECK(call(&c, "DELETE", vm_path(id, ""), "%s", "") == 200);
    CHECK(run(",'clientToken':'t'") == 200);
    CHECK_STR(text_at(&c, "state"), "TERMINATED");
    CHECK(store_vm_delete(c.fleet.store, id, NULL) == 0);
    CHECK(run(",'clientToken':'t'") == 200); /* forgotten with the microVM */
    CHECK(strcmp(text_at(&c, "microvmId"), id) != 0);
    client_close(&c);
}

TEST(life)
{
    fresh();
    char id[ID_CAP], message[200];
    c.fleet.holds = true;
    started(id, "");
    c.fleet.holds = false;
    CHECK(call(&c, "POST", vm_path(id, "/suspend"), "%s", "") == 409); /* PENDING */
    CHECK_STR(text_at(&c, "resourceType"), "microvm");
    CHECK_STR(text_at(&c, "resourceId"), id);
    CHECK(call(&c, "DELETE", vm_path(id, ""), "%s", "") == 200);
    started(id, "");
    CHECK(call(&c, "POST", vm_path(id, "/resume"), "%s", "") == 409);
    CHECK(call(&c, "POST", vm_path(id, "/suspend"), "%s", "") == 200 && !c.res.body.len);
    CHECK(call(&c, "POST", vm_path(id, "/suspend"), "%s", "") == 409);
    snprintf(message, sizeof message,
             "MicroVM %s cannot be suspended while it is in state: SUSPENDED", id);
    CHECK(failed(&c, CONFLICT, message));
    CHECK(call(&c, "POST", vm_path(id, "/resume"), "%s", "") == 200 && !c.res.body.len);
    c.fleet.fails = EINVAL; /* it changed between the look and the deed */
    CHECK(call(&c, "POST", vm_path(id, "/suspend"), "%s", "") == 409);
    CHECK_STR(text_at(&c, "message"), "a sentence from the fleet");
    CHECK(call(&c, "DELETE", vm_path(id, ""), "%s", "") == 200 && !c.res.body.len);
    CHECK(call(&c, "DELETE", vm_path(id, ""), "%s", "") == 200); /* twice is no error */
    CHECK(c.fleet.terminates == 2);
    CHECK(call(&c, "GET", vm_path(id, ""), "%s", "") == 200);
    CHECK_STR(text_at(&c, "state"), "TERMINATED");
    CHECK(json_is_real(json_object_get(c.json, "terminatedAt")));
    CHECK(call(&c, "POST", vm_path(id, "/resume"), "%s", "") == 409);
    static const char *const tails[] = {"/suspend", "/resume"};
    for (size_t i = 0; i < ARRAY_LEN(tails); i++) {
        CHECK(call(&c, "POST", vm_path("microvm-0", tails[i]), "%s", "") == 404);
        CHECK(failed(&c, MISSING, "Unable to find microvmIdentifier microvm-0"));
    }
    CHECK(call(&c, "DELETE", vm_path("microvm-0", ""), "%s", "") == 404);
    CHECK(call(&c, "GET", vm_path("microvm-0", ""), "%s", "") == 404);
    client_close(&c);
}

TEST(lists)
{
    fresh();
    char id[ID_CAP], at[400];
    for (int i = 0; i < 7; i++)
        started(id, "");
    CHECK(call(&c, "POST", VMS, "{'imageIdentifier':'" ARN "hooked'}") == 200);
    CHECK(call(&c, "GET", VMS, "%s", "") == 200 && items(&c) == 8);
    CHECK_STR(text_at(&c, "items.0.imageArn"), ARN "hooked"); /* newest first */
    CHECK_STR(text_at(&c, "items.1.microvmId"), id);
    CHECK(json_object_size(json_array_get(json_object_get(c.json, "items"), 0)) == 5);
    CHECK(call(&c, "GET", VMS "?imageIdentifier=" ARN_URL "box", "%s", "") == 200);
    CHECK(items(&c) == 7);
    CHECK(call(&c, "GET", VMS "?imageVersion=1.0", "%s", "") == 200 && items(&c) == 8);
    CHECK(call(&c, "GET", VMS "?imageVersion=2.0", "%s", "") == 200 && items(&c) == 0);
    CHECK(call(&c, "GET", VMS "?imageVersion=x", "%s", "") == 200 && items(&c) == 0);
    CHECK(call(&c, "GET", VMS "?imageIdentifier=" ARN_URL "none", "%s", "") == 404);
    CHECK(call(&c, "GET", VMS "?imageIdentifier=box", "%s", "") == 400);
    CHECK(call(&c, "GET", VMS "?maxResults=3", "%s", "") == 200 && items(&c) == 3);
    snprintf(at, sizeof at, VMS "?maxResults=3&nextToken=%s", text_at(&c, "nextToken"));
    started(id, ""); /* a new one does not shift the next page */
    CHECK(call(&c, "GET", at, "%s", "") == 200 && items(&c) == 3);
    snprintf(at, sizeof at, VMS "?maxResults=3&nextToken=%s", text_at(&c, "nextToken"));
    CHECK(call(&c, "GET", at, "%s", "") == 200 && items(&c) == 2);
    CHECK_STR(text_at(&c, "nextToken"), "");
    snprintf(at, sizeof at, "%s&imageVersion=1.0", strdupa(at));
    CHECK(call(&c, "GET", at, "%s", "") == 400);
    client_close(&c);
}

TEST(endpoint_tokens)
{
    fresh();
    char id[ID_CAP], want[400];
    started(id, "");
#define PORTS(list) "{'expirationInMinutes':5,'allowedPorts':[" list "]}"
    CHECK(call(&c, "POST", vm_path(id, "/auth-token"),
               PORTS("{'port':8081},{'range':{'startPort':9000,'endPort':9010}},{'port':8080},"
                     "{'port':9005},{'port':9011}")) == 200);
    snprintf(want, sizeof want, "ports %s 8080-8081 9000-9011", id);
    CHECK_STR(text_at(&c, "authToken.X-aws-proxy-auth"), want);
    CHECK(call(&c, "POST", vm_path(id, "/auth-token"),
               PORTS("{'port':1},{'allPorts':{}},{'port':65535}")) == 200);
    snprintf(want, sizeof want, "ports %s 1-65535", id);
    CHECK_STR(text_at(&c, "authToken.X-aws-proxy-auth"), want);
    CHECK(call(&c, "POST", vm_path(id, "/auth-token"),
               PORTS("{'port':1},{'range':{'startPort':9,'endPort':8}}")) == 400);
    CHECK(strstr(text_at(&c, "message"), "'allowedPorts.2.member.range'") != NULL);
    AUTO(buf_free) struct buf b = BUF_INIT;
    for (int i = 0; i < 33; i++)
        buf_printf(&b, "%s{'port':%d}", i ? "," : "", 2 * i + 1);
    CHECK(call(&c, "POST", vm_path(id, "/auth-token"), PORTS("%s"), buf_cstr(&b)) == 400);
    CHECK(call(&c, "POST", vm_path(id, "/auth-token"), "{'expirationInMinutes':61}") == 400);
    CHECK(call(&c, "POST", vm_path("microvm-0", "/auth-token"), PORTS("{'port':1}")) == 404);
    /* asleep: yes; ended: no */
    CHECK(call(&c, "POST", vm_path(id, "/suspend"), "%s", "") == 200);
    CHECK(call(&c, "POST", vm_path(id, "/auth-token"), PORTS("{'port':1}")) == 200);
    CHECK(call(&c, "DELETE", vm_path(id, ""), "%s", "") == 200);
    CHECK(call(&c, "POST", vm_path(id, "/auth-token"), PORTS("{'port':1}")) == 409);
    client_close(&c);
}

TEST(ingress_decides)
{
    fresh();
    char id[ID_CAP];
#define SHELL "{'expirationInMinutes':5}"
    static const struct {
        const char *ingress;
        int http, shell;
    } cases[] = {
        {"'" NC "HTTP_INGRESS'", 200, 400},
        {"'" NC "SHELL_INGRESS'", 400, 200},
        {"'" NC "SHELL_INGRESS','" NC "HTTP_INGRESS'", 200, 200},
        {"'" NC "ALL_INGRESS'", 200, 200},
        {"'" NC "ALL_INGRESS','" NC "HTTP_INGRESS'", 200, 400},
        {"'" NC "NO_INGRESS'", 400, 400},
        {"'" NC "NO_INGRESS','" NC "HTTP_INGRESS'", 400, 400},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char members[500];
        snprintf(members, sizeof members, ",'ingressNetworkConnectors':[%s]", cases[i].ingress);
        started(id, members);
        CHECK(call(&c, "POST", vm_path(id, "/auth-token"), PORTS("{'port':1}")) ==
              cases[i].http);
        CHECK(call(&c, "POST", vm_path(id, "/shell-auth-token"), SHELL) == cases[i].shell);
    }
    started(id, "");
    CHECK(call(&c, "POST", vm_path(id, "/shell-auth-token"), SHELL) == 400);
    CHECK(
        failed(&c, INVALID,
               "Shell access requires SHELL_INGRESS network connector to be configured on the "
               "MicroVM."));
    client_close(&c);
}

struct worker {
    struct client client;
    unsigned failed;
    char same[ID_CAP]; /* what the request that all make was answered with */
};

static void expect(struct worker *w, int got, int want)
{
    w->failed += got != want;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct client *k = &w->client;
    char at[200];
    for (int i = 0; i < 25; i++) {
        expect(w, call(k, "POST", VMS, "{'imageIdentifier':'" ARN "box'}"), 200);
        snprintf(at, sizeof at, VMS "/%s", text_at(k, "microvmId"));
        expect(w, call(k, "GET", at, "%s", ""), 200);
        expect(w, call(k, "GET", VMS "?maxResults=5", "%s", ""), 200);
        expect(w, call(k, "POST", "/2017-03-31/tags/" ARN_URL "box", "{'Tags':{'n':'%d'}}", i),
               204);
        expect(w, call(k, "DELETE", at, "%s", ""), 200);
    }
    expect(w,
           call(k, "POST", VMS, "{'imageIdentifier':'" ARN "box','clientToken':'all of us'}"),
           200);
    snprintf(w->same, sizeof w->same, "%s", text_at(k, "microvmId"));
    return NULL;
}

TEST(many_clients_at_once)
{
    fresh();
    static struct worker w[4];
    pthread_t t[ARRAY_LEN(w)];
    unsigned runs = 0;
    memset(w, 0, sizeof w);
    for (size_t i = 0; i < ARRAY_LEN(w); i++) {
        w[i].client.rights = RIGHTS_ADMIN;
        w[i].client.fleet.store = c.fleet.store;
        w[i].client.api = c.api;
        w[i].client.api.fleet = &w[i].client.fleet;
        CHECK(pthread_create(&t[i], NULL, work, &w[i]) == 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(w); i++) {
        pthread_join(t[i], NULL);
        CHECK(w[i].failed == 0);
        CHECK_STR(w[i].same, w[0].same);
        runs += w[i].client.fleet.runs;
        json_decref(w[i].client.json);
        http_res_free(&w[i].client.res);
    }
    CHECK(runs == 4 * 25 + 1); /* one client token, one microVM */
    client_close(&c);
}

static double cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Bounds with room for the sanitizers; without an index it is a hundred times more. */
TEST(ten_thousand)
{
    fresh();
    struct store_vm vm = {.image = "box", .major = 1, .state = "TERMINATED", .max_seconds = 1};
    double end = (double)time(NULL);
    CHECK(store_begin(c.fleet.store, NULL) == 0);
    for (unsigned i = 0; i < 10000; i++) {
        snprintf(vm.id, sizeof vm.id, "microvm-%u", i);
        snprintf(vm.label, sizeof vm.label, "label-%u", i);
        vm.started_at = vm.terminated_at = end;
        CHECK(store_vm_add(c.fleet.store, &vm, NULL) == 0);
    }
    CHECK(store_commit(c.fleet.store, NULL) == 0);
    double t0 = cpu_ms();
    for (unsigned i = 0; i < 500; i++) {
        char id[ID_CAP];
        snprintf(id, sizeof id, "microvm-%u", i * 19);
        CHECK(call(&c, "GET", vm_path(id, ""), "%s", "") == 200);
    }
    double t1 = cpu_ms();
    for (unsigned i = 0; i < 50; i++)
        CHECK(call(&c, "GET", VMS "?imageIdentifier=" ARN_URL "box", "%s", "") == 200);
    double t2 = cpu_ms();
    char id[ID_CAP];
    for (unsigned i = 0; i < 20; i++)
        started(id, "");
    double t3 = cpu_ms();
    printf("# get %.3f ms, list %.3f ms, run %.3f ms\n", (t1 - t0) / 500, (t2 - t1) / 50,
           (t3 - t2) / 20);
    CHECK((t1 - t0) / 500 < 1.0 && (t2 - t1) / 50 < 5.0 && (t3 - t2) / 20 < 10.0);
    client_close(&c);
}

int main(void)
{
    if (!mkdtemp(dir)) {
        perror(dir);
        return 1;
    }
    snprintf(path, sizeof path, "%s/state.db", dir);
    RUN(run_answers);
    RUN(run_refusals);
    RUN(run_picks_the_newest_active_version);
    RUN(fleet_failures);
    RUN(run_again_with_the_token);
    RUN(life);
    RUN(lists);
    RUN(endpoint_tokens);
    RUN(ingress_decides);
    RUN(many_clients_at_once);
    RUN(ten_thousand);
    store_file_remove(path);
    rmdir(dir);
    return TAP_DONE();
}
