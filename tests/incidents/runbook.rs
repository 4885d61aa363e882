//! The command blocks of the runbook, run as they are written there.

use std::collections::BTreeMap;

use crate::machine::Machine;

const RUNBOOK: &str = include_str!("../../rules/runbook.md");

/// The fixes of the runbook, by their identifiers: what stands in each block `sh fix=IDENTIFIER`.
pub fn fixes() -> BTreeMap<&'static str, &'static str> {
    let mut fixes = BTreeMap::new();
    for block in RUNBOOK.split("\n```sh fix=").skip(1) {
        let (identifier, rest) = block.split_once('\n').expect("a line after the fence");
        let (commands, _) = rest.split_once("\n```").expect("an end of the block");
        let before = fixes.insert(identifier.trim(), commands);
        assert_eq!(before, None, "two blocks are called {identifier}");
    }
    fixes
}

impl Machine {
    /// Does what the runbook says, with these parameters.
    #[track_caller]
    pub fn fix(&self, identifier: &str, parameters: &[(&str, &str)]) {
        let fixes = fixes();
        let commands = fixes
            .get(identifier)
            .unwrap_or_else(|| panic!("no block {identifier} in the runbook: {:?}", fixes.keys()));
        let parameters: Vec<_> = parameters
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut argv = vec!["env"];
        argv.extend(parameters.iter().map(String::as_str));
        argv.extend(["bash", "-euo", "pipefail", "-c", commands]);
        self.run(&argv);
    }
}
