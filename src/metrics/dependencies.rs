//! What the units depend on: names, Redis servers, write paths, unit files.

use std::fmt;
use std::time::UNIX_EPOCH;

use super::{Families, NONE, gauge};
use crate::findings::dependencies::{
    HostnameDeviation, hostname_deviation, in_force, is_as_expected,
};
use crate::observation::Observation;
use crate::probe::hostname::{self, Answer, Hostname, Lookup, Persistence};
use crate::probe::redis::{self, Redis};
use crate::probe::unit_files::{Difference, UnitFiles};
use crate::probe::write_path::WritePath;

/// All families of the dependencies. What could not be looked at has no series.
pub fn encode(families: &mut Families<'_>, observation: &Observation) -> fmt::Result {
    if !observation.hostnames.is_empty() {
        encode_hostnames(families, &observation.hostnames)?;
    }
    if !observation.redis.is_empty() {
        encode_redis(families, &observation.redis)?;
    }
    if let Ok(write_paths) = &observation.write_paths {
        encode_write_paths(families, write_paths)?;
    }
    encode_unit_files(families, observation)
}

fn encode_hostnames(families: &mut Families<'_>, hostnames: &[Hostname]) -> fmt::Result {
    let answers = || {
        hostnames.iter().flat_map(|hostname| {
            let told = |lookup: &Lookup| lookup.answer.is_ok();
            let lookups = hostname.lookups.iter().filter(move |lookup| told(lookup));
            lookups.map(move |lookup| (hostname, lookup))
        })
    };
    let labels = |hostname: &Hostname, lookup: &Lookup| {
        [
            ("hostname", hostname.name.clone()),
            ("resolver", lookup.resolver.word().to_owned()),
        ]
    };
    families.gauge(
        "baseline_hostname_resolves",
        "1 if the name has an address: for the services (nss: getaddrinfo), in the hosts file (hosts), in DNS (dns)",
        |m| {
            for (hostname, lookup) in answers() {
                let resolves = matches!(lookup.answer, Ok(Answer::Addresses(_)));
                gauge(m, &labels(hostname, lookup), u32::from(resolves))?;
            }
            Ok(())
        },
    )?;
    families.gauge(
        "baseline_hostname_as_expected",
        "1 if the name has exactly the addresses that the baseline expects, in any order",
        |m| {
            for (hostname, lookup) in answers() {
                if let Some(is) = is_as_expected(hostname, lookup) {
                    gauge(m, &labels(hostname, lookup), u32::from(is))?;
                }
            }
            Ok(())
        },
    )?;
    families.gauge(
        "baseline_hostname_lookup_seconds",
        "How long the look-up took, in seconds",
        |m| {
            for (hostname, lookup) in answers() {
                gauge(m, &labels(hostname, lookup), lookup.took.as_secs_f64())?;
            }
            Ok(())
        },
    )?;
    families.gauge(
        "baseline_hostname_failure",
        "1 for the reason why the name has no address, 0 for the others",
        |m| {
            for (hostname, lookup) in answers() {
                for reason in hostname::Reason::ALL {
                    let [hostname, resolver] = labels(hostname, lookup);
                    let labels = [hostname, resolver, ("reason", reason.word().to_owned())];
                    let is = matches!(&lookup.answer, Ok(Answer::Failure(is, _)) if *is == reason);
                    gauge(m, &labels, u32::from(is))?;
                }
            }
            Ok(())
        },
    )?;
    families.gauge(
        "baseline_hostname_expected_address",
        "1 for each address that the baseline expects of the name",
        |m| {
            for hostname in hostnames {
                for address in &hostname.expected {
                    let labels = [
                        ("hostname", hostname.name.clone()),
                        ("address", address.to_string()),
                    ];
                    gauge(m, &labels, 1u32)?;
                }
            }
            Ok(())
        },
    )?;
    families.gauge(
        "baseline_hostname_deviation",
        "1 if what the services get for the name differs in this way from what the baseline expects",
        |m| {
            for hostname in hostnames {
                let Ok(deviation) = hostname_deviation(hostname) else {
                    continue;
                };
                for word in HostnameDeviation::ALL {
                    let labels = [("hostname", &*hostname.name), ("deviation", word.word())];
                    gauge(m, &labels, u32::from(deviation == Some(word)))?;
                }
            }
            Ok(())
        },
    )?;
    families.gauge(
        "baseline_hostname_persistent",
        "1 if the next boot or rebuild keeps the name: nothing rewrites the hosts file, or what it is rewritten from holds the name, too",
        |m| {
            for hostname in hostnames {
                if let Ok(persistence) = &hostname.persistence {
                    let kept = matches!(persistence, Persistence::Kept(_));
                    gauge(m, &[("hostname", &*hostname.name)], u32::from(kept))?;
                }
            }
            Ok(())
        },
    )
}

fn encode_redis(families: &mut Families<'_>, endpoints: &[Redis]) -> fmt::Result {
    families.gauge(
        "baseline_redis_up",
        "1 if the server answered PING with PONG; absent where the exporter does not see its socket",
        |m| {
            for endpoint in endpoints {
                if let Some(up) = endpoint.up {
                    gauge(m, &[("endpoint", &*endpoint.name)], u32::from(up))?;
                }
            }
            Ok(())
        },
    )?;
    families.gauge(
        "baseline_redis_phase_seconds",
        "How long each phase took that was begun, in seconds; the last one may have failed",
        |m| {
            for endpoint in endpoints {
                for (phase, took) in &endpoint.phases {
                    let labels = [("endpoint", &*endpoint.name), ("phase", phase.word())];
                    gauge(m, &labels, took.as_secs_f64())?;
                }
            }
            Ok(())
        },
    )?;
    families.gauge(
        "baseline_redis_failure",
        "1 for the reason why it does not answer, or does not accept writes; 0 for the others",
        |m| {
            for endpoint in endpoints.iter().filter(|endpoint| endpoint.up.is_some()) {
                for reason in redis::Reason::ALL {
                    let failure = endpoint.failure.as_ref();
                    let is = failure.is_some_and(|failure| failure.reason == reason);
                    let labels = [("endpoint", &*endpoint.name), ("reason", reason.word())];
                    gauge(m, &labels, u32::from(is))?;
                }
            }
            Ok(())
        },
    )?;
    families.gauge(
        "baseline_redis_writable",
        "1 if role, persistence and memory allow writes (INFO); with the canary on, if a key was written",
        |m| {
            for endpoint in endpoints {
                if let Some(writable) = endpoint.writable {
                    gauge(m, &[("endpoint", &*endpoint.name)], u32::from(writable))?;
                }
            }
            Ok(())
        },
    )?;
    families.gauge(
        "baseline_redis_start_time_seconds",
        "When the server was started, in seconds since the epoch by its own clock (INFO)",
        |m| {
            for endpoint in endpoints {
                if let Some(started) = endpoint.started {
                    gauge(m, &[("endpoint", &*endpoint.name)], started)?;
                }
            }
            Ok(())
        },
    )?;
    families.gauge(
        "baseline_redis_connected_clients",
        "Clients connected to the server, the exporter's own connection included (INFO)",
        |m| {
            for endpoint in endpoints {
                if let Some(clients) = endpoint.connected_clients {
                    gauge(m, &[("endpoint", &*endpoint.name)], clients)?;
                }
            }
            Ok(())
        },
    )
}

fn encode_write_paths(families: &mut Families<'_>, paths: &[WritePath]) -> fmt::Result {
    let labels = |path: &WritePath| {
        [
            ("name", path.unit.to_string()),
            ("path", path.path.display().to_string()),
        ]
    };
    let with = |path: &WritePath, label, value: &str| {
        let [name, path] = labels(path);
        [name, path, (label, value.to_owned())]
    };
    families.gauge(
        "baseline_write_path_writable",
        "1 if the unit can write there: as its process finds it, or where none runs as its next start would",
        |m| {
            for path in paths {
                if let Some(is) = in_force(path).reason.is_writable() {
                    gauge(m, &labels(path), u32::from(is))?;
                }
            }
            Ok(())
        },
    )?;
    families.gauge(
        "baseline_write_path_reason",
        "1: what was found; ok where the unit can write",
        |m| {
            for path in paths {
                let reason = in_force(path).reason.word();
                gauge(m, &with(path, "reason", reason), 1)?;
            }
            Ok(())
        },
    )?;
    families.gauge(
        "baseline_write_path_vantage",
        "1: who was asked: a running process of the unit (process), or none runs and its settings were judged (predicted)",
        |m| {
            for path in paths {
                let vantage = if path.process().is_some() { "process" } else { "predicted" };
                gauge(m, &with(path, "vantage", vantage), 1)?;
            }
            Ok(())
        },
    )?;
    families.gauge(
        "baseline_write_path_next_start_writable",
        "1 if the unit could write there after its next start, judged from its settings",
        |m| {
            for path in paths {
                if let Some(is) = path.next_start.reason.is_writable() {
                    gauge(m, &labels(path), u32::from(is))?;
                }
            }
            Ok(())
        },
    )?;
    families.gauge(
        "baseline_write_path_next_start_reason",
        "1: what the unit would find after its next start, judged from its settings",
        |m| {
            for path in paths {
                let reason = path.next_start.reason.word();
                gauge(m, &with(path, "reason", reason), 1)?;
            }
            Ok(())
        },
    )?;
    families.gauge(
        "baseline_write_path_free_bytes",
        "Room on the file system that the path is on, in bytes, as the unit's user may use it (statvfs)",
        |m| {
            for path in paths {
                if let Some(room) = path.room {
                    gauge(m, &labels(path), room.bytes)?;
                }
            }
            Ok(())
        },
    )?;
    families.gauge(
        "baseline_write_path_free_inodes",
        "Files that can still be made there; none where the file system does not count them (statvfs)",
        |m| {
            for path in paths {
                if let Some(inodes) = path.room.and_then(|room| room.inodes) {
                    gauge(m, &labels(path), inodes)?;
                }
            }
            Ok(())
        },
    )
}

fn encode_unit_files(families: &mut Families<'_>, observation: &Observation) -> fmt::Result {
    let UnitFiles { references, drift } = &observation.unit_files;
    if let Ok(references) = references {
        families.gauge(
            "baseline_reference_dangling",
            "1: a unit file names a unit that has no unit file, is masked or is retired; effect is blocks (it cannot start) or clutter",
            |m| {
                // A unit may name another twice in one directive.
                let mut last = None;
                for edge in references {
                    let labels = [
                        ("from", &*edge.from),
                        ("to", &edge.to),
                        ("directive", edge.directive),
                        ("effect", edge.effect.word()),
                    ];
                    if last.replace(labels) != Some(labels) {
                        gauge(m, &labels, 1)?;
                    }
                }
                Ok(())
            },
        )?;
    }
    let (Some(Ok(drift)), Some(baseline)) = (drift, &observation.baseline.unit_files) else {
        return Ok(());
    };
    families.gauge(
        "baseline_unit_file_drift",
        "1 if the file differs from the golden snapshot in this way",
        |m| {
            for (file, found) in &drift.files {
                for difference in Difference::ALL {
                    let labels = [("file", &**file), ("drift", difference.word())];
                    gauge(m, &labels, u32::from(*found == Some(difference)))?;
                }
            }
            Ok(())
        },
    )?;
    families.gauge(
        "baseline_snapshot_info",
        "1: the golden snapshot, and the digest of what it holds",
        |m| {
            let path = baseline.snapshot.display().to_string();
            gauge(m, &[("path", &*path), ("digest", &*drift.digest)], 1)
        },
    )?;
    families.gauge(
        "baseline_snapshot_timestamp_seconds",
        "When the golden snapshot was taken, in seconds since the epoch (its manifest, or else its directory)",
        |m| {
            let taken = drift.taken.and_then(|taken| taken.duration_since(UNIX_EPOCH).ok());
            match taken {
                Some(taken) => gauge(m, &NONE, taken.as_secs()),
                None => Ok(()),
            }
        },
    )
}
