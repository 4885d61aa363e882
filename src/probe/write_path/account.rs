//! The user and the groups that a service will run with, as NSS knows them. May take as long as a
//! directory service does.

use std::ffi::CString;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

use super::access::{Identity, Namespace};
use super::sandbox::Hindrance;
use super::walk::Writer;
use crate::systemd::settings::{DAC_OVERRIDE, DAC_READ_SEARCH, Settings};

/// A number that no file belongs to, for a user that is only made when the service starts.
const NOBODY_YET: u32 = u32::MAX;

/// What of the settings NSS is asked about: the same for many services.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Account {
    user: String,
    group: String,
    supplementary_groups: Vec<String>,
    dynamic_user: bool,
}

/// What NSS says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbers {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl Account {
    /// That of a service with these settings.
    pub fn of(settings: &Settings) -> Self {
        Self {
            user: settings.user.clone(),
            group: settings.group.clone(),
            supplementary_groups: settings.supplementary_groups.clone(),
            dynamic_user: settings.dynamic_user,
        }
    }

    /// Asks NSS.
    pub fn look_up(&self) -> Result<Numbers, Hindrance> {
        let mut numbers = Numbers {
            uid: 0,
            gid: 0,
            groups: Vec::new(),
        };
        let is_root = matches!(self.user.as_str(), "" | "root" | "0");
        let user = if is_root { None } else { user(&self.user)? };
        if let Some(user) = &user {
            (numbers.uid, numbers.gid) = (user.uid.as_raw(), user.gid.as_raw());
        } else if !is_root {
            let number = self.user.parse().ok();
            let number = number.or_else(|| self.dynamic_user.then_some(NOBODY_YET));
            numbers.uid = number.ok_or_else(|| {
                Hindrance::StartFails(format!(
                    "the service will not start: there is no user {} (217/USER)",
                    self.user
                ))
            })?;
            numbers.gid = numbers.uid;
        }
        if !self.group.is_empty() {
            numbers.gid = match group(&self.group)? {
                Some(gid) => gid,
                // It is made with the user, under the same name.
                None if self.dynamic_user => numbers.gid,
                None => return Err(no_group(&self.group)),
            };
        }
        if let Some(user) = &user {
            numbers.groups = groups_of(user, numbers.gid)?;
        }
        for name in &self.supplementary_groups {
            let gid = group(name)?;
            numbers.groups.push(gid.ok_or_else(|| no_group(name))?);
        }
        Ok(numbers)
    }
}

impl Numbers {
    /// Whom systemd gives the directories to that it makes for the service.
    pub fn owner(&self) -> (u32, u32) {
        (self.uid, self.gid)
    }

    /// Whom the service will run as.
    pub fn writer(&self, settings: &Settings) -> Writer {
        let mut identity = Identity::root();
        if !settings.stays_root {
            identity.uid = self.uid;
            identity.gid = self.gid;
            identity.groups.clone_from(&self.groups);
        }
        if !settings.unconfined {
            restrict(&mut identity, settings);
        }
        let name = match identity.uid {
            NOBODY_YET => format!("{} (a user made at start)", settings.user),
            uid => named(&settings.user, uid),
        };
        Writer { identity, name }
    }
}

/// Takes away what the settings leave it no capability for.
fn restrict(identity: &mut Identity, settings: &Settings) {
    let capabilities = if identity.uid == 0 {
        settings.bounding_set
    } else {
        settings.ambient
    };
    identity.overrides = capabilities & DAC_OVERRIDE != 0;
    identity.searches = capabilities & DAC_READ_SEARCH != 0;
    if settings.private_users {
        let only = |id: u32| vec![(0, 1), (u64::from(id), 1)];
        identity.namespace = Some(Namespace {
            uids: only(identity.uid),
            gids: only(identity.gid),
        });
    }
}

/// A user for a person, where the number is known and perhaps the name.
pub fn named(name: &str, uid: u32) -> String {
    match (name, uid) {
        (_, 0) => "root".to_owned(),
        (name, uid) if name.is_empty() || name == uid.to_string() => format!("user {uid}"),
        (name, uid) => format!("{name} (uid {uid})"),
    }
}

fn user(name: &str) -> Result<Option<User>, Hindrance> {
    let found = match name.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_) => User::from_name(name),
    };
    found.map_err(|error| cannot_be_looked_up("user", name, error))
}

fn group(name: &str) -> Result<Option<u32>, Hindrance> {
    match name.parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Group::from_name(name)
            .map(|group| group.map(|group| group.gid.as_raw()))
            .map_err(|error| cannot_be_looked_up("group", name, error)),
    }
}

fn groups_of(user: &User, gid: u32) -> Result<Vec<u32>, Hindrance> {
    let name = CString::new(user.name.as_str()).unwrap_or_default();
    getgrouplist(&name, Gid::from_raw(gid))
        .map(|groups| groups.into_iter().map(Gid::as_raw).collect())
        .map_err(|error| cannot_be_looked_up("the groups of", &user.name, error))
}

fn no_group(name: &str) -> Hindrance {
    Hindrance::StartFails(format!(
        "the service will not start: there is no group {name} (216/GROUP)"
    ))
}

fn cannot_be_looked_up(what: &str, name: &str, error: nix::Error) -> Hindrance {
    Hindrance::Unknown(format!("looking up {what} {name} failed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(user: &str) -> Settings {
        Settings {
            user: user.to_owned(),
            ..Settings::default()
        }
    }

    fn of(settings: &Settings) -> Result<Writer, Hindrance> {
        let numbers = Account::of(settings).look_up()?;
        Ok(numbers.writer(settings))
    }

    #[test]
    fn without_a_user_it_is_root_with_what_the_bounding_set_leaves() {
        let writer = of(&settings("")).unwrap();
        assert_eq!(writer.identity, Identity::root());
        let bounded = Settings {
            bounding_set: DAC_READ_SEARCH,
            ..settings("")
        };
        let identity = of(&bounded).unwrap().identity;
        assert!(!identity.overrides && identity.searches);
    }

    #[test]
    fn a_user_has_no_capabilities_but_the_ambient_ones() {
        let writer = of(&settings("nobody")).unwrap();
        assert_ne!(writer.identity.uid, 0);
        assert!(!writer.identity.overrides);
        assert_eq!(writer.name, format!("nobody (uid {})", writer.identity.uid));
        let ambient = Settings {
            ambient: DAC_OVERRIDE,
            private_users: true,
            ..settings("nobody")
        };
        let identity = of(&ambient).unwrap().identity;
        assert!(identity.overrides && identity.namespace.is_some());
    }

    #[test]
    fn a_user_that_nobody_made_keeps_it_from_starting_unless_it_is_made_then() {
        assert_eq!(
            of(&settings("no-such-user")).unwrap_err(),
            Hindrance::StartFails(
                "the service will not start: there is no user no-such-user (217/USER)".to_owned()
            )
        );
        let dynamic = Settings {
            dynamic_user: true,
            group: "no-such-user".to_owned(),
            ..settings("no-such-user")
        };
        assert_eq!(of(&dynamic).unwrap().identity.uid, NOBODY_YET);
        let group = Settings {
            supplementary_groups: vec!["no-such-group".to_owned()],
            ..settings("")
        };
        assert!(matches!(of(&group), Err(Hindrance::StartFails(_))));
    }

    #[test]
    fn a_command_outside_the_sandbox_is_root() {
        let plus = Settings {
            stays_root: true,
            unconfined: true,
            bounding_set: 0,
            ..settings("nobody")
        };
        assert_eq!(of(&plus).unwrap().identity, Identity::root());
    }
}
