#!/bin/bash
# Boots a real systemd as PID 1 in namespaces of its own, over a copy-on-write view of the tree LOWER.
#
#     boot.sh NAME LOWER CACHE
#
# Prints "pid N", the host's number for that PID 1, as soon as it is known. The machine lives until
# standard input ends: whoever holds the other end of that pipe may exit, or be killed in whatever way,
# and nothing stays. All mounts are made inside, so only a cgroup is left to remove.
set -euo pipefail

name=$1 lower=$2 cache=$3
cgroup=$(findmnt --noheadings --first-only --types cgroup2 --output TARGET)/$name

# The first stage stays outside: it waits for the end of its input, then kills and cleans up.
outside() {
  mkdir "$cgroup"
  trap 'find "$cgroup" -depth -type d -exec rmdir {} +' EXIT
  # Debian 12's unshare complains about a signal mask whenever it ends: the stages inside use 3.
  # A kill of this watcher, too, takes the machine along: unshare dies of it, and PID 1 of that.
  setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child \
    "$0" "$name" "$lower" "$cache" enter </dev/null 3>&2 2>/dev/null &
  local unshare=$!
  # Only the stages inside still write: a reader sees the end of it if they fail.
  exec >/dev/null
  read -r -d '' _ || true
  # PID 1 first, and again should it only just be on its way: unshare then reaps it and ends.
  while kill -0 "$unshare" 2>/dev/null; do
    echo 1 >"$cgroup/cgroup.kill"
    sleep 0.01
  done
}

# The second stage is the future PID 1. The old /proc still shows it under the host's number.
enter() {
  exec 2>&3 3>&-
  echo 0 >"$cgroup/cgroup.procs"
  local pid
  read -r pid _ </proc/self/stat
  export MACHINE_PID=$pid
  exec unshare --uts --ipc --net --cgroup "$0" "$name" "$lower" "$cache" inside
}

# The third stage makes the machine's tree and becomes systemd.
inside() {
  mount --make-rprivate /
  # Any directory will do as a place to stand on: nobody outside sees what is mounted here.
  mount -t tmpfs -o mode=755 tmpfs /mnt
  mkdir /mnt/{changes,work,root}
  mount -t overlay -o "lowerdir=$lower,upperdir=/mnt/changes,workdir=/mnt/work" overlay /mnt/root
  cd /mnt/root
  mkdir -p proc sys dev run tmp mnt old

  mount -t proc proc proc
  # Sysctls and /sys belong to the host's kernel: systemd leaves alone what it cannot write.
  mount --bind proc/sys proc/sys
  mount -o remount,bind,ro proc/sys
  mount -t sysfs -o ro sysfs sys
  mount -t cgroup2 cgroup2 sys/fs/cgroup
  mount -t tmpfs -o mode=755 tmpfs run
  mount -t tmpfs -o mode=1777 tmpfs tmp
  # A /dev without kmsg, so that neither side writes into the other's log.
  mount -t tmpfs -o mode=755 tmpfs dev
  mkdir dev/{pts,shm}
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
  mount -t tmpfs -o mode=1777 tmpfs dev/shm
  ln -s pts/ptmx dev/ptmx
  ln -s /proc/self/fd dev/fd
  local node
  for node in null zero full random urandom tty; do
    touch "dev/$node"
    mount --bind "/dev/$node" "dev/$node"
  done
  # What tests fetched for several machines, such as a Prometheus.
  mount --bind "$cache" mnt
  mount -o remount,bind,ro mnt

  # An administrator's directory that is empty: nothing that the host has enabled starts, and all
  # that a test finds there was put there by the test.
  rm -rf etc/systemd/system
  mkdir -p etc/systemd/system run/systemd/{system,journald.conf.d}
  cat >run/systemd/system/machine.target <<EOF
[Unit]
Description=Just enough for a test
Requires=basic.target dbus.service
After=basic.target dbus.service
AllowIsolate=yes
EOF
  cat >run/systemd/journald.conf.d/machine.conf <<EOF
[Journal]
Storage=volatile
RateLimitIntervalSec=0
RuntimeMaxUse=512M
ReadKMsg=no
Audit=no
EOF
  # The kernel's modules and debug file systems are the host's.
  local unit
  for unit in systemd-modules-load.service modprobe@.service sys-kernel-debug.mount sys-kernel-tracing.mount \
    sys-fs-fuse-connections.mount dev-hugepages.mount systemd-journald-audit.socket; do
    ln -s /dev/null "run/systemd/system/$unit"
  done
  # As if the jobs that follow a change of /usr had run.
  touch etc/.updated var/.updated

  # An identity of its own, or systemd takes this for a first boot and enables presets.
  tr -d - </proc/sys/kernel/random/uuid >etc/machine-id
  printf '127.0.0.1 localhost %s\n' "$name" >etc/hosts
  echo "$name" >etc/hostname
  echo 'exporter:x:5990:5990::/nonexistent:/usr/sbin/nologin' >>etc/passwd
  echo 'exporter:x:5990:' >>etc/group
  : >etc/fstab

  echo "pid $MACHINE_PID"
  pivot_root . old
  umount -l /old
  rmdir /old
  exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 container=machine \
    /lib/systemd/systemd --system --unit=machine.target --log-target=journal --show-status=no \
    </dev/null >/dev/null 2>&1
}

"${4:-outside}"
