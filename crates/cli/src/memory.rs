//! How much memory this process may still take: what the system has left, and what the process is limited to.

use std::path::Path;

use anyhow::{Result, bail};

/// What is left and is neither weights nor keys and values: activations, tables. At most half, where little is left.
const RESERVE_BYTES: u64 = 128 << 20;

/// The system's memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) total: u64,
    pub(crate) available: u64,
}

impl Memory {
    /// `None` where the system doesn't tell.
    pub(crate) fn now() -> Option<Self> {
        let text = fs_err::read_to_string("/proc/meminfo").ok()?;
        Some(Self { total: kib(&text, "MemTotal:")?, available: kib(&text, "MemAvailable:")? })
    }
}

/// Bytes behind a name in a file of `NAME: N kB` lines.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
}

/// Bytes of address space that `ulimit -v` leaves; `None` without a limit.
fn address_space_left() -> Option<u64> {
    let limits = fs_err::read_to_string("/proc/self/limits").ok()?;
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    Some(soft_limit(&limits)?.saturating_sub(kib(&status, "VmSize:")?))
}

fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Bytes that may still be taken; `None` where nothing is known.
fn left() -> Option<u64> {
    [Memory::now().map(|memory| memory.available), address_space_left()].into_iter().flatten().min()
}

/// Bytes of keys and values at most, so that a long conversation is an error and not the end of the process.
pub(crate) fn kv_budget() -> usize {
    left().map_or(usize::MAX, |left| (left - RESERVE_BYTES.min(left / 2)) as usize)
}

/// Refuses a model that can't be held, before anything is read.
///
/// # Errors
/// Weights that take more than is left. Under a limit of address space they count twice: mapped and packed.
pub(crate) fn check_weights(path: &Path) -> Result<()> {
    let num_bytes = weight_bytes(path);
    let mib = |bytes: u64| bytes >> 20;
    if let Some(left) = Memory::now().map(|memory| memory.available).filter(|left| *left < num_bytes) {
        bail!(
            "`{}` has {} MiB of weights, {} MiB of memory are available\nhint: a model in fewer bits (`hearth quantize`) or a smaller one fits",
            path.display(),
            mib(num_bytes),
            mib(left)
        );
    }
    if let Some(left) = address_space_left().filter(|left| *left < 2 * num_bytes) {
        bail!(
            "`{}` has {} MiB of weights and takes twice that of addresses; the limit leaves {} MiB\nhint: raise `ulimit -v`, or take a model in fewer bits",
            path.display(),
            mib(num_bytes),
            mib(left)
        );
    }
    Ok(())
}

/// Bytes of a GGUF file, or of the weights in a folder; 0 where nothing can be read, which loading tells.
fn weight_bytes(path: &Path) -> u64 {
    if path.is_dir() {
        let files = fs_err::read_dir(path).into_iter().flatten().flatten();
        let is_weights = |path: &Path| path.extension().is_some_and(|extension| extension == "safetensors");
        return files
            .map(|entry| entry.path())
            .filter(|path| is_weights(path))
            .map(|path| weight_bytes(&path))
            .sum();
    }
    fs_err::metadata(path).map_or(0, |metadata| metadata.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max address space         1048576000           unlimited            bytes     \n";
        assert_eq!(soft_limit(limits), Some(1_048_576_000));
        assert_eq!(soft_limit(&limits.replace("1048576000", "unlimited ")), None);
        assert_eq!(kib("VmPeak:\t 8 kB\nVmSize:\t  12 kB\n", "VmSize:"), Some(12 << 10));
    }
}
