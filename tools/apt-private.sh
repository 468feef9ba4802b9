# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A private apt for Debian trixie: own sources, lists, cache and dpkg status below the build
# cache, so that packages of another release or architecture can be fetched, with apt's own
# signature check, without touching the machine's configuration. For bash; needs cache.sh.
#
#   apt_mirror | apt_security_mirror     base address, as this machine's apt sees it
#   apt_sources_list                     sources.list text for a trixie root file system
#   apt_private ARCH COMMAND ARG...      run apt-get, apt-cache, ... in the private directory
#   apt_fetch ARCH DIR PACKAGE...        download .debs into DIR
#   apt_fetch_source ARCH DIR PACKAGE... download the upstream part of source packages into DIR
#   apt_unpack DEBDIR ROOT               unpack all .debs of a directory into ROOT
#   copy_uapi_headers ROOT TRIPLET INCLUDE
#
# DORMOUSE_MIRROR replaces the mirror, DORMOUSE_SECURITY_MIRROR the security one ("none": none).

APT_SUITE=trixie
APT_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
APT_LISTS_MAX_AGE_MIN=1440

# Addresses and releases of Debian's own archive in this machine's sources, others left out.
# Origins are unknown until the first `apt-get update`: then go by names, so that a third party
# that calls its release "stable" is not taken for Debian.
apt_machine_sources() {
    # shellcheck disable=SC2016 # apt expands these
    {
        apt-get indextargets --format '$(ORIGIN) $(COMPONENT) $(RELEASE) $(SITE)' \
            'Created-By: Packages'
        apt-get indextargets --no-release-info --format '? $(COMPONENT) $(RELEASE) $(SITE)' \
            'Created-By: Packages' || true
    } 2>/dev/null | awk '
        $2 != "main" || $4 !~ /^(https?|mirror\+https?|tor\+https?|ftp):/ { next }
        $1 != "Debian" && !($1 == "?" && $4 ~ /\/debian(-security)?(\/|$)/) { next }
        { name = $3; sub(/-(updates|security)$/, "", name) }
        name ~ /^(bookworm|trixie|forky|sid|testing|(un|(old)*)stable)$/ { print $3, $4 }'
}

apt_mirror() {
    local site=${DORMOUSE_MIRROR:-}
    if [ -z "$site" ]; then
        site=$(apt_machine_sources | awk '$1 !~ /security/ && !n++ { print $2 }')
    fi
    [ -n "$site" ] ||
        die "apt knows no Debian mirror here; run apt-get update, or set DORMOUSE_MIRROR"
    printf '%s\n' "${site%/}"
}

# The machine's own security source, else the mirror's neighbour, else nothing.
apt_security_mirror() {
    local site=${DORMOUSE_SECURITY_MIRROR:-}
    if [ -z "$site" ] && [ -z "${DORMOUSE_MIRROR:-}" ]; then
        site=$(apt_machine_sources | awk '$1 ~ /security/ && !n++ { print $2 }')
    fi
    if [ -z "$site" ]; then
        site=$(apt_mirror) || exit 1
        case $site in
        */debian) site=$site-security ;;
        *) site=none ;;
        esac
    fi
    [ "$site" = none ] || printf '%s\n' "${site%/}"
}

# Text of a sources.list for trixie: TYPE OPTIONS, by default a plain binary source.
apt_sources_list() {
    local kind=${1:-deb} security
    local mirror
    mirror=$(apt_mirror) || exit 1
    security=$(apt_security_mirror) || exit 1
    printf '%s %s %s main\n' "$kind" "$mirror" "$APT_SUITE"
    printf '%s %s %s-updates main\n' "$kind" "$mirror" "$APT_SUITE"
    [ -z "$security" ] || printf '%s %s %s-security main\n' "$kind" "$security" "$APT_SUITE"
}

apt_private_dir() {
    printf '%s/apt-%s-%s\n' "$CACHE_ROOT" "$APT_SUITE" "$1"
}

apt_private() {
    local arch=$1
    shift
    APT_CONFIG=$(apt_private_dir "$arch")/apt.conf LC_ALL=C.UTF-8 "$@"
}

# How the machine reaches the network (proxies, time-outs, date policy) is taken over;
# nothing that would weaken the signature check is.
apt_write_config() {
    local dir=$1 arch=$2
    cat <<END
Dir::State "$dir/state";
Dir::State::status "$dir/status";
Dir::Cache "$dir/cache";
Dir::Log "$dir/log";
Dir::Etc::main "$dir/none/apt.conf";
Dir::Etc::parts "$dir/none";
Dir::Etc::sourcelist "$dir/sources.list";
Dir::Etc::sourceparts "$dir/none";
Dir::Etc::preferences "$dir/none/preferences";
Dir::Etc::preferencesparts "$dir/none";
Dir::Etc::trusted "$dir/none/trusted.gpg";
Dir::Etc::trustedparts "$dir/none";
APT::Architecture "$arch";
APT::Architectures { "$arch"; };
APT::Get::AllowUnauthenticated "false";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "3";
END
    apt-config dump |
        grep -E '^Acquire::(https?|ftp|Check-(Valid-Until|Date)|ForceIPv[46])[: ]' |
        grep -vi 'Verify-' || true
}

# Writes the configuration; refreshes the package lists if they are old, missing, for another
# mirror, or if `force` is given. Only one process at a time.
apt_private_ready() {
    local arch=$1 force=${2:-} dir lock options
    dir=$(apt_private_dir "$arch")
    mkdir -p "$dir/state/lists/partial" "$dir/cache/archives/partial" "$dir/log" "$dir/none"
    [ -r "$APT_KEYRING" ] ||
        die "'$APT_KEYRING' is missing; install the package debian-archive-keyring"
    exec {lock}>"$dir/lock"
    flock "$lock"
    [ -f "$dir/status" ] || : >"$dir/status"
    apt_write_config "$dir" "$arch" >"$dir/apt.conf.new"
    options="[arch=$arch signed-by=$APT_KEYRING]"
    {
        apt_sources_list "deb $options"
        apt_sources_list "deb-src [signed-by=$APT_KEYRING]"
    } >"$dir/sources.list.new"
    if ! cmp -s "$dir/sources.list.new" "$dir/sources.wanted"; then
        force=force
    fi
    mv "$dir/apt.conf.new" "$dir/apt.conf"
    if [ -n "$force" ] || [ ! -f "$dir/fresh" ] ||
        [ -n "$(find "$dir/fresh" -mmin +$APT_LISTS_MAX_AGE_MIN)" ]; then
        rm -f "$dir/fresh"
        cp "$dir/sources.list.new" "$dir/sources.list"
        apt_refresh "$dir" "$arch"
        mv "$dir/sources.list.new" "$dir/sources.wanted"
        touch "$dir/fresh"
    fi
    exec {lock}>&-
}

apt_refresh() {
    local dir=$1 arch=$2
    say "apt: reading the $APT_SUITE package lists for $arch"
    apt_private "$arch" apt-get -q update >"$dir/update.log" 2>&1 && return
    # A security archive that was only guessed, beside the mirror, may not exist: go on without.
    if [ -z "${DORMOUSE_SECURITY_MIRROR:-}" ] &&
        { [ -n "${DORMOUSE_MIRROR:-}" ] ||
            ! apt_machine_sources | grep security >/dev/null; } &&
        grep -q "$APT_SUITE-security" "$dir/sources.list"; then
        sed -i "/ $APT_SUITE-security /d" "$dir/sources.list"
        say "apt: no $APT_SUITE-security beside the mirror, going on without it"
        apt_private "$arch" apt-get -q update >"$dir/update.log" 2>&1 && return
    fi
    tail -n 12 "$dir/update.log" >&2
    die "apt cannot read the $APT_SUITE lists (above); check the network or set DORMOUSE_MIRROR"
}

# Runs an apt-get command in DIR; once more with new lists, as a mirror drops replaced versions.
apt_fetch_with() {
    local arch=$1 dir=$2
    shift 2
    apt_private_ready "$arch"
    mkdir -p "$dir"
    (cd "$dir" && apt_private "$arch" apt-get -q "$@") >"$dir/.apt.log" 2>&1 || {
        apt_private_ready "$arch" force
        (cd "$dir" && apt_private "$arch" apt-get -q "$@") >"$dir/.apt.log" 2>&1 || {
            tail -n 12 "$dir/.apt.log" >&2
            die "apt could not download the packages (above): apt-get $*"
        }
    }
    rm -f "$dir/.apt.log"
}

apt_fetch() {
    local arch=$1 dir=$2
    shift 2
    say "apt: downloading $# $arch packages: $*"
    apt_fetch_with "$arch" "$dir" download "$@"
}

# Only the upstream tar file: apt checks it against the signed index like every other file, and
# nothing here wants the packaging.
apt_fetch_source() {
    local arch=$1 dir=$2
    shift 2
    say "apt: downloading source of: $*"
    apt_fetch_with "$arch" "$dir" source --tar-only --download-only "$@"
}

apt_unpack() {
    local deb
    mkdir -p "$2"
    for deb in "$1"/*.deb; do
        dpkg-deb -x "$deb" "$2"
    done
}

# Copies the Linux user-space API headers of unpacked linux-libc-dev into INCLUDE, with asm/ of
# one TRIPLET: trixie's package holds all architectures and reaches asm/ through links.
copy_uapi_headers() {
    local root=$1 triplet=$2 include=$3
    mkdir -p "$include"
    cp -rL "$root/usr/include/$triplet/asm" "$include/"
    cp -r "$root"/usr/include/{asm-generic,linux,misc,mtd,rdma,sound,video} "$include/"
}
