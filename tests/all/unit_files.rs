//! References in unit files: what the exporter says of them, against what systemd does with them.

use crate::machine::{Machine, Systemd};
use crate::wait::{PATIENCE, wait_for};

#[test]
fn references_are_told_as_systemd_takes_them_on_252() {
    references(Systemd::V252);
}

#[test]
fn references_are_told_as_systemd_takes_them_on_257() {
    references(Systemd::V257);
}

const SERVICE: &str = "[Service]\nExecStart=/bin/sleep infinity\n";

/// Unit files of every kind, and the reference that each of them leaves dangling.
fn references(systemd: Systemd) {
    let Some(machine) = Machine::boot(systemd) else {
        return;
    };
    let unit = |name: &str, unit: &str| machine.unit(name, &format!("{unit}{SERVICE}"));
    unit("w-real.service", "");
    unit(
        "w-sections.service",
        "After=no-stray.service\n[X-Own]\nAfter=no-own.service\n[Unit]\nAfter=sections.service\n",
    );
    unit(
        "w-continued.service",
        "[Unit]\nWants=w-real.service \\\n# no-comment.service\n continued.service\n",
    );
    unit("w-at@.service", "[Unit]\nAfter=at-%i.service\n");
    unit("w-needs.service", "[Unit]\nRequires=needs.service\n");
    unit("w-needs-mask.service", "[Unit]\nRequires=w-mask.service\n");
    unit("stranger.service", "[Unit]\nAfter=old.service\n");
    unit("w-x-y.service", "");
    machine.unit(
        "w-cr.service",
        "[Unit]\rAfter=cr.service\r[Service]\rExecStart=/bin/sleep infinity\r",
    );
    machine.unit("w-timer.timer", "[Timer]\nOnActiveSec=1h\n");
    machine.unit(
        "w-path.path",
        "[Path]\nPathExists=/nowhere\nUnit=path.service\n",
    );
    machine.unit("w-socket.socket", "[Socket]\nListenStream=/run/w-socket\n");
    machine.unit(
        "w-accept.socket",
        "[Socket]\nListenStream=/run/w-accept\nAccept=yes\n",
    );
    machine.unit("w-t.target", "[Unit]\nDescription=no-text.service\n");
    machine.sh(
        "cd /etc/systemd/system
         drop_in() { mkdir -p $1; printf '[Unit]\\nAfter=%s.service\\n' $3 > $1/$2; }
         ln -s /dev/null w-mask.service
         ln -s w-real.service w-nick.service
         drop_in w-nick.service.d a.conf nick
         mkdir /opt/units
         printf '[Unit]\\nAfter=linked.service\\n[Service]\\nExecStart=/bin/sleep infinity\\n' > /opt/units/other.service
         ln -s /opt/units/other.service w-linked.service
         drop_in w-x-.service.d a.conf prefix
         drop_in /run/systemd/system/w-x-y.service.d a.conf no-overridden
         mkdir -p w-t.target.wants w-t.target.requires /run/systemd/system/w-t.target.wants
         ln -s ../w-at@.service w-t.target.wants/w-at@1.service
         ln -s ../link.service w-t.target.wants/link.service
         ln -s /dev/null w-t.target.wants/taken-back.service
         ln -s ../taken-back.service /run/systemd/system/w-t.target.wants/
         ln -s ../w-mask.service w-t.target.requires/
         systemctl daemon-reload",
    );
    let exporter = machine.exporter_with("  watch: [w-*]\n  retired: [old.service]\n");

    let expected = [
        ("stranger.service", "After", "old.service", "clutter"),
        ("w-accept.socket", "Service", "w-accept@.service", "clutter"),
        ("w-at@1.service", "After", "at-1.service", "clutter"),
        (
            "w-continued.service",
            "Wants",
            "continued.service",
            "clutter",
        ),
        ("w-cr.service", "After", "cr.service", "clutter"),
        ("w-linked.service", "After", "linked.service", "clutter"),
        (
            "w-needs-mask.service",
            "Requires",
            "w-mask.service",
            "blocks",
        ),
        ("w-needs.service", "Requires", "needs.service", "blocks"),
        ("w-path.path", "Unit", "path.service", "blocks"),
        ("w-real.service", "After", "nick.service", "clutter"),
        ("w-sections.service", "After", "sections.service", "clutter"),
        ("w-socket.socket", "Service", "w-socket.service", "blocks"),
        ("w-t.target", "Requires", "w-mask.service", "clutter"),
        ("w-t.target", "Wants", "link.service", "clutter"),
        ("w-timer.timer", "Unit", "w-timer.service", "blocks"),
        ("w-x-y.service", "After", "prefix.service", "clutter"),
    ];
    let name = "baseline_reference_dangling";
    let metrics = exporter.scrape();
    for (from, directive, to, effect) in expected {
        let labels = [
            ("from", from),
            ("directive", directive),
            ("to", to),
            ("effect", effect),
        ];
        assert_eq!(metrics.ones(name, &labels, "to"), [to], "{labels:?}");
    }
    let said = metrics.ones(name, &[], "from");
    assert_eq!(said, expected.map(|(from, ..)| from), "and nothing else");

    // What is ordered or wanted, systemd has taken over; what blocks, it refuses to start.
    for (from, directive, to, effect) in expected {
        if effect == "blocks" {
            let start = machine.try_run(&["systemctl", "start", from]);
            assert!(!start.status.success(), "{start}");
        } else {
            machine.systemctl(&["start", from]);
        }
        // That link is the one that systemd passes over, and this socket waits for a caller.
        if !matches!(
            (from, directive),
            ("w-t.target", "Requires") | ("w-accept.socket", _)
        ) {
            let property = match directive {
                "Unit" | "Service" => "Triggers",
                _ => directive,
            };
            let taken = machine.property(from, property);
            assert!(
                taken.split(' ').any(|name| name == to),
                "{from} {directive}: {taken}"
            );
        }
    }
    let wants = machine.property("w-t.target", "Wants");
    assert!(!wants.contains("taken-back"), "{wants}");

    // An edit is seen without a reload.
    machine.sh("sed -i s/old.service/w-real.service/ /etc/systemd/system/stranger.service");
    wait_for("the edited file to be read", PATIENCE, || {
        match exporter
            .scrape()
            .ones(name, &[("from", "stranger.service")], "to")
            .as_slice()
        {
            [] => Ok(()),
            found => Err(format!("{found:?}")),
        }
    });
}
