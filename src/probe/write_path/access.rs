//! Who may do what with one file: mode bits, access control lists and capabilities, as the kernel
//! weighs them.

/// Whom the kernel takes a process for when it opens a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its user, by the number that the exporter knows it under.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its other groups.
    pub groups: Vec<u32>,
    /// It has CAP_DAC_OVERRIDE.
    pub overrides: bool,
    /// It has CAP_DAC_READ_SEARCH.
    pub searches: bool,
    /// The user namespace that its capabilities are of; `None` for the exporter's own, where they
    /// count for every file.
    pub namespace: Option<Namespace>,
}

/// Which users and groups a user namespace has, as the first of a range and how many there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// The users.
    pub uids: Vec<(u64, u64)>,
    /// The groups.
    pub gids: Vec<(u64, u64)>,
}

impl Identity {
    /// PID 1.
    pub fn root() -> Self {
        Self {
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            overrides: true,
            searches: true,
            namespace: None,
        }
    }

    fn is_in(&self, gid: u32) -> bool {
        gid == self.gid || self.groups.contains(&gid)
    }

    /// True if its capabilities count for this file.
    fn is_capable_of(&self, file: &File) -> bool {
        let covers = |ranges: &[(u64, u64)], id: u32| {
            let id = u64::from(id);
            ranges
                .iter()
                .any(|(first, count)| id >= *first && id - first < *count)
        };
        self.namespace
            .as_ref()
            .is_none_or(|of| covers(&of.uids, file.uid) && covers(&of.gids, file.gid))
    }
}

/// What decides who may use a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its permission bits, with the sticky bit.
    pub mode: u32,
    /// True for a directory.
    pub is_dir: bool,
    /// `system.posix_acl_access`, if it has one.
    pub acl: Option<Acl>,
}

/// A right, as a bit of an access control list's entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Enter a directory.
    Search = 1,
    /// Change a file, or what a directory holds.
    Write = 2,
}

/// True if `who` has all of `rights` on `file`.
pub fn allows(file: &File, who: &Identity, rights: &[Right]) -> bool {
    let wanted = rights.iter().fold(0, |bits, right| bits | *right as u32);
    if grants(file, who, wanted) {
        return true;
    }
    // Neither executes what nobody may, but that is of no interest here.
    who.is_capable_of(file)
        && (who.overrides || (who.searches && file.is_dir && wanted & Right::Write as u32 == 0))
}

/// True if the access control list of a file with these attributes matters to `who`: the kernel
/// asks it neither about the owner nor where it grants nothing to anybody.
pub fn needs_acl(uid: u32, mode: u32, who: &Identity) -> bool {
    who.uid != uid && mode & 0o070 != 0
}

/// True if mode and list grant the `wanted` bits.
fn grants(file: &File, who: &Identity, wanted: u32) -> bool {
    if let Some(acl) = &file.acl
        && needs_acl(file.uid, file.mode, who)
    {
        return acl.grants(file, who, wanted);
    }
    let class = if who.uid == file.uid {
        file.mode >> 6
    } else if who.is_in(file.gid) {
        file.mode >> 3
    } else {
        file.mode
    };
    class & wanted == wanted
}

/// A POSIX access control list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl(Vec<Entry>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: u16,
    rights: u32,
    id: u32,
}

const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

impl Acl {
    /// Takes the attribute's value apart: version 2, then entries of tag, rights and id. `None` for
    /// anything else.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (version, entries) = value.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*version) != 2 || entries.len() % 8 != 0 {
            return None;
        }
        let entries = entries.chunks_exact(8).filter_map(|entry| match entry {
            [t0, t1, r0, r1, id @ ..] => Some(Entry {
                tag: u16::from_le_bytes([*t0, *t1]),
                rights: u32::from(u16::from_le_bytes([*r0, *r1])),
                id: u32::from_le_bytes(id.try_into().ok()?),
            }),
            _ => None,
        });
        Some(Self(entries.collect()))
    }

    /// True if somebody who is not the owner is granted the `wanted` bits: by the entry for this
    /// user, else by any one entry for a group of theirs, else, where there is none, by that for all
    /// others.
    fn grants(&self, file: &File, who: &Identity, wanted: u32) -> bool {
        let of = |tag| self.0.iter().find(|entry| entry.tag == tag);
        let mask = of(MASK).map_or(7, |entry| entry.rights);
        let has = |rights: u32| rights & wanted == wanted;
        let is_user = |entry: &&Entry| entry.tag == USER && entry.id == who.uid;
        if let Some(entry) = self.0.iter().find(is_user) {
            return has(entry.rights & mask);
        }
        let is_mine = |entry: &&Entry| match entry.tag {
            GROUP_OBJ => who.is_in(file.gid),
            GROUP => who.is_in(entry.id),
            _ => false,
        };
        let mut groups = self.0.iter().filter(is_mine).peekable();
        if groups.peek().is_some() {
            return groups.any(|entry| has(entry.rights & mask));
        }
        of(OTHER).is_some_and(|entry| has(entry.rights))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: &[Right] = &[Right::Search, Right::Write];

    fn dir(uid: u32, gid: u32, mode: u32) -> File {
        File {
            uid,
            gid,
            mode,
            is_dir: true,
            acl: None,
        }
    }

    fn user() -> Identity {
        Identity {
            uid: 1000,
            gid: 1000,
            groups: vec![50],
            overrides: false,
            searches: false,
            namespace: None,
        }
    }

    fn acl(entries: &[(u16, u16, u32)]) -> Option<Acl> {
        let mut value = 2_u32.to_le_bytes().to_vec();
        for (tag, rights, id) in entries {
            value.extend(tag.to_le_bytes());
            value.extend(rights.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        Some(Acl::parse(&value).unwrap())
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        let cases = [
            (dir(1000, 0, 0o700), true),
            // Worse off than everybody else, as the owner.
            (dir(1000, 0, 0o077), false),
            (dir(0, 50, 0o070), true),
            (dir(0, 50, 0o707), false),
            (dir(0, 0, 0o707), true),
            (dir(0, 0, 0o755), false),
            (dir(1000, 0, 0o200), false),
        ];
        for (file, expected) in cases {
            assert_eq!(allows(&file, &user(), WRITE), expected, "{file:?}");
        }
    }

    #[test]
    fn capabilities_count_where_their_namespace_knows_the_owner() {
        let mut who = Identity::root();
        assert!(allows(&dir(1000, 1000, 0), &who, WRITE));
        who.overrides = false;
        assert!(!allows(&dir(1000, 1000, 0), &who, WRITE));
        assert!(allows(&dir(1000, 1000, 0), &who, &[Right::Search]));
        who.overrides = true;
        who.namespace = Some(Namespace {
            uids: vec![(0, 1)],
            gids: vec![(0, 1), (1000, 1)],
        });
        assert!(!allows(&dir(1000, 1000, 0o755), &who, WRITE));
        assert!(allows(&dir(0, 1000, 0o555), &who, WRITE));
    }

    #[test]
    fn lists_are_weighed_with_their_mask() {
        let with = |mode, entries: &[(u16, u16, u32)]| File {
            acl: acl(entries),
            ..dir(0, 0, mode)
        };
        let base = [(1, 7, u32::MAX), (GROUP_OBJ, 5, u32::MAX)];
        let file = |mode, named: &[(u16, u16, u32)], mask| {
            let end = [(MASK, mask, u32::MAX), (OTHER, 5, u32::MAX)];
            with(mode, &[&base[..], named, &end].concat())
        };
        let allowed = |file: &File| allows(file, &user(), WRITE);
        assert!(allowed(&file(0o775, &[(USER, 7, 1000)], 7)));
        assert!(!allowed(&file(0o755, &[(USER, 7, 1000)], 5)));
        assert!(!allowed(&file(0o775, &[(USER, 7, 1001)], 7)));
        assert!(allowed(&file(0o775, &[(GROUP, 7, 50)], 7)));
        assert!(allowed(&file(
            0o775,
            &[(GROUP, 5, 1000), (GROUP, 7, 50)],
            7
        )));
        // A user of the list has no more than that entry says.
        assert!(!allowed(&file(
            0o777,
            &[(USER, 0, 1000), (GROUP, 7, 50)],
            7
        )));
        // Without any right for the group class the kernel does not ask the list.
        assert!(allowed(&File {
            mode: 0o707,
            ..file(0, &[(USER, 0, 1000)], 0)
        }));
    }

    #[test]
    fn only_version_2_is_a_list() {
        assert_eq!(Acl::parse(&[2, 0, 0, 0]), Some(Acl(Vec::new())));
        assert_eq!(Acl::parse(&[1, 0, 0, 0]), None);
        assert_eq!(Acl::parse(&[2, 0, 0, 0, 1]), None);
        assert_eq!(Acl::parse(&[]), None);
    }
}
