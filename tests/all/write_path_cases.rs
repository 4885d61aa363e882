//! The cases of who can write where: how each is set up, what is written, and what is expected of
//! the unit itself and of the exporter.

/// Which machines and exporters a word of a case is about.
pub const SETUPS: [&str; 3] = ["qt", "qt with CAP_SYS_PTRACE", "root"];

/// One unit and one path. `@` stands for the case's number in all of its texts.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub number: &'static str,
    pub what: &'static str,
    /// Run by root's shell before the unit is started.
    pub setup: &'static str,
    /// Lines of the unit's [Service].
    pub service: &'static str,
    pub path: &'static str,
    /// The path is a file that is appended to; else a file is made in it.
    pub is_file: bool,
    /// Run by root's shell once the unit runs.
    pub after: &'static str,
    /// What the running unit finds when it writes; `dead` if it does not run.
    pub truth: &'static str,
    /// What the exporter says of that, in each of the set-ups.
    pub now: [&'static str; 3],
    /// What the unit finds when it writes after a restart.
    pub truth_then: &'static str,
    /// What the exporter said of that beforehand.
    pub next: [&'static str; 3],
    /// Only on Debian 13's systemd and tools.
    pub only_257: bool,
    /// Only where the kernel's fs.protected_regular is on, or only where it is off.
    pub protected_regular: Option<bool>,
}

const fn case(
    number: &'static str,
    what: &'static str,
    setup: &'static str,
    service: &'static str,
    path: &'static str,
    truth: &'static str,
) -> Case {
    Case {
        number,
        what,
        setup,
        service,
        path,
        is_file: false,
        after: "",
        truth,
        now: [truth; 3],
        truth_then: truth,
        next: [truth; 3],
        only_257: false,
        protected_regular: None,
    }
}

impl Case {
    const fn file(self) -> Self {
        Self {
            is_file: true,
            ..self
        }
    }

    const fn after(self, after: &'static str) -> Self {
        Self { after, ..self }
    }

    /// The next start finds something else than what the unit finds now.
    const fn then(self, truth_then: &'static str) -> Self {
        Self {
            truth_then,
            next: [truth_then; 3],
            ..self
        }
    }

    /// The exporter says something else than what the unit finds, or gives it another name.
    const fn said(self, reason: &'static str) -> Self {
        Self {
            now: [reason; 3],
            next: [reason; 3],
            ..self
        }
    }

    /// What the exporter says in each set-up.
    const fn now(self, now: [&'static str; 3]) -> Self {
        Self { now, ..self }
    }

    const fn next(self, next: [&'static str; 3]) -> Self {
        Self { next, ..self }
    }

    const fn only_257(self) -> Self {
        Self {
            only_257: true,
            ..self
        }
    }

    const fn protected_regular(self, is_on: bool) -> Self {
        Self {
            protected_regular: Some(is_on),
            ..self
        }
    }

    /// One of its texts, with the number in it.
    pub fn fill(&self, text: &str) -> String {
        text.replace('@', self.number)
    }

    pub fn unit(&self) -> String {
        format!("case-{}.service", self.number)
    }
}

/// What the setups use: `own DIR...` makes directories of qt's, `file PATH OWNER MODE` a file,
/// `root DIR` a root directory with the programs of the host.
pub const PREAMBLE: &str = "\
own() { mkdir -p \"$@\"; chown qt:qt \"$@\"; }
file() { mkdir -p \"${1%/*}\"; touch \"$1\"; chown \"$2:$2\" \"$1\"; chmod \"$3\" \"$1\"; }
root() { mkdir -p \"$1\"/{usr,proc,sys,dev,run,tmp,etc,var,root,data}; chown qt:qt \"$1/data\"
  for name in bin sbin lib lib64; do ln -s \"usr/$name\" \"$1/$name\"; done; }
";

const ROOT: &str = "RootDirectory=/srv/@\nBindReadOnlyPaths=/usr\nUser=qt";
const QT: &str = "User=qt";

/// All of them, by the numbers of the first trials, where 064 was a btrfs quota, 088 a unit that dies of
/// its attempt, and 234 a path that the baseline refuses.
///
/// Without a capability the exporter does not see what only the service has mounted (026, 028, 232,
/// 309), nor what the host mounted after its own start (225).
pub const CASES: &[Case] = &[
    case("001", "plain, own directory", "own /srv/@", QT, "/srv/@", "ok"),
    case("002", "plain, root's directory", "mkdir /srv/@", QT, "/srv/@", "denied"),
    case("003", "strict alone does not cover /home", "own /home/qt/@", "User=qt\nProtectSystem=strict", "/home/qt/@", "ok"),
    case("004", "strict, own directory", "own /srv/@", "User=qt\nProtectSystem=strict", "/srv/@", "read_only"),
    case("005", "strict with ReadWritePaths=", "own /srv/@", "User=qt\nProtectSystem=strict\nReadWritePaths=/srv/@", "/srv/@", "ok"),
    case("006", "ReadWritePaths= names another directory", "own /home/qt/@/other /home/qt/@/runtime", "User=qt\nProtectSystem=strict\nProtectHome=read-only\nReadWritePaths=/home/qt/@/other", "/home/qt/@/runtime", "read_only"),
    case("007", "full, below /etc", "own /etc/@", "User=qt\nProtectSystem=full", "/etc/@", "read_only"),
    case("008", "full, elsewhere", "own /srv/@", "User=qt\nProtectSystem=full", "/srv/@", "ok"),
    case("009", "ProtectHome=yes", "own /home/qt/@", "User=qt\nProtectHome=yes", "/home/qt/@", "denied"),
    case("010", "ProtectHome=read-only", "own /home/qt/@", "User=qt\nProtectHome=read-only", "/home/qt/@", "read_only"),
    case("011", "strict and ProtectHome=read-only with ReadWritePaths=", "own /home/qt/@", "User=qt\nProtectSystem=strict\nProtectHome=read-only\nReadWritePaths=/home/qt/@", "/home/qt/@", "ok"),
    case("012", "ProtectHome=tmpfs", "own /home/qt/@", "User=qt\nProtectHome=tmpfs", "/home/qt/@", "missing"),
    case("013", "ProtectHome=tmpfs with BindPaths=", "own /home/qt/@", "User=qt\nProtectHome=tmpfs\nBindPaths=/home/qt/@", "/home/qt/@", "ok"),
    case("014", "ProtectHome=yes with ReadWritePaths= inside", "own /home/qt/@", "User=qt\nProtectHome=yes\nReadWritePaths=/home/qt/@", "/home/qt/@", "denied"),
    case("015", "ReadOnlyPaths= above", "own /srv/@/d", "User=qt\nReadOnlyPaths=/srv/@", "/srv/@/d", "read_only"),
    case("016", "ReadOnlyPaths= above with ReadWritePaths=", "own /srv/@/d", "User=qt\nReadOnlyPaths=/srv/@\nReadWritePaths=/srv/@/d", "/srv/@/d", "ok"),
    case("017", "InaccessiblePaths=", "own /srv/@", "User=qt\nInaccessiblePaths=/srv/@", "/srv/@", "denied"),
    case("018", "PrivateTmp=, /tmp", "", "User=qt\nPrivateTmp=yes", "/tmp", "ok"),
    case("019", "PrivateTmp=, a directory of the host's /tmp", "own /tmp/@", "User=qt\nPrivateTmp=yes", "/tmp/@", "missing"),
    case("020", "TemporaryFileSystem= above", "own /srv/@/d", "User=qt\nTemporaryFileSystem=/srv/@", "/srv/@/d", "missing"),
    case("021", "TemporaryFileSystem= for everybody", "mkdir /srv/@", "User=qt\nTemporaryFileSystem=/srv/@:mode=1777", "/srv/@", "ok"),
    case("022", "TemporaryFileSystem= with the usual mode", "own /srv/@", "User=qt\nTemporaryFileSystem=/srv/@", "/srv/@", "denied"),
    case("023", "TemporaryFileSystem= read-only", "own /srv/@", "User=qt\nTemporaryFileSystem=/srv/@:ro", "/srv/@", "read_only"),
    case("024", "strict with BindPaths= to a new place", "own /srv/@", "User=qt\nProtectSystem=strict\nBindPaths=/srv/@:/app/models-@", "/app/models-@", "ok"),
    case("025", "BindReadOnlyPaths=", "own /srv/@/s /srv/@/d", "User=qt\nBindReadOnlyPaths=/srv/@/s:/srv/@/d", "/srv/@/d", "read_only"),
    case("026", "DynamicUser= with StateDirectory=", "", "DynamicUser=yes\nStateDirectory=c@", "/var/lib/c@", "ok").now(["unknown", "ok", "ok"]),
    case("027", "DynamicUser=, somebody else's directory", "mkdir /srv/@", "DynamicUser=yes", "/srv/@", "read_only"),
    case("028", "DynamicUser=, /tmp", "", "DynamicUser=yes", "/tmp", "ok").now(["unknown", "ok", "ok"]),
    case("029", "RootDirectory=, a directory inside", "root /srv/@", ROOT, "/data", "ok"),
    case("030", "RootDirectory=, root's directory inside", "root /srv/@; chown root /srv/@/data", ROOT, "/data", "denied"),
    case("031", "RootDirectory= with the host's ReadOnlyPaths=", "root /srv/@; mkdir -p /data", "RootDirectory=/srv/@\nBindReadOnlyPaths=/usr\nUser=qt\nReadOnlyPaths=/data", "/data", "ok"),
    case("032", "RootDirectory=, an absolute link inside", "root /srv/@; ln -s /data /srv/@/link", ROOT, "/link", "ok"),
    case("033", "RootDirectory=, a directory of the host", "root /srv/@; own /srv/@-host", ROOT, "/srv/@-host", "missing"),
    case("034", "PrivateUsers=, own directory", "own /srv/@", "User=qt\nPrivateUsers=yes", "/srv/@", "ok"),
    case("035", "PrivateUsers=, root in somebody else's directory", "own /srv/@", "PrivateUsers=yes", "/srv/@", "denied"),
    case("036", "root, root's directory", "mkdir /srv/@", "", "/srv/@", "ok"),
    case("037", "root, somebody else's directory", "own /srv/@", "", "/srv/@", "ok"),
    case("038", "root without capabilities", "own /srv/@", "CapabilityBoundingSet=", "/srv/@", "denied"),
    case("039", "root, a directory without w", "own /srv/@; chmod 0555 /srv/@", "", "/srv/@", "ok"),
    case("040", "SupplementaryGroups=", "mkdir /srv/@; chgrp team /srv/@; chmod 0775 /srv/@", "User=qt\nSupplementaryGroups=team", "/srv/@", "ok"),
    case("041", "not in the group", "mkdir /srv/@; chgrp team /srv/@; chmod 0775 /srv/@", QT, "/srv/@", "denied"),
    case("042", "in the group by /etc/group", "mkdir /srv/@; chgrp crew /srv/@; chmod 0775 /srv/@", QT, "/srv/@", "ok"),
    case("043", "UMask=0777", "own /srv/@", "User=qt\nUMask=0777", "/srv/@", "ok"),
    case("044", "a file that a bad umask left", "own /srv/@; file /srv/@/log qt 0000", QT, "/srv/@/log", "denied").file(),
    case("045", "an access control list allows", "mkdir /srv/@; acl /srv/@ 7 5 7", QT, "/srv/@", "ok"),
    case("046", "an access control list allows, its mask does not", "mkdir /srv/@; acl /srv/@ 7 5 5", QT, "/srv/@", "denied"),
    case("047", "an access control list forbids", "mkdir /srv/@; acl /srv/@ 5 7 7", QT, "/srv/@", "denied"),
    case("048", "own directory without w", "own /srv/@; chmod 0555 /srv/@", QT, "/srv/@", "denied"),
    case("049", "own directory without x", "own /srv/@; chmod 0222 /srv/@", QT, "/srv/@", "denied"),
    case("050", "below root's 0700", "mkdir -m 0700 /srv/@; own /srv/@/d", QT, "/srv/@/d", "denied"),
    case("051", "missing, could be made", "own /srv/@", QT, "/srv/@/no", "missing"),
    case("052", "missing, could not be made", "mkdir /srv/@", QT, "/srv/@/no", "missing"),
    case("053", "missing below root's directory, strict", "mkdir -p /app", "User=qt\nProtectSystem=strict", "/app/no-@", "missing"),
    case("054", "missing below its own directory, strict", "own /app/data-@", "User=qt\nProtectSystem=strict", "/app/data-@/models", "missing"),
    case("055", "a file where the directory should be", "own /srv/@; file /srv/@/file qt 0644", QT, "/srv/@/file/log", "missing").said("not_dir").file(),
    case("056", "a file in the middle", "own /srv/@; file /srv/@/file qt 0644", QT, "/srv/@/file/a/b", "missing").said("not_dir"),
    case("057", "a full tmpfs", "mkdir /srv/@; mount -t tmpfs -o size=64k,mode=777 tmpfs /srv/@; dd if=/dev/zero of=/srv/@/fill bs=4k count=32 2>/dev/null || true", QT, "/srv/@", "no_space"),
    case("058", "a tmpfs without inodes", "mkdir /srv/@; mount -t tmpfs -o nr_inodes=4,mode=777 tmpfs /srv/@; touch /srv/@/{a,b,c} || true", QT, "/srv/@", "no_space").said("no_inodes"),
    case("059", "a tmpfs without inodes, a file that is there", "mkdir /srv/@; mount -t tmpfs -o nr_inodes=4,mode=777 tmpfs /srv/@; touch /srv/@/{a,b,c} || true; chown qt /srv/@/a", QT, "/srv/@/a", "ok").file(),
    case("060", "a full ext4", "ext4 /srv/@ full; fill /srv/@", QT, "/srv/@", "no_space"),
    case("061", "a full ext4, root", "ext4 /srv/@ full; fill /srv/@", "", "/srv/@", "ok"),
    // The two bytes still fit into the last block; that nothing more does is the better answer.
    case("062", "a full ext4, slack in the last block", "ext4 /srv/@ full; file /srv/@/log qt 0644; echo x >/srv/@/log; fill /srv/@", QT, "/srv/@/log", "ok").file().said("no_space"),
    case("063", "an ext4 without inodes", "ext4 /srv/@ inodes; use_inodes /srv/@", QT, "/srv/@", "no_space").said("no_inodes"),
    case("065", "a read-only file system", "mkdir /srv/@; mount -t tmpfs -o mode=777 tmpfs /srv/@; mount -o remount,ro /srv/@", QT, "/srv/@", "read_only"),
    case("066", "a read-only bind mount", "own /srv/@; mount --bind /srv/@ /srv/@; mount -o remount,bind,ro /srv/@", QT, "/srv/@", "read_only"),
    case("067", "an immutable directory", "own /srv/@; attribute +i /srv/@", QT, "/srv/@", "immutable"),
    case("068", "an append-only directory", "own /srv/@; attribute +a /srv/@", QT, "/srv/@", "ok"),
    case("069", "an immutable file", "own /srv/@; file /srv/@/log qt 0644; attribute +i /srv/@/log", QT, "/srv/@/log", "immutable").file(),
    case("070", "an append-only file", "own /srv/@; file /srv/@/log qt 0644; attribute +a /srv/@/log", QT, "/srv/@/log", "ok").file(),
    case("071", "an immutable directory, root", "own /srv/@; attribute +i /srv/@", "", "/srv/@", "immutable"),
    case("072", "through an absolute link", "own /srv/@/d; ln -s /srv/@/d /srv/@/link", QT, "/srv/@/link", "ok"),
    case("073", "a link to root's directory", "mkdir -p /srv/@/d; ln -s /srv/@/d /srv/@/link", QT, "/srv/@/link", "denied"),
    case("074", "through a relative link", "own /srv/@/d; mkdir /srv/@/e; ln -s ../d /srv/@/e/link", QT, "/srv/@/e/link", "ok"),
    case("075", "a link into ProtectHome=read-only", "own /home/qt/@; ln -s /home/qt/@ /srv/@", "User=qt\nProtectHome=read-only", "/srv/@", "read_only"),
    case("076", "ReadWritePaths= names a link", "own /srv/@/d; ln -s d /srv/@/link", "User=qt\nProtectSystem=strict\nReadWritePaths=/srv/@/link", "/srv/@/link", "ok"),
    case("077", "a dangling link", "own /srv/@; ln -s /srv/@/no /srv/@/link", QT, "/srv/@/link", "missing"),
    case("078", "links in a circle", "own /srv/@; ln -s b /srv/@/a; ln -s a /srv/@/b", QT, "/srv/@/a", "loop"),
    case("079", "root's log in its own directory", "own /srv/@; file /srv/@/log root 0644", QT, "/srv/@/log", "denied").file(),
    case("080", "its own log", "own /srv/@; file /srv/@/log qt 0644", QT, "/srv/@/log", "ok").file(),
    case("081", "a log to be made in its own directory", "own /srv/@", QT, "/srv/@/log", "ok").file(),
    case("082", "a log to be made in /var/log", "", QT, "/var/log/@.log", "denied").file(),
    case("083", "its own log, strict", "file /var/log/@.log qt 0644", "User=qt\nProtectSystem=strict", "/var/log/@.log", "read_only").file(),
    case("084", "strict with LogsDirectory=", "", "User=qt\nProtectSystem=strict\nLogsDirectory=c@", "/var/log/c@", "ok"),
    case("085", "strict with RuntimeDirectory=", "", "User=qt\nProtectSystem=strict\nRuntimeDirectory=c@", "/run/c@", "ok"),
    case("086", "root's file in /tmp, open to all", "file /tmp/@ root 0666", QT, "/tmp/@", "ok").file(),
    case("087", "root, somebody else's file in /tmp", "file /tmp/@ qt 0666", "", "/tmp/@", "denied").file().protected_regular(true),
    case("088", "the same, unprotected", "file /tmp/@ qt 0666", "", "/tmp/@", "ok").file().protected_regular(false),
    case("089", "ReadWritePaths= names nothing", "own /srv/@", "User=qt\nReadWritePaths=/srv/@/no", "/srv/@", "dead").said("start_fails"),
    case("090", "ReadWritePaths= names perhaps nothing", "own /srv/@", "User=qt\nProtectSystem=strict\nReadWritePaths=-/srv/@/no", "/srv/@", "read_only"),
    case("091", "User= is nobody", "own /srv/@", "User=nosuchuser", "/srv/@", "dead").said("start_fails"),
    case("092", "the file system becomes read-only", "mkdir /srv/@; mount -t tmpfs -o mode=777 tmpfs /srv/@", QT, "/srv/@", "read_only").after("mount -o remount,ro /srv/@"),
    case("093", "the host's mount becomes read-only, the unit has its own", "own /srv/@; mount --bind /srv/@ /srv/@", "User=qt\nProtectSystem=full", "/srv/@", "ok").after("mount -o remount,bind,ro /srv/@").then("read_only"),
    case("094", "the host's mount becomes read-only, the unit has it", "own /srv/@; mount --bind /srv/@ /srv/@", QT, "/srv/@", "read_only").after("mount -o remount,bind,ro /srv/@"),
    case("095", "the directory is made anew", "own /srv/@", "User=qt\nProtectSystem=strict\nReadWritePaths=/srv/@", "/srv/@", "read_only").after("rmdir /srv/@; own /srv/@").then("ok"),
    case("096", "the directory loses its w", "own /srv/@", QT, "/srv/@", "denied").after("chmod 0555 /srv/@"),
    case("097", "the unit file is put right, the unit not restarted", "own /srv/@", "User=qt\nProtectSystem=strict", "/srv/@", "read_only").after("mkdir /etc/systemd/system/case-@.service.d; printf '[Service]\\nReadWritePaths=/srv/@\\n' >/etc/systemd/system/case-@.service.d/a.conf; systemctl daemon-reload").then("ok"),
    case("098", "strict, /dev/shm", "", "User=qt\nProtectSystem=strict", "/dev/shm", "ok"),
    case("099", "strict and PrivateDevices=, /dev/shm", "", "User=qt\nProtectSystem=strict\nPrivateDevices=yes", "/dev/shm", "ok"),
    case("100", "strict, /tmp", "", "User=qt\nProtectSystem=strict", "/tmp", "read_only"),
    case("101", "strict, /run/lock", "mkdir -p /run/lock; chmod 1777 /run/lock", "User=qt\nProtectSystem=strict", "/run/lock", "read_only"),
    case("102", "a file to be made where ReadWritePaths= does not reach", "own /home/qt/@/other /home/qt/@/runtime", "User=qt\nProtectSystem=strict\nProtectHome=read-only\nReadWritePaths=/home/qt/@/other", "/home/qt/@/runtime/disk_buffer.db", "read_only").file(),
    case("103", "AmbientCapabilities=", "own /srv/@", "User=qt\nAmbientCapabilities=CAP_NET_BIND_SERVICE", "/srv/@", "ok"),
    case("104", "ExecStart=+", "mkdir /srv/@", "User=qt\nProtectSystem=strict\nExecStart=\nExecStart=+/usr/local/bin/writer dir /srv/@", "/srv/@", "ok"),
    case("105", "RestrictFileSystems=", "own /srv/@", "User=qt\nRestrictFileSystems=~tmpfs", "/srv/@", "ok"),
    // No look from outside shows Landlock.
    case("106", "Landlock", "own /srv/@", "User=qt\nExecStart=\nExecStart=/usr/bin/setpriv --landlock-access fs:write-file,make-reg --no-new-privs /usr/local/bin/writer dir /srv/@", "/srv/@", "denied").said("ok").only_257(),
    case("201", "strict with ReadWritePaths=/", "own /srv/@", "User=qt\nProtectSystem=strict\nReadWritePaths=/", "/srv/@", "read_only"),
    case("202", "ReadOnlyPaths= and ReadWritePaths= for one directory", "own /srv/@", "User=qt\nReadOnlyPaths=/srv/@\nReadWritePaths=/srv/@", "/srv/@", "read_only"),
    case("203", "ReadWritePaths= for a directory below only", "own /srv/@ /srv/@/d", "User=qt\nProtectSystem=strict\nReadWritePaths=/srv/@/d", "/srv/@", "read_only"),
    case("204", "InaccessiblePaths= above BindPaths=", "own /srv/@/d", "User=qt\nInaccessiblePaths=/srv/@\nBindPaths=/srv/@/d", "/srv/@/d", "denied"),
    case("205", "strict with StateDirectory=", "", "User=qt\nProtectSystem=strict\nStateDirectory=c@", "/var/lib/c@", "ok"),
    case("206", "ReadWritePaths= below TemporaryFileSystem=", "own /srv/@/d", "User=qt\nTemporaryFileSystem=/srv/@\nReadWritePaths=/srv/@/d", "/srv/@/d", "dead").said("start_fails"),
    case("207", "strict with PrivateTmp=, /var/tmp", "", "User=qt\nProtectSystem=strict\nPrivateTmp=yes", "/var/tmp", "ok"),
    case("208", "BindReadOnlyPaths= and ReadWritePaths= for one directory", "own /srv/@", "User=qt\nBindReadOnlyPaths=/srv/@\nReadWritePaths=/srv/@", "/srv/@", "read_only"),
    case("209", "ReadWritePaths= through a link", "own /srv/@/d; ln -s d /srv/@/link", "User=qt\nProtectSystem=strict\nReadWritePaths=/srv/@/link", "/srv/@/d", "ok"),
    case("210", "strict, a mount below", "mkdir /srv/@; mount -t tmpfs -o mode=777 tmpfs /srv/@; own /srv/@/d", "User=qt\nProtectSystem=strict", "/srv/@/d", "read_only"),
    case("211", "ReadOnlyPaths=/, /dev/shm", "", "User=qt\nReadOnlyPaths=/", "/dev/shm", "read_only"),
    case("212", "full with ReadWritePaths= below /etc", "own /etc/@", "User=qt\nProtectSystem=full\nReadWritePaths=/etc/@", "/etc/@", "ok"),
    case("213", "ProtectHome=yes with BindPaths= inside", "own /home/qt/@", "User=qt\nProtectHome=yes\nBindPaths=/home/qt/@", "/home/qt/@", "denied"),
    case("214", "User= by number, with Group=", "mkdir /srv/@; chgrp team /srv/@; chmod 0770 /srv/@", "User=1000\nGroup=team", "/srv/@", "ok"),
    case("215", "DynamicUser= with a user that exists", "own /srv/@", "DynamicUser=yes\nUser=qt", "/srv/@", "read_only"),
    case("216", "the same with ReadWritePaths=", "own /srv/@", "DynamicUser=yes\nUser=qt\nReadWritePaths=/srv/@", "/srv/@", "ok"),
    case("217", "strict with ConfigurationDirectory=", "", "User=qt\nProtectSystem=strict\nConfigurationDirectory=c@", "/etc/c@", "ok"),
    case("218", "LogsDirectoryMode=0500", "", "User=qt\nLogsDirectory=c@\nLogsDirectoryMode=0500", "/var/log/c@", "denied"),
    case("219", "PrivateTmp= with ReadOnlyPaths=/tmp", "", "User=qt\nPrivateTmp=yes\nReadOnlyPaths=/tmp", "/tmp", "read_only"),
    case("220", "PrivateMounts=", "own /srv/@", "User=qt\nPrivateMounts=yes", "/srv/@", "ok"),
    case("221", "strict with ReadWritePaths= for a file", "own /srv/@; file /srv/@/log qt 0644", "User=qt\nProtectSystem=strict\nReadWritePaths=/srv/@/log", "/srv/@/log", "ok").file(),
    case("222", "a file beside that one", "own /srv/@; file /srv/@/log qt 0644", "User=qt\nProtectSystem=strict\nReadWritePaths=/srv/@/log", "/srv/@/other", "read_only").file(),
    case("223", "below its own 0700", "own /srv/@ /srv/@/d; chmod 0700 /srv/@", QT, "/srv/@/d", "ok"),
    case("224", "through another user's link in /tmp", "own /srv/@; ln -s /srv/@ /tmp/@; chown -h other /tmp/@", QT, "/tmp/@", "ok"),
    case("225", "strict, mounted over later", "own /srv/@", "User=qt\nProtectSystem=strict\nPrivateMounts=yes", "/srv/@", "read_only").after("mount -t tmpfs -o mode=777 tmpfs /srv/@").next(["unknown", "read_only", "read_only"]),
    case("226", "missing below StateDirectory=", "", "User=qt\nStateDirectory=c@", "/var/lib/c@/no", "missing"),
    case("227", "strict, /var/lib itself", "", "User=qt\nProtectSystem=strict", "/var/lib", "read_only"),
    case("228", "ReadOnlyPaths= for a file", "own /srv/@; file /srv/@/log qt 0644", "User=qt\nReadOnlyPaths=/srv/@/log", "/srv/@/log", "read_only").file(),
    case("229", "InaccessiblePaths= for a file", "own /srv/@; file /srv/@/log qt 0644", "User=qt\nInaccessiblePaths=/srv/@/log", "/srv/@/log", "denied").file(),
    case("230", "/dev/null", "", QT, "/dev/null", "ok").file(),
    case("231", "ProtectKernelTunables=, /proc/sys", "", "User=qt\nProtectKernelTunables=yes", "/proc/sys/kernel/domainname", "denied").file(),
    case("232", "the same, root", "", "ProtectKernelTunables=yes", "/proc/sys/kernel/domainname", "read_only").file().now(["unknown", "read_only", "read_only"]),
    case("233", "a slash at the end", "own /srv/@", QT, "/srv/@/", "ok"),
    case("235", "root without CAP_DAC_OVERRIDE", "own /srv/@; chmod 0700 /srv/@", "CapabilityBoundingSet=~CAP_DAC_OVERRIDE", "/srv/@", "denied"),
    case("236", "NoExecPaths=", "own /srv/@", "User=qt\nNoExecPaths=/srv/@", "/srv/@", "ok"),
    // Beyond the table of the first tests.
    case("301", "a ConfigurationDirectory= that root made", "mkdir /etc/c@", "User=qt\nConfigurationDirectory=c@", "/etc/c@", "denied"),
    case("302", "WorkingDirectory= is missing", "own /srv/@", "User=qt\nWorkingDirectory=/srv/@/no", "/srv/@", "dead").said("start_fails"),
    case("303", "the source of BindPaths= is missing", "own /srv/@", "User=qt\nBindPaths=/srv/@/no:/srv/@/d", "/srv/@", "dead").said("start_fails"),
    case("304", "the source of BindPaths= may be missing", "own /srv/@", "User=qt\nBindPaths=-/srv/@/no:/srv/@/d", "/srv/@", "ok"),
    case("305", "RootDirectory= is missing", "", "User=qt\nRootDirectory=/srv/@", "/data", "dead").said("start_fails"),
    case("306", "Group= is nobody", "own /srv/@", "User=qt\nGroup=nosuchgroup", "/srv/@", "dead").said("start_fails"),
    case("307", "a directory where the file should be", "own /srv/@/log", QT, "/srv/@/log", "is_dir").file(),
    case("308", "StateDirectory= that belonged to another user", "mkdir -p /var/lib/c@; chown other /var/lib/c@", "User=qt\nProtectSystem=strict\nStateDirectory=c@", "/var/lib/c@", "ok"),
    case("309", "CacheDirectory= of a DynamicUser=", "", "DynamicUser=yes\nCacheDirectory=c@", "/var/cache/c@", "ok").now(["unknown", "ok", "ok"]),
    case("310", "ProtectSystem=yes, below /usr", "own /usr/@", "User=qt\nProtectSystem=yes", "/usr/@", "read_only"),
];
