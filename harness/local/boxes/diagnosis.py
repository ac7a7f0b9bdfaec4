"""Causes for which a tier does not work on this machine, and remedies."""

from pathlib import Path

DOCKER = "docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined"

SETTINGS = (
    ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"),
    ("user/max_user_namespaces", "0", "user.max_user_namespaces=10000"),
)
"""Settings with which distributions forbid user namespaces: path below /proc/sys, forbidding value, remedy."""


def _is_container() -> bool:
    """True if this machine looks like a container."""
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return True
    try:
        first = Path("/proc/1/environ").read_bytes()
        groups = Path("/proc/1/cgroup").read_text()
    except OSError:
        return False  # not readable for ordinary users, which is normal outside of containers
    return b"container=" in first or any(
        name in groups for name in ("docker", "kubepods", "lxc", "containerd")
    )


def explain_no_namespaces(error: str) -> tuple[str, str]:
    """Return cause and remedy if a machine of its own cannot be made, given the launcher's error."""
    for setting, forbidding, remedy in SETTINGS:
        path = Path("/proc/sys", setting)
        if path.exists() and path.read_text().strip() == forbidding:
            return f"{setting.replace('/', '.')} is {forbidding}: user namespaces are forbidden", (
                f"As root: sysctl -w {remedy}"
            )
    if "mount proc" in error:
        return "this container hides parts of /proc", f"Start the container with: {DOCKER}"
    if "namespace" in error or "unshare" in error or "not permitted" in error or "uid_map" in error:
        if _is_container():
            return "this container forbids user namespaces", f"Start the container with: {DOCKER}"
        return (
            "this system forbids user namespaces to ordinary users",
            "Allow user namespaces, or run as root.",
        )
    return "the launcher cannot set up a sandbox", ""


def explain_no_landlock(error: str) -> tuple[str, str]:
    """Return cause and remedy if Landlock does not work, given the guest's error."""
    if "Landlock is not available" in error:
        remedy = "Linux 5.13 or later with landlock among the kernel's security modules (boot with lsm=landlock,...)."
        return "the kernel has no Landlock, or this container forbids it", remedy
    return "a process cannot be confined", ""
