# To be sourced: what is needed to build the exporter and to boot machines, and how it is installed.

# Packages of Debian 12.
machine_packages=(
  gcc libc6-dev                       # Rust's linker
  systemd dbus util-linux iproute2    # the machines that tests boot
  debian-archive-keyring              # of what is fetched for them
  redis-server                        # what the exporter watches
  python3                             # what some of the services on a machine are written in
)

# Installs those of these packages that are missing. Their services are enabled, but not started.
install_packages() {
  local missing=() package
  for package in "$@"; do
    [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  # An early Debian 12 has a keyring that does not know Debian 13.
  [ -e /usr/share/keyrings/debian-archive-trixie-stable.gpg ] || missing+=(debian-archive-keyring)
  [ ${#missing[@]} -gt 0 ] || return 0

  local policy=/usr/sbin/policy-rc.d result=0
  if [ -e "$policy" ]; then policy=; else printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"; fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get update && apt-get install --yes --no-install-recommends "${missing[@]}" || result=$?
  [ -z "$policy" ] || rm "$policy"
  return "$result"
}
