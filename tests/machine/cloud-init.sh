#!/bin/bash
# Puts Debian 12's cloud-init and the Python modules that it needs below the directory CACHE, once, and
# prints where they are. They are packages that are fetched and only unpacked: on this machine nothing
# is installed, so that no boot of it runs cloud-init.
#
#     cloud-init.sh CACHE
set -euo pipefail

# As for the Debian 13 tree: after a change here the next call fetches anew.
tree=$1/cloud-init-$(cksum <"$0" | cut -d' ' -f1)
mkdir -p "$1"
exec 9>"$1/cloud-init.lock"
flock 9
if [ ! -d "$tree" ]; then
  rm -rf "$1"/cloud-init-*
  packages=$(mktemp -d)
  trap 'rm -rf "$packages"' EXIT
  modules=(attr blinker certifi chardet charset-normalizer configobj idna jinja2 json-pointer jsonpatch jsonschema
    jwt markupsafe netifaces oauthlib pkg-resources pyrsistent requests serial six urllib3 yaml)
  # A machine that has all its packages may never have fetched the lists, or long ago.
  apt-get -qq update >&2
  (cd "$packages" && apt-get -qq -o APT::Sandbox::User=root download cloud-init "${modules[@]/#/python3-}" >&2)
  for package in "$packages"/*.deb; do
    dpkg-deb --extract "$package" "$packages/unpacked"
  done
  # Not its units: nothing but the test that is about it runs it.
  unpacked=$packages/unpacked
  rm -rf "$tree.new"
  mkdir -p "$tree.new"/{etc,usr/bin,usr/lib}
  cp -a "$unpacked/etc/cloud" "$tree.new/etc"
  cp -a "$unpacked/usr/bin/cloud-init" "$tree.new/usr/bin"
  cp -a "$unpacked/usr/lib/python3" "$tree.new/usr/lib"
  # As the installation of these packages does: without it each start takes seconds.
  /usr/bin/python3 -m compileall -qq "$tree.new/usr/lib/python3"
  mv "$tree.new" "$tree"
fi
echo "$tree"
