//! Walks to a path as a service would, and says whether it could write there and, if not, what
//! refuses it. Nothing is written, opened or changed.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path};

use super::access::{Identity, Right, allows};
use super::tree::{Kind, Node, ReadOnly, Stop, Tree};
use super::{Reason, Room, Verdict};

/// As many links as the kernel follows.
const MOST_LINKS: usize = 40;

/// Who wants to write.
#[derive(Debug, Clone)]
pub struct Writer {
    /// As the kernel sees it.
    pub identity: Identity,
    /// For a person: `qt (uid 1000)`.
    pub name: String,
}

/// What is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// A directory to make files in, or a file that has to be there.
    Existing,
    /// A file that is there, or is made when it is first written.
    File,
}

/// The end of a walk.
#[derive(Debug)]
pub enum End {
    /// The file or directory, and the one it lies in; `None` for the root.
    Found(Box<Node>, Option<Box<Node>>),
    /// It is not there: the last directory that is, and how much is missing below it.
    Missing(Box<Node>, usize),
    /// The kernel would go no further.
    Refused(Verdict),
}

/// The answer, and what is free there; the error says why there is none.
pub fn judge(
    tree: &Tree,
    writer: &Writer,
    path: &Path,
    want: Want,
) -> Result<(Verdict, Option<Room>), String> {
    let judge = Judge { tree, writer };
    let told = judge.walk(path).and_then(|end| match end {
        End::Found(node, _) if want == Want::File && node.kind == Kind::Dir => {
            let sentence = format!("{} is a directory, and not a file", node.path.display());
            Ok((refusal(Reason::IsDir, sentence), None))
        }
        End::Found(node, parent) => judge.existing(&node, parent.as_deref()),
        End::Missing(parent, missing) => {
            let (verdict, room) = judge.in_directory(&parent)?;
            if want == Want::File && missing == 1 {
                return Ok((verdict, room));
            }
            let what = path.display();
            let sentence = if verdict.reason == Reason::Ok {
                format!("{what} does not exist; the service itself could make it")
            } else {
                format!(
                    "{what} does not exist, and the service could not make it: {}",
                    verdict.sentence
                )
            };
            Ok((refusal(Reason::Missing, sentence), room))
        }
        End::Refused(verdict) => Ok((verdict, None)),
    });
    told.map_err(|stop| match stop {
        Stop::Unknown(why) => why,
        Stop::Missing => format!("{} went away while it was looked at", path.display()),
    })
}

/// What a path leads to, links followed, for somebody who may enter every directory.
pub fn locate(tree: &Tree, path: &Path) -> Result<Node, Stop> {
    let writer = Writer {
        identity: Identity::root(),
        name: "root".to_owned(),
    };
    let judge = Judge {
        tree,
        writer: &writer,
    };
    match judge.walk(path)? {
        End::Found(node, _) => Ok(*node),
        End::Missing(..) => Err(Stop::Missing),
        End::Refused(verdict) => match verdict.reason {
            Reason::NotDir | Reason::Loop => Err(Stop::Missing),
            _ => Err(Stop::Unknown(verdict.sentence)),
        },
    }
}

struct Judge<'a> {
    tree: &'a Tree,
    writer: &'a Writer,
}

impl Judge<'_> {
    fn walk(&self, path: &Path) -> Result<End, Stop> {
        let mut above: Vec<Node> = Vec::new();
        let mut here = self.tree.top()?;
        let mut rest: VecDeque<OsString> = parts(path);
        let mut links = 0;
        let mut refused_link = None;
        while let Some(part) = rest.pop_front() {
            if here.kind != Kind::Dir {
                let sentence = format!("{} is not a directory", here.path.display());
                return Ok(End::Refused(refusal(Reason::NotDir, sentence)));
            }
            if let Some(sentence) = self.refuses(&here, &[Right::Search])? {
                return Ok(End::Refused(refusal(Reason::Denied, sentence)));
            }
            if part == ".." {
                here = above.pop().unwrap_or(here);
                continue;
            }
            let node = match self.tree.child(&here, &part) {
                Ok(node) => node,
                Err(Stop::Missing) if self.tree.is_automount(&here) => {
                    return Err(Stop::Unknown(format!(
                        "{} is mounted when the service first uses it, and not before",
                        here.path.display()
                    )));
                }
                Err(Stop::Missing) => {
                    let missing = rest.len() + 1;
                    return Ok(match refused_link {
                        Some(verdict) if missing == 1 => End::Refused(verdict),
                        _ => End::Missing(Box::new(here), missing),
                    });
                }
                Err(stop) => return Err(stop),
            };
            if node.kind != Kind::Link {
                above.push(std::mem::replace(&mut here, node));
                continue;
            }
            links += 1;
            if links > MOST_LINKS {
                let sentence = format!("{} leads round in a circle of links", path.display());
                return Ok(End::Refused(refusal(Reason::Loop, sentence)));
            }
            if rest.is_empty() && refused_link.is_none() {
                refused_link = self.refuses_link(&here, &node)?;
            }
            let target = self.tree.target(&node)?;
            if target.is_absolute()
                && let Some(top) = above.drain(..).next()
            {
                here = top;
            }
            for part in parts(&target).into_iter().rev() {
                rest.push_front(part);
            }
        }
        // A directory is walked through, to what is made in it.
        Ok(match refused_link {
            Some(verdict) if here.kind != Kind::Dir => End::Refused(verdict),
            _ => End::Found(Box::new(here), above.pop().map(Box::new)),
        })
    }

    fn existing(
        &self,
        node: &Node,
        parent: Option<&Node>,
    ) -> Result<(Verdict, Option<Room>), Stop> {
        let path = node.path.display();
        if node.kind == Kind::Dir {
            return self.in_directory(node);
        }
        if node.kind == Kind::Special {
            let verdict = match self.refuses(node, &[Right::Write])? {
                Some(sentence) => refusal(Reason::Denied, sentence),
                None => ok(),
            };
            return Ok((verdict, None));
        }
        let room = self.room(node)?;
        let read_only = self.read_only(node)?;
        let verdict = if node.immutable {
            refusal(Reason::Immutable, immutable(node))
        } else if let Some(sentence) = self.refuses(node, &[Right::Write])? {
            refusal(Reason::Denied, and(sentence, read_only))
        } else if let Some(sentence) = read_only {
            refusal(Reason::ReadOnly, sentence)
        } else if let Some(parent) = parent
            && let Some(sentence) = self.refuses_regular(node, parent)?
        {
            refusal(Reason::Denied, sentence)
        } else if room.is_some_and(|room| room.bytes == 0) {
            let sentence = format!("no space is left on the file system of {path}");
            refusal(Reason::NoSpace, sentence)
        } else {
            ok()
        };
        Ok((verdict, room))
    }

    /// Whether a file can be made in this directory.
    fn in_directory(&self, dir: &Node) -> Result<(Verdict, Option<Room>), Stop> {
        let path = dir.path.display();
        let room = self.room(dir)?;
        let read_only = self.read_only(dir)?;
        let write = self.refuses(dir, &[Right::Write])?;
        let verdict = if let Some(sentence) = self.refuses(dir, &[Right::Search])? {
            refusal(Reason::Denied, and(sentence, read_only))
        } else if let Some(sentence) = read_only {
            refusal(Reason::ReadOnly, and(sentence, write))
        } else if dir.immutable {
            refusal(Reason::Immutable, immutable(dir))
        } else if let Some(sentence) = write {
            refusal(Reason::Denied, sentence)
        } else if room.is_some_and(|room| room.bytes == 0) {
            let sentence = format!("no space is left on the file system of {path}");
            refusal(Reason::NoSpace, sentence)
        } else if room.is_some_and(|room| room.inodes == Some(0)) {
            let sentence = format!("the file system of {path} has no inode left for another file");
            refusal(Reason::NoInodes, sentence)
        } else {
            ok()
        };
        Ok((verdict, room))
    }

    /// What is free; `None` where blocks are not counted, as in /proc.
    fn room(&self, node: &Node) -> Result<Option<Room>, Stop> {
        let is_root = self.writer.identity.uid == 0;
        let Some(found) = self.tree.room(node)?.filter(|found| found.f_blocks != 0) else {
            return Ok(None);
        };
        let (blocks, files) = if is_root {
            (found.f_bfree, found.f_ffree)
        } else {
            (found.f_bavail, found.f_favail)
        };
        let room = Room {
            bytes: blocks.saturating_mul(found.f_frsize),
            inodes: (found.f_files != 0).then_some(files),
        };
        Ok(Some(room))
    }

    /// The sentence that says why `writer` does not have these rights; `None` if it has.
    fn refuses(&self, node: &Node, rights: &[Right]) -> Result<Option<String>, Stop> {
        let file = node.file(&self.writer.identity)?;
        if allows(&file, &self.writer.identity, rights) {
            return Ok(None);
        }
        let list = if file.acl.is_some() {
            " and an access control list"
        } else {
            ""
        };
        let verb = if rights.contains(&Right::Search) {
            "enter"
        } else if file.is_dir {
            "make files in"
        } else {
            "write"
        };
        Ok(Some(format!(
            "{} may not {verb} {}, which belongs to {}{list}",
            self.writer.name,
            node.path.display(),
            node.owner,
        )))
    }

    fn read_only(&self, node: &Node) -> Result<Option<String>, Stop> {
        let path = node.path.display();
        Ok(self.tree.read_only(node)?.map(|found| match found {
            ReadOnly::Layer { setting, at } if at == node.path => {
                format!("{setting} makes {path} read-only for the service")
            }
            ReadOnly::Layer { setting, at } => format!(
                "{setting} makes {} read-only for the service, and ReadWritePaths= does not name {path}",
                at.display()
            ),
            ReadOnly::Mount {
                point,
                file_system,
            } => {
                let what = if file_system { "file system" } else { "mount" };
                match point {
                    Some(point) => format!(
                        "{path} is read-only: so is the {what} at {}",
                        point.display()
                    ),
                    None => format!("{path} is read-only where the service sees it"),
                }
            }
        }))
    }

    /// fs.protected_symlinks: in a sticky directory that everybody writes to, nobody follows
    /// another one's link in last place.
    fn refuses_link(&self, dir: &Node, link: &Node) -> Result<Option<Verdict>, Stop> {
        let is_foreign =
            link.owner.uid != self.writer.identity.uid && link.owner.uid != dir.owner.uid;
        if !is_foreign || dir.owner.mode & 0o1002 != 0o1002 || sysctl("protected_symlinks")? == 0 {
            return Ok(None);
        }
        let sentence = format!(
            "{} is a link of another user in a directory with the sticky bit, which the kernel does not follow (fs.protected_symlinks)",
            link.path.display()
        );
        Ok(Some(refusal(Reason::Denied, sentence)))
    }

    /// fs.protected_regular: in a sticky directory that others write to, nobody opens another
    /// one's file as if to make it, not even root.
    fn refuses_regular(&self, file: &Node, dir: &Node) -> Result<Option<String>, Stop> {
        let is_foreign =
            file.owner.uid != self.writer.identity.uid && file.owner.uid != dir.owner.uid;
        let is_sticky = dir.owner.mode & 0o1000 != 0 && dir.owner.mode & 0o022 != 0;
        if !is_foreign || !is_sticky {
            return Ok(None);
        }
        let level = sysctl("protected_regular")?;
        let applies = (level >= 1 && dir.owner.mode & 0o002 != 0)
            || (level >= 2 && dir.owner.mode & 0o020 != 0);
        Ok(applies.then(|| {
            format!(
                "{} belongs to another user ({}) in a directory with the sticky bit, where nobody may open it for appending (fs.protected_regular)",
                file.path.display(),
                file.owner
            )
        }))
    }
}

/// The names in a path, without the root.
fn parts(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    names.collect()
}

fn sysctl(name: &str) -> Result<u8, Stop> {
    let path = format!("/proc/sys/fs/{name}");
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Stop::Unknown(format!(
            "reading {path} failed, and the answer depends on it: {error} (run the exporter without ProcSubset=)"
        ))
    })?;
    text.trim()
        .parse()
        .map_err(|_| Stop::Unknown(format!("{path} holds no number")))
}

fn ok() -> Verdict {
    refusal(Reason::Ok, String::new())
}

fn refusal(reason: Reason, sentence: String) -> Verdict {
    Verdict { reason, sentence }
}

fn immutable(node: &Node) -> String {
    format!(
        "{} has the attribute that forbids every change (lsattr, chattr -i)",
        node.path.display()
    )
}

/// A second fault is told with the first: fixing one alone would only show the other.
fn and(sentence: String, second: Option<String>) -> String {
    match second {
        Some(second) => format!("{sentence}; besides, {second}"),
        None => sentence,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::PathBuf;
    use std::sync::Arc;

    use rustix::fs::{CWD, Mode, OFlags, openat};

    use super::super::mountinfo::Mounts;
    use super::super::tree::{Base, Layer, Owner, What};
    use super::*;

    /// A directory with `d`, a file in it, links, and a directory that nobody may enter.
    fn files() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("d/e")).unwrap();
        fs::write(at("d/file"), "").unwrap();
        symlink("/d", at("absolute")).unwrap();
        symlink("d/../d/e", at("relative")).unwrap();
        symlink("../../../..", at("d/up")).unwrap();
        symlink("/nowhere", at("dangling")).unwrap();
        symlink("b", at("a")).unwrap();
        symlink("a", at("b")).unwrap();
        fs::create_dir(at("closed")).unwrap();
        fs::set_permissions(at("closed"), Permissions::from_mode(0o600)).unwrap();
        dir
    }

    /// The same directory as the root of a tree, reached in either way.
    fn trees(dir: &Path) -> [Tree; 2] {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, dir, flags, Mode::empty()).unwrap();
        let own = Mounts::parse(&fs::read("/proc/self/mountinfo").unwrap()).unwrap();
        let dir = dir.canonicalize().unwrap();
        let mount = own.of(&dir).unwrap();
        let seen = mount.root.join(dir.strip_prefix(&mount.point).unwrap());
        let theirs = format!(
            "9 8 {} {} / rw - {} x rw\n",
            mount.device,
            seen.display(),
            mount.kind
        );
        let tree = |base, mounts| Tree {
            base,
            mounts: Arc::new(mounts),
            root: PathBuf::from("/"),
            layers: Vec::new(),
        };
        [
            tree(Base::Root(root), Mounts::default()),
            tree(
                Base::Mapped(Arc::new(own)),
                Mounts::parse(theirs.as_bytes()).unwrap(),
            ),
        ]
    }

    fn owner(dir: &Path) -> Writer {
        let found = fs::metadata(dir).unwrap();
        Writer {
            identity: Identity {
                uid: found.uid(),
                gid: found.gid(),
                overrides: false,
                searches: false,
                ..Identity::root()
            },
            name: "owner".to_owned(),
        }
    }

    fn reason(tree: &Tree, writer: &Writer, path: &str, want: Want) -> Reason {
        let (verdict, _) = judge(tree, writer, Path::new(path), want).unwrap();
        assert_eq!(
            verdict.reason == Reason::Ok,
            verdict.sentence.is_empty(),
            "{verdict:?}"
        );
        verdict.reason
    }

    #[test]
    fn a_walk_ends_where_the_kernel_would() {
        let dir = files();
        let writer = owner(dir.path());
        for tree in trees(dir.path()) {
            let cases = [
                ("/d", Reason::Ok),
                ("/d/../d/./e/", Reason::Ok),
                ("/../../d", Reason::Ok),
                ("/absolute/e", Reason::Ok),
                ("/relative", Reason::Ok),
                ("/d/up/d/file", Reason::Ok),
                ("/d/file", Reason::Ok),
                ("/d/file/x", Reason::NotDir),
                ("/d/no", Reason::Missing),
                ("/dangling", Reason::Missing),
                ("/a", Reason::Loop),
                ("/closed", Reason::Denied),
                ("/closed/x", Reason::Denied),
            ];
            for (path, expected) in cases {
                let found = reason(&tree, &writer, path, Want::Existing);
                assert_eq!(found, expected, "{path} in {tree:?}");
            }
            let cases = [
                ("/d/no", Reason::Ok),
                ("/d/no/no", Reason::Missing),
                ("/d/e", Reason::IsDir),
                ("/d/file", Reason::Ok),
            ];
            for (path, expected) in cases {
                assert_eq!(reason(&tree, &writer, path, Want::File), expected, "{path}");
            }
        }
    }

    #[test]
    fn layers_lie_over_what_is_there() {
        let dir = files();
        let writer = owner(dir.path());
        for mut tree in trees(dir.path()) {
            let layer = |at: &str, what, read_only| Layer {
                at: PathBuf::from(at),
                what,
                read_only,
                owner: None,
                setting: "Setting=".to_owned(),
            };
            let given = Owner {
                uid: writer.identity.uid,
                gid: writer.identity.gid,
                mode: 0o700,
            };
            tree.layers = vec![
                layer("/", What::Same, true),
                layer("/d/e", What::Same, false),
                layer("/new/bound", What::Of(PathBuf::from("/d")), false),
                Layer {
                    owner: Some(given),
                    ..layer("/made", What::Empty(None), false)
                },
                layer("/closed", What::Nothing { is_dir: true }, true),
            ];
            let cases = [
                ("/d", Reason::ReadOnly),
                ("/d/file", Reason::ReadOnly),
                ("/d/e", Reason::Ok),
                ("/relative", Reason::Ok),
                ("/new/bound", Reason::Ok),
                ("/new/bound/file", Reason::Ok),
                ("/made", Reason::Ok),
                ("/made/x", Reason::Missing),
                ("/closed/x", Reason::Denied),
            ];
            for (path, expected) in cases {
                let found = reason(&tree, &writer, path, Want::Existing);
                assert_eq!(found, expected, "{path} in {tree:?}");
            }
        }
    }

    #[test]
    fn a_file_system_that_is_not_seen_is_unknown() {
        let dir = files();
        let [_, mut tree] = trees(dir.path());
        let mounts = b"9 8 999:999 / / rw - tmpfs x rw\n";
        tree.mounts = Arc::new(Mounts::parse(mounts).unwrap());
        let told = judge(&tree, &owner(dir.path()), Path::new("/d"), Want::Existing);
        let why = told.unwrap_err();
        assert!(why.contains("does not see"), "{why}");
    }
}
