// SPDX-License-Identifier: Apache-2.0
/* Access keys and what each may do, for every route, against a real store and a fake fleet. */
#include <unistd.h>

#include "../../api/op.h"
#include "../tap.h"
#include "ops_client.h"

static char path[] = "/tmp/dormouse-test-key-XXXXXX";
static struct client c;

#define KEYS "/dormouse/v1/keys"

TEST(made_listed_revoked)
{
    struct store_key k;
    char id[64], secret[80];
    CHECK(call(&c, "POST", KEYS, "{'name':'ci','rights':'run'}") == 201);
    snprintf(id, sizeof id, "%s", text_at(&c, "accessKeyId"));
    snprintf(secret, sizeof secret, "%s", text_at(&c, "secretAccessKey"));
    CHECK(strlen(id) == 20 && strlen(secret) == 40);
    CHECK_STR(text_at(&c, "rights"), "run");
    CHECK(store_key_get(c.fleet.store, id, &k, NULL) == 0 && strcmp(k.secret, secret) == 0);
    CHECK(call(&c, "GET", KEYS, "%s", "") == 200 && items(&c) == 1);
    CHECK_STR(text_at(&c, "items.0.accessKeyId"), id);
    CHECK_STR(text_at(&c, "items.0.name"), "ci");
    CHECK_STR(text_at(&c, "items.0.secretAccessKey"), "");
    CHECK(!strstr(buf_cstr(&c.res.body), secret)); /* told once */
    char one[128];
    snprintf(one, sizeof one, KEYS "/%s", id);
    CHECK(call(&c, "DELETE", one, "%s", "") == 200);
    CHECK(store_key_get(c.fleet.store, id, &k, NULL) == -ENOENT);
    CHECK(call(&c, "DELETE", one, "%s", "") == 404);
    CHECK_STR(text_at(&c, "resourceType"), "access-key");
}

TEST(requests_are_checked)
{
    CHECK(call(&c, "POST", KEYS, "{'name':'ci'}") == 400);
    CHECK(call(&c, "POST", KEYS, "{'name':'c i','rights':'run'}") == 400);
    CHECK(call(&c, "POST", KEYS, "{'name':'ci','rights':'root'}") == 400);
    CHECK(strstr(text_at(&c, "message"), "[admin, run, read]") != NULL);
}

TEST(the_last_admin_stays)
{
    char first[128], second[128];
    CHECK(call(&c, "POST", KEYS, "{'name':'a','rights':'admin'}") == 201);
    snprintf(first, sizeof first, KEYS "/%s", text_at(&c, "accessKeyId"));
    CHECK(call(&c, "DELETE", first, "%s", "") == 409);
    CHECK_STR(c.res.error_type, "ConflictException");
    CHECK(call(&c, "POST", KEYS, "{'name':'b','rights':'admin'}") == 201);
    snprintf(second, sizeof second, KEYS "/%s", text_at(&c, "accessKeyId"));
    CHECK(call(&c, "DELETE", first, "%s", "") == 200);
    CHECK(call(&c, "DELETE", second, "%s", "") == 409);
}

/* Each route refuses keys below its rights before it looks at anything else. */
TEST(every_route_has_its_rights)
{
    static const struct {
        const char *operation, *method, *path;
        enum rights rights;
    } all[] = {
#define ROUTE(op, method, path, status, rights, style) {#op, method, path, rights},
#include "../../api/routes.def"
#undef ROUTE
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        char want[160];
        snprintf(want, sizeof want, "User is not authorized to perform: lambda:%s",
                 all[i].operation);
        for (enum rights r = RIGHTS_READ; r <= RIGHTS_ADMIN; r++) {
            c.rights = r;
            call(&c, all[i].method, all[i].path, "%s", "{}");
            bool denied = c.res.status == 403 && strcmp(text_at(&c, "message"), want) == 0;
            if (denied != (r < all[i].rights)) {
                printf("# %s with rights %d: %d\n", all[i].operation, r, c.res.status);
                CHECK(false);
            }
        }
        /* What changes something is not for readers; what only reads, is, but for the keys. */
        bool only_reads = strncmp(all[i].operation, "Get", 3) == 0 ||
                          strncmp(all[i].operation, "List", 4) == 0 ||
                          strncmp(all[i].operation, "Stream", 6) == 0;
        CHECK(only_reads == (all[i].rights == RIGHTS_READ) ||
              strcmp(all[i].operation, "ListAccessKeys") == 0);
    }
    c.rights = RIGHTS_ADMIN;
}

int main(void)
{
    int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    client_open(&c, path);
    RUN(made_listed_revoked);
    RUN(requests_are_checked);
    RUN(the_last_admin_stays);
    RUN(every_route_has_its_rights);
    client_close(&c);
    store_file_remove(path);
    return TAP_DONE();
}
