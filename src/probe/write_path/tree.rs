//! The directory tree as a service sees it, step by step: through its process, through a list of its
//! mounts, or as its sandbox will be made over the host's tree.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, StatVfs, StatVfsMountFlags, StatxAttributes,
};
use rustix::io::Errno;

use super::access::{Acl, File, Identity, needs_acl};
use super::mountinfo::{Mount, Mounts};

const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How the files below are reached.
#[derive(Debug)]
pub enum Base {
    /// From this directory, which is the root that is meant.
    Root(OwnedFd),
    /// By the exporter's own paths to the same file systems, which these are the mounts of.
    Mapped(Arc<Mounts>),
}

/// A tree.
#[derive(Debug)]
pub struct Tree {
    /// How the files are reached.
    pub base: Base,
    /// The mounts of whoever sees this tree. With [`Base::Root`] they only serve to name what was
    /// found, and may be empty.
    pub mounts: Arc<Mounts>,
    /// Where its root lies in `base`; not `/` with RootDirectory=.
    pub root: PathBuf,
    /// What a sandbox will put over it, at most one for each place.
    pub layers: Vec<Layer>,
}

/// One thing that a sandbox puts over the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Where: a path without links.
    pub at: PathBuf,
    /// What is there then.
    pub what: What,
    /// True if it cannot be written to, whatever is below.
    pub read_only: bool,
    /// Whom it will belong to, and its mode; `None`: as it is.
    pub owner: Option<Owner>,
    /// The setting that does it.
    pub setting: String,
}

/// What a layer shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// What was there before.
    Same,
    /// This file or directory of `base`, a path without links; if it is missing, a new directory.
    Of(PathBuf),
    /// A new, empty directory; its room is that of this directory of `base`, if any.
    Empty(Option<PathBuf>),
    /// Something that nobody may use.
    Nothing {
        /// In place of a directory.
        is_dir: bool,
    },
}

/// Owner, group and permission bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

const ROOT_OWNS: Owner = Owner {
    uid: 0,
    gid: 0,
    mode: 0o755,
};

/// Why there is no node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// There is no such file.
    Missing,
    /// It cannot be told: why, and what to do.
    Unknown(String),
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Dir,
    File,
    Link,
    /// A device or a pipe, which has no room and which a read-only mount leaves writable.
    Special,
}

/// One place in a tree.
#[derive(Debug)]
pub struct Node {
    /// Its path as the service has it, without links.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Owner and mode.
    pub owner: Owner,
    /// It has the attribute that forbids every change (`chattr +i`).
    pub immutable: bool,
    /// The file, if it is there already; for an empty directory one on the same file system.
    file: Option<OwnedFd>,
    below: Below,
    /// Its path in `base`.
    place: PathBuf,
    /// With [`Base::Mapped`]: the mount it is on, and how the exporter gets there.
    mapped: Option<Mapped>,
    /// The layer in force here.
    layer: Option<usize>,
}

/// What can be found below a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Below {
    /// What is there.
    Files,
    /// Nothing yet.
    Empty,
    /// It cannot be told, and why.
    Unseen(String),
}

/// The same place, in the lists of mounts of the two sides.
#[derive(Debug, Clone)]
struct Mapped {
    theirs: Arc<Mount>,
    own: Arc<Mount>,
    own_path: PathBuf,
}

/// Why something is read-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadOnly {
    /// A layer makes it so.
    Layer {
        /// The setting.
        setting: String,
        /// The place it works on.
        at: PathBuf,
    },
    /// It is mounted so.
    Mount {
        /// Where; `None` where the mounts are not known.
        point: Option<PathBuf>,
        /// True if the file system itself is.
        file_system: bool,
    },
}

impl Tree {
    /// Its root.
    pub fn top(&self) -> Result<Node, Stop> {
        let node = self.at(&self.root)?;
        self.with_layer(Path::new("/"), Ok(node), None, None)
    }

    /// What is called `name` in the directory `dir`, not followed if it is a link.
    pub fn child(&self, dir: &Node, name: &OsStr) -> Result<Node, Stop> {
        let path = dir.path.join(name);
        let found = match &dir.below {
            Below::Files => self.child_in_base(dir, name),
            Below::Empty => Err(Stop::Missing),
            Below::Unseen(why) => Err(Stop::Unknown(why.clone())),
        };
        self.with_layer(&path, found, dir.layer, Some(dir))
    }

    /// Puts the layer at `path`, if there is one, over what was found there without it.
    fn with_layer(
        &self,
        path: &Path,
        found: Result<Node, Stop>,
        around: Option<usize>,
        dir: Option<&Node>,
    ) -> Result<Node, Stop> {
        let Some(index) = self.layers.iter().position(|layer| layer.at == path) else {
            let is_made_for =
                |layer: &Layer| layer.what != What::Same && layer.at.starts_with(path);
            return match found {
                Ok(node) => Ok(Node {
                    path: path.to_owned(),
                    layer: around,
                    ..node
                }),
                // The directories above a mount point are made, too.
                Err(Stop::Missing) if self.layers.iter().any(is_made_for) => {
                    let place = dir.map_or_else(PathBuf::new, |dir| dir.place.clone());
                    Ok(Node {
                        layer: around,
                        ..Node::empty(path, place)
                    })
                }
                Err(stop) => Err(stop),
            };
        };
        let Some(layer) = self.layers.get(index) else {
            return Err(Stop::Missing);
        };
        let mut node = match &layer.what {
            What::Same => found?,
            What::Of(place) => match self.at(place) {
                Ok(node) => node,
                Err(Stop::Missing) => Node::empty(path, place.clone()),
                Err(Stop::Unknown(why)) if layer.owner.is_some() => Node {
                    below: Below::Unseen(why),
                    ..Node::empty(path, place.clone())
                },
                Err(stop) => return Err(stop),
            },
            What::Empty(place) => {
                // Only its room is of interest, and whether it can be told changes nothing else.
                match place.as_deref().map(|place| self.at(place)) {
                    Some(Ok(like)) => Node {
                        owner: ROOT_OWNS,
                        immutable: false,
                        below: Below::Empty,
                        ..like
                    },
                    _ => Node::empty(path, PathBuf::new()),
                }
            }
            What::Nothing { is_dir } => Node {
                kind: if *is_dir { Kind::Dir } else { Kind::File },
                owner: Owner {
                    mode: 0,
                    ..ROOT_OWNS
                },
                ..Node::empty(path, PathBuf::new())
            },
        };
        if let Some(owner) = layer.owner {
            node.owner = owner;
            node.kind = Kind::Dir;
        }
        path.clone_into(&mut node.path);
        node.layer = Some(index);
        Ok(node)
    }

    /// What lies at a path of `base` without links.
    fn at(&self, place: &Path) -> Result<Node, Stop> {
        let mut node = match &self.base {
            Base::Root(root) => {
                let root = rustix::io::dup(root).map_err(|error| refused(Path::new("/"), error))?;
                Node::of(root, PathBuf::from("/"), None)?
            }
            Base::Mapped(own) => {
                let root = self.mounts.root().ok_or_else(|| {
                    Stop::Unknown(
                        "the list of the service's mounts does not tell its root directory"
                            .to_owned(),
                    )
                })?;
                Self::sight(own, root, &root.root, PathBuf::from("/"))?
            }
        };
        for name in place.components().skip(1) {
            if node.kind != Kind::Dir {
                return Err(Stop::Missing);
            }
            node = self.child_in_base(&node, name.as_os_str())?;
        }
        Ok(node)
    }

    fn child_in_base(&self, dir: &Node, name: &OsStr) -> Result<Node, Stop> {
        let Some(file) = &dir.file else {
            return Err(Stop::Missing);
        };
        let place = dir.place.join(name);
        if let (Base::Mapped(own), Some(mapped)) = (&self.base, &dir.mapped) {
            let theirs = self.mounts.step(&mapped.theirs, &place);
            if theirs.id != mapped.theirs.id {
                return Self::sight(own, theirs, &theirs.root, place);
            }
            let own_path = mapped.own_path.join(name);
            if own.step(&mapped.own, &own_path).id != mapped.own.id {
                // Something of the exporter's own lies over it: perhaps it is seen elsewhere.
                let below = place
                    .strip_prefix(&theirs.point)
                    .unwrap_or_else(|_| Path::new(""));
                let directory = theirs.root.join(below);
                return Self::sight(own, theirs, &directory, place);
            }
            let file = open(file, name.as_bytes(), &place)?;
            let mapped = Mapped {
                own_path,
                ..mapped.clone()
            };
            return Node::of(file, place, Some(mapped));
        }
        Node::of(open(file, name.as_bytes(), &place)?, place, None)
    }

    /// The directory (or file) `directory` of the file system that is mounted as `theirs`, by a path
    /// of the exporter's own.
    fn sight(
        own: &Mounts,
        theirs: &Arc<Mount>,
        directory: &Path,
        place: PathBuf,
    ) -> Result<Node, Stop> {
        let mut why = Stop::Unknown(format!(
            "{} is on a file system ({}) that the exporter does not see, as either it or the service has one of its own there: run the exporter without PrivateTmp= and PrivateDevices=",
            place.display(),
            theirs.kind
        ));
        for (own_path, id) in own.sightings(&theirs.device, directory) {
            match open(CWD, own_path.as_os_str().as_bytes(), &place) {
                Ok(file) => {
                    // It was found by this number a moment ago.
                    let Some(own) = own.of(&own_path).filter(|mount| mount.id == id) else {
                        continue;
                    };
                    let mapped = Mapped {
                        theirs: theirs.clone(),
                        own: own.clone(),
                        own_path,
                    };
                    return Node::of(file, place, Some(mapped));
                }
                Err(Stop::Missing) => {}
                Err(unknown) => why = unknown,
            }
        }
        Err(why)
    }

    /// The target of a link.
    pub fn target(&self, link: &Node) -> Result<PathBuf, Stop> {
        let Some(file) = &link.file else {
            return Err(Stop::Missing);
        };
        let target = rustix::fs::readlinkat(file, "", Vec::new())
            .map_err(|error| refused(&link.path, error))?;
        Ok(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
    }

    /// Why it is read-only; `None` if it is not.
    pub fn read_only(&self, node: &Node) -> Result<Option<ReadOnly>, Stop> {
        let layer = node.layer.and_then(|index| self.layers.get(index));
        if let Some(layer) = layer
            && layer.read_only
        {
            return Ok(Some(ReadOnly::Layer {
                setting: layer.setting.clone(),
                at: layer.at.clone(),
            }));
        }
        let of = |mount: &Arc<Mount>| ReadOnly::Mount {
            point: Some(mount.point.clone()),
            file_system: mount.file_system_read_only,
        };
        let is = |mount: &Arc<Mount>| mount.read_only || mount.file_system_read_only;
        if let Some(mapped) = &node.mapped {
            return Ok(is(&mapped.theirs).then(|| of(&mapped.theirs)));
        }
        let mount = self.mounts.of(&node.place);
        let Some(file) = &node.file else {
            // Not there yet, or not seen: it will be on the mount around it.
            return Ok(mount.filter(|mount| is(mount)).map(of));
        };
        let room = statvfs(file, &node.path)?;
        let read_only = room.f_flag.contains(StatVfsMountFlags::RDONLY);
        Ok(read_only.then(|| {
            mount.map_or(
                ReadOnly::Mount {
                    point: None,
                    file_system: false,
                },
                of,
            )
        }))
    }

    /// True for a directory that something is mounted on once somebody enters it: looking does not
    /// mount it.
    pub fn is_automount(&self, node: &Node) -> bool {
        let mount = match &node.mapped {
            Some(mapped) => Some(&mapped.theirs),
            None => self.mounts.of(&node.place),
        };
        mount.is_some_and(|mount| mount.kind == "autofs")
    }

    /// What is free on its file system; `None` for what is not there yet.
    pub fn room(&self, node: &Node) -> Result<Option<StatVfs>, Stop> {
        let file = node.file.as_ref();
        file.map(|file| statvfs(file, &node.path)).transpose()
    }
}

impl Node {
    /// A file that is there.
    fn of(file: OwnedFd, place: PathBuf, mapped: Option<Mapped>) -> Result<Self, Stop> {
        let mask = rustix::fs::StatxFlags::BASIC_STATS;
        let stat = rustix::fs::statx(&file, "", AtFlags::EMPTY_PATH, mask)
            .map_err(|error| refused(&place, error))?;
        let mode = u32::from(stat.stx_mode);
        let kind = match FileType::from_raw_mode(mode) {
            FileType::Directory => Kind::Dir,
            FileType::RegularFile => Kind::File,
            FileType::Symlink => Kind::Link,
            _ => Kind::Special,
        };
        Ok(Self {
            path: place.clone(),
            kind,
            owner: Owner {
                uid: stat.stx_uid,
                gid: stat.stx_gid,
                mode: mode & 0o7777,
            },
            immutable: stat.stx_attributes.contains(StatxAttributes::IMMUTABLE),
            file: Some(file),
            below: Below::Files,
            place,
            mapped,
            layer: None,
        })
    }

    /// A directory that will be made.
    fn empty(path: &Path, place: PathBuf) -> Self {
        Self {
            path: path.to_owned(),
            kind: Kind::Dir,
            owner: ROOT_OWNS,
            immutable: false,
            file: None,
            below: Below::Empty,
            place,
            mapped: None,
            layer: None,
        }
    }

    /// What decides who may use it; the access control list is only read if `who` makes it matter.
    pub fn file(&self, who: &Identity) -> Result<File, Stop> {
        let Owner { uid, gid, mode } = self.owner;
        let is_there = self.below == Below::Files;
        let acl = match &self.file {
            Some(file) if is_there && needs_acl(uid, mode, who) => acl(file, &self.path)?,
            _ => None,
        };
        Ok(File {
            uid,
            gid,
            mode,
            is_dir: self.kind == Kind::Dir,
            acl,
        })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |id: u32| match id {
            0 => "root".to_owned(),
            id => id.to_string(),
        };
        let Self { uid, gid, mode } = *self;
        write!(f, "{}:{} with mode {mode:04o}", name(uid), name(gid))
    }
}

fn open(dir: impl AsFd, name: &[u8], path: &Path) -> Result<OwnedFd, Stop> {
    rustix::fs::openat(dir, OsStr::from_bytes(name), LOOK, Mode::empty())
        .map_err(|error| refused(path, error))
}

fn statvfs(file: &OwnedFd, path: &Path) -> Result<StatVfs, Stop> {
    rustix::fs::fstatvfs(file).map_err(|error| refused(path, error))
}

/// A file that is only looked at has no attributes by its descriptor, but by the path of that.
fn acl(file: &OwnedFd, path: &Path) -> Result<Option<Acl>, Stop> {
    let by_descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut value = vec![0; 4096];
    let name = "system.posix_acl_access";
    let length = match rustix::fs::getxattr(&by_descriptor, name, &mut value) {
        Ok(length) => length,
        // It has none, or its file system has no such thing.
        Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
        Err(error) => return Err(refused(path, error)),
    };
    value.truncate(length);
    Acl::parse(&value).map(Some).ok_or_else(|| {
        Stop::Unknown(format!(
            "the access control list of {} cannot be understood",
            path.display()
        ))
    })
}

fn refused(path: &Path, error: Errno) -> Stop {
    match error {
        Errno::NOENT => Stop::Missing,
        Errno::ACCESS | Errno::PERM => Stop::Unknown(format!(
            "the exporter's user may not look at {}: add it to a group that may enter the directory above, or run it as the service's user",
            path.display()
        )),
        error => Stop::Unknown(format!("looking at {} failed: {error}", path.display())),
    }
}
