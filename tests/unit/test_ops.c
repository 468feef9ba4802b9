// SPDX-License-Identifier: Apache-2.0
/* The operations of images, versions, builds and tags against a real store and a fake fleet. */
#include <unistd.h>

#include "../tap.h"
#include "ops_client.h"

static char dir[] = "/tmp/dormouse-test-ops-XXXXXX";
static char path[64];
static struct client c;

#define IMAGES   V "/microvm-images"
#define BOX      IMAGES "/" ARN_URL "box"
#define INVALID  400, "ValidationException"
#define CONFLICT 409, "ConflictException"
#define MISSING  404, "ResourceNotFoundException"

static void fresh(void)
{
    client_open(&c, path);
}

static int create(const char *name, const char *more)
{
    return call(&c, "POST", IMAGES, "{'name':'%s'," CONFIG "%s}", name, more);
}

TEST(routes)
{
    fresh();
    CHECK(api_owns_path(V "/microvms") && api_owns_path("/2017-03-31/tags/x"));
    CHECK(!api_owns_path("/2015-03-31/functions") && !api_owns_path("/"));
    CHECK(call(&c, "GET", V "/nothing", "%s", "") == 404);
    CHECK_STR(c.res.error_type, "UnknownOperationException");
    CHECK(call(&c, "PATCH", IMAGES, "%s", "") == 404);
    CHECK(call(&c, "GET", V "/microvms/a/b", "%s", "") == 404);
    CHECK(call(&c, "GET", V "/microvms/%zz", "%s", "") == 400);
    CHECK(call(&c, "GET", V "/microvms/%00", "%s", "") == 400);
    CHECK(call(&c, "GET", V "/microvms/%ff", "%s", "") == 400);
    CHECK(call(&c, "GET", V "/microvms/", "%s", "") == 400);
    CHECK(call(&c, "GET", V "/microvms?maxResults=%", "%s", "") == 400);
    CHECK(call(&c, "POST", V "/microvms", "%s", "{") == 400);
    client_close(&c);
}

TEST(rights)
{
    fresh();
    c.rights = RIGHTS_READ;
    CHECK(call(&c, "GET", IMAGES, "%s", "") == 200);
    CHECK(create("box", "") == 403);
    CHECK(failed(&c, 403, "AccessDeniedException",
                 "User is not authorized to perform: lambda:CreateMicrovmImage"));
    CHECK(call(&c, "POST", V "/microvms", "%s", "{}") == 403);
    CHECK(call(&c, "POST", V "/microvms/x/auth-token", "%s", "{}") == 403);
    c.rights = RIGHTS_RUN;
    CHECK(call(&c, "POST", V "/microvms", "%s", "{}") == 400);
    CHECK(call(&c, "DELETE", BOX, "%s", "") == 403);
    CHECK(call(&c, "POST", "/2017-03-31/tags/x", "%s", "{}") == 403);
    client_close(&c);
}

TEST(create_answers)
{
    fresh();
    c.fleet.holds = true;
    CHECK(create("box", ",'description':'d','tags':{'k':'v'},'hooks':{'port':9000}") == 201);
    CHECK_STR(text_at(&c, "imageArn"), ARN "box");
    CHECK_STR(text_at(&c, "name"), "box");
    CHECK_STR(text_at(&c, "state"), "CREATING");
    CHECK_STR(text_at(&c, "imageVersion"), "1.0");
    CHECK_STR(text_at(&c, "baseImageVersion"), "1.0");
    CHECK_STR(text_at(&c, "description"), "d");
    CHECK_STR(text_at(&c, "tags.k"), "v");
    CHECK_STR(text_at(&c, "codeArtifact.uri"), "s3://b/k.zip");
    CHECK(json_is_number(json_object_get(c.json, "createdAt")));
    CHECK(json_object_get(c.json, "latestActiveImageVersion") == NULL);
    CHECK(c.fleet.builds == 1);
    CHECK(call(&c, "GET", BOX "/versions/1.0", "%s", "") == 200);
    CHECK_STR(text_at(&c, "state"), "PENDING");
    CHECK_STR(text_at(&c, "status"), "INACTIVE");
    CHECK(json_integer_value(json_object_get(json_object_get(c.json, "hooks"), "port")) ==
          9000);
    client_close(&c);
}

TEST(create_refusals)
{
    fresh();
    CHECK(create("box", "") == 201);
    CHECK(create("box", "") == 400);
    CHECK(failed(&c, INVALID, "MicroVM Image with name box already exists"));
    static const struct {
        const char *body, *message;
    } bad[] = {
        {"'baseImageArn':'al2023-1','buildRoleArn':'" ROLE
         "','codeArtifact':{'uri':'s3://b/k'}",
         "Malformed ARN - doesn't start with 'arn:'"},
        {"'baseImageArn':'" ARN "x','buildRoleArn':'" ROLE
         "','codeArtifact':{'uri':'s3://b/k'}",
         "No managed MicroVM Image with arn " ARN "x is available"},
        {CONFIG ",'baseImageVersion':'999'",
         "No managed MicroVM Image with arn " BASE " and version 999 is available"},
        {"'baseImageArn':'" BASE "','buildRoleArn':'" ROLE "','codeArtifact':{'uri':'b/k'}",
         "The code artifact uri must have the form s3://bucket/key: b/k"},
        {"'baseImageArn':'" BASE "','buildRoleArn':'" ROLE "','codeArtifact':{'uri':'s3://b/'}",
         "The code artifact uri must have the form s3://bucket/key: s3://b/"},
        {CONFIG ",'environmentVariables':{'AWS_REGION':'x'}",
         "Environment variable key 'AWS_REGION' is reserved"},
        {CONFIG ",'environmentVariables':{'A=B':'x'}",
         "Environment variable key 'A=B' must not contain '='"},
        {CONFIG ",'resources':[{'minimumMemoryInMiB':300}]",
         "Memory size 300 MiB is not supported by base image " BASE
         ". Supported memory sizes in MiB are: [512, 1024, 2048, 4096, 8192]"},
        {CONFIG ",'resources':[{'minimumMemoryInMiB':0}]",
         "Memory size 0 MiB is not supported by base image " BASE
         ". Supported memory sizes in MiB are: [512, 1024, 2048, 4096, 8192]"},
        {CONFIG ",'hooks':{'microvmHooks':{'run':'ENABLED'}}",
         "The ready image hook must be enabled when any lifecycle hook is enabled"},
        {CONFIG ",'tags':{'aws:x':'1'}",
         "Tag key 'aws:x' is reserved: keys must not begin with 'aws:'"},
        {CONFIG ",'egressNetworkConnectors':['INTERNET_EGRESS']",
         "Malformed network connector ARN"},
        {CONFIG ",'egressNetworkConnectors':['" NC "HTTP_INGRESS']",
         "Network connector " NC "HTTP_INGRESS cannot be used for egress"},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK(call(&c, "POST", IMAGES, "{'name':'other',%s}", bad[i].body) == 400);
        CHECK(failed(&c, INVALID, bad[i].message));
    }
    CHECK(call(&c, "GET", IMAGES "/" ARN_URL "other", "%s", "") == 404); /* nothing is left */
    CHECK(create("ok", ",'egressNetworkConnectors':['" NC "INTERNET_EGRESS'],"
                       "'hooks':{'microvmHooks':{'run':'ENABLED'},"
                       "'microvmImageHooks':{'ready':'ENABLED'}}") == 201);
    client_close(&c);
}

TEST(a_build_that_cannot_start_leaves_nothing)
{
    fresh();
    c.fleet.fails = ENOSPC;
    CHECK(create("box", ",'clientToken':'t1'") == 500);
    CHECK_STR(c.res.error_type, "InsufficientCapacityException");
    CHECK(strstr(text_at(&c, "message"), "a sentence") == NULL);
    CHECK(call(&c, "GET", BOX, "%s", "") == 404);
    CHECK(create("box", ",'clientToken':'t1'") == 201); /* name and token are free again */
    c.fleet.fails = EIO;
    CHECK(call(&c, "PUT", BOX, "{" CONFIG "}") == 500);
    CHECK_STR(c.res.error_type, "InternalServerException");
    CHECK(c.res.retry_after > 0);
    CHECK(call(&c, "GET", BOX, "%s", "") == 200);
    CHECK_STR(text_at(&c, "state"), "CREATED");
    CHECK(call(&c, "GET", BOX "/versions", "%s", "") == 200 && items(&c) == 1);
    CHECK(call(&c, "PUT", BOX, "{" CONFIG "}") == 200);
    CHECK_STR(text_at(&c, "imageVersion"), "3.0"); /* 2.0 was given away */
    client_close(&c);
}

TEST(client_tokens)
{
    fresh();
    CHECK(create("box", ",'clientToken':'t1'") == 201);
    CHECK(create("box", ",'clientToken':'t1'") == 201);
    CHECK_STR(text_at(&c, "imageVersion"), "1.0");
    CHECK(c.fleet.builds == 1);
    CHECK(create("box", ",'clientToken':'t1','description':'x'") == 409);
    CHECK(failed(&c, CONFLICT, "The clientToken was used before with other parameters"));
    CHECK(create("box", ",'clientToken':'t2'") == 400);
    CHECK(call(&c, "PUT", BOX, "{" CONFIG ",'clientToken':'t1'}") == 200); /* other operation */
    CHECK_STR(text_at(&c, "imageVersion"), "2.0");
    CHECK(call(&c, "PUT", BOX, "{" CONFIG ",'clientToken':'t1'}") == 200);
    CHECK_STR(text_at(&c, "imageVersion"), "2.0");
    CHECK(c.fleet.builds == 2);
    /* forgotten with the version */
    CHECK(call(&c, "DELETE", BOX "/versions/2.0", "%s", "") == 200);
    CHECK(call(&c, "PUT", BOX, "{" CONFIG ",'clientToken':'t1'}") == 200);
    CHECK_STR(text_at(&c, "imageVersion"), "3.0");
    CHECK(c.fleet.builds == 3);
    /* and with the image */
    CHECK(call(&c, "DELETE", BOX, "%s", "") == 200);
    CHECK(create("box", ",'clientToken':'t1'") == 201);
    CHECK(c.fleet.builds == 4);
    /* and with time */
    CHECK(store_client_token_drop(c.fleet.store, NULL, 1e12, NULL) == 0);
    struct store_client_token t = {.operation = "CreateMicrovmImage",
                                   .token = "old",
                                   .resource = "box",
                                   .request_hash = "x",
                                   .created_at = 1},
                              old;
    CHECK(store_client_token_add(c.fleet.store, &t, &old, NULL) == 0);
    CHECK(create("two", ",'clientToken':'old'") == 201);
    client_close(&c);
}

TEST(identifiers)
{
    fresh();
    CHECK(create("box", "") == 201);
    CHECK(call(&c, "GET", BOX, "%s", "") == 200);
    CHECK(call(&c, "GET", IMAGES "/box", "%s", "") == 400);
    CHECK(failed(&c, INVALID, "Invalid ARN format: box"));
    CHECK(call(&c, "GET", IMAGES "/" ARN_URL "none", "%s", "") == 404);
    CHECK(failed(&c, MISSING, "MicroVMImage not found for MicroVMImageID: " ARN "none"));
    CHECK_STR(text_at(&c, "resourceType"), "microvm-image");
    CHECK_STR(text_at(&c, "resourceId"), ARN "none");
    CHECK(call(&c, "GET", IMAGES "/arn%3Aaws%3Alambda%3Aeu-west-1%3A1%3Amicrovm-image%3Ax",
               "%s", "") == 403);
    CHECK(call(&c, "GET",
               IMAGES "/arn%3Aaws%3Alambda%3Aeu-west-1%3A" ACCOUNT "%3Amicrovm-image%2Fbox",
               "%s", "") == 403);
    CHECK(call(&c, "GET",
               IMAGES "/arn%3Aaws%3Alambda%3Aeu-west-1%3Aaws%3Amicrovm-image%3A"
                      "al2023-1",
               "%s", "") == 404);
    client_close(&c);
}

TEST(update_is_full_replacement)
{
    fresh();
    CHECK(create("box", ",'description':'d','environmentVariables':{'A':'1'}") == 201);
    CHECK(call(&c, "PUT", BOX, "{" CONFIG ",'resources':[{'minimumMemoryInMiB':512}]}") == 200);
    CHECK_STR(text_at(&c, "imageVersion"), "2.0");
    CHECK_STR(text_at(&c, "state"), "UPDATED"); /* the fake fleet builds at once */
    CHECK(json_object_get(c.json, "tags") == NULL);
    CHECK(json_object_get(c.json, "description") == NULL);
    CHECK(call(&c, "GET", BOX, "%s", "") == 200);
    CHECK_STR(text_at(&c, "latestActiveImageVersion"), "2.0");
    CHECK(call(&c, "GET", BOX "/versions", "%s", "") == 200 && items(&c) == 2);
    CHECK_STR(text_at(&c, "items.0.imageVersion"), "2.0");
    CHECK_STR(text_at(&c, "items.1.description"), "d");
    CHECK(json_object_get(json_array_get(json_object_get(c.json, "items"), 0),
                          "environmentVariables") == NULL);
    c.fleet.holds = true;
    CHECK(call(&c, "PUT", BOX, "{" CONFIG "}") == 200);
    CHECK_STR(text_at(&c, "state"), "UPDATING");
    CHECK(call(&c, "PUT", BOX, "{" CONFIG "}") == 409);
    CHECK(failed(&c, CONFLICT, "MicroVM Image is already in state: UPDATING"));
    CHECK(call(&c, "DELETE", BOX, "%s", "") == 409);
    CHECK(call(&c, "DELETE", BOX "/versions/1.0", "%s", "") == 409);
    CHECK(call(&c, "PATCH", BOX "/versions/1.0", "{'status':'INACTIVE'}") == 409);
    client_close(&c);
}

TEST(failed_builds_say_why)
{
    fresh();
    c.fleet.build_fails = true;
    CHECK(create("box", "") == 201);
    CHECK(call(&c, "GET", BOX, "%s", "") == 200);
    CHECK_STR(text_at(&c, "state"), "CREATE_FAILED");
    CHECK_STR(text_at(&c, "stateReason"), "The container image build failed.");
    CHECK_STR(text_at(&c, "latestFailedImageVersion"), "1.0");
    CHECK(call(&c, "GET", BOX "/versions/1", "%s", "") == 200);
    CHECK_STR(text_at(&c, "stateReason"), "The container image build failed.");
    CHECK(call(&c, "PATCH", BOX "/versions/1.0", "{'status':'ACTIVE'}") == 409);
    CHECK(call(&c, "GET", BOX "/versions/1.0/builds", "%s", "") == 200 && items(&c) == 1);
    CHECK_STR(text_at(&c, "items.0.buildState"), "FAILED");
    CHECK_STR(text_at(&c, "items.0.stateReason"), "The container image build failed.");
    CHECK_STR(text_at(&c, "items.0.architecture"), "ARM_64");
    CHECK_STR(text_at(&c, "items.0.chipset"), "GRAVITON");
    CHECK_STR(text_at(&c, "items.0.chipsetGeneration"), "3");
    char target[400];
    snprintf(target, sizeof target, "%s%s", BOX "/versions/1.0/builds/",
             text_at(&c, "items.0.buildId"));
    CHECK(call(&c, "GET", target, "%s", "") == 200);
    CHECK(json_object_get(c.json, "snapshotBuild") == NULL);
    CHECK(call(&c, "GET", BOX "/versions/1.0/builds?chipsetGeneration=4", "%s", "") == 200);
    CHECK(items(&c) == 0);
    CHECK(call(&c, "GET", BOX "/versions/1.0/builds?architecture=X86_64", "%s", "") == 200);
    CHECK(items(&c) == 0);
    CHECK(call(&c, "GET", BOX "/versions/1.0/builds?chipset=INTEL", "%s", "") == 200);
    CHECK(items(&c) == 0);
    CHECK(call(&c, "GET", BOX "/versions/1.0/builds?architecture=Z80", "%s", "") == 400);
    CHECK(call(&c, "GET", BOX "/versions/1.0/builds/none", "%s", "") == 404);
    c.fleet.build_fails = false;
    CHECK(call(&c, "PUT", BOX, "{" CONFIG "}") == 200);
    CHECK(call(&c, "GET", BOX "/versions/2.0/builds", "%s", "") == 200);
    snprintf(target, sizeof target, "%s%s", BOX "/versions/2.0/builds/",
             text_at(&c, "items.0.buildId"));
    CHECK(call(&c, "GET", target, "%s", "") == 200);
    const json_t *sizes = json_object_get(c.json, "snapshotBuild");
    CHECK(json_integer_value(json_object_get(sizes, "memorySnapshotSizeInBytes")) == 1000);
    CHECK(json_object_get(sizes, "codeInstallSizeInBytes") == NULL);
    client_close(&c);
}

TEST(activity)
{
    fresh();
    CHECK(create("box", "") == 201);
    CHECK(call(&c, "PUT", BOX, "{" CONFIG "}") == 200);
    CHECK(call(&c, "PATCH", BOX "/versions/2.0", "{'status':'INACTIVE'}") == 200);
    CHECK_STR(text_at(&c, "status"), "INACTIVE");
    CHECK_STR(text_at(&c, "state"), "SUCCESSFUL");
    CHECK(call(&c, "GET", BOX, "%s", "") == 200);
    CHECK_STR(text_at(&c, "latestActiveImageVersion"), "1.0");
    CHECK(call(&c, "PATCH", BOX "/versions/1.0", "{'status':'INACTIVE'}") == 200);
    CHECK(call(&c, "GET", BOX, "%s", "") == 200);
    CHECK_STR(text_at(&c, "latestActiveImageVersion"), "");
    CHECK(call(&c, "PATCH", BOX "/versions/2.0", "{'status':'ACTIVE'}") == 200);
    CHECK(call(&c, "PATCH", BOX "/versions/2.0", "{'status':'ACTIVE'}") == 200);
    CHECK(call(&c, "GET", BOX, "%s", "") == 200);
    CHECK_STR(text_at(&c, "latestActiveImageVersion"), "2.0");
    CHECK(call(&c, "PATCH", BOX "/versions/2.0", "{'status':'OTHER'}") == 400);
    CHECK(call(&c, "PATCH", BOX "/versions/7.0", "{'status':'ACTIVE'}") == 404);
    client_close(&c);
}

TEST(deletes)
{
    fresh();
    c.fleet.holds = true;
    CHECK(create("box", "") == 201);
    CHECK(call(&c, "DELETE", BOX, "%s", "") == 400);
    CHECK(failed(&c, INVALID, "Cannot delete MicroVM image in its current state"));
    client_close(&c);
    fresh();
    CHECK(create("box", "") == 201);
    CHECK(call(&c, "DELETE", BOX "/versions/1.0", "%s", "") == 400);
    CHECK(failed(&c, INVALID, "This is the last version. Please delete the entire image"));
    CHECK(call(&c, "PUT", BOX, "{" CONFIG "}") == 200);
    CHECK(call(&c, "DELETE", BOX "/versions/2.0", "%s", "") == 200);
    CHECK_STR(text_at(&c, "state"), "DELETED");
    CHECK_STR(text_at(&c, "imageVersion"), "2.0");
    CHECK_STR(text_at(&c, "imageIdentifier"), ARN "box");
    CHECK(c.fleet.forgotten == 1);
    CHECK(call(&c, "DELETE", BOX "/versions/2.0", "%s", "") == 200); /* twice is no error */
    CHECK(call(&c, "DELETE", BOX "/versions/3.0", "%s", "") == 404); /* never was */
    CHECK(call(&c, "GET", BOX, "%s", "") == 200);
    CHECK_STR(text_at(&c, "latestActiveImageVersion"), "1.0");
    CHECK(call(&c, "GET", BOX "/versions/2.0", "%s", "") == 404);
    CHECK(failed(&c, MISSING,
                 "MicroVMImage version not found for MicroVMImageID: " ARN
                 "box and version: 2.0"));
    /* in use */
    CHECK(call(&c, "POST", V "/microvms", "{'imageIdentifier':'" ARN "box'}") == 200);
    char vm[200];
    snprintf(vm, sizeof vm, V "/microvms/%s", text_at(&c, "microvmId"));
    CHECK(call(&c, "DELETE", BOX, "%s", "") == 409);
    CHECK(failed(&c, CONFLICT,
                 "1 MicroVM(s) of this image are not terminated; terminate them first"));
    CHECK(call(&c, "DELETE", vm, "%s", "") == 200);
    CHECK(call(&c, "DELETE", BOX, "%s", "") == 200);
    CHECK_STR(text_at(&c, "state"), "DELETED");
    CHECK(c.fleet.forgotten == 2);
    CHECK(call(&c, "DELETE", BOX, "%s", "") == 200);
    CHECK(call(&c, "GET", BOX, "%s", "") == 404);
    CHECK(call(&c, "DELETE", IMAGES "/" ARN_URL "never", "%s", "") == 404);
    CHECK(call(&c, "GET", vm, "%s", "") == 200); /* terminated ones are still there */
    client_close(&c);
}

TEST(quotas)
{
    fresh();
    c.api.max_images = 1;
    c.api.max_versions = 2;
    CHECK(create("box", "") == 201);
    CHECK(create("two", "") == 402);
    CHECK_STR(c.res.error_type, "ServiceQuotaExceededException");
    CHECK_STR(text_at(&c, "quotaCode"), "L-942E56BE");
    CHECK_STR(text_at(&c, "serviceCode"), "lambda");
    CHECK(call(&c, "PUT", BOX, "{" CONFIG "}") == 200);
    CHECK(call(&c, "PUT", BOX, "{" CONFIG "}") == 402);
    CHECK_STR(text_at(&c, "quotaCode"), "L-F8BECE9C");
    client_close(&c);
}

/* Walks through all pages; returns the number of items, 0 when something is wrong. */
static size_t walk(const char *target, unsigned page)
{
    char at[1000];
    size_t n = 0;
    snprintf(at, sizeof at, "%s%smaxResults=%u", target, strchr(target, '?') ? "&" : "?", page);
    for (int i = 0; i < 200; i++) {
        if (call(&c, "GET", at, "%s", "") != 200 || items(&c) > page)
            return 0;
        n += items(&c);
        const char *next = text_at(&c, "nextToken");
        if (!*next)
            return n;
        snprintf(at, sizeof at, "%s%smaxResults=%u&nextToken=%s", target,
                 strchr(target, '?') ? "&" : "?", page, next);
    }
    return 0;
}

TEST(pages)
{
    fresh();
    for (int i = 0; i < 60; i++) {
        char name[24];
        snprintf(name, sizeof name, "%s-%02d", i % 2 ? "odd" : "even", i);
        CHECK(create(name, "") == 201);
    }
    CHECK(call(&c, "GET", IMAGES, "%s", "") == 200 && items(&c) == 50);
    CHECK(walk(IMAGES, 50) == 60 && walk(IMAGES, 7) == 60 && walk(IMAGES, 60) == 0);
    CHECK(walk(IMAGES, 30) == 60 && walk(IMAGES, 1) == 60);
    CHECK(walk(IMAGES "?nameFilter=odd", 7) == 30);
    CHECK(call(&c, "GET", IMAGES "?nameFilter=zzz", "%s", "") == 200 && items(&c) == 0);
    CHECK(call(&c, "GET", IMAGES "?maxResults=0", "%s", "") == 400);
    CHECK(failed(&c, INVALID,
                 "1 validation error detected: Value at 'maxResults' failed to satisfy "
                 "constraint: Member must have value greater than or equal to 1"));
    CHECK(call(&c, "GET", IMAGES "?maxResults=51", "%s", "") == 400);
    CHECK(call(&c, "GET", IMAGES "?maxResults=-1", "%s", "") == 400);
    CHECK(call(&c, "GET", IMAGES "?maxResults=ten", "%s", "") == 400);
    CHECK(call(&c, "GET", IMAGES "?nextToken=abc", "%s", "") == 400);
    CHECK(failed(&c, INVALID, "The nextToken is not one that this request has returned"));
    /* A token is good for its own question only, and rows that go do not shift the pages. */
    char at[400];
    CHECK(call(&c, "GET", IMAGES "?maxResults=1", "%s", "") == 200);
    CHECK_STR(text_at(&c, "items.0.name"), "even-00");
    snprintf(at, sizeof at, IMAGES "?maxResults=1&nextToken=%s", text_at(&c, "nextToken"));
    CHECK(call(&c, "DELETE", IMAGES "/" ARN_URL "even-00", "%s", "") == 200);
    CHECK(call(&c, "GET", at, "%s", "") == 200);
    CHECK_STR(text_at(&c, "items.0.name"), "even-02");
    strcat(at, "&nameFilter=even");
    CHECK(call(&c, "GET", at, "%s", "") == 400);
    for (int i = 0; i < 5; i++)
        CHECK(call(&c, "PUT", IMAGES "/" ARN_URL "odd-01", "{" CONFIG "}") == 200);
    CHECK(walk(IMAGES "/" ARN_URL "odd-01/versions", 4) == 6);
    client_close(&c);
}

TEST(managed)
{
    fresh();
    CHECK(call(&c, "GET", V "/managed-microvm-images", "%s", "") == 200 && items(&c) == 3);
    CHECK_STR(text_at(&c, "items.0.imageArn"), BASE);
    CHECK(walk(V "/managed-microvm-images", 1) == 3 &&
          walk(V "/managed-microvm-images", 2) == 3);
#define M V "/managed-microvm-images/arn%3Aaws%3Alambda%3A" REGION "%3Aaws%3Amicrovm-image%3A"
    CHECK(call(&c, "GET", M "al2023-1/versions", "%s", "") == 200 && items(&c) == 1);
    CHECK_STR(text_at(&c, "items.0.imageVersion"), "1");
    CHECK_STR(text_at(&c, "items.0.status"), "AVAILABLE");
    CHECK(call(&c, "GET", M "none/versions", "%s", "") == 404);
    CHECK(call(&c, "GET", V "/managed-microvm-images/al2023-1/versions", "%s", "") == 400);
    client_close(&c);
}

TEST(tags)
{
    fresh();
#define TAGS "/2017-03-31/tags/" ARN_URL
    CHECK(create("box", ",'tags':{'a':'1'}") == 201);
    CHECK(call(&c, "GET", TAGS "box", "%s", "") == 200);
    CHECK_STR(text_at(&c, "Tags.a"), "1");
    CHECK(call(&c, "POST", TAGS "box", "{'Tags':{'b':'2','a':'3'}}") == 204);
    CHECK(c.res.body.len == 0);
    CHECK(call(&c, "DELETE", TAGS "box?tagKeys=b&tagKeys=none", "%s", "") == 204);
    CHECK(call(&c, "GET", TAGS "box", "%s", "") == 200);
    CHECK_STR(text_at(&c, "Tags.a"), "3");
    CHECK_STR(text_at(&c, "Tags.b"), "");
    CHECK(call(&c, "GET", BOX, "%s", "") == 200);
    CHECK_STR(text_at(&c, "tags.a"), "3");
    CHECK(call(&c, "DELETE", TAGS "box", "%s", "") == 400);
    CHECK(failed(&c, 400, "InvalidParameterValueException",
                 "1 validation error detected: Value null at 'TagKeys' failed to satisfy "
                 "constraint: Member must not be null"));
    CHECK_STR(text_at(&c, "Type"), "User");
    CHECK(call(&c, "POST", TAGS "box", "{'Tags':{'aws:x':'2'}}") == 400);
    CHECK(call(&c, "GET", TAGS "none", "%s", "") == 404);
    CHECK_STR(c.res.error_type, "ResourceNotFoundException");
    CHECK_STR(text_at(&c, "Type"), "User");
    CHECK(call(&c, "GET", "/2017-03-31/tags/arn%3Aaws%3Alambda%3Ar%3A1%3Afunction%3Af", "%s",
               "") == 400);
    CHECK(call(&c, "GET", "/2017-03-31/tags/box", "%s", "") == 400);
    AUTO(buf_free) struct buf b = BUF_INIT;
    for (int i = 0; i < 49; i++)
        buf_printf(&b, "%s'k%d':''", i ? "," : "", i);
    CHECK(call(&c, "POST", TAGS "box", "{'Tags':{%s}}", buf_cstr(&b)) == 204);
    CHECK(call(&c, "POST", TAGS "box", "{'Tags':{'one':'more'}}") == 400);
    CHECK(failed(&c, 400, "InvalidParameterValueException",
                 "A resource can have at most 50 tags"));
    client_close(&c);
}

TEST(connectors)
{
    fresh();
#define CORE "/2026-04-04/network-connectors"
    CHECK(call(&c, "GET", CORE, "%s", "") == 200);
    CHECK(json_array_size(json_object_get(c.json, "NetworkConnectors")) == 5);
    CHECK(call(&c, "GET", CORE "?MaxItems=2", "%s", "") == 200);
    CHECK_STR(text_at(&c, "NextMarker"), "2");
    CHECK(call(&c, "GET", CORE "?Marker=4", "%s", "") == 200);
    CHECK(json_array_size(json_object_get(c.json, "NetworkConnectors")) == 1);
    CHECK(call(&c, "GET", CORE "?Marker=x", "%s", "") == 400);
    CHECK(call(&c, "GET", CORE "?State=FAILED", "%s", "") == 200);
    CHECK(json_array_size(json_object_get(c.json, "NetworkConnectors")) == 0);
    CHECK(call(&c, "GET", CORE "/HTTP_INGRESS", "%s", "") == 200);
    CHECK_STR(text_at(&c, "Arn"), NC "HTTP_INGRESS");
    CHECK_STR(text_at(&c, "State"), "ACTIVE");
    CHECK(call(&c, "GET", CORE "/none", "%s", "") == 404);
    CHECK(call(&c, "POST", CORE, "{'Name':'x'}") == 400);
    CHECK(strstr(text_at(&c, "message"), "not offered") != NULL);
    client_close(&c);
}

int main(void)
{
    if (!mkdtemp(dir)) {
        perror(dir);
        return 1;
    }
    snprintf(path, sizeof path, "%s/state.db", dir);
    RUN(routes);
    RUN(rights);
    RUN(create_answers);
    RUN(create_refusals);
    RUN(a_build_that_cannot_start_leaves_nothing);
    RUN(client_tokens);
    RUN(identifiers);
    RUN(update_is_full_replacement);
    RUN(failed_builds_say_why);
    RUN(activity);
    RUN(deletes);
    RUN(quotas);
    RUN(pages);
    RUN(managed);
    RUN(tags);
    RUN(connectors);
    fresh();
    client_close(&c);
    store_file_remove(path);
    rmdir(dir);
    return TAP_DONE();
}
