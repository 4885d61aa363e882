#!/bin/bash
# Puts two Prometheus below the directory CACHE, once: prometheus-2 is the installed one (Debian 12
# has 2.42), prometheus-3 is Debian testing's, fetched as a package and only unpacked.
#
#     prometheus.sh CACHE
set -euo pipefail

mkdir -p "$1"
cd "$1"
exec 9>prometheus.lock
flock 9
if [ ! -x prometheus-2 ]; then
  cp /usr/bin/prometheus prometheus-2.new
  mv prometheus-2.new prometheus-2
fi
if [ ! -x prometheus-3 ]; then
  apt=$(mktemp -d)
  trap 'rm -rf "$apt"' EXIT
  mirror=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' | sed -n 's/^Debian \(.*\/debian\/\)$/\1/p' | head -n1)
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:-http://deb.debian.org/debian/} testing main" \
    >"$apt/sources.list"
  # Lists and cache of its own: what this machine installs from stays as it is.
  mkdir -p "$apt"/{lists,cache/archives}/partial
  options=(-qq -o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=- -o Dir::State::Status=/dev/null
    -o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o Acquire::Languages=none -o APT::Sandbox::User=root)
  apt-get "${options[@]}" update >&2
  (cd "$apt" && apt-get "${options[@]}" download prometheus >&2)
  dpkg-deb --extract "$apt"/prometheus_*.deb "$apt/unpacked"
  cp "$apt/unpacked/usr/bin/prometheus" prometheus-3.new
  mv prometheus-3.new prometheus-3
fi
