//! The mounts of one process, as /proc/PID/mountinfo lists them.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its number, and that of the mount it is mounted on.
    pub id: u64,
    /// See above; at the process's root it is none of the list.
    pub parent: u64,
    /// The device that its file system counts as, as `major:minor`.
    pub device: String,
    /// Which directory of the file system is mounted.
    pub root: PathBuf,
    /// Where, as the process sees it.
    pub point: PathBuf,
    /// True if this mount is read-only.
    pub read_only: bool,
    /// True if the file system itself is read-only, whatever mounts it.
    pub file_system_read_only: bool,
    /// The type of the file system.
    pub kind: String,
}

/// All mounts of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mounts {
    list: Vec<Arc<Mount>>,
    /// Positions by the mount below and the mount point.
    above: HashMap<(u64, PathBuf), usize>,
}

impl Mounts {
    /// Takes a mountinfo file apart; `None` if it has a line that is none of it, for whatever stood
    /// there might hide a directory.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut mounts = Self::default();
        let lines = bytes.split(|byte| *byte == b'\n');
        for line in lines.filter(|line| !line.is_empty()) {
            let mount = parse_line(line)?;
            let place = (mount.parent, mount.point.clone());
            // Of two the later one is on top, should the kernel ever list such.
            mounts.above.insert(place, mounts.list.len());
            mounts.list.push(Arc::new(mount));
        }
        Some(mounts)
    }

    /// What is mounted right on top of `mount` at `point`.
    fn on(&self, mount: &Mount, point: &Path) -> Option<&Arc<Mount>> {
        let place = (mount.id, point.to_owned());
        self.above
            .get(&place)
            .and_then(|index| self.list.get(*index))
    }

    /// What a process that walks from `mount` to `point` gets to: the topmost mount there, else
    /// `mount` itself.
    pub fn step<'m>(&'m self, mount: &'m Arc<Mount>, point: &Path) -> &'m Arc<Mount> {
        let mut top = mount;
        // A list that names a mount as its own parent must not keep anybody here.
        for _ in 0..self.list.len() {
            match self.on(top, point) {
                Some(next) => top = next,
                None => break,
            }
        }
        top
    }

    /// The mount that is the process's root; `None` where that is no mount of its own.
    pub fn root(&self) -> Option<&Arc<Mount>> {
        let slash = Path::new("/");
        let at_root = || self.list.iter().filter(|mount| mount.point == slash);
        let lowest = at_root().find(|mount| at_root().all(|other| other.id != mount.parent))?;
        Some(self.step(lowest, slash))
    }

    /// The mount that an absolute path without links and `..` lies on.
    pub fn of(&self, path: &Path) -> Option<&Arc<Mount>> {
        let mut mount = self.root()?;
        let mut point = PathBuf::from("/");
        for part in path.components().skip(1) {
            point.push(part);
            mount = self.step(mount, &point);
        }
        Some(mount)
    }

    /// Where this process sees the directory that another one has mounted as `device`, `root`:
    /// paths under which it may lie, and on which of this process's mounts it then has to be.
    pub fn sightings(&self, device: &str, directory: &Path) -> Vec<(PathBuf, u64)> {
        let mounts = self.list.iter().filter(|mount| mount.device == device);
        let seen = mounts.filter_map(|mount| {
            let below = directory.strip_prefix(&mount.root).ok()?;
            // Joined with nothing it would end in a slash, which a file must not.
            let path = if below.as_os_str().is_empty() {
                mount.point.clone()
            } else {
                mount.point.join(below)
            };
            Some((path, mount.id))
        });
        // Others are mounted over some of them.
        seen.filter(|(path, id)| self.of(path).is_some_and(|mount| mount.id == *id))
            .collect()
    }

    /// The mount point of the first file system of this type.
    pub fn point_of_kind(&self, kind: &str) -> Option<&Path> {
        let found = self.list.iter().find(|mount| mount.kind == kind);
        found.map(|mount| mount.point.as_path())
    }
}

/// `36 35 98:0 /root /point rw,noatime shared:1 - ext4 /dev/root rw,errors=continue`; between the
/// sixth field and the dash stand any number of others.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut next = || fields.next();
    let id = number(next()?)?;
    let parent = number(next()?)?;
    let device = text(next()?)?;
    let root = path(next()?);
    let point = path(next()?);
    let read_only = has_ro(next()?);
    fields.find(|field| *field == b"-")?;
    let kind = text(fields.next()?)?;
    let _source = fields.next()?;
    let file_system_read_only = has_ro(fields.next()?);
    point.is_absolute().then_some(Mount {
        id,
        parent,
        device,
        root,
        point,
        read_only,
        file_system_read_only,
        kind,
    })
}

fn text(field: &[u8]) -> Option<String> {
    std::str::from_utf8(field).ok().map(str::to_owned)
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn has_ro(options: &[u8]) -> bool {
    options
        .split(|byte| *byte == b',')
        .any(|option| option == b"ro")
}

/// A path, in which the kernel writes blanks, tabs, newlines and backslashes as `\ooo`.
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let escaped = (*byte == b'\\')
            .then(|| after.split_at_checked(3))
            .flatten()
            .and_then(|(digits, after)| Some((octal(digits)?, after)));
        let (byte, after) = escaped.unwrap_or((*byte, after));
        bytes.push(byte);
        rest = after;
    }
    OsString::from_vec(bytes).into()
}

fn octal(digits: &[u8]) -> Option<u8> {
    let all_octal = digits.iter().all(|digit| matches!(digit, b'0'..=b'7'));
    let digits = all_octal.then(|| std::str::from_utf8(digits).ok())??;
    u8::from_str_radix(digits, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
67 42 0:41 / / rw,relatime - overlay overlay rw,lowerdir=/
68 67 0:44 / /proc rw,relatime shared:3 - proc proc rw
70 67 8:1 /srv\\040x/a /var/a\\134b ro,relatime shared:1 master:2 - ext4 /dev/sda1 rw,errors=continue
71 70 0:50 / /var/a\\134b rw - tmpfs tmpfs ro,size=4k
72 67 8:1 / /disk rw - ext4 /dev/sda1 rw
73 67 0:51 / /disk/over rw - tmpfs tmpfs rw
74 72 0:52 / /disk/srv\\040x rw - tmpfs tmpfs rw
";

    fn mounts() -> Mounts {
        Mounts::parse(MOUNTS.as_bytes()).unwrap()
    }

    #[test]
    fn lines_are_taken_apart() {
        let mounts = mounts();
        let [_, _, bound, ..] = &mounts.list[..] else {
            panic!("{mounts:?}")
        };
        assert_eq!(
            **bound,
            Mount {
                id: 70,
                parent: 67,
                device: "8:1".to_owned(),
                root: "/srv x/a".into(),
                point: "/var/a\\b".into(),
                read_only: true,
                file_system_read_only: false,
                kind: "ext4".to_owned(),
            }
        );
    }

    #[test]
    fn the_topmost_mount_counts() {
        let mounts = mounts();
        let id = |path: &str| mounts.of(Path::new(path)).unwrap().id;
        assert_eq!(id("/"), 67);
        assert_eq!(id("/var"), 67);
        assert_eq!(id("/var/a\\b/c"), 71);
        assert_eq!(id("/disk/x"), 72);
        // Mounted on what /disk hides.
        assert_eq!(id("/disk/over"), 72);
    }

    #[test]
    fn a_directory_is_seen_where_nothing_is_mounted_over_it() {
        let mounts = mounts();
        let seen = |directory: &str| mounts.sightings("8:1", Path::new(directory));
        assert_eq!(seen("/home"), [("/disk/home".into(), 72)]);
        assert_eq!(seen("/srv x/a"), []);
        assert_eq!(mounts.sightings("8:2", Path::new("/")), []);
        let [(path, _)] = &mounts.sightings("8:1", Path::new("/"))[..] else {
            panic!("{mounts:?}")
        };
        assert_eq!(path.as_os_str(), "/disk");
    }

    #[test]
    fn nonsense_is_refused_and_loops_end() {
        assert_eq!(Mounts::parse(b"1 2 3\n"), None);
        assert_eq!(Mounts::parse(b"\xff 1 0:1 / / rw - a b rw"), None);
        assert_eq!(Mounts::parse(b""), Some(Mounts::default()));
        assert_eq!(Mounts::default().root(), None);
        let own_parent = Mounts::parse(b"1 1 0:1 / / rw - a b rw\n").unwrap();
        assert_eq!(own_parent.root(), None);
        let circle = Mounts::parse(
            b"5 4 0:1 / / rw - a b rw\n2 1 0:1 / /a rw - a b rw\n1 2 0:1 / /a rw - a b rw\n",
        )
        .unwrap();
        assert!(circle.of(Path::new("/a/b")).is_some());
    }

    #[test]
    fn escapes_that_are_none_stand_for_themselves() {
        for (field, meant) in [
            ("/a\\040b", "/a b"),
            ("/a\\", "/a\\"),
            ("/a\\9", "/a\\9"),
            ("/a\\777", "/a\\777"),
            ("/a\\+12", "/a\\+12"),
        ] {
            assert_eq!(path(field.as_bytes()), PathBuf::from(meant), "{field}");
        }
    }

    #[test]
    fn the_seeds_of_the_fuzzer_are_read() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/mountinfo");
        for seed in std::fs::read_dir(seeds).unwrap() {
            let text = std::fs::read(seed.unwrap().path()).unwrap();
            let mounts = Mounts::parse(&text).unwrap();
            mounts.of(Path::new("/home/qt/with blank/x"));
        }
    }
}
