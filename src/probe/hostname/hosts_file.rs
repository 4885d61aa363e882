//! The hosts file (hosts(5)), read as glibc reads it.

use std::net::IpAddr;

/// Every address that a hosts file gives a name, each once, sorted: those of later lines, too.
/// Names are compared without regard to case; lines that begin with no address are skipped.
pub fn addresses(text: &[u8], name: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        // What follows a comment's sign goes, and, as in any C string, what follows a zero byte.
        let line = line
            .split(|byte| matches!(byte, b'#' | 0))
            .next()
            .unwrap_or_default();
        let mut words = line
            .split(|byte| is_blank(*byte))
            .filter(|word| !word.is_empty());
        let Some(address) = words.next().and_then(address) else {
            continue;
        };
        if words.any(|word| word.eq_ignore_ascii_case(name.as_bytes())) {
            found.push(address);
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// What isspace(3) takes for blank: a vertical tab, too.
fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// An address as it begins a line. One with an interface after `%` is none: glibc skips its line.
fn address(word: &[u8]) -> Option<IpAddr> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        let found = addresses(text.as_bytes(), "quantum_redis");
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_name_is_found_wherever_it_stands_on_a_line() {
        for text in [
            "127.0.0.1 quantum_redis",
            "127.0.0.1\tquantum_redis\n",
            "127.0.0.1 localhost quantum_redis other\r\n",
            "127.0.0.1 a b c d e f g h i j k l m n o p q r s quantum_redis",
            "  127.0.0.1   Quantum_Redis # the alias\n",
            "127.0.0.1 other quantum_redis\r",
            "127.0.0.1 other\rquantum_redis",
            "\u{b}127.0.0.1\u{b}quantum_redis\u{c}other",
            "127.0.0.1 quantum_redis#comment",
            "127.0.0.1 quantum_redis\0rest",
            "127.0.0.1 other\0\n127.0.0.1 quantum_redis",
            "broken line\n127.0.0.1 quantum_redis\n",
        ] {
            assert_eq!(of(text), ["127.0.0.1"], "{text:?}");
        }
    }

    #[test]
    fn a_comment_a_longer_name_and_no_address_are_nothing() {
        for text in [
            "",
            "127.0.0.1 localhost # quantum_redis",
            "#127.0.0.1 quantum_redis",
            "127.0.0.1 quantum_redis.local quantum_redis. my_quantum_redis",
            "quantum_redis 127.0.0.1",
            "127.0.0 quantum_redis",
            "127.0.0.01 quantum_redis",
            "2130706433 quantum_redis",
            "[::1] quantum_redis",
            "fe80::1%eth0 quantum_redis",
            "\u{feff}127.0.0.1 quantum_redis",
            "127.0.0.1#quantum_redis",
            "127.0.0.1 other\0 quantum_redis",
            "127.0.0.1 other\\\n quantum_redis",
            "127.0.0.1 localhost\u{a0}quantum_redis",
        ] {
            assert!(of(text).is_empty(), "{text:?}");
        }
    }

    #[test]
    fn all_addresses_are_found_and_each_once() {
        let text = "127.0.0.1 quantum_redis\n10.0.0.5 quantum_redis\n127.0.0.1 quantum_redis\n\
                    ::1 quantum_redis\n::ffff:127.0.0.1 quantum_redis";
        assert_eq!(
            of(text),
            ["10.0.0.5", "127.0.0.1", "::1", "::ffff:127.0.0.1"]
        );
    }

    #[test]
    fn the_seeds_of_the_fuzzer_are_read() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/hosts_file");
        for seed in std::fs::read_dir(seeds).unwrap() {
            let text = std::fs::read(seed.unwrap().path()).unwrap();
            assert!(!addresses(&text, "quantum_redis").is_empty());
        }
    }

    #[test]
    fn bytes_of_any_kind_are_survived() {
        let text = b"\xff\xfe\x00 \n127.0.0.1 \xff quantum_redis\n%%% quantum_redis";
        assert_eq!(addresses(text, "quantum_redis").len(), 1);
    }
}
