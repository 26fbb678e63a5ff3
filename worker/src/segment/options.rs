//! How the configuration wants volumes segmented.

use std::fs;

use prosector_model::SegmenterOptions;

use crate::config::Config;

/// Threads, memory and the folder beyond it, as `[model]` names them or the machine has them.
pub(crate) fn segmenter_options(config: &Config) -> SegmenterOptions {
    let scratch =
        config.model.scratch.clone().unwrap_or_else(|| config.spool.place.local().to_owned());
    // The command line segments where no service has made its spool.
    let scratch = if scratch.is_dir() { scratch } else { std::env::temp_dir() };
    SegmenterOptions {
        threads: config.model.threads,
        memory_bytes: config.model.memory_bytes.or_else(machine_memory_bytes),
        scratch: Some(scratch),
        ..SegmenterOptions::default()
    }
}

/// Memory of the machine, or of the control group where that is less; nothing where the system tells neither.
fn machine_memory_bytes() -> Option<u64> {
    let of_group = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let of_group = of_group.and_then(|text| text.trim().parse::<u64>().ok());
    let of_machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_bytes(&text));
    [of_group, of_machine].into_iter().flatten().min()
}

/// `MemTotal:       24588216 kB`
fn total_bytes(meminfo: &str) -> Option<u64> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_system_says_of_its_memory() {
        let text = "MemTotal:       24588216 kB\nMemFree:         1234 kB\n";

        assert_eq!(total_bytes(text), Some(24_588_216 << 10));
        assert_eq!(total_bytes("MemFree: 1 kB\n"), None);
    }
}
