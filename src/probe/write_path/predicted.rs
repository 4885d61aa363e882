//! What a unit's next start would find, judged from its settings and the host's tree.

use std::path::Path;

use super::account::Numbers;
use super::paths::Asked;
use super::process::{Host, WITH_PTRACE};
use super::sandbox::{Hindrance, hint, rules, tree};
use super::tree::{Base, Stop};
use super::walk::{judge, locate};
use super::{Reason, Told, Verdict};
use crate::systemd::settings::Settings;

/// Judges one path. `numbers` is what NSS says of the unit's account, `None` if it did not answer.
pub fn look(asked: &Asked, host: &Host, numbers: Option<Result<Numbers, Hindrance>>) -> Told {
    let Some(settings) = asked.settings() else {
        return Err(asked.why_no_settings());
    };
    let Some(numbers) = numbers else {
        return Err(format!(
            "looking up user {} takes too long: NSS does not answer",
            settings.user
        ));
    };
    match start(asked, host, &settings, numbers) {
        Ok(told) => told,
        Err(Hindrance::Unknown(why)) => Err(why),
        Err(Hindrance::StartFails(sentence)) => {
            let reason = Reason::StartFails;
            Ok((Verdict { reason, sentence }, None))
        }
    }
}

fn start(
    asked: &Asked,
    host: &Host,
    settings: &Settings,
    numbers: Result<Numbers, Hindrance>,
) -> Result<Told, Hindrance> {
    let numbers = numbers?;
    let (base, mounts) = host.tree().map_err(Hindrance::Unknown)?;
    let is_mapped = matches!(base, Base::Mapped(_));
    let tree =
        tree(settings, base, mounts, numbers.owner()).map_err(|hindrance| match hindrance {
            Hindrance::Unknown(why) if is_mapped => Hindrance::Unknown(why + WITH_PTRACE),
            other => other,
        })?;
    let directory = settings.working_directory.as_str();
    // `!` is how systemd tells of a `-`.
    if directory.starts_with('/')
        && matches!(locate(&tree, Path::new(directory)), Err(Stop::Missing))
    {
        return Err(Hindrance::StartFails(format!(
            "the service will not start: WorkingDirectory={directory} does not exist (200/CHDIR)"
        )));
    }
    let writer = numbers.writer(settings);
    let mut told = judge(&tree, &writer, &asked.path, asked.want);
    if let Ok((verdict, _)) = &mut told
        && matches!(verdict.reason, Reason::Denied | Reason::Missing)
        && let Some(hint) = hint(&rules(settings), &asked.path, verdict.reason)
    {
        verdict.sentence = format!("{} ({hint})", verdict.sentence);
    }
    Ok(told.map_err(|why| if is_mapped { why + WITH_PTRACE } else { why }))
}
