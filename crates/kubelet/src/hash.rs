//! Fingerprints that outlive the process.

use api::core::pod::container::Container;

/// What of a container's definition makes a new container when it changes: its name and image.
pub fn definition(container: &Container) -> String {
    format!("{:016x}", fnv(&[container.name.as_bytes(), container.image.as_bytes()]))
}

/// FNV-1a: stable over releases, unlike the standard library's hash.
pub fn fnv(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter().chain(&[0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_is_name_and_image() {
        let mut container = Container { name: "a".into(), image: "i:1".into(), ..Container::default() };
        let first = definition(&container);
        container.args = vec!["x".into()];
        assert_eq!(definition(&container), first);
        container.image = "i:2".into();
        assert_ne!(definition(&container), first);
        // Kept on disk by running containers: it must never change.
        assert_eq!(fnv(&[b"a"]), 0x089b_e207_b544_f1e4);
    }
}
