#!/bin/bash
# Makes a Debian 13 tree (systemd 257) below the directory CACHE, once, and prints where it is.
#
#     trixie.sh CACHE
set -euo pipefail

# A tree is named by the text of this script: after a change here the next call makes a new one.
tree=$1/trixie-$(cksum <"$0" | cut -d' ' -f1)
mkdir -p "$1"
exec 9>"$1/trixie.lock"
flock 9
if [ ! -d "$tree" ]; then
  rm -rf "$1"/trixie-*
  # From where this machine gets its own Debian, through the same proxy.
  mirror=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' | sed -n 's/^Debian \(.*\/debian\/\)$/\1/p' | head -n1)
  proxy=
  eval "$(apt-config shell proxy Acquire::http::Proxy)"
  mmdebstrap --quiet --variant=apt ${proxy:+--aptopt="Acquire::http::Proxy \"$proxy\""} \
    --include=systemd-sysv,dbus,iproute2,passwd,redis-server \
    trixie "$tree.new" "${mirror:-http://deb.debian.org/debian}" >&2
  mv "$tree.new" "$tree"
fi
echo "$tree"
