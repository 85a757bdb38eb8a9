#!/bin/sh
# Unpacks MySQL's server and client from a newer Debian suite, with all they need, into a private root.
# The system is not touched: apt works on a state of its own, nothing is configured or started, any user may run it.
# usage: mysql_root.sh ROOT [SUITE]     env: FRESHET_DEBIAN_MIRROR (default: the mirror that the system's apt uses)
set -eu
root=$1 suite=${2:-sid}
apt=$root.apt
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
mirror=${FRESHET_DEBIAN_MIRROR:-$(cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null |
    sed -n 's/^URIs: *//p; s/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) .*/\2/p' | tr ' ' '\n' |
    grep -E '/debian/?$' | head -n 1)}
[ -n "$mirror" ] || { echo "No Debian mirror in apt's sources; name one in FRESHET_DEBIAN_MIRROR" >&2; exit 1; }
[ -e "$keyring" ] || { echo "Missing $keyring; install debian-archive-keyring" >&2; exit 1; }
trap 'rm -rf "$apt"' EXIT
rm -rf "$apt"
for dir in state/lists/partial cache/archives/partial etc/apt.conf.d etc/preferences.d etc/trusted.gpg.d; do
    mkdir -p "$apt/$dir"
done
mkdir -p "$root"
: >"$apt/state/status" # an empty status: the whole closure is resolved
echo "deb [signed-by=$keyring] $mirror $suite main" >"$apt/etc/sources.list"
cat >"$apt/apt.conf" <<CONF
Dir::State "$apt/state"; Dir::State::status "$apt/state/status"; Dir::Cache "$apt/cache"; Dir::Etc "$apt/etc";
Dir::Etc::sourcelist "$apt/etc/sources.list"; Dir::Etc::sourceparts "-"; APT::Install-Recommends "false";
APT::Sandbox::User "$(id -un)"; APT::Architecture "$(dpkg --print-architecture)"; Debug::NoLocking "true";
Acquire::Check-Valid-Until "false"; Acquire::Retries "3";
CONF
export APT_CONFIG="$apt/apt.conf"
apt-get update -qq
apt-get install -y -qq --download-only mysql-server-core mysql-client-core >/dev/null
# No pipe here: a torn archive must fail the script, and sh has no pipefail.
for package in "$apt"/cache/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" >"$apt/package.tar"
    tar -x -f "$apt/package.tar" -C "$root" --keep-directory-symlink --no-same-owner --exclude './dev/*'
done
for link in bin sbin lib lib64; do
    [ -e "$root/$link" ] || ln -s "usr/$link" "$root/$link"
done
