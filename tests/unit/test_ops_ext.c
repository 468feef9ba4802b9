// SPDX-License-Identifier: Apache-2.0
/* The extensions under /dormouse/v1/ against a real store and a fake fleet. */
#include <unistd.h>

#include "../tap.h"
#include "ops_client.h"

static char dir[] = "/tmp/dormouse-test-ext-XXXXXX";
static char path[64], log_path[64];
static struct client c;

#define EXT    "/dormouse/v1"
#define LOG    EXT "/images/box/versions/1.0/log"
#define IMAGES V "/microvm-images"

static void fresh(void)
{
    client_open(&c, path);
    c.fleet.log = log_path;
}

static void write_log(const char *text, size_t len)
{
    FILE *f = fopen(log_path, "w");
    if (!f || fwrite(text, 1, len, f) != len || fclose(f) != 0) {
        printf("Bail out! cannot write %s\n", log_path);
        exit(1);
    }
}

static int get(const char *target)
{
    return call(&c, "GET", target, "%s", "");
}

static bool has_header(const char *line)
{
    const char *all = buf_cstr(&c.res.headers);
    return all && strstr(all, line) != NULL;
}

static bool body_is(const char *text)
{
    const char *body = buf_cstr(&c.res.body);
    return body && strcmp(body, text) == 0;
}

static void create_box(void)
{
    CHECK(call(&c, "POST", IMAGES, "{'name':'box'," CONFIG "}") == 201);
}

static const char *run_box(void)
{
    static char target[200], id[80];
    CHECK(call(&c, "POST", V "/microvms", "{'imageIdentifier':'" ARN "box'}") == 200);
    snprintf(id, sizeof id, "%s", text_at(&c, "microvmId"));
    snprintf(target, sizeof target, EXT "/microvms/%s", id);
    return target;
}

TEST(paths)
{
    fresh();
    CHECK(api_owns_path(EXT "/host") && !api_owns_path("/dormouse/v2/host"));
    CHECK(get(EXT "/nothing") == 404);
    CHECK(call(&c, "POST", EXT "/host", "%s", "") == 404);
    client_close(&c);
}

TEST(build_log)
{
    fresh();
    write_log("one\ntwo\n", 8);
    create_box();
    CHECK(get(LOG) == 200);
    CHECK(body_is("one\ntwo\n"));
    CHECK(has_header("x-dormouse-next-offset: 8\r\n"));
    CHECK(c.res.content_type && strncmp(c.res.content_type, "text/plain", 10) == 0);
    CHECK(get(LOG "?offset=4") == 200 && body_is("two\n"));
    CHECK(has_header("x-dormouse-next-offset: 8\r\n"));
    CHECK(get(LOG "?offset=8") == 200 && c.res.body.len == 0);
    CHECK(has_header("x-dormouse-next-offset: 8\r\n"));
    /* Behind the end: the log was begun anew. */
    CHECK(get(LOG "?offset=9") == 200 && body_is("one\ntwo\n"));
    CHECK(get(LOG "?offset=-1") == 400);
    CHECK(get(LOG "?offset=x") == 400);
    CHECK(!has_header("x-dormouse-next-offset"));
    CHECK(get(EXT "/images/" ARN_URL "box/versions/1.0/log") == 200);
    client_close(&c);
}

TEST(failed_build_log)
{
    fresh();
    write_log("#1 ERROR: no\n", 13);
    c.fleet.build_fails = true;
    create_box();
    struct store_version v;
    struct err e = ERR_INIT;
    CHECK(store_version_get(c.api.store, "box", 1, &v, &e) == 0);
    CHECK_STR(v.state, "FAILED");
    /* The fleet names the files when a build begins; the fake one does not for a failed one. */
    snprintf(v.file_id, sizeof v.file_id, "%s", v.build_id);
    CHECK(store_version_set(c.api.store, &v, NULL, &e) == 0);
    store_version_free(&v);
    CHECK(get(LOG) == 200 && body_is("#1 ERROR: no\n"));
    client_close(&c);
}

TEST(log_not_there)
{
    fresh();
    c.fleet.holds = true;
    create_box();
    CHECK(get(LOG) == 200 && c.res.body.len == 0);
    CHECK(has_header("x-dormouse-next-offset: 0\r\n"));
    c.fleet.holds = false;
    CHECK(get(EXT "/images/box/versions/2.0/log") == 404);
    CHECK(get(EXT "/images/none/versions/1.0/log") == 404);
    CHECK_STR(c.res.error_type, "ResourceNotFoundException");
    CHECK(get(EXT "/images/..%2f..%2fx/versions/1.0/log") == 404);
    CHECK(get(EXT "/images/arn%3Aaws%3Ax/versions/1.0/log") == 400);
    client_close(&c);
}

TEST(long_log)
{
    fresh();
    size_t len = 200000;
    AUTO_FREE char *text = malloc(len);
    if (!CHECK(text != NULL))
        return;
    for (size_t i = 0; i < len; i++)
        text[i] = i % 100 == 99 ? '\n' : 'x';
    write_log(text, len);
    create_box();
    CHECK(get(LOG) == 200);
    CHECK(c.res.body.len == 65500); /* whole lines */
    CHECK(has_header("x-dormouse-log-size: 200000\r\n"));
    CHECK(has_header("x-dormouse-next-offset: 65500\r\n"));
    memset(text, 'y', len); /* no line ends: goes on all the same */
    write_log(text, len);
    CHECK(get(LOG "?offset=65500") == 200);
    CHECK(c.res.body.len == 65536);
    CHECK(has_header("x-dormouse-next-offset: 131036\r\n"));
    client_close(&c);
}

TEST(microvm)
{
    char target[240];
    fresh();
    write_log("hello\n", 6);
    create_box();
    const char *vm = run_box();
    CHECK(get(vm) == 200);
    CHECK_STR(text_at(&c, "state"), "RUNNING");
    CHECK_STR(text_at(&c, "imageArn"), ARN "box");
    CHECK(json_integer_value(json_object_get(c.json, "memoryBytes")) == 4ll << 30);
    CHECK(json_object_get(c.json, "suspendedBytes") == NULL);
    CHECK(json_number_value(json_object_get(c.json, "lastResumeMs")) == 12.5);
    const json_t *phases = json_object_get(c.json, "lastResumePhases");
    CHECK(json_number_value(json_object_get(phases, "loadMs")) == 3.25);
    CHECK(json_is_true(json_object_get(phases, "pooled")));
    CHECK(json_object_get(c.json, "lastStartMs") == NULL);
    snprintf(target, sizeof target, "%s/log", vm);
    CHECK(get(target) == 200 && body_is("hello\n"));
    snprintf(target, sizeof target, V "%s/suspend", vm + strlen(EXT));
    CHECK(call(&c, "POST", target, "%s", "") == 200);
    CHECK(get(vm) == 200);
    CHECK(json_integer_value(json_object_get(c.json, "suspendedBytes")) == 12288);
    CHECK(get(EXT "/microvms/microvm-none") == 404);
    CHECK(get(EXT "/microvms/microvm-none/log") == 404);
    CHECK_STR(c.res.error_type, "ResourceNotFoundException");
    client_close(&c);
}

TEST(log_fails)
{
    fresh();
    create_box();
    c.fleet.fails = EIO;
    CHECK(get(LOG) == 500);
    CHECK(!has_header("x-dormouse-next-offset") && !c.res.content_type);
    client_close(&c);
}

TEST(host)
{
    fresh();
    create_box();
    run_box();
    c.rights = RIGHTS_READ;
    CHECK(get(EXT "/host") == 200);
    CHECK_STR(text_at(&c, "version"), DORMOUSE_VERSION);
    CHECK_STR(text_at(&c, "region"), REGION);
    CHECK(json_integer_value(json_object_get(c.json, "slotsInUse")) == 1);
    CHECK(json_integer_value(json_object_get(c.json, "embryos")) == 3);
    const json_t *vms = json_object_get(c.json, "microvms");
    CHECK(json_integer_value(json_object_get(vms, "RUNNING")) == 1);
    CHECK(json_integer_value(json_object_get(vms, "SUSPENDED")) == 0);
    CHECK(json_object_get(vms, "TERMINATED") == NULL);
    client_close(&c);
}

int main(void)
{
    if (!mkdtemp(dir)) {
        printf("Bail out! cannot make %s\n", dir);
        return 1;
    }
    snprintf(path, sizeof path, "%s/state.db", dir);
    snprintf(log_path, sizeof log_path, "%s/log", dir);
    RUN(paths);
    RUN(build_log);
    RUN(failed_build_log);
    RUN(log_not_there);
    RUN(long_log);
    RUN(microvm);
    RUN(log_fails);
    RUN(host);
    char cmd[100];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd) != 0 ? 1 : TAP_DONE();
}
