#!/bin/bash
# Packages PROGRAM below DIRECTORY as `cargo deb` does, and the same once more as a later version with another
# sample of a baseline. Prints nothing: they are DIRECTORY/old/*.deb and DIRECTORY/new/*.deb.
#
#     package.sh PROGRAM DIRECTORY
set -euo pipefail
program=$1 directory=$2
cd "$(dirname "$0")/../.."
cargo deb --version >&2 || { echo "cargo-deb is missing: tests/run installs it" >&2; exit 1; }

rm -rf "$directory"
mkdir -p "$directory"/{release,old,new}
strip -o "$directory/release/baseline-exporter" "$program"
# It takes what lies in the directory `release`, whoever built that.
CARGO_TARGET_DIR=$directory cargo deb --no-build --no-strip --locked --offline --fast --quiet --output="$directory/old/"

dpkg-deb --raw-extract "$directory"/old/*.deb "$directory/tree"
sed -i 's/^Version: .*/&.1/' "$directory/tree/DEBIAN/control"
echo '# Of a later version.' >>"$directory/tree/etc/baseline-exporter/baseline.yml"
dpkg-deb -Zgzip -z1 --root-owner-group --build "$directory/tree" "$directory/new/" >&2
rm -rf "$directory/tree" "$directory/release"
