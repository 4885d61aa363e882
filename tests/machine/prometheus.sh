#!/bin/bash
# Puts three generations of Prometheus, promtool, Alertmanager and amtool below the directory CACHE,
# once, and prints where they are: Debian's of bookworm (2.42, 0.25), trixie (2.53, 0.28) and forky
# (3, 0.33). They are packages that are fetched and only unpacked: nothing is installed.
#
#     prometheus.sh CACHE
set -euo pipefail

# As for the Debian 13 tree: after a change here the next call fetches anew.
generations=$1/generations-$(cksum <"$0" | cut -d' ' -f1)
mkdir -p "$1"
exec 9>"$1/generations.lock"
flock 9
if [ ! -d "$generations" ]; then
  rm -rf "$1"/generations-*
  apt=$(mktemp -d)
  trap 'rm -rf "$apt"' EXIT
  mirror=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' | sed -n 's/^Debian \(.*\/debian\/\)$/\1/p' | head -n1)
  for suite in bookworm trixie forky; do
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:-http://deb.debian.org/debian/} $suite main"
  done >"$apt/sources.list"
  # Lists and cache of its own: what this machine installs from stays as it is.
  mkdir -p "$apt"/{lists,cache/archives}/partial
  options=(-qq -o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=- -o Dir::State::Status=/dev/null
    -o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o Acquire::Languages=none -o APT::Sandbox::User=root)
  apt-get "${options[@]}" update >&2
  for suite in bookworm trixie forky; do
    packages=(prometheus prometheus-alertmanager)
    # Debian 12 has it in the package prometheus.
    [ $suite = bookworm ] || packages+=(promtool)
    mkdir "$apt/$suite"
    (cd "$apt/$suite" && apt-get "${options[@]}" download "${packages[@]/%//$suite}" >&2)
    for package in "$apt/$suite"/*.deb; do
      dpkg-deb --extract "$package" "$apt/$suite/unpacked"
    done
    unpacked=$apt/$suite/unpacked/usr
    mkdir -p "$generations.new/$suite"
    cp "$unpacked"/bin/{prometheus,promtool,amtool} "$generations.new/$suite"
    cp "$unpacked/bin/prometheus-alertmanager" "$generations.new/$suite/alertmanager"
    # Debian's Alertmanager and amtool read their default template from /usr/share/prometheus/alertmanager.
    mkdir "$generations.new/$suite/share"
    cp "$unpacked"/share/prometheus/alertmanager/*.tmpl "$generations.new/$suite/share"
  done
  mv "$generations.new" "$generations"
fi
echo "$generations"
