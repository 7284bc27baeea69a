//! Which cores there are, which of them this process may use, and whether `--cores` fits.

use std::io;

use crate::config::Cores;

/// The cores in the process's affinity mask, ascending.
pub fn allowed() -> io::Result<Vec<usize>> {
    // SAFETY: cpu_set_t is a plain bit set, for which all zeros is a valid value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer and the size describe `set`, which the kernel fills.
    let result = unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the index is below CPU_SETSIZE, the number of bits in the set.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|core| unsafe { libc::CPU_ISSET(*core, &set) }).collect())
}

/// The cores to run on, or a sentence that names those that cannot be used.
pub fn chosen(wanted: &Cores, allowed: &[usize], on_machine: usize) -> Result<Vec<usize>, String> {
    let Cores::List(wanted) = wanted else { return Ok(allowed.to_vec()) };
    let unusable: Vec<usize> = wanted.iter().copied().filter(|core| !allowed.contains(core)).collect();
    if unusable.is_empty() {
        return Ok(wanted.clone());
    }
    let absent: Vec<usize> = unusable.iter().copied().filter(|core| *core >= on_machine).collect();
    let masked: Vec<usize> = unusable.iter().copied().filter(|core| *core < on_machine).collect();
    let mut reasons = Vec::new();
    if !absent.is_empty() {
        reasons.push(format!("this machine has no {}", named(&absent)));
    }
    if !masked.is_empty() {
        reasons.push(format!(
            "the process's affinity mask (taskset, cgroup, AllowedCPUs=) excludes {}",
            named(&masked)
        ));
    }
    Err(format!(
        "--cores {} cannot be used: {}. Usable: --cores {}",
        Cores::List(wanted.clone()),
        reasons.join(", and "),
        Cores::List(allowed.to_vec())
    ))
}

fn named(cores: &[usize]) -> String {
    let noun = if cores.len() == 1 { "core" } else { "cores" };
    format!("{noun} {}", Cores::List(cores.to_vec()))
}

/// How many cores are configured on the machine, whether or not the process may use them.
pub fn on_machine() -> usize {
    // SAFETY: sysconf only reads a number.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) };
    usize::try_from(count).unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_that_the_machine_lacks_are_named() {
        let error = chosen(&Cores::List((0..8).collect()), &[0, 1], 2).expect_err("refused");
        assert_eq!(error, "--cores 0-7 cannot be used: this machine has no cores 2-7. Usable: --cores 0-1");
    }

    #[test]
    fn cores_outside_the_affinity_mask_are_told_apart_from_absent_ones() {
        let error = chosen(&Cores::List(vec![0, 1, 9]), &[0, 2, 3], 4).expect_err("refused");
        assert_eq!(
            error,
            "--cores 0-1,9 cannot be used: this machine has no core 9, and the process's affinity mask \
             (taskset, cgroup, AllowedCPUs=) excludes core 1. Usable: --cores 0,2-3"
        );
    }

    #[test]
    fn all_takes_the_whole_affinity_mask() {
        assert_eq!(chosen(&Cores::All, &[1, 3], 4), Ok(vec![1, 3]));
        assert!(!allowed().expect("readable").is_empty());
    }
}
