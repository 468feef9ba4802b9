// SPDX-License-Identifier: Apache-2.0
/* "user[:group]" by an image's own files (guest/users.c). */
#include "../../guest/users.h"
#include "../tap.h"

static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
                             "# not a line\n"
                             "short:x:5\n"
                             "huge:x:99999999999:0::/:\n"
                             "web:x:1000:1001:Web,,,:/home/web:/bin/sh\n"
                             "1234:x:77:78::/numbers:/bin/sh\n"
                             "nohome:x:1002:1002::";
static const char group[] = "root:x:0:\n"
                            "web:x:1001:\n"
                            "extra:x:2000:other,web\n"
                            "near:x:2001:webb,we\n"
                            "docker:x:2002:web";

static struct user u;
static struct fail f;

static int find(const char *spec)
{
    return user_find_in(spec, passwd, group, &u, &f);
}

TEST(root)
{
    CHECK(find("") == 0 && u.uid == 0 && u.gid == 0);
    CHECK_STR(u.home, "/root");
    CHECK(find("root") == 0 && u.uid == 0);
    CHECK(find("0:0") == 0 && u.uid == 0 && u.gid == 0);
}

TEST(by_name)
{
    CHECK(find("web") == 0 && u.uid == 1000 && u.gid == 1001);
    CHECK_STR(u.home, "/home/web");
    CHECK(u.ngroups == 2 && u.groups[0] == 2000 && u.groups[1] == 2002);
    CHECK(find("web:extra") == 0 && u.uid == 1000 && u.gid == 2000 && u.ngroups == 0);
    CHECK(find("web:42") == 0 && u.gid == 42);
    CHECK(find("web:") == 0 && u.gid == 1001);
}

TEST(by_number)
{
    CHECK(find("1000") == 0 && u.gid == 1001 && u.ngroups == 2);
    CHECK(find("4242") == 0 && u.uid == 4242 && u.gid == 0 && u.ngroups == 0);
    CHECK_STR(u.home, "/");
    CHECK(find("4242:4243") == 0 && u.gid == 4243);
    CHECK(find("1234") == 0 && u.uid == 77); /* a name that looks like a number */
}

TEST(missing)
{
    CHECK(find("nobody") < 0);
    CHECK_STR(f.text, "unable to find user nobody: no matching entries in passwd file");
    CHECK(find("web:nogroup") < 0);
    CHECK_STR(f.text, "unable to find group nogroup: no matching entries in group file");
    CHECK(find("short") < 0);
    CHECK(find("huge") < 0);
    CHECK(find("99999999999") < 0);
    CHECK(find("4294967295") < 0);
    CHECK(find("-1") < 0);
    CHECK(find(":web") == 0 && u.uid == 0 && u.gid == 1001);
}

TEST(no_files)
{
    CHECK(user_find_in("", NULL, NULL, &u, &f) == 0 && u.uid == 0);
    CHECK(user_find_in("1000:1000", NULL, NULL, &u, &f) == 0 && u.uid == 1000 && u.gid == 1000);
    CHECK(user_find_in("web", NULL, NULL, &u, &f) < 0);
    CHECK(user_find_in("web", "", "", &u, &f) < 0);
}

int main(void)
{
    RUN(root);
    RUN(by_name);
    RUN(by_number);
    RUN(missing);
    RUN(no_files);
    return TAP_DONE();
}
