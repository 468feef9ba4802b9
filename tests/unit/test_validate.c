// SPDX-License-Identifier: Apache-2.0
/* Every constraint at its edges, with the service's wording; reading and writing of bodies. */
#include <stdlib.h>

#include "../../api/config_json.h"
#include "../../api/validate.h"
#include "../../hypervisor/base/mem.h"
#include "../tap.h"

/* The fault text of a JSON text against an input, "" when it is valid. */
static const char *faults(enum shape_id id, const char *json)
{
    static struct buf text; /* only this test's own result, until the next call */
    buf_reset(&text);
    json_t *v = json_read(json, strlen(json), &text);
    if (v)
        validate(shape_of(id), v, &text);
    json_decref(v);
    return buf_cstr(&text);
}

/* A text of n characters 'x' as a JSON string. */
static const char *chars(size_t n)
{
    static char s[20000];
    s[0] = '"';
    memset(s + 1, 'x', n);
    memcpy(s + 1 + n, "\"", 2);
    return s;
}

static const char *one(enum shape_id id, const char *fmt, const char *value)
{
    static char json[24000];
    snprintf(json, sizeof json, "{");
    for (size_t n = 1; *fmt && n < sizeof json - 1; fmt++) {
        if (*fmt != '@')
            n += (size_t)snprintf(json + n, sizeof json - n, "%c", *fmt == '\'' ? '"' : *fmt);
        else
            n += (size_t)snprintf(json + n, sizeof json - n, "%s", value);
        if (!fmt[1])
            snprintf(json + n, sizeof json - n, "}");
    }
    return faults(id, json);
}

#define ONE(what) "1 validation error detected: Value at '" what
#define FAILED    " failed to satisfy constraint: "
#define MOST(n)   "Member must have length less than or equal to " #n
#define LEAST(n)  "Member must have length greater than or equal to " #n
#define ROLE      "arn:aws:iam::123456789012:role/build"
#define CREATE                                                               \
    "'name':'box','baseImageArn':'arn:x','codeArtifact':{'uri':'s3://b/k'}," \
    "'buildRoleArn':'" ROLE "'"

static const char *run_with(const char *members, const char *value)
{
    static char fmt[1024];
    snprintf(fmt, sizeof fmt, "'imageIdentifier':'arn:x',%s", members);
    return one(SHAPE_in_RunMicrovm, fmt, value);
}

static const char *create_with(const char *members, const char *value)
{
    static char fmt[1024];
    snprintf(fmt, sizeof fmt, CREATE ",%s", members);
    return one(SHAPE_in_CreateMicrovmImage, fmt, value);
}

TEST(payload)
{
    CHECK_STR(run_with("'runHookPayload':@", chars(16384)), "");
    CHECK_STR(run_with("'runHookPayload':@", chars(0)), "");
    CHECK_STR(run_with("'runHookPayload':@", chars(16385)),
              ONE("runHookPayload'") FAILED MOST(16384));
    /* characters, not bytes */
    char wide[2 * 16384 + 3] = "\"";
    for (size_t i = 0; i < 16384; i++)
        memcpy(wide + 1 + 2 * i, "\xc3\xa9", 2);
    memcpy(wide + 1 + 2 * 16384, "\"", 2);
    static char json[40000];
    snprintf(json, sizeof json, "{\"imageIdentifier\":\"arn:x\",\"runHookPayload\":%s}", wide);
    CHECK_STR(faults(SHAPE_in_RunMicrovm, json), "");
    CHECK_STR(run_with("'runHookPayload':@", "7"),
              ONE("runHookPayload'") FAILED "Member must be a string");
}

TEST(idle_policy)
{
    CHECK_STR(run_with("'idlePolicy':{'maxIdleDurationSeconds':60,"
                       "'suspendedDurationSeconds':0,'autoResumeEnabled':false}",
                       ""),
              "");
    CHECK_STR(run_with("'idlePolicy':{'maxIdleDurationSeconds':60,"
                       "'suspendedDurationSeconds':0}",
                       ""),
              "1 validation error detected: Value null at 'idlePolicy.autoResumeEnabled' "
              "failed to satisfy constraint: Member must not be null");
    CHECK_STR(run_with("'idlePolicy':{'maxIdleDurationSeconds':59,"
                       "'suspendedDurationSeconds':-1,'autoResumeEnabled':true}",
                       ""),
              "2 validation errors detected: Value at 'idlePolicy.maxIdleDurationSeconds' "
              "failed to satisfy constraint: Member must have value greater than or equal to "
              "60; Value at 'idlePolicy.suspendedDurationSeconds' failed to satisfy "
              "constraint: Member must have value greater than or equal to 0");
    CHECK_STR(run_with("'idlePolicy':{'maxIdleDurationSeconds':28801,"
                       "'suspendedDurationSeconds':0,'autoResumeEnabled':1}",
                       ""),
              "2 validation errors detected: Value at 'idlePolicy.maxIdleDurationSeconds' "
              "failed to satisfy constraint: Member must have value less than or equal to "
              "28800; Value at 'idlePolicy.autoResumeEnabled' failed to satisfy constraint: "
              "Member must be a boolean");
    CHECK_STR(run_with("'idlePolicy':[]", ""),
              ONE("idlePolicy'") FAILED "Member must be an object");
}

TEST(required_members)
{
    CHECK_STR(faults(SHAPE_in_RunMicrovm, ""),
              "1 validation error detected: Value null at 'imageIdentifier' failed to satisfy "
              "constraint: Member must not be null");
    CHECK_STR(faults(SHAPE_in_RunMicrovm, "{\"imageIdentifier\":null,\"new\":[1,{}]}"),
              "1 validation error detected: Value null at 'imageIdentifier' failed to satisfy "
              "constraint: Member must not be null");
    CHECK(strncmp(faults(SHAPE_in_CreateMicrovmImage, "{}"),
                  "4 validation errors detected: ", 30) == 0);
}

TEST(run_members)
{
    CHECK_STR(one(SHAPE_in_RunMicrovm, "'imageIdentifier':@", chars(257)),
              ONE("imageIdentifier'") FAILED MOST(256));
    CHECK_STR(run_with("'maximumDurationInSeconds':@", "0"),
              ONE("maximumDurationInSeconds'") FAILED
              "Member must have value greater than or equal to 1");
    CHECK_STR(run_with("'maximumDurationInSeconds':@", "1.5"),
              ONE("maximumDurationInSeconds'") FAILED "Member must be an integer");
    CHECK_STR(run_with("'clientToken':@", chars(128)), "");
    CHECK_STR(run_with("'clientToken':@", chars(129)), ONE("clientToken'") FAILED MOST(128));
    CHECK_STR(run_with("'clientToken':''", ""), ONE("clientToken'") FAILED LEAST(1));
    CHECK_STR(run_with("'imageVersion':'1 0'", ""), ONE("imageVersion'") FAILED
              "Member must satisfy regular expression pattern: [^\\s]+");
    CHECK_STR(run_with("'egressNetworkConnectors':[1,2]", ""),
              ONE("egressNetworkConnectors'") FAILED
              "Member must satisfy constraint: [Member must be a string]");
    CHECK_STR(run_with("'egressNetworkConnectors':['']", ""),
              ONE("egressNetworkConnectors'") FAILED
              "Member must satisfy constraint: [Member must have length less than or equal to "
              "2048, Member must have length greater than or equal to 1]");
    CHECK_STR(run_with("'ingressNetworkConnectors':['a','b','c','d','e','f','g','h','i','j',"
                       "'k']",
                       ""),
              ONE("ingressNetworkConnectors'") FAILED MOST(10));
    CHECK_STR(run_with("'logging':{}", ""), ONE("logging'") FAILED
              "Member must have exactly one of these members set: [disabled, cloudWatch]");
    CHECK_STR(run_with("'logging':{'disabled':{},'cloudWatch':{}}", ""), ONE("logging'") FAILED
              "Member must have exactly one of these members set: [disabled, cloudWatch]");
    CHECK_STR(run_with("'logging':{'cloudWatch':{'logGroup':'a b','logStream':'c:d'}}", ""),
              "2 validation errors detected: Value at 'logging.cloudWatch.logGroup' failed to "
              "satisfy constraint: Member must satisfy regular expression pattern: "
              "[a-zA-Z0-9_\\-/.#]+; Value at 'logging.cloudWatch.logStream' failed to satisfy "
              "constraint: Member must satisfy regular expression pattern: [^:*]*");
}

TEST(roles)
{
    static const char *const good[] = {"arn:aws:iam::123456789012:role/a",
                                       "arn:aws-us-gov:iam::123456789012:role/p/a+=,.@-_",
                                       "arn:aws:iam::123456789012:rolex"};
    static const char *const bad[] = {
        "arn:aws:iam::12345678901:role/ab",  "arn:aws:iam::1234567890123:role/a",
        "arn:aws:iam::123456789012:role",    "arn:aws:iam::123456789012:role/a b",
        "arn:awsX:iam::123456789012:role/a", "arn:aws:sts::123456789012:role/a"};
    char value[80];
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        snprintf(value, sizeof value, "\"%s\"", good[i]);
        CHECK_STR(run_with("'executionRoleArn':@", value), "");
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        snprintf(value, sizeof value, "\"%s\"", bad[i]);
        CHECK(strstr(run_with("'executionRoleArn':@", value), "regular expression") != NULL);
    }
    CHECK(strstr(run_with("'executionRoleArn':'arn:aws:iam::1'", ""), "2 validation") != NULL);
}

TEST(image_members)
{
    CHECK_STR(one(SHAPE_in_CreateMicrovmImage, CREATE, ""), "");
    CHECK_STR(create_with("'description':@", chars(15000)), "");
    CHECK_STR(create_with("'resources':[{'minimumMemoryInMiB':512}]", ""), "");
    CHECK_STR(create_with("'resources':[{}]", ""),
              "1 validation error detected: Value null at "
              "'resources.1.member.minimumMemoryInMiB' failed to satisfy constraint: Member "
              "must not be null");
    CHECK_STR(create_with("'resources':[null]", ""),
              "1 validation error detected: Value null at 'resources.1.member' failed to "
              "satisfy constraint: Member must not be null");
    CHECK_STR(
        create_with("'resources':[{'minimumMemoryInMiB':1},{'minimumMemoryInMiB':1}]", ""),
        ONE("resources'") FAILED MOST(1));
    CHECK_STR(create_with("'cpuConfigurations':[{'architecture':'X86_64'}]", ""),
              ONE("cpuConfigurations.1.member.architecture'") FAILED
              "Member must satisfy enum value set: [ARM_64]");
    CHECK_STR(create_with("'additionalOsCapabilities':['SOME']", ""),
              ONE("additionalOsCapabilities'") FAILED "Member must satisfy constraint: [Member "
                                                      "must satisfy enum value set: [ALL]]");
    CHECK_STR(create_with("'hooks':{'port':0,'microvmHooks':{'run':'ON',"
                          "'runTimeoutInSeconds':61},'microvmImageHooks':{"
                          "'readyTimeoutInSeconds':3601}}",
                          ""),
              "4 validation errors detected: Value at 'hooks.port' failed to satisfy "
              "constraint: Member must have value greater than or equal to 1; Value at "
              "'hooks.microvmHooks.run' failed to satisfy constraint: Member must satisfy enum "
              "value set: [DISABLED, ENABLED]; Value at "
              "'hooks.microvmHooks.runTimeoutInSeconds' failed to satisfy constraint: Member "
              "must have value less than or equal to 60; Value at "
              "'hooks.microvmImageHooks.readyTimeoutInSeconds' failed to satisfy constraint: "
              "Member must have value less than or equal to 3600");
    CHECK_STR(create_with("'environmentVariables':{'A':'','B':@}", chars(4096)), "");
    CHECK(strstr(create_with("'environmentVariables':{'A':@}", chars(4097)), "Map values") !=
          NULL);
    CHECK(strstr(create_with("'environmentVariables':{'A B':'x'}", ""), "Map keys") != NULL);
    CHECK(strstr(create_with("'environmentVariables':{'':'x'}", ""), "Map keys") != NULL);
    CHECK_STR(create_with("'tags':{'a b_.:/=+-@1':'', 'gr\xc3\xbc\xc3\x9f':'x'}", ""), "");
    CHECK(strstr(create_with("'tags':{'a!':'x'}", ""), "Map keys") != NULL);
    CHECK(strstr(create_with("'tags':{'a':'x\\t'}", ""), "Map values") != NULL);
    CHECK_STR(one(SHAPE_in_CreateMicrovmImage,
                  "'name':'a/b','baseImageArn':'arn:x','codeArtifact':{'uri':'s3://b/k'},"
                  "'buildRoleArn':'" ROLE "'",
                  ""),
              ONE("name'") FAILED "Member must satisfy regular expression pattern: "
                                  "[a-zA-Z0-9-_]+");
}

TEST(no_value_is_ever_shown)
{
    CHECK(strstr(create_with("'environmentVariables':{'A':'hunter2'},'hooks':'hunter2',"
                             "'description':['hunter2'],'tags':{'hunter2!':'hunter2!'}",
                             ""),
                 "hunter2") == NULL);
    CHECK(strstr(faults(SHAPE_in_RunMicrovm, "{\"runHookPayload\": hunter2}"), "hunter2") ==
          NULL);
}

TEST(many_faults_are_bounded)
{
    AUTO(buf_free) struct buf b = BUF_INIT;
    buf_str(&b, "{\"expirationInMinutes\":1,\"microvmIdentifier\":\"x\",\"allowedPorts\":[{}");
    for (int i = 0; i < 10000; i++)
        buf_str(&b, ",{}");
    buf_str(&b, "]}");
    const char *text = faults(SHAPE_in_CreateMicrovmAuthToken, buf_cstr(&b));
    CHECK(strncmp(text, "20 validation errors", 20) == 0 && strlen(text) < 6000);
}

TEST(token_ports)
{
#define TOKEN "'microvmIdentifier':'x','expirationInMinutes':60,'allowedPorts':"
    CHECK_STR(
        one(SHAPE_in_CreateMicrovmAuthToken,
            TOKEN "[{'port':1},{'range':{'startPort':1,'endPort':65535}},{'allPorts':{}}]", ""),
        "");
    CHECK_STR(one(SHAPE_in_CreateMicrovmAuthToken, TOKEN "[]", ""),
              ONE("allowedPorts'") FAILED LEAST(1));
    CHECK_STR(one(SHAPE_in_CreateMicrovmAuthToken, TOKEN "[{'port':65536}]", ""),
              ONE("allowedPorts.1.member.port'") FAILED
              "Member must have value less than or equal to 65535");
    CHECK_STR(
        one(SHAPE_in_CreateMicrovmAuthToken,
            "'microvmIdentifier':'x','expirationInMinutes':61,'allowedPorts':[{'port':1}]", ""),
        ONE("expirationInMinutes'") FAILED "Member must have value less than or equal to 60");
}

TEST(bodies)
{
#define PARSE "Could not parse request body into json: "
    CHECK_STR(faults(SHAPE_in_RunMicrovm, "[]"), PARSE "it must be an object");
    CHECK_STR(faults(SHAPE_in_RunMicrovm, "{"), PARSE "error at line 1, column 1");
    CHECK(strncmp(faults(SHAPE_in_RunMicrovm, "{\"a\":1,\"a\":2}"), PARSE, 30) == 0);
    CHECK(strncmp(faults(SHAPE_in_RunMicrovm, "{\"a\":\"\xff\"}"), PARSE, 30) == 0);
    CHECK(strncmp(faults(SHAPE_in_RunMicrovm, "{\"a\":\"\\u0000\"}"), PARSE, 30) == 0);
    CHECK(strncmp(faults(SHAPE_in_RunMicrovm, "{\"a\":99999999999999999999}"), PARSE, 30) == 0);
    char deep[200];
    memset(deep, '[', sizeof deep);
    AUTO(buf_free) struct buf text = BUF_INIT;
    CHECK(json_read(deep, sizeof deep, &text) == NULL);
    CHECK_STR(buf_cstr(&text), PARSE "nested too deeply");
    buf_reset(&text);
    static const char brackets[] = "{\"a\":\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[\"}";
    json_t *v = json_read(brackets, strlen(brackets), &text);
    CHECK(v != NULL);
    json_decref(v);
}

TEST(only_known_members_are_kept)
{
    AUTO(buf_free) struct buf b = BUF_INIT, text = BUF_INIT;
    struct jsonw w;
    static const char in[] =
        "{\"hooks\":{\"port\":1,\"extra\":2},\"more\":[],\"baseImageArn\":\"x\",\"tags\":{},"
        "\"resources\":[{\"minimumMemoryInMiB\":512,\"x\":1}],\"description\":null,"
        "\"logging\":{\"disabled\":{\"x\":1}},\"environmentVariables\":{\"k\":\"\\\"v\"}}";
    json_t *v = json_read(in, strlen(in), &text);
    jsonw_init(&w, &b);
    shape_write(&w, shape_of(SHAPE_config), v);
    json_decref(v);
    CHECK_STR(buf_cstr(&b),
              "{\"baseImageArn\":\"x\",\"logging\":{\"disabled\":{}},"
              "\"resources\":[{\"minimumMemoryInMiB\":512}],"
              "\"hooks\":{\"port\":1},\"environmentVariables\":{\"k\":\"\\\"v\"}}");
}

TEST(config_defaults)
{
    struct image_config c;
    struct err e = ERR_INIT;
    CHECK(
        image_config_parse("{\"baseImageArn\":\"arn:aws:lambda:r:aws:microvm-image:al2023-1\","
                           "\"codeArtifact\":{\"uri\":\"s3://b/k\"}}",
                           &c, &e) == 0);
    CHECK_STR(c.base, "al2023-1");
    CHECK_STR(c.artifact_uri, "s3://b/k");
    CHECK(c.mem_mib == 2048 && c.hook_port == 9000 && !c.caps_all && c.nenv == 0);
    CHECK(c.hooks[IMAGE_HOOK_READY].timeout_s == 60 && !c.hooks[IMAGE_HOOK_READY].enabled);
    CHECK(c.hooks[IMAGE_HOOK_VALIDATE].timeout_s == 30);
    CHECK(c.hooks[IMAGE_HOOK_TERMINATE].timeout_s == 10);
    image_config_free(&c);
    CHECK(image_config_parse(
              "{\"baseImageArn\":\"arn:aws:lambda:r:aws:microvm-image:b\",\"codeArtifact\":{"
              "\"uri\":\"s3://b/k\"},\"resources\":[{\"minimumMemoryInMiB\":512}],"
              "\"additionalOsCapabilities\":[\"ALL\"],\"hooks\":{\"port\":80,\"microvmHooks\":{"
              "\"run\":\"ENABLED\",\"runTimeoutInSeconds\":3,\"resume\":\"DISABLED\"},"
              "\"microvmImageHooks\":{\"ready\":\"ENABLED\"}},"
              "\"environmentVariables\":{\"A\":\"1\",\"B\":\"\"},"
              "\"egressNetworkConnectors\":[\"arn:e\"],"
              "\"logging\":{\"cloudWatch\":{\"logGroup\":\"g\"}}}",
              &c, &e) == 0);
    CHECK(c.mem_mib == 512 && c.hook_port == 80 && c.caps_all && c.nenv == 2);
    CHECK(c.hooks[IMAGE_HOOK_RUN].enabled && c.hooks[IMAGE_HOOK_RUN].timeout_s == 3);
    CHECK(!c.hooks[IMAGE_HOOK_RESUME].enabled && c.hooks[IMAGE_HOOK_READY].enabled);
    CHECK_STR(c.egress, "arn:e");
    CHECK_STR(c.log_group, "g");
    CHECK(!c.log_stream && !c.log_disabled);
    image_config_free(&c);
    CHECK(image_config_parse("{}", &c, &e) < 0 && image_config_parse("x", &c, &e) < 0);
    CHECK(c.env == NULL);
}

int main(void)
{
    RUN(payload);
    RUN(idle_policy);
    RUN(required_members);
    RUN(run_members);
    RUN(roles);
    RUN(image_members);
    RUN(no_value_is_ever_shown);
    RUN(many_faults_are_bounded);
    RUN(token_ports);
    RUN(bodies);
    RUN(only_known_members_are_kept);
    RUN(config_defaults);
    return TAP_DONE();
}
